"""Adam and AdamW."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinydl import _hints
from tinydl.optim.base import Optimizer, check, check_betas
from tinydl.optim.schedules import Schedule


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), of the gradient g and update number t, from 1:

        m := b1 m + (1 - b1) g
        v := b2 v + (1 - b2) g^2
        p := p - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)

    eps stands outside the root, after the bias correction, as in PyTorch and in the paper's Algorithm 1 (Keras's stands before
    it). weight_decay p is added to g (an L2 penalty; Keras's is decoupled, as AdamW's).

        >>> Adam(1e-3).eps
        1e-08
    """

    rule = "adam"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float | Schedule = 0.0,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        check(self, lr=lr, eps=eps, weight_decay=weight_decay)
        self.lr, self.betas, self.eps, self.weight_decay = lr, check_betas(self, betas), eps, weight_decay
        self.options(clip_norm, clip_value, ema, groups)

    def numbers(self) -> dict[str, Any]:
        return {"lr": self.lr, "beta1": self.betas[0], "beta2": self.betas[1], "eps": self.eps, "weight_decay": self.weight_decay}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay,
                **self.options_config()}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as in PyTorch: p := p - lr weight_decay p before Adam's
    step.

        >>> AdamW(1e-3).weight_decay
        0.01
    """

    rule = "adamw"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float | Schedule = 1e-2,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value, ema=ema, groups=groups)
