"""Adagrad."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinydl import _hints
from tinydl.optim.base import Optimizer, check
from tinydl.optim.schedules import Schedule


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): PyTorch's variant, with its defaults.

        s := s + g^2
        p := p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    eps stands outside the root; s begins at
    initial_accumulator_value (Keras and optax begin at 0.1). weight_decay p is added to g.

        >>> Adagrad().lr
        0.01
    """

    rule = "adagrad"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-2, lr_decay: float = 0.0, weight_decay: float | Schedule = 0.0,
                 initial_accumulator_value: float = 0.0, eps: float = 1e-10,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        check(self, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
              initial_accumulator_value=initial_accumulator_value)
        self.lr, self.lr_decay, self.weight_decay, self.eps = lr, lr_decay, weight_decay, eps
        self.initial_accumulator_value = initial_accumulator_value
        self.options(clip_norm, clip_value, ema, groups)

    def numbers(self) -> dict[str, Any]:
        return {"lr": self.lr, "lr_decay": self.lr_decay, "eps": self.eps, "weight_decay": self.weight_decay,
                "initial": self.initial_accumulator_value}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "lr_decay": self.lr_decay, "weight_decay": self.weight_decay,
                "initial_accumulator_value": self.initial_accumulator_value, "eps": self.eps, **self.options_config()}
