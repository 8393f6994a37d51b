"""How the pieces of batches become updates, for both drivers; Strategy.updates names a class.

    Updates      the mean gradient of a group's pieces is one update       serial, group, shard, auto
    AtOnce       each piece is an update of its own                        hogwild
    Averaging    each copy of the model makes its own                      local (strategies/local.py)

The native driver makes an object for what it runs side by side (`runs`), the Python driver one for each group of batches: a task
runs the pieces of a lane (`lanes`) one after the other, the lanes of a block (`blocks`) are run side by side, and updates are
made `after_piece` (AfterPieces: AtOnce and Averaging) or `after_group`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from tinydl._kernels import engine
from tinydl.data.batch import cut_rows
from tinydl.parallel.execution.aggregator import BlockMeans, GradientAggregator
from tinydl.parallel.execution.epoch import EpochProgress, Setting
from tinydl.parallel.execution.ledger import Outcome
from tinydl.parallel.execution.stats import UPDATED, WAITED
from tinydl.parallel.host.threads import machine_cpus
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.parallel.execution.replica import Replica
    from tinydl.parallel.execution.resources import Resources

Array = np.ndarray[Any, Any]

__all__ = ["AfterPieces", "AtOnce", "Place", "Run", "Updates", "group_starts", "mean"]

#: nanoseconds that a waiting worker spins at most before it sleeps (csrc/sync.h): three times what waking it costs
SPINS = 300_000


class Run(NamedTuple):
    """A run of the native driver; the number in the epoch of each piece's batch; the copy of the model that it trains."""

    native: engine.NativeRun
    numbers: Array
    copy: int | None = None


class Place(NamedTuple):
    """What the Python driver runs a piece on; step: the key of its random masks; worker: who counts as having run it."""

    replica: Replica
    gradients: Array
    step: int
    worker: int


