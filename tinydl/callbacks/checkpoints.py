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
    the file before stays whole, and training goes on."""

    @_hints.arguments
    def __init__(self, path: str | Path, epochs: int = 1) -> None:
        if epochs < 1:
            raise ValueError(f"epochs={epochs}: at least 1")
        self.path, self.epochs = path, epochs

    def on_train_start(self, trainer: Training) -> None:
        place_for(self.path)

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        if record.epoch % self.epochs == 0:
            try:
                trainer.save_checkpoint(self.path)
            except OSError as e:
                log.warning("cannot write checkpoint %s (%s): training goes on", self.path, e)
