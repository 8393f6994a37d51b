"""EpochProgress: how far an epoch is; Setting: how its updates are made now; FailurePolicy: what is done about failures."""
from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from tinydl.parallel.errors import BatchFailure

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["EpochProgress", "FailurePolicy", "RunTiming", "Setting"]

#: Updates of more pieces than this are made in blocks. A block ends with the workers waiting for each other, so it should not be
#: small; 8 gradients are still little memory beside the workspaces. Arbitrary within 4 to 32.
LEAST_BLOCK = 8

#: which batch, or part of one: in the native driver its first and last position (plus one) in the epoch's order; in the
#: Python driver the batch's number, the part's number, and how many parts there are
Piece = tuple[int, ...]


class RunTiming(NamedTuple):
    """What one run of a driver did: updates, samples, and seconds while batches ran; wall: seconds with all preparations."""

    updates: int
    samples: int
    seconds: float
    wall: float = 0.0


NOTHING = RunTiming(0, 0, 0.0)


@dataclass(eq=False)
class EpochProgress:
    """How far an epoch is, and what came of it so far."""

    number: int                         # from 1
    shuffle: bool = True
    batches_done: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    weight: float = 0.0                 # of the samples that arrived: without weights, their number
    updates: int = 0
    seconds: float = 0.0
    n_batches: int | None = None        # of the epoch, where that is known
    n_norms: int = 0                    # updates for whose gradient the norm was asked
    norm_sum: float = 0.0
    norms: array[float] = field(default_factory=lambda: array("d"))     # of these, in their order
    broken: bool = False                # the source of the batches has raised an exception: no more will come
    failures: list[BatchFailure] = field(default_factory=list)
    reported: int = 0                   # how many of `failures` are in the history already
    told: list[int] = field(default_factory=list)       # for each callback, `updates` at its last on_update
    hung: dict[Piece, BaseException] = field(default_factory=dict)     # pieces that exceeded batch_timeout: never run again
    #: the losses of the pieces, each multiplied by its weight, and the weights, in order: where somebody has put a list here
    pieces: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] | None = None

    @property
    def loss(self) -> float:
        """The mean over the samples that arrived, by their weights; 0 where all weights are."""
        return self.loss_sum / self.weight if self.weight else 0.0 if self.samples else float("nan")

    def add_losses(self, losses: npt.NDArray[Any], weights: npt.NDArray[Any]) -> None:
        """Add the losses of some pieces, each multiplied by its weight, and the weights, in the pieces' order. They are added
        one by one, so the epoch's loss has the same bits for both drivers, and however often the epoch is interrupted."""
        if self.pieces is not None:
            self.pieces.append((np.asarray(losses, np.float64), np.asarray(weights, np.float64)))
        rows = np.empty((2, np.size(losses) + 1))
        rows[:, 0], rows[0, 1:], rows[1, 1:] = (self.loss_sum, self.weight), losses, weights
        self.loss_sum, self.weight = np.add.accumulate(rows, axis=1, out=rows)[:, -1].tolist()

    def add_norms(self, norms: npt.ArrayLike) -> None:
        """Of the gradients of updates; NaN: it was not asked for."""
        norms = np.asarray(norms, np.float64)
        known = norms[norms == norms]
        if known.size:
            self.n_norms += known.size
            self.norms.extend(known.tolist())
            self.norm_sum = float(np.add.accumulate(np.append(self.norm_sum, known))[-1])     # in order, as the losses

    def hung_rows(self, bounds: npt.NDArray[Any]) -> dict[int, BaseException] | None:
        """The numbers of those pieces in `hung`, where piece i is bounds[i]..bounds[i + 1] - 1 of the epoch's order."""
        if not self.hung:
            return None
        pieces = enumerate(pairwise(bounds.tolist()))
        return {i: self.hung[rows] for i, rows in pieces if rows in self.hung}

    def timing(self, wall: float, before: RunTiming = NOTHING) -> RunTiming:
        """What was done since `before` (which this method returned then), or since the epoch began; wall: the clock now."""
        return RunTiming(self.updates - before.updates, self.samples - before.samples, self.seconds - before.seconds,
                         wall - before.wall)


class Runs(Protocol):
    """The face of a strategy that a Setting has: strategies/base.py says what each of these does, and imports this file."""

    @property
    def name(self) -> str: ...
    def update_signature(self, setting: Setting, /) -> list[int] | None: ...
    @property
    def updates(self) -> Any: ...
    def prepare(self, resources: Any, setting: Setting, /) -> None: ...


@dataclass(frozen=True, eq=False)
class Setting:
    """How updates are made now.

    mode: "serial", "parallel", or "simplified" (the groups of parallel training, on one replica in the calling thread).
    batches: of an update; parts: that each of them is cut into. copies: models that are trained beside the shared one, each
    with a gradient slot of its own (strategy local). keep: at least so many threads' replicas and slots are not freed, since a
    later setting will need them (strategy auto). brief: the run ends at the driver's first look at the clock, after 50 ms
    (native driver) or a group (Python driver), so that it can be judged (strategy auto)."""

    mode: str
    n_threads: int
    batches: int
    parts: int
    strategy: Runs
    copies: int = 0
    keep: int = 0
    brief: bool = False

    @cached_property
    def k(self) -> int:
        """Pieces of an update."""
        return self.batches * self.parts

    @cached_property
    def block(self) -> int:
        """Pieces whose gradients are kept at the same time, each in a slot: all of an update, or where those are many a power of
        two (LEAST_BLOCK, or two a thread). The blocks of an update are run one after another."""
        most = max(LEAST_BLOCK, 1 << (2 * self.n_threads - 1).bit_length())
        return self.k if self.k <= most else most

    @cached_property
    def n_blocks(self) -> int:
        """Blocks of an update."""
        return -(-self.k // self.block)

    @cached_property
    def n_slots(self) -> int:
        """Gradient vectors: one for each piece of a block, and at least one a thread; behind them log2(n_blocks), rounded up, for
        the means of blocks. Or one a copy."""
        return self.copies or max(self.block, self.n_threads) + (self.n_blocks - 1).bit_length()


@dataclass(frozen=True, eq=False)
class FailurePolicy:
    """What is done about batches that fail. on_failure: "skip", "retry" (max_retries times, then skip) or "raise".
    max_failed_fraction: of an epoch's batches, which may fail before training ends; one may always fail, unless it is 0.
    timeout: seconds that a batch may take, or None. max_hung: workers that may be put aside for batches that took longer."""

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
        """How often a batch that failed is run again."""
        return self.max_retries if self.on_failure == "retry" else 0

    def most_failures(self, pieces: int | None, seen: int = 0) -> int:
        """How many of an epoch's `pieces` may fail. If their number is not known (None), the fraction is taken of those
        seen so far, or of 100 if those are fewer."""
        if self.on_failure == "raise" or self.max_failed_fraction == 0:
            return 0
        most = self.max_failed_fraction * (max(seen, 100) if pieces is None else pieces)
        return max(1, floor(most + 1e-6))       # 0.29 * 100 is 28.999999999999996
