"""SGD, with momentum or without."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinydl import _hints
from tinydl.optim.base import Optimizer, check
from tinydl.optim.schedules import Schedule


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013, PyTorch's variant):

        g := g + weight_decay p
        buf := momentum buf + g
        p := p - lr buf; with nesterov p := p - lr (g + momentum buf)

    The rate applies at the step and is not in buf, as in PyTorch: after a cut the very next step is smaller (Keras's velocity
    has the rates of the steps before in it).

        >>> SGD(0.1, momentum=0.9).momentum
        0.9
    """

    rule = "sgd"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-3, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float | Schedule = 0.0,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        check(self, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and momentum == 0:
            raise ValueError("SGD(nesterov=True) needs a momentum above 0")
        self.lr, self.momentum, self.nesterov, self.weight_decay = lr, momentum, nesterov, weight_decay
        self.options(clip_norm, clip_value, ema, groups)

    def numbers(self) -> dict[str, Any]:
        return {"lr": self.lr, "momentum": self.momentum, "nesterov": float(self.nesterov), "weight_decay": self.weight_decay}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay,
                **self.options_config()}
