"""Callbacks: what is done between updates and epochs.

All are called in the thread that called `train`, never while an update is made, so they may read and change
everything: the model, the learning rate, the configuration, and end training with `trainer.stop()`. What one raises
comes out of `train` with the parameters as of the last finished update; `train` may be called again and goes on.

What a callback remembers is kept by checkpoints (`state_dict`, `load_state_dict`), and forgotten by `Trainer.init`
(`on_init`). With the callbacks of this file an interrupted training (Ctrl-C at any moment, or a resume from a checkpoint)
goes on to the bits of one that was never interrupted.
"""
from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.log import log
from tinydl.parallel.statistics import mean_statistics
from tinydl.parallel.workers.signals import uninterrupted
from tinydl.serialization import place_for

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.history import EpochRecord
    from tinydl.model import Model
    from tinydl.training import Training

Array = np.ndarray[Any, Any]

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "LearningRate", "ReduceOnPlateau", "WeightAveraging"]


class Callback:
    """Does nothing at each occasion; a subclass overrides those that it wants. Each is given the trainer; who annotates it
    writes `tinydl.training.Training`, which lists what callbacks may use of a Trainer."""

    #: updates between two calls of `on_update`; None: it is not called, and workers stay in native code for an epoch
    every: int | None = None
    #: figures (fields of EpochRecord, or the evaluator's) that it needs in every epoch's record; `Trainer.init` checks that
    #: there will be such
    needs: Sequence[str] = ()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint is to keep of it: values that JSON can hold, and arrays, by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be as when `state_dict` returned `state` (with lists for tuples, as JSON has no tuples)."""

    def on_init(self, trainer: Training) -> None:
        """`Trainer.init`: something else is trained from now on."""

    def on_train_start(self, trainer: Training) -> None:
        """`train` begins."""

    def on_epoch_start(self, trainer: Training, epoch: int) -> None:
        """Epoch number `epoch` (from 1) begins, or goes on."""

    def on_update(self, trainer: Training, updates: int) -> None:
        """`every` more updates were made; `updates` in this epoch so far."""

    def on_epoch_trained(self, trainer: Training, record: EpochRecord) -> None:
        """The last update of an epoch is made, and validation comes next. Where Ctrl-C, or an exception, interrupts this, it is
        called again, for all callbacks, when training goes on."""

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        """An epoch is over; `record` is its line of the history. Where Ctrl-C interrupts this, it is called again when
        training goes on."""

    def on_train_end(self, trainer: Training) -> None:
        """`train` ends, in whatever way: `trainer.history.interrupted` says whether before its end."""


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


class WeightAveraging(Callback):
    """Keeps the average of the parameters that epochs number `start` (from 1) and all later ones end with: stochastic weight
    averaging (Izmailov et al. 2018; PyTorch's torch.optim.swa_utils.AveragedModel, updated once an epoch). For the last 10 of 40
    epochs: WeightAveraging(start=31). The optimizer's `ema` averages over updates instead; both at once are a ValueError.

    From epoch `start` on validation, `trainer.evaluate()` and `EarlyStopping(restore_best=True)` look at the average, which
    `trainer.averaged_model()` has; before it, at the model. The parameters that are trained on stay as they are. Checkpoints keep
    the average, and it is the same bits for any number of threads and after a resume: each parameter is summed in float64, in
    the order of the epochs, and the sum divided by their number is rounded once.

    Running statistics (BatchNorm) of other parameters do not fit the averaged ones. So those of the averaged model are the
    means of its batch statistics over an epoch of the training data (PyTorch's update_bn). That is one forward pass in the
    calling thread, when the average is first looked at after an epoch: with a validation part, once an epoch from `start` on.

        >>> WeightAveraging(start=31).start
        31
    """

    @_hints.arguments
    def __init__(self, start: int = 1) -> None:
        if isinstance(start, bool) or not isinstance(start, (int, np.integer)) or start < 1:
            raise ValueError(f"start={start!r}: the number of an epoch, 1 for the first")
        self.start = int(start)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the epochs so far: the average is of the next ones (from `start` on)."""
        #: epochs in the average, and the last of them
        self.n = self.last_epoch = 0
        self._sum: Array | None = None
        self._statistics: Array | None = None       # of the average, once somebody has looked at it

    def on_init(self, trainer: Training) -> None:
        self.begin_anew()

    def on_epoch_trained(self, trainer: Training, record: EpochRecord) -> None:
        if record.epoch < self.start or record.epoch <= self.last_epoch:
            return
        with uninterrupted():
            params = trainer.model.params.astype(np.float64)
            self._sum = params if self._sum is None else self._sum + params
            self.n, self.last_epoch, self._statistics = self.n + 1, record.epoch, None

    def averaged_model(self, trainer: Training) -> Model:
        """A copy of the trainer's model with the average; before epoch `start` has ended, with the parameters as they are."""
        model = copy.deepcopy(trainer.model)
        if self._sum is None:
            return model
        model.params[...] = self._sum / self.n
        if model.statistics.size:
            statistics = self._statistics
            if statistics is None:
                statistics = mean_statistics(model, trainer.loss, trainer.data.train, trainer.seed, self.last_epoch - 1)
                self._statistics = statistics
            model.statistics[...] = statistics
        return model

    def on_train_end(self, trainer: Training) -> None:
        if not self.n and not trainer.history.interrupted and 0 < trainer.epoch < self.start:
            log.warning("WeightAveraging(start=%d): training has ended with epoch %d, and nothing is averaged", self.start,
                        trainer.epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n, "last_epoch": self.last_epoch, **({} if self._sum is None else {"sum": self._sum})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n, self.last_epoch, self._sum, self._statistics = state["n"], state["last_epoch"], state.get("sum"), None


class Checkpoint(Callback):
    """Saves a checkpoint (`Trainer.save_checkpoint`) to `path` every so many epochs. Its folder is made as training begins,
    with OSError where there can be none. Where a checkpoint cannot be written (disk full, read-only) that is one warning;
    the file before stays whole, and training goes on.

    updates: also every so many updates within an epoch: what is lost where the process is killed. interrupted: also where
    training ends before its end (Ctrl-C, an exception, another rank that is gone), as of the last finished update. Either way
    `trainer.load_checkpoint(path)` after `init` goes on to the bits of a training that was never interrupted.

        >>> Checkpoint("model.checkpoint", updates=1000, interrupted=True).every
        1000
    """

    @_hints.arguments
    def __init__(self, path: str | Path, epochs: int = 1, *, updates: int | None = None, interrupted: bool = False) -> None:
        for name, value in (("epochs", epochs), ("updates", updates)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: at least 1")
        self.path, self.epochs, self.every, self.interrupted = path, epochs, updates, interrupted

    def on_train_start(self, trainer: Training) -> None:
        if trainer.rank == 0:
            place_for(self.path)

    def on_update(self, trainer: Training, updates: int) -> None:
        self._save(trainer)

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        if record.epoch % self.epochs == 0:
            self._save(trainer)

    def on_train_end(self, trainer: Training) -> None:
        if self.interrupted and trainer.history.interrupted:
            self._save(trainer)

    def _save(self, trainer: Training) -> None:
        try:
            trainer.save_checkpoint(self.path)
        except OSError as e:
            log.warning("cannot write checkpoint %s (%s): training goes on", self.path, e)


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


if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
