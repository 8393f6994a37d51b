"""Lion."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinydl import _hints
from tinydl.optim.base import Optimizer, check, check_betas
from tinydl.optim.schedules import Schedule


class Lion(Optimizer):
    """Lion (Chen et al. 2023, Algorithm 2).

        p := p - lr weight_decay p
        p := p - lr sign(b1 m + (1 - b1) g)
        m := b2 m + (1 - b2) g

    Each parameter moves by lr, up or down; so lr is to be 3 to 10 times smaller, and
    weight_decay (decoupled) as many times larger, than AdamW's. Defaults of the paper; optax's weight_decay is 1e-3.

        >>> Lion().betas
        (0.9, 0.99)
    """

    rule = "lion"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 1e-4, betas: tuple[float, float] = (0.9, 0.99),
                 weight_decay: float | Schedule = 0.0,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        check(self, lr=lr, weight_decay=weight_decay)
        self.lr, self.betas, self.weight_decay = lr, check_betas(self, betas), weight_decay
        self.options(clip_norm, clip_value, ema, groups)

    def numbers(self) -> dict[str, Any]:
        return {"lr": self.lr, "beta1": self.betas[0], "beta2": self.betas[1], "weight_decay": self.weight_decay}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": self.betas, "weight_decay": self.weight_decay, **self.options_config()}
