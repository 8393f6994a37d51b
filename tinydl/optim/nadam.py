"""NAdam: Adam with Nesterov's momentum, whose factor warms up."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.optim.adam import Adam
from tinydl.optim.schedules import Schedule

Array = np.ndarray[Any, Any]


class NAdam(Adam):
    """NAdam (Dozat 2016), Adam with Nesterov's momentum, whose factor mu warms up: PyTorch's variant, with its defaults.

        mu_t = b1 (1 - 0.5 * 0.96^(t momentum_decay)), and P_t = mu_1 ... mu_t
        m := b1 m + (1 - b1) g
        v := b2 v + (1 - b2) g^2
        p := p - lr ((1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_{t+1}) m) / (sqrt(v / (1 - b2^t)) + eps)

    weight_decay p is added to g (an L2 penalty), or, decoupled_weight_decay, p is shrunk by lr weight_decay p before the step.
    optax's nadam has neither the warm-up of mu nor its product.

        >>> NAdam(1e-3).momentum_decay
        0.004
    """

    rule = "nadam"

    @_hints.arguments
    def __init__(self, lr: float | Schedule = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float | Schedule = 0.0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False,
                 *, clip_norm: float | None = None, clip_value: float | None = None, ema: float | None = None,
                 groups: Sequence[Mapping[str, Any]] | None = None) -> None:
        if not 0 <= momentum_decay < float("inf"):
            raise ValueError(f"NAdam(momentum_decay={momentum_decay}): must be at least 0 and finite")
        self.momentum_decay, self.decoupled_weight_decay = momentum_decay, decoupled_weight_decay
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value, ema=ema, groups=groups)

    def numbers(self) -> dict[str, Any]:
        mu = {name: _Momentum(self.betas[0], self.momentum_decay, name) for name in ("mu", "mu_next", "mu_product")}
        return {**super().numbers(), "decoupled": float(self.decoupled_weight_decay), **mu}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay,
                "momentum_decay": self.momentum_decay, "decoupled_weight_decay": self.decoupled_weight_decay,
                **self.options_config()}


class _Momentum(Schedule):
    """mu of each update, of the next, or the product of all up to it: `which` is the rule's name of it."""

    def __init__(self, beta: float, decay: float, which: str) -> None:
        self.beta, self.decay, self.which = beta, decay, which

    def rate(self, n: Array) -> Array:
        if self.which != "mu_product":
            return self._mu(n + 1 + (self.which == "mu_next"))
        # all factors are at most beta: a product of so many is below 1e-17, and 1 less it is 1
        most = int(np.ceil(-40 / np.log(self.beta))) if self.beta else 1
        if n[0] > most:
            return np.zeros(n.shape)
        return np.multiply.accumulate(self._mu(np.arange(1, n[-1] + 2)))[-len(n):]

    def _mu(self, t: Array) -> Array:
        return self.beta * (1 - 0.5 * 0.96 ** (t * self.decay))
