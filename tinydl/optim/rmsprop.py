"""RMSprop, centered or not, with momentum or without."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinydl import _hints
from tinydl.optim.base import Optimizer, check
from tinydl.optim.schedules import Schedule


class RMSprop(Optimizer):
    """RMSprop (Hinton's lecture 6e, 2012; centered: Graves 2013):

        v := alpha v + (1 - alpha) g^2
        p := p - lr g / (sqrt(v) + eps)

    with momentum buf := momentum buf + g / (sqrt(v) + eps), p := p - lr buf. eps stands outside the root, as in PyTorch (Keras's
    stands inside). weight_decay p is added to g.

        >>> RMSprop().alpha
        0.99
    """

    rule = "rmsprop"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float | Schedule = 0.0,
                 momentum: float = 0.0, centered: bool = False,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        check(self, lr=lr, eps=eps, weight_decay=weight_decay, momentum=momentum)
        if not 0 <= alpha < 1:
            raise ValueError(f"RMSprop(alpha={alpha}): at least 0 and below 1")
        self.lr, self.alpha, self.eps, self.weight_decay = lr, alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.options(clip_norm, clip_value, ema, groups)

    def numbers(self) -> dict[str, Any]:
        return {"lr": self.lr, "alpha": self.alpha, "eps": self.eps, "weight_decay": self.weight_decay, "momentum": self.momentum,
                "centered": float(self.centered)}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "alpha": self.alpha, "eps": self.eps, "weight_decay": self.weight_decay,
                "momentum": self.momentum, "centered": self.centered, **self.options_config()}
