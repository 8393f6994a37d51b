"""RAdam: Adam that takes plain momentum's steps until v has seen enough to be divided by."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinydl import _hints
from tinydl.optim.adam import Adam
from tinydl.optim.schedules import Schedule


class RAdam(Adam):
    """RAdam (Liu et al. 2020), which takes plain momentum's steps until v has seen enough to be divided by: PyTorch's variant,
    with its defaults.

        m := b1 m + (1 - b1) g
        v := b2 v + (1 - b2) g^2
        r_inf = 2 / (1 - b2) - 1, and r = r_inf - 2 t b2^t / (1 - b2^t)
        where r > 5, with R^2 = (r - 4) (r - 2) r_inf / ((r_inf - 4) (r_inf - 2) r):
            p := p - lr m / (1 - b1^t) R sqrt(1 - b2^t) / (sqrt(v) + eps)
        else:
            p := p - lr m / (1 - b1^t)

    eps stands beside the raw root, where Adam's stands beside
    the corrected one; the first steps, without the root, are as large as SGD's.

    weight_decay p is added to g (an L2 penalty), or, decoupled_weight_decay, p is shrunk by lr weight_decay p before the step.

        >>> RAdam(1e-3).betas
        (0.9, 0.999)
    """

    rule = "radam"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float | Schedule = 0.0, decoupled_weight_decay: bool = False,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.decoupled_weight_decay = decoupled_weight_decay
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value, ema=ema, groups=groups)

    def numbers(self) -> dict[str, Any]:
        return {**super().numbers(), "decoupled": float(self.decoupled_weight_decay)}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay,
                "decoupled_weight_decay": self.decoupled_weight_decay, **self.options_config()}
