"""The epochs of a multilayer perceptron: scikit-learn's penalty in each batch and in the loss, and its learning rates."""
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

    #: a penalty up to this is interpolated in the losses of epochs that are trained at one go: the error is some percent. A
    #: larger one is added up batch by batch, since an error as large as tol would end training at another epoch
    LITTLE = 1e-3

    def __init__(self, *args: Any, optimizer: MLPAdam | MLPSGD, factor: float, constants: Array | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer, self.factor, self.constants = optimizer, factor, constants
        self.constant: float | Array = 0.0 if constants is None else float(constants.mean())
        self.alpha = float(self.estimator.alpha)
        self.n_batches = -(-len(self.rows) // self.data.batch_size)
        self.squares = self._squares() if self.alpha else 0.0

    def _squares(self) -> float:
        return float(sum(np.square(w).sum(dtype=np.float64) for w in self.estimator.coefs_))

    def _little(self) -> bool:
        mean_weight = 1.0 if self.weights is None else float(self.weights.mean()) or 1.0
        return bool(0.5 * self.alpha * self.n_batches / len(self.rows) / mean_weight * self.squares <= self.LITTLE)

    def may_run_ahead(self) -> bool:
        changes = self.estimator.solver == "sgd" and self.estimator.learning_rate == "invscaling"
        return not changes and self._little()

    def begin(self, trainer: Any, order: Array, bounds: Array) -> None:
        rows = np.diff(bounds)
        counts = rows if self.weights is None else np.add.reduceat(self.weights[order], bounds[:-1], dtype=np.float64)
        if isinstance(self.optimizer.penalty, Penalties):
            self.optimizer.penalty.set(self.optimizer.t, self.alpha / self.optimizer.scale / counts[counts > 0])
        shares = np.divide(rows, counts, out=np.zeros(len(rows)), where=counts > 0) / len(self.rows)
        #: what the sum of squares of all weights is multiplied by in the loss of each batch, and the sums before each update
        self.per_square = 0.5 * self.alpha * shares
        self.before = [self.squares]
        self.every = None if self._little() else 1
        if self.weights is not None and self.constants is not None:
            constants = np.add.reduceat((self.weights * self.constants)[order], bounds[:-1], dtype=np.float64)
            self.constant = (constants * shares).reshape(self.ahead, -1).sum(1)

    def on_update(self, trainer: Any, updates: int) -> None:
        self.before.append(self._squares())

    def values(self, trainer: Any, means: Array) -> Array:
        means = self.factor * means + self.constant
        if not self.alpha:
            return means
        first, self.squares = self.squares, self._squares()
        if self.every:          # batches whose rows all have the weight 0 make no update
            return np.asarray(means + self.per_square[self.per_square > 0] @ self.before[:-1])
        # a batch's penalty is of the weights before its update: on average those of the middle of the epoch
        middle = (np.arange(self.ahead) + (self.n_batches - 1) / (2 * self.n_batches)) / self.ahead
        return np.asarray(means + self.per_square.reshape(self.ahead, -1).sum(1) * (first + middle * (self.squares - first)))

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
