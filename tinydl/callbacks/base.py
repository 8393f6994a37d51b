"""Callback: what all callbacks are."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinydl.history import EpochRecord
    from tinydl.training import Training

__all__ = ["Callback"]


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
