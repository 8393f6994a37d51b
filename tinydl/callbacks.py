"""Callbacks: what is done between updates and epochs.

All are called in the thread that called `train`, never while an update is made, so they may read and change
everything: the model, the learning rate, the configuration, and end training with `trainer.stop()`. What one raises
comes out of `train` with the parameters as of the last finished update; `train` may be called again and goes on.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinydl import _hints
from tinydl.serialization import place_for

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.monitor import EpochRecord
    from tinydl.trainer import Trainer

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "LearningRate"]

log = logging.getLogger("tinydl")


class Callback:
    """Does nothing at each occasion; a subclass overrides those that it wants."""

    #: updates between two calls of `on_update`; None: it is not called, and workers stay in native code for an epoch
    every: int | None = None

    def on_train_start(self, trainer: Trainer) -> None:
        """`train` begins."""

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Epoch number `epoch` (from 1) begins, or goes on."""

    def on_update(self, trainer: Trainer, updates: int) -> None:
        """`every` more updates were made; `updates` in this epoch so far."""

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """An epoch is over; `record` is its line of the history."""

    def on_train_end(self, trainer: Trainer) -> None:
        """`train` ends, in whatever way."""


class EarlyStopping(Callback):
    """Ends training when `figure` (a field of EpochRecord, or one of the evaluator's) has not fallen by more than
    min_delta for `patience` epochs. highest: it is to rise instead. restore_best: go back to the best epoch's
    parameters at the end (a copy of them is kept).

        >>> EarlyStopping("accuracy", highest=True).patience
        5
    """

    @_hints.arguments
    def __init__(self, figure: str = "validation_loss", patience: int = 5, min_delta: float = 0.0, *, highest: bool = False,
                 restore_best: bool = False) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}: at least 1")
        self.figure, self.patience, self.min_delta, self.highest = figure, patience, min_delta, highest
        self.restore_best = restore_best
        self.best: float | None = None
        self.best_epoch = 0
        self._state: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer) -> None:
        self.best, self.best_epoch, self._state = None, trainer.epoch, None

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        value = record.figures.get(self.figure, getattr(record, self.figure, None))
        if value is None:
            there = ["loss", *(["validation_loss"] if record.validation_loss is not None else []), *record.figures]
            raise ValueError(f"EarlyStopping: epoch {record.epoch} has {_hints.figure(self.figure, there)}"
                             + ("" if record.validation_loss is not None else " (validation needs a part of the data)"))
        better = self.best is None or (value > self.best + self.min_delta if self.highest else value < self.best - self.min_delta)
        if better:
            self.best, self.best_epoch = float(value), record.epoch
            if self.restore_best:
                self._state = trainer.model.state_dict()
        elif record.epoch - self.best_epoch >= self.patience:
            log.info("%s was best in epoch %d: training ends", self.figure, self.best_epoch)
            trainer.stop()

    def on_train_end(self, trainer: Trainer) -> None:
        if self._state is not None:
            trainer.model.load_state_dict(self._state)
            self._state = None


class Checkpoint(Callback):
    """Saves a checkpoint (`Trainer.save_checkpoint`) to `path` every so many epochs. Its folder is made as training begins,
    with OSError where there can be none. Where a checkpoint cannot be written (disk full, read-only) that is one warning;
    the file before stays whole, and training goes on."""

    @_hints.arguments
    def __init__(self, path: str | Path, epochs: int = 1) -> None:
        if epochs < 1:
            raise ValueError(f"epochs={epochs}: at least 1")
        self.path, self.epochs = path, epochs

    def on_train_start(self, trainer: Trainer) -> None:
        place_for(self.path)

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        if record.epoch % self.epochs == 0:
            try:
                trainer.save_checkpoint(self.path)
            except OSError as e:
                log.warning("cannot write checkpoint %s (%s): training goes on", self.path, e)


class LearningRate(Callback):
    """Sets the optimizer's lr to schedule(epoch) as each epoch (from 1) begins; not again where one goes on.

        >>> LearningRate(lambda epoch: 0.1 * 0.5 ** (epoch // 10)).schedule(10)
        0.05
    """

    @_hints.arguments
    def __init__(self, schedule: Callable[[int], float]) -> None:
        if not callable(schedule):
            raise TypeError(f"LearningRate({schedule!r}): a function from the epoch's number to the rate")
        self.schedule = schedule

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        if trainer._job is None or not trainer._job.batches_done:
            trainer.optimizer.lr = float(self.schedule(epoch))


if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
