"""Checkpoints, every so many epochs."""
from __future__ import annotations

from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.log import log
from tinydl.serialization import place_for

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.history import EpochRecord
    from tinydl.training import Training

__all__ = ["Checkpoint"]


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
