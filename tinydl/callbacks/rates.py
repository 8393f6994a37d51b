"""Learning rates by the epoch, and by a figure that no longer becomes better."""
from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.log import log

if TYPE_CHECKING:
    from tinydl.history import EpochRecord
    from tinydl.training import Training

__all__ = ["LearningRate", "ReduceOnPlateau"]


class LearningRate(Callback):
    """Sets the optimizer's lr to schedule(epoch) as each epoch (from 1) begins; not again where one goes on. For a rate of each
    update give the optimizer a schedule of `tinydl.optim.schedules`.

        >>> LearningRate(lambda epoch: 0.1 * 0.5 ** (epoch // 10)).schedule(10)
        0.05
    """

    @_hints.arguments
    def __init__(self, schedule: Callable[[int], float]) -> None:
        if not callable(schedule):
            raise TypeError(f"LearningRate({schedule!r}): a function from the epoch's number to the rate")
        self.schedule = schedule

    def on_epoch_start(self, trainer: Training, epoch: int) -> None:
        if not trainer.batches_done:
            trainer.optimizer.lr = float(self.schedule(epoch))


class ReduceOnPlateau(Callback):
    """Multiplies the optimizer's lr by `factor`, down to min_lr, when `figure` (a field of EpochRecord, or one of the
    evaluator's) has not fallen by more than min_delta for `patience` epochs; then patience begins anew. highest: it is to
    rise instead. NaN is worse than any number.

    patience counts epochs as Keras and optax do: with patience=3 the third epoch without a better figure ends with the cut
    (PyTorch's ReduceLROnPlateau waits for one more). ValueError where the optimizer's lr is a schedule.

        >>> ReduceOnPlateau("loss", patience=3).factor
        0.1
    """

    @_hints.arguments
    def __init__(self, figure: str = "validation_loss", factor: float = 0.1, patience: int = 10, min_delta: float = 0.0,
                 min_lr: float = 0.0, *, highest: bool = False) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"factor={factor}: above 0 and below 1")
        if patience < 1:
            raise ValueError(f"patience={patience}: at least 1")
        for name, value in (("min_delta", min_delta), ("min_lr", min_lr)):
            if not isfinite(value):
                raise ValueError(f"ReduceOnPlateau({name}={value}): a finite number")
        self.figure, self.factor, self.patience, self.min_delta = figure, factor, patience, min_delta
        self.min_lr, self.highest, self.needs = min_lr, highest, (figure,)
        self.best: float | None = None
        self.waited = 0

    def on_init(self, trainer: Training) -> None:
        self.best, self.waited = None, 0

    def on_train_start(self, trainer: Training) -> None:
        self._rate(trainer)

    def _rate(self, trainer: Training) -> float:
        lr = trainer.optimizer.lr
        if not isinstance(lr, (int, float)):
            raise ValueError(f"ReduceOnPlateau changes lr, and this optimizer's is a schedule, {lr!r}")
        return lr

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        value = record.figures.get(self.figure, getattr(record, self.figure, None))
        if value is None:
            raise ValueError(f"ReduceOnPlateau: epoch {record.epoch} has no {self.figure!r}")
        sign = -1 if self.highest else 1
        if value == value and (self.best is None or sign * value < sign * self.best - self.min_delta):
            self.best, self.waited = float(value), 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            trainer.optimizer.lr = max(self.min_lr, self._rate(trainer) * self.factor)
            log.info("%s has not become better for %d epochs: lr is %g", self.figure, self.patience, trainer.optimizer.lr)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]
