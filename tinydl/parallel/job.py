"""Job: one epoch's way; Setting: how it is run now; FailurePolicy: what is done about batches that fail."""
from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tinydl.parallel.errors import BatchFailure

if TYPE_CHECKING:
    from tinydl.parallel.strategies.base import Strategy

__all__ = ["FailurePolicy", "Job", "Lap", "Setting"]

#: a batch or a part of one: from, to in the epoch's order (native driver); number, part, of how many (Python driver)
Piece = tuple[int, ...]


class Lap(NamedTuple):
    """What a run brought. seconds: while it trained; steady_seconds: of these, what steady_updates of its updates took
    with the workers at it (native runs of two updates or more; else 0); wall: seconds with all preparations."""

    updates: int
    samples: int
    seconds: float
    steady_updates: int = 0
    steady_seconds: float = 0.0
    wall: float = 0.0


NO_LAP = Lap(0, 0, 0.0)


@dataclass
class Job:
    """One epoch's way: how far it is, and what it brought."""

    epoch: int
    shuffle: bool = True
    batches_done: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    weight: float = 0.0                 # of the samples that arrived: without weights, their number
    updates: int = 0
    seconds: float = 0.0
    steady_updates: int = 0             # see Lap
    steady_seconds: float = 0.0
    n_batches: int | None = None        # of the epoch, where that is known
    broken: bool = False                # what gives the batches has raised, and gives no more
    failures: list[BatchFailure] = field(default_factory=list)
    reported: int = 0                   # of the failures: those that the history has
    told: list[int] = field(default_factory=list)       # `updates` when each of the trainer's callbacks last was told of them
    hung: dict[Piece, BaseException] = field(default_factory=dict)     # what was given up, and is not run again

    @property
    def loss(self) -> float:
        """The mean over the samples that arrived, by their weights; 0 where all weights are."""
        return self.loss_sum / self.weight if self.weight else 0.0 if self.samples else float("nan")

    def add_losses(self, losses: npt.ArrayLike, weights: npt.ArrayLike) -> None:
        """Sums over the samples of pieces, weights times losses and the weights, in their order. They are added one by one, so
        the epoch's loss has the same bits whichever driver runs it, and however often it is interrupted."""
        self.loss_sum, self.weight = (float(np.add.accumulate(np.append(total, more))[-1])
                                      for total, more in ((self.loss_sum, losses), (self.weight, weights)))

    def lap(self, wall: float, before: Lap = NO_LAP) -> Lap:
        """What came since `before`, or until now."""
        return Lap(self.updates - before.updates, self.samples - before.samples, self.seconds - before.seconds,
                   self.steady_updates - before.steady_updates, self.steady_seconds - before.steady_seconds, wall - before.wall)


@dataclass(frozen=True)
class Setting:
    """How to run. mode: "serial", "parallel" or "simplified" (its groups on one replica in the calling thread);
    batches: of an update; parts: that each is cut into; hence k gradient slots. copies: models that are trained beside
    the shared one, each with a slot of its own (strategy local). keep: threads whose replicas and slots stay for settings to
    come, where it is more; brief: only until the trainer's next look (strategy auto)."""

    mode: str
    n_threads: int
    batches: int
    parts: int
    strategy: Strategy
    copies: int = 0
    keep: int = 0
    brief: bool = False

    @property
    def k(self) -> int:
        """Pieces of an update."""
        return self.batches * self.parts

    @property
    def n_slots(self) -> int:
        """Gradient vectors: one for each piece of an update, and at least one a thread; or one a copy."""
        return self.copies or max(self.k, self.n_threads)


@dataclass(frozen=True)
class FailurePolicy:
    """on_failure: "skip", "retry" (then skip) or "raise". max_failed_fraction: of an epoch's batches, though one may
    always fail unless it is 0. timeout: seconds for a batch, or None. max_hung: workers that may be put aside."""

    on_failure: str = "skip"
    max_retries: int = 2
    max_failed_fraction: float = 0.1
    timeout: float | None = None
    max_hung: int = 2

    def __post_init__(self) -> None:
        if self.on_failure not in ("skip", "retry", "raise"):
            raise ValueError(f"on_batch_failure={self.on_failure!r}: 'skip', 'retry' or 'raise'")
        if isinstance(self.max_retries, bool) or self.max_retries != int(self.max_retries) or self.max_retries < 0:
            raise ValueError(f"max_retries={self.max_retries!r}: a whole number, at least 0")
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError(f"max_failed_fraction={self.max_failed_fraction}: 0 to 1")
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ValueError(f"batch_timeout={self.timeout}: seconds, more than 0, or None")
        if self.max_hung < 0:
            raise ValueError(f"max_hung_workers={self.max_hung}: at least 0")

    @property
    def retries(self) -> int:
        """Times that a failed batch is run again."""
        return self.max_retries if self.on_failure == "retry" else 0

    def most_failures(self, pieces: int | None, seen: int = 0) -> int:
        """Failures that an epoch of so many pieces may have. Where that is not known, of the `seen`, at least 100."""
        if self.on_failure == "raise" or self.max_failed_fraction == 0:
            return 0
        most = self.max_failed_fraction * (max(seen, 100) if pieces is None else pieces)
        return max(1, floor(most + 1e-6))       # 0.29 * 100 is 28.999999999999996
