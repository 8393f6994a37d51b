"""The epochs of a multilayer perceptron: scikit-learn's penalty in each batch, and its learning rates."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl.sklearn.epochs import Epochs
from tinydl.sklearn.rules import MLPSGD, MLPAdam, Penalties

Array = np.ndarray[Any, Any]

__all__ = ["MLPEpochs"]


class MLPEpochs(Epochs):
    """Of an estimator with alpha, solver and so on. factor: the loss to report is that many of tinydl's; constants: what is
    added to it for each row."""

    def __init__(self, *args: Any, optimizer: MLPAdam | MLPSGD, factor: float, constants: Array | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer, self.factor, self.constants = optimizer, factor, constants
        self.constant: float | Array = 0.0 if constants is None else float(constants.mean())
        self.alpha = float(self.estimator.alpha)

    def may_run_ahead(self) -> bool:
        changes = self.estimator.solver == "sgd" and self.estimator.learning_rate == "invscaling"
        return not changes

    def begin(self, trainer: Any, order: Array, bounds: Array) -> None:
        rows = np.diff(bounds)
        counts = rows if self.weights is None else np.add.reduceat(self.weights[order], bounds[:-1], dtype=np.float64)
        if isinstance(self.optimizer.penalty, Penalties):
            self.optimizer.penalty.set(self.optimizer.t, self.alpha / self.optimizer.scale / counts[counts > 0])
        if self.weights is not None and self.constants is not None:
            shares = np.divide(rows, counts, out=np.zeros(len(rows)), where=counts > 0) / len(self.rows)
            constants = np.add.reduceat((self.weights * self.constants)[order], bounds[:-1], dtype=np.float64)
            self.constant = (constants * shares).reshape(self.ahead, -1).sum(1)

    def values(self, trainer: Any, means: Array) -> Array:
        return np.asarray(self.factor * means + self.constant)

    def after(self, trainer: Any) -> None:
        own = self.estimator
        if own.solver == "sgd" and own.learning_rate == "invscaling":
            assert isinstance(self.optimizer, MLPSGD)
            self.optimizer.change_rate(float(own.learning_rate_init) / (own.t_ + 1) ** own.power_t)

    def exhausted(self, trainer: Any, message: str) -> bool:
        own = self.estimator
        if own.solver != "sgd" or own.learning_rate != "adaptive":
            return super().exhausted(trainer, message)
        assert isinstance(self.optimizer, MLPSGD)
        rate = float(self.optimizer.lr)     # type: ignore[arg-type]
        if rate <= 1e-6:
            return super().exhausted(trainer, f"{message} Learning rate too small.")
        self.optimizer.change_rate(rate / 5.0)
        if own.verbose:
            print(f"{message} Setting learning rate to {rate / 5.0:f}")
        return False
