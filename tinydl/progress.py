"""Progress: how far a trainer is; Resumable: a trainer as those see it who save that, or go on from there."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tinydl.callbacks import Callback
from tinydl.history import EpochRecord
from tinydl.parallel.execution.epoch import EpochProgress
from tinydl.parallel.execution.resources import Resources
from tinydl.parallel.runtime import Runtime
from tinydl.parallel.strategies import Strategy
from tinydl.training import Training

__all__ = ["Progress", "Resumable"]


@dataclass(eq=False)
class Progress:
    """How far a trainer is. epoch: epochs finished; under_way: an epoch that was begun and not finished; update_signature:
    Strategy.update_signature of the updates made last; resumed: whether those were a checkpoint's; last: the record of the
    epoch that ended last; left: what its end has still to do (see notify.py); norms: of its updates' gradients, where they
    were asked for."""

    epoch: int = 0
    under_way: EpochProgress | None = None
    update_signature: list[int] | None = None
    resumed: bool = False
    last: EpochRecord | None = None
    left: list[str | int] = field(default_factory=list)
    norms: Sequence[float] = ()


class Resumable(Training, Protocol):
    """The trainer as epochs.py, checkpoint.py and notify.py see it."""

    progress: Progress
    callbacks: list[Callback]

    @property
    def runtime(self) -> Runtime: ...
    @property
    def resources(self) -> Resources: ...
    @property
    def strategy(self) -> Strategy: ...
