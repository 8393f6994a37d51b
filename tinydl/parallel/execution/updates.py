"""How the pieces of batches become updates, for both drivers. A strategy names one of these classes (Strategy.updates).

    Together     the mean gradient of a group's pieces is one update       serial, group, shard, auto
    AtOnce       each piece is an update of its own, made at once          hogwild
    Averaging    each copy of the model makes its own; see strategies/local.py

The native driver makes an object of these for each run, and runs what `runs` returns. The Python driver makes one for each group
of batches that it takes from their source: `lanes` says which pieces one task runs one after the other, `place` on what, and
`after_piece` and `after_group` make the updates. At last, `end` sees what was done, for both drivers.
"""
from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from tinydl._kernels import engine
from tinydl.data.batch import cut_rows
from tinydl.parallel.errors import NothingArrivedError
from tinydl.parallel.execution.aggregator import GradientAggregator
from tinydl.parallel.execution.epoch import EpochProgress, Setting
from tinydl.parallel.execution.ledger import Outcome
from tinydl.parallel.execution.stats import UPDATED
from tinydl.parallel.host.threads import machine_cpus

if TYPE_CHECKING:
    from tinydl.parallel.execution.replica import Replica
    from tinydl.parallel.execution.resources import Resources

Array = np.ndarray[Any, Any]

__all__ = ["AtOnce", "Run", "Together", "Updates", "group_starts", "mean"]

#: nanoseconds that a waiting worker spins at most before it sleeps (csrc/sync.h): three times what waking it costs
SPINS = 300_000


class Run(NamedTuple):
    """A run of the native driver. numbers: in the epoch, of the batches that its pieces are of; copy: of the model, that it
    trains (strategy local)."""

    native: engine.NativeRun
    numbers: Array
    copy: int | None = None


class Place(NamedTuple):
    """What a piece runs on in the Python driver: the vector for its gradient, the key of its random masks, and who counts as the
    one who ran it."""

    replica: Replica
    gradients: Array
    step: int
    worker: int


class Updates(ABC):
    """How a run of the native driver, or a group of the Python driver, becomes updates."""

    #: whether updates cannot be taken back: what was done before an exception counts
    at_once: ClassVar[bool] = False
    #: whether a run that was begun makes no sense before its last batch, so that nothing pauses it
    must_finish: ClassVar[bool] = False

    def __init__(self, resources: Resources, epoch: EpochProgress, setting: Setting) -> None:
        self.resources, self.epoch, self.setting = resources, epoch, setting
        self.t = resources.state.t
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Make the replicas and vectors that are missing: at first, and where workers that hang have taken some away."""

    def given_up(self, bounds: Array) -> dict[int, BaseException] | None:
        """The pieces that hung before, where piece i is bounds[i]..bounds[i + 1] - 1 of the epoch's order."""
        hung = self.epoch.hung
        return {i: hung[rows] for i in range(len(bounds) - 1) if (rows := (int(bounds[i]), int(bounds[i + 1]))) in hung
                } if hung else None

    @abstractmethod
    def runs(self, order: Array, bounds: Array, max_updates: int | None) -> list[Run]:
        """What the native driver is to run side by side, from batch epoch.batches_done on."""

    @abstractmethod
    def n_batches(self, left: int | None) -> int:
        """How many batches the Python driver takes from their source at a time, if `left` more updates are to be made at most
        (None: no limit)."""

    @property
    @abstractmethod
    def n_updates(self) -> int:
        """How many updates (of each copy) a group of the Python driver counts for, or a run that must finish."""

    @abstractmethod
    def lanes(self, n_pieces: int) -> list[range]:
        """Which pieces of a group are run one after the other: by one task."""

    def begin(self, lane: int) -> None:  # noqa: B027
        """Called by the worker that begins a lane, also if it begins anew because another worker died in it."""

    @abstractmethod
    def place(self, lane: int, piece: int, worker: int) -> Place:
        """What a piece runs on."""

    def after_piece(self, lane: int, piece: int) -> tuple[float, int]:
        """Called by its worker when a piece has arrived, in which something counts. Returns the norm of the gradient (NaN: not
        known), and how many updates were made."""
        return float("nan"), 0

    def after_group(self, parts: list[Outcome]) -> list[Outcome]:
        """Called when all lanes are over, with the outcome of each."""
        return parts

    @abstractmethod
    def end(self, parts: list[Outcome]) -> Outcome:
        """Called when a run (a group) is over, with the outcome of each of `runs` (lanes). Returns what is to be counted, and
        sets the optimizer's state and the key of random masks accordingly."""


