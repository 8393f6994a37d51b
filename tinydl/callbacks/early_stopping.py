"""Early stopping: training ends when a figure no longer becomes better."""
from __future__ import annotations

import warnings
from math import isfinite
from typing import TYPE_CHECKING, Any

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.log import log
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.history import EpochRecord
    from tinydl.training import Training

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Ends training when `figure` (a field of EpochRecord, or one of the evaluator's) has not fallen by more than
    min_delta for `patience` epochs. highest: it is to rise instead. NaN is worse than any number.

    restore_best: the best epoch's parameters are put back where training ends: by this, or with its last epoch. After
    Ctrl-C, or `trainer.stop()`, they are not, since training may go on; they are in `best_state` then (as of
    `model.state_dict()`; it is a copy). Where averaged parameters are validated (the optimizer's `ema`, WeightAveraging), and
    `figure` is of the validation, they are those averaged ones, and averaging goes on from them, or begins anew.

    `best` and `best_epoch` hold from one `train` to the next, and in checkpoints, until it has ended a training or put
    parameters back: with the next epoch it begins anew. So it does after `Trainer.init`.

        >>> EarlyStopping("accuracy", highest=True).patience
        5
    """

    @_hints.arguments
    def __init__(self, figure: str = "validation_loss", patience: int = 5, min_delta: float = 0.0, *, highest: bool = False,
                 restore_best: bool = False) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}: at least 1")
        if not isfinite(min_delta):
            raise ValueError(f"EarlyStopping(min_delta={min_delta}): a finite number")
        self.figure, self.patience, self.min_delta, self.highest = figure, patience, min_delta, highest
        self.restore_best, self.needs = restore_best, (figure,)
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.best_epoch = 0
        self.best_state: dict[str, Any] | None = None
        self.stopped = self._restored = False
        self._since: int | None = None      # the epoch before its first

    def on_init(self, trainer: Training) -> None:
        self._begin()

    def on_train_start(self, trainer: Training) -> None:
        if self.stopped and trainer.history.interrupted:        # after that was decided, and before training had ended
            trainer.stop(finished=True)

    def on_epoch_start(self, trainer: Training, epoch: int) -> None:
        if self.stopped or self._restored:
            self._begin()
        if self._since is None:
            self._since = epoch - 1

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        value = record.figures.get(self.figure, getattr(record, self.figure, None))
        if value is None:
            there = ["loss", *(["validation_loss"] if record.validation_loss is not None else []), *record.figures]
            raise ValueError(f"EarlyStopping: epoch {record.epoch} has {_hints.figure(self.figure, there)}"
                             + ("" if record.validation_loss is not None else " (validation needs a part of the data)"))
        if self._better(value):
            validated = self.figure == "validation_loss" or self.figure in record.figures
            model = trainer.evaluated_model() if validated and self.restore_best else trainer.model
            state = model.state_dict() if self.restore_best else None
            self.best, self.best_epoch, self.best_state = float(value), record.epoch, state
        elif record.epoch - max(self.best_epoch, self._since or 0) >= self.patience:
            log.info("%s was best in epoch %d: training ends", self.figure, self.best_epoch)
            self.stopped = True
            trainer.stop(finished=True)

    def _better(self, value: float) -> bool:
        if self.best is None or value != value:
            return value == value
        return value > self.best + self.min_delta if self.highest else value < self.best - self.min_delta

    def on_train_end(self, trainer: Training) -> None:
        if self.best_state is not None and not trainer.history.interrupted:
            with uninterrupted():
                trainer.put_back(self.best_state)
                self.best_state, self._restored = None, True

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ("figure", "highest", "best", "best_epoch", "stopped")}
        return {**state, "restored": self._restored, "since": self._since,
                **{f"best_state/{name}": value for name, value in (self.best_state or {}).items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if (state["figure"], state["highest"]) != (self.figure, self.highest):
            warnings.warn(f"EarlyStopping({self.figure!r}, highest={self.highest}) begins anew: the checkpoint's was "
                          f"EarlyStopping({state['figure']!r}, highest={state['highest']})", stacklevel=2)
            return self._begin()
        held = {k.removeprefix("best_state/"): v for k, v in state.items() if k.startswith("best_state/")}
        if self.restore_best and not held and not state["restored"] and state["best"] is not None:
            warnings.warn("the checkpoint was saved without restore_best: it lacks the parameters of the best epoch so far, "
                          f"{state['best_epoch']}; only those of a better one will be put back", stacklevel=2)
        self.best, self.best_epoch, self.stopped = state["best"], state["best_epoch"], state["stopped"]
        self.best_state = held if held and self.restore_best else None
        self._restored, self._since = state["restored"], state["since"]