class Updates:
    """The mean gradient of a group's pieces is one update."""

    #: whether updates cannot be taken back: what was done before an exception counts
    at_once: ClassVar[bool] = False
    #: whether nothing may pause a run before its end, since it makes no update before
    must_finish: ClassVar[bool] = False

    def __init__(self, resources: Resources, epoch: EpochProgress, setting: Setting) -> None:
        self.resources, self.epoch, self.setting, self.t = resources, epoch, setting, resources.state.t
        resources.plan.reach(resources.step)
        self.prepare()

    def prepare(self) -> None:
        """Make what is missing: at first, and where workers that were put aside have taken some away."""
        resources, setting = self.resources, self.setting
        resources.prepare(setting)
        self.means = BlockMeans(resources.slots[max(setting.block, setting.n_threads):])
        self.mean: tuple[Array, float] | None = None        # of the blocks so far, when the last one is done
        self.first = 0                                      # the first lane that is run here

    def runs(self, order: Array, bounds: Array, max_updates: int | None) -> list[Run]:
        """What the native driver runs side by side, from batch epoch.batches_done on."""
        resources, epoch, setting = self.resources, self.epoch, self.setting
        last = None if max_updates is None else epoch.batches_done + max_updates * setting.batches + 1
        pieces, owner = cut_rows(bounds[epoch.batches_done:last], setting.parts, resources.plan.least_rows)
        n_threads = setting.n_threads if setting.mode == "parallel" else 1
        n_slots = max(setting.block, setting.n_threads)
        groups = None if self.at_once else group_starts(owner, setting.batches)
        together, shares = None, None
        if resources.ranks is not None and groups is not None:
            from tinydl.parallel.execution.shared_groups import GroupsOfRanks
            together = GroupsOfRanks(resources.ranks, epoch, setting, resources.step)
            shares = together.shares(groups)
        native = engine.NativeRun(
            [r.native for r in resources.replicas[:n_threads]], resources.slots[:n_slots], resources.sources, order, pieces,
            resources.rule(len(pieces if groups is None else groups) - 1), t=self.t, groups=groups,
            first_step=resources.step, seed=resources.seed, free=self.at_once, max_retries=resources.policy.retries,
            max_failed=resources.most_failures(epoch, setting.parts), given_up=epoch.hung_rows(pieces), alone=resources.alone,
            exchange=None if together is None else together.exchange,
            shares=shares, kept=resources.slots[n_slots:setting.n_slots],
            spins=SPINS if 1 < n_threads <= machine_cpus() else 0)
        if together is not None:
            together.take(native)
        return [Run(native, owner + epoch.batches_done)]

    def n_batches(self, left: int | None) -> int:
        """How many batches the Python driver takes at a time, if at most `left` updates are still to be made."""
        return self.setting.batches

    @property
    def n_updates(self) -> int:
        """How many updates those count for, or a run that must finish."""
        return 1

    def lanes(self, n_pieces: int) -> list[range]:
        """Which pieces of a group a task runs one after the other."""
        return [range(i, i + 1) for i in range(n_pieces)]

    def blocks(self, n_lanes: int) -> list[range]:
        """Which lanes are run at a time; what follows waits for them. There are slots for the pieces of a block. Of several ranks
        each runs those of its share."""
        block, ranks = self.setting.block, self.resources.ranks
        own = range(n_lanes) if ranks is None else ranks.share(self.setting.k, n_lanes)
        self.first = own.start
        return [range(lo, min(lo + block, own.stop)) for lo in range(own.start, own.stop, block)]

    def begin(self, lane: int) -> None:
        """Called by a worker that begins a lane, and by the next one if it dies there."""

    def place(self, lane: int, piece: int, worker: int) -> Place:
        """Where to run a piece."""
        return Place(self.resources.replicas[worker], self.resources.slots[(piece - self.first) % self.setting.block],
                     self.resources.step, worker)

    def after_piece(self, lane: int, piece: int) -> tuple[float, int]:
        """Called by the worker after a piece that has arrived. Returns the gradient's norm, if it is known, and how many updates
        it has made."""
        return float("nan"), 0

    def after_block(self, parts: list[Outcome], last: bool) -> None:
        """Called after a block, with the outcome of each of its lanes."""
        started = engine.clock()
        self.mean = self.means.add(mean(self.resources.slots, parts), last)
        self.resources.ledger.live[0, UPDATED] += engine.clock() - started

    def after_group(self, parts: list[Outcome], held: uninterrupted) -> list[Outcome]:
        """Called after all lanes, with the outcome of each."""
        resources, started = self.resources, engine.clock()
        average = None if self.mean is None else self.mean[0]
        if resources.ranks is not None:
            from tinydl.parallel.execution.shared_groups import exchange_group
            average = exchange_group(resources, self.epoch, self.setting, self.mean, parts, held)
            ended = engine.clock()
            resources.ledger.live[0, WAITED] += ended - started
            started = ended
        outcome = Outcome.join(parts)
        if len(outcome.failures) > resources.most_failures(self.epoch, self.setting.parts):
            return [Outcome(fatal=outcome.failures)]
        outcome.groups = 1
        if average is not None:
            outcome.norms = [resources.apply(average)]
            outcome.updates = resources.state.t - self.t
        resources.ledger.live[0, UPDATED] += engine.clock() - started
        return [outcome]

    def end(self, parts: list[Outcome]) -> Outcome:
        """Called at the end, with the outcome of each of `runs`, or what `after_group` returned. Returns what is to be counted,
        and moves the optimizer's clock and the key of random masks on."""
        outcome = Outcome.join(parts)
        self.resources.state.t = self.t + outcome.updates
        self.resources.step += outcome.groups
        return outcome


class AfterPieces(Updates):
    """Updates are made `after_piece`, and a subclass says how: nothing is averaged for a group, which is run in one block."""

    def blocks(self, n_lanes: int) -> list[range]:
        return [range(n_lanes)]

    def after_block(self, parts: list[Outcome], last: bool) -> None:
        pass

    def after_group(self, parts: list[Outcome], held: uninterrupted) -> list[Outcome]:
        return parts


class AtOnce(AfterPieces):
    """Each piece is an update of its own, made by the worker that ran it; no worker waits for another."""

    at_once = True

    def n_batches(self, left: int | None) -> int:
        return self.n_updates if left is None else min(self.n_updates, left)

    @property
    def n_updates(self) -> int:
        return len(self.resources.replicas)

    def place(self, lane: int, piece: int, worker: int) -> Place:
        return Place(self.resources.replicas[worker], self.resources.slots[piece], self.resources.step + piece, worker)

    def after_piece(self, lane: int, piece: int) -> tuple[float, int]:
        before = self.resources.state.t
        return self.resources.apply(self.resources.slots[piece]), self.resources.state.t - before

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


def mean(vectors: Sequence[Array], parts: Sequence[Outcome]) -> tuple[Array, float] | None:
    """The mean of vectors, one for each part, by the weights that arrived in it, and the sum of these; None if none did. Uses the
    vectors up."""
    aggregator = GradientAggregator(len(parts))
    for slot, part in enumerate(parts):
        if samples := int(part.of_arrived(part.sizes).sum()):
            weight = float(sum(part.of_arrived(part.weights).tolist()))
            aggregator.submit_gradients(vectors[slot], samples, slot, copy=False, weight=weight)
        else:
            aggregator.submit_failure(slot)
    return aggregator.mean()
