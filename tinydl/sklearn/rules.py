"""Adam and SGD by the formulas of scikit-learn's MLPs, as updates of tinydl.

scikit-learn's gradient is s g + alpha W / w(batch): g is the gradient of tinydl's loss, which is a mean where scikit-learn has
a sum over outputs (then s is not 1), W are weights, never intercepts, and w(batch) is the rows of the batch, or the sum of
their sample weights. So a small last batch is penalised more. Its Adam has epsilon beside the raw root,

    p := p - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon),

where tinydl's has it beside the corrected one: the same with epsilon / sqrt(1 - b2^t). With s inside m and sqrt(v), epsilon and
alpha are divided by s; in SGD lr is multiplied by it instead of epsilon.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl.optim import SGD, Adam
from tinydl.optim.base import Optimizer
from tinydl.optim.schedules import Schedule

Array = np.ndarray[Any, Any]

#: what both take of all optimizers: intercepts are not penalised
GROUPS = [{"params": "*bias", "penalty": 0.0}]


class Penalties(Schedule):
    """alpha / s / w(batch) of the next updates, one after another: `set` says them as an epoch begins. The last one holds on."""

    def __init__(self) -> None:
        self.set(0, np.zeros(1))

    def set(self, first: int, values: Array) -> None:
        """The update number `first` is the first of these."""
        self.first, self.values = first, values

    def rate(self, n: Array) -> Array:
        return np.asarray(self.values[np.clip(n.astype(np.int64) - self.first, 0, len(self.values) - 1)])

    def rates(self, first: int, count: int) -> Array:
        return self.rate(np.arange(first, first + count))

    def config(self) -> dict[str, Any]:
        return {"schedule": type(self).__name__}


class RawEpsilon(Schedule):
    """epsilon / sqrt(1 - beta_2^(n + 1)) for update number n."""

    def __init__(self, epsilon: float, beta_2: float) -> None:
        self.epsilon, self.beta_2 = epsilon, beta_2

    def rate(self, n: Array) -> Array:
        return np.asarray(self.epsilon / np.sqrt(-np.expm1((n + 1) * np.log(self.beta_2)) if self.beta_2 else np.ones(len(n))))


class MLPAdam(Adam):
    """Adam as scikit-learn's. scale: s; penalty: what is added to the gradient is that much of the weights."""

    def __init__(self, lr: float, betas: tuple[float, float], eps: float, scale: float, penalty: Schedule | float = 0.0) -> None:
        Optimizer.__init__(self)
        self.lr, self.betas, self.eps, self.scale, self.penalty = lr, betas, eps, scale, penalty
        self.groups = GROUPS if penalty else None

    def numbers(self) -> dict[str, Any]:
        return {"lr": self.lr, "beta1": self.betas[0], "beta2": self.betas[1],
                "eps": RawEpsilon(self.eps / self.scale, self.betas[1]), "weight_decay": self.penalty}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "scale": self.scale, "penalty": self.penalty}


class MLPSGD(SGD):
    """SGD as scikit-learn's, whose velocity keeps the rates of the updates that made it: `change_rate` does that, too."""

    def __init__(self, lr: float, momentum: float, nesterov: bool, scale: float, penalty: Schedule | float = 0.0) -> None:
        Optimizer.__init__(self)
        self.lr, self.momentum, self.nesterov, self.scale, self.penalty = lr, momentum, nesterov and momentum > 0, scale, penalty
        self.groups = GROUPS if penalty else None

    def numbers(self) -> dict[str, Any]:
        return {"lr": float(self.lr) * self.scale,      # type: ignore[arg-type]
                "momentum": self.momentum, "nesterov": float(self.nesterov), "weight_decay": self.penalty}

    def config(self) -> dict[str, Any]:
        return {"lr": self.lr, "momentum": self.momentum, "nesterov": self.nesterov, "scale": self.scale, "penalty": self.penalty}

    def change_rate(self, lr: float) -> None:
        """The rate from the next update on. tinydl's velocity has no rate in it, so it takes over what the old one was."""
        for vector in self.state.values():
            vector *= float(self.lr) / lr     # type: ignore[arg-type]
        self.lr = lr