class Together(Updates):
    """The mean gradient of a group's pieces is one update."""

    def runs(self, order: Array, bounds: Array, max_updates: int | None) -> list[Run]:
        resources, epoch, setting = self.resources, self.epoch, self.setting
        last = None if max_updates is None else epoch.batches_done + max_updates * setting.batches + 1
        pieces, owner = cut_rows(bounds[epoch.batches_done:last], setting.parts, resources.plan.least_rows)
        n_threads = setting.n_threads if setting.mode == "parallel" else 1
        groups = None if self.at_once else group_starts(owner, setting.batches)
        native = engine.NativeRun(
            [r.native for r in resources.replicas[:n_threads]], resources.slots[:setting.n_slots], resources.sources, order,
            pieces, resources.rule(len(pieces if groups is None else groups) - 1), t=self.t, groups=groups,
            first_step=resources.step, seed=resources.seed, free=self.at_once, max_retries=resources.policy.retries,
            max_failed=resources.most_failures(epoch, setting.parts), given_up=self.given_up(pieces), alone=resources.alone,
            spins=SPINS if 1 < n_threads <= machine_cpus() else 0)
        return [Run(native, owner + epoch.batches_done)]

    def prepare(self) -> None:
        self.resources.prepare(self.setting)

    def n_batches(self, left: int | None) -> int:
        return self.setting.batches

    @property
    def n_updates(self) -> int:
        return 1

    def lanes(self, n_pieces: int) -> list[range]:
        return [range(i, i + 1) for i in range(n_pieces)]

    def place(self, lane: int, piece: int, worker: int) -> Place:
        return Place(self.resources.replicas[worker], self.resources.slots[piece], self.resources.step, worker)

    def after_group(self, parts: list[Outcome]) -> list[Outcome]:
        resources, outcome, started = self.resources, Outcome.join(parts), time.monotonic_ns()
        outcome.groups = 1
        if len(outcome.failures) > resources.most_failures(self.epoch, self.setting.parts):
            return [Outcome(fatal=outcome.failures)]
        average = mean(resources.slots, parts)
        if average is not None:
            outcome.norms = [resources.apply(average)]
            outcome.updates = resources.state.t - self.t
        resources.ledger.live[0, UPDATED] += time.monotonic_ns() - started
        return [outcome]

    def end(self, parts: list[Outcome]) -> Outcome:
        outcome = Outcome.join(parts)
        self.resources.state.t = self.t + outcome.updates
        self.resources.step += outcome.groups
        return outcome


class AtOnce(Together):
    """Each piece is an update of its own, made at once by the worker that ran it; no worker waits for another."""

    at_once = True

    def n_batches(self, left: int | None) -> int:
        n = len(self.resources.replicas)
        return n if left is None else min(n, left)

    @property
    def n_updates(self) -> int:
        return len(self.resources.replicas)

    def place(self, lane: int, piece: int, worker: int) -> Place:
        return super().place(lane, piece, worker)._replace(step=self.resources.step + piece)

    def after_piece(self, lane: int, piece: int) -> tuple[float, int]:
        before = self.resources.state.t
        return self.resources.apply(self.resources.slots[piece]), self.resources.state.t - before

    def after_group(self, parts: list[Outcome]) -> list[Outcome]:
        return parts

    def end(self, parts: list[Outcome]) -> Outcome:
        outcome = super().end(parts)
        own = [f for f in outcome.failures if not isinstance(f.exception, engine.CancelledError)]
        if len(own) > self.resources.most_failures(self.epoch, self.setting.parts):
            outcome.fatal = own[-1:]
        return outcome


def group_starts(owner: Array, batches: int) -> Array:
    """Where groups of `batches` batches begin: group g is pieces groups[g]..groups[g + 1] - 1. owner: the batch that each
    piece is of (data.batch.cut_rows)."""
    return np.searchsorted(owner, np.arange(0, (owner[-1] if len(owner) else -1) + 1 + batches, batches))


def mean(vectors: Sequence[Array], parts: Sequence[Outcome]) -> Array | None:
    """The mean of the vectors, one for each part, by the weights that arrived in it; None if nothing that counts did. The vectors
    are used up."""
    aggregator = GradientAggregator(len(parts))
    for slot, (vector, part) in enumerate(zip(vectors, parts, strict=False)):
        if part.samples:
            aggregator.submit_gradients(vector, part.samples, slot, copy=False, weight=part.weight)
        else:
            aggregator.submit_failure(slot)
    try:
        return np.asarray(aggregator.get_average_gradients(0, in_place=True))
    except NothingArrivedError:
        return None
