"""The epochs of one fit: which rows come when, the loss of each epoch, and when training ends.

All estimators end as scikit-learn's MLPs do: when for more than n_iter_no_change epochs the training loss did not fall by tol,
or, where a score on held-out rows is asked for, that did not rise by tol; then the best epoch's parameters are put back.

A tiny epoch takes less time than what a trainer does around it. So as many epochs as can be made without a look at the model,
since none of them can be the last, are one epoch of the trainer: `ahead` of them.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.callbacks import Callback
from tinydl.data import ArrayDataset
from tinydl.model import Model
from tinydl.sklearn.tasks import Tasks

if TYPE_CHECKING:
    from tinydl.history import EpochRecord

Array = np.ndarray[Any, Any]

#: rows of a trainer's epoch, where it is more than one of ours: some milliseconds
MOST_ROWS = 1 << 16


class Epochs(Callback):
    """Given to a trainer, it writes n_iter_, t_, loss_, loss_curve_, best_loss_, validation_scores_, best_validation_score_ of
    an estimator, which has tol, n_iter_no_change, shuffle and verbose.

    data: its `order` is replaced. rng: draws the rows' order as scikit-learn does, so that the same random_state has the same
    rows in the same batches. max_epochs: epochs at most. score: called with the model after each epoch, a figure to be high.
    time_limit: seconds from now on; an epoch that would end later is not begun. whole_batches: whether batches are trained in one
    piece. least_rows: a last batch of fewer rows is left out of its epoch.
    """

    def __init__(self, estimator: Any, data: ArrayDataset, rng: Any, max_epochs: int, *,
                 score: Callable[[Model], float] | None = None, time_limit: float | None = None,
                 whole_batches: bool = True, least_rows: int = 1) -> None:
        self.estimator, self.data, self.rng, self.max_epochs = estimator, data, rng, max_epochs
        self.score, self.time_limit, self.whole_batches = score, time_limit, whole_batches
        self.started = perf_counter()
        self.tasks: Tasks | None = None
        self.stopped = False            # before max_epochs
        self.best: dict[str, Array] | None = None
        self.rows = np.arange(len(data), dtype=np.int64)
        last = len(data) % data.batch_size
        self.used = len(data) - last * (0 < last < min(least_rows, len(data)))
        self.weights = data.sample_weight
        data.order = self._order        # type: ignore[method-assign]   # an attribute of this one dataset
        self._pieces: list[tuple[Array, Array]] = []

    # ------------------------------------------------------------------ what subclasses may say
    def may_run_ahead(self) -> bool:
        """Whether nothing has to be done between two epochs."""
        return True

    def begin(self, trainer: Any, order: Array, bounds: Array) -> None:
        """A trainer's epoch begins: its rows, and the bounds of its batches in them."""

    def values(self, trainer: Any, losses: Array) -> Array:
        """The loss to report of each epoch, from its mean loss."""
        return losses

    def exhausted(self, trainer: Any, message: str) -> bool:
        """There was no improvement for long enough: whether that is the end."""
        if self.estimator.verbose:
            print(f"{message} Stopping.")
        return True

    def after(self, trainer: Any) -> None:
        """An epoch is behind."""

    # ------------------------------------------------------------------ rows
    def on_epoch_start(self, trainer: Any, epoch: int) -> None:
        self.ahead = self._epochs_ahead()
        self._rows = np.concatenate([self._shuffled() for _ in range(self.ahead)]) if self.ahead > 1 else self._shuffled()
        n, size = self.used, self.data.batch_size
        starts = np.arange(0, n, size, dtype=np.int64)
        self._bounds = np.append((starts + n * np.arange(self.ahead)[:, None]).ravel(), n * self.ahead)
        self._pieces = []
        trainer.progress.under_way.pieces = self._pieces
        self.begin(trainer, self._rows, self._bounds)

    def _epochs_ahead(self) -> int:
        own, left = self.estimator, self.max_epochs - self.estimator.n_iter_
        watched = self.tasks is not None and self.tasks.watched
        if self.score is not None or watched or not self.may_run_ahead():
            return 1
        return int(max(1, min(left, own.n_iter_no_change + 1 - own._no_improvement_count, MOST_ROWS // len(self.rows))))

    def _shuffled(self) -> Array:
        if self.estimator.shuffle:
            chosen = np.arange(len(self.rows), dtype=np.int64)
            self.rng.shuffle(chosen)
            self.rows = self.rows[chosen]
        return self.rows[:self.used]

    def _order(self, seed: int, epoch: int, shuffle: bool = True) -> tuple[Array, Array]:
        return self._rows, self._bounds

    # ------------------------------------------------------------------ the end of an epoch
    def on_epoch_end(self, trainer: Any, record: EpochRecord) -> None:
        own = self.estimator
        for value in self.values(trainer, self._means()).tolist():
            own.n_iter_ += 1
            own.t_ += len(self.rows)
            own.loss_ = value
            own.loss_curve_.append(value)
            if own.verbose:
                print(f"Iteration {own.n_iter_}, loss = {value:.8f}")
            self._count(trainer)
            self.after(trainer)
            if self.tasks is not None and self.tasks.epoch(lambda: {"model_": copy.deepcopy(trainer.model)}):
                self.stopped = True
            if own._no_improvement_count > own.n_iter_no_change:
                what = "Training loss" if self.score is None else "Validation score"
                if self.exhausted(trainer, f"{what} did not improve more than tol={own.tol:f} for {own.n_iter_no_change} "
                                           "consecutive epochs."):
                    self.stopped = True
                own._no_improvement_count = 0 if not self.stopped else own._no_improvement_count
        out_of_time = self.time_limit is not None and self._would_be_late()
        if self.stopped or own.n_iter_ >= self.max_epochs or out_of_time:
            self.stopped = self.stopped or out_of_time
            trainer.stop(finished=True)

    def _means(self) -> Array:
        """The mean loss of each epoch: over the batches by their rows, as scikit-learn's; of batches in parts, by weights. All
        epochs have as many pieces, since their batches are as large."""
        losses, weights = (np.concatenate(part).reshape(self.ahead, -1) for part in zip(*self._pieces, strict=True))
        if self.whole_batches:
            losses = np.divide(losses, weights, out=np.zeros_like(losses), where=weights > 0)
            weights = np.diff(self._bounds).reshape(self.ahead, -1)
            losses = losses * weights
        return np.asarray(losses.sum(1) / np.maximum(weights.sum(1), np.finfo(np.float64).tiny))

    def _would_be_late(self) -> bool:
        """Whether another epoch as long as the mean one would end behind the time limit."""
        spent = perf_counter() - self.started
        assert self.time_limit is not None
        return bool(spent * (1 + 1 / max(1, self.estimator.n_iter_)) > self.time_limit)

    def _count(self, trainer: Any) -> None:
        """Epochs without improvement: scikit-learn's rule."""
        own = self.estimator
        if self.score is None:
            worse = own.loss_ > own.best_loss_ - own.tol
            own.best_loss_ = min(own.best_loss_, own.loss_)
        else:
            found = float(self.score(trainer.model))
            own.validation_scores_.append(found)
            if own.verbose:
                print(f"Validation score: {found:f}")
            worse = found < own.best_validation_score_ + own.tol
            if found > own.best_validation_score_:
                own.best_validation_score_, self.best = found, trainer.model.state_dict()
        own._no_improvement_count = own._no_improvement_count + 1 if worse else 0

    def on_train_end(self, trainer: Any) -> None:
        if self.best is not None:
            trainer.model.load_state_dict(self.best)
