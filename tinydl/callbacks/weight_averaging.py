"""Weight averaging: the mean of the parameters that epochs end with."""
from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.log import log
from tinydl.parallel.statistics import mean_statistics
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.history import EpochRecord
    from tinydl.model import Model
    from tinydl.training import Training

Array = np.ndarray[Any, Any]

__all__ = ["WeightAveraging"]


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
