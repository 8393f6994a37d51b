"""The Python driver: trains batch by batch, where Python has to run in between: streams, item datasets, custom optimizers.

It takes a group of batches from their source, cuts them into pieces, and runs those in lanes: one after the other within a lane,
the lanes side by side, each as a task of its own. What a lane is, and when updates are made, is said by updates.py. Pieces, slots
and the tree of averages are those of the native driver, so it gives the same bits.
"""
from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinydl._kernels import engine
from tinydl.data.stream import ReaderGoneError
from tinydl.log import log
from tinydl.parallel.errors import BatchFailure
from tinydl.parallel.execution.hung import wait
from tinydl.parallel.execution.ledger import Outcome
from tinydl.parallel.execution.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.execution.stats import STATE
from tinydl.parallel.host.blas import BlasLimit
from tinydl.parallel.workers.pool import Task, WorkerPool
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.data import Batch, LazyBatch
    from tinydl.parallel.execution.epoch import EpochProgress, Piece, Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.execution.updates import Updates

Array = np.ndarray[Any, Any]
Tick = Callable[["EpochProgress", int], bool]

__all__ = ["behind", "train"]


def train(resources: Resources, epoch: EpochProgress, batches: Iterator[Batch | LazyBatch], setting: Setting,
          pool: WorkerPool | None, tick: Tick, max_updates: int | None = None) -> bool:
    """Train batches from an iterator until it ends (True), or tick(epoch, samples so far) says stop, or max_updates were made
    (False)."""
    left = max_updates
    while left is None or left > 0:
        started = time.perf_counter()
        updates = setting.strategy.updates(resources, epoch, setting)
        group, end = _next_batches(batches, updates.n_batches(left))
        try:
            if group:
                _run_group(resources, epoch, updates, group, pool)
        finally:
            epoch.seconds += time.perf_counter() - started
        left = None if left is None else left - updates.n_updates
        if end is not None:
            resources.ledger.count_end(epoch, end, resources.most_pieces(setting.parts))
            return True
        if tick(epoch, epoch.samples):
            return False
    return False


def behind(batches: Iterator[Batch | LazyBatch], n: int) -> Iterator[Batch | LazyBatch]:
    """`batches` without the first n. If their source raises an exception while those are skipped, it is raised when the
    first of the others is asked for."""
    try:
        deque(islice(batches, n), maxlen=0)
    except Exception as e:
        return map(_reraise, [e])
    return batches


def _reraise(error: Exception) -> Batch | LazyBatch:
    raise error


def _next_batches(batches: Iterator[Batch | LazyBatch], n: int) -> tuple[list[Batch | LazyBatch], Exception | None]:
    """The next n batches, and None. If there are fewer: those, and the exception that ended them, StopIteration or what their
    source raised."""
    group: list[Batch | LazyBatch] = []
    while len(group) < n:
        try:
            group.append(next(batches))
        except ReaderGoneError:
            raise
        except Exception as e:
            return group, e
    return group, None


class _Done(NamedTuple):
    """What became of a piece; norm: of the gradient of the update that followed it; updates: how many did."""

    result: BatchProcessResult
    norm: float = float("nan")
    updates: int = 0


def _run_group(resources: Resources, epoch: EpochProgress, updates: Updates, group: list[Batch | LazyBatch],
               pool: WorkerPool | None) -> None:
    """Run a group until no batch of it hangs, make the updates, and count what was done."""
    stopped: BaseException | None = None
    with uninterrupted() as held:
        lanes = _Lanes(resources, epoch, updates, group, {})
        try:
            while not lanes.run(pool, held):
                updates.prepare()
                lanes = _Lanes(resources, epoch, updates, group, lanes.done if updates.at_once else {})
        except BaseException as e:
            if not updates.at_once:
                raise
            # the batches up to the last one that has ended count as done or failed; those after it run again
            stopped, lanes.lanes = e, lanes.lanes[:max(lanes.done, default=-1) + 1]
        parts = updates.after_group([lanes.outcome(lane) for lane in lanes.lanes], held)
        with resources.ledger.booking():
            outcome = updates.end(parts)
            resources.ledger.count(epoch, outcome)
        if stopped is not None:
            raise stopped
        resources.ledger.stop_for(epoch, outcome)


class _Lanes:
    """A group, and what is left to do of it: a task for each lane. hung.wait waits for them. done: what became of pieces."""

    def __init__(self, resources: Resources, epoch: EpochProgress, updates: Updates, group: list[Batch | LazyBatch],
                 done: dict[int, _Done]) -> None:
        self.resources, self.epoch, self.updates, self.done = resources, epoch, updates, done
        parts = updates.setting.parts
        cuts = [batch.cut(parts, resources.plan.least_rows) for batch in group]
        self.pieces = [piece for cut in cuts for piece in cut]
        self.keys: list[Piece] = [(epoch.batches_done + b, i, parts) for b, cut in enumerate(cuts) for i in range(len(cut))]
        self.lanes = updates.lanes(len(self.pieces))
        self.todo: list[int] = []               # the lanes of the block under way that have something to do
        self.calls: list[Callable[[int], None]] = []
        self.tasks: list[Task] = []
        self.held: uninterrupted | None = None  # of the calling thread, if that runs them
        self.over = False                       # what comes from now on does not count
        self.ended: set[int] = set()            # the pieces that were done then

    def run(self, pool: WorkerPool | None, held: uninterrupted) -> bool:
        """Run what is to do. False if batches hung."""
        resources = self.resources
        for replica in resources.every_replica():
            replica.native.cancel(False)
        resources.check_deadline()
        blocks = self.updates.blocks(len(self.lanes))
        for block in blocks:
            if not self._run_block(block, pool, held):
                return False
            self.updates.after_block([self.outcome(self.lanes[i]) for i in block], block is blocks[-1])
        return True

    def _run_block(self, block: range, pool: WorkerPool | None, held: uninterrupted) -> bool:
        resources, ended = self.resources, True
        self.todo = [i for i in block if not all(map(self._is_over, self.lanes[i]))]
        self.calls = [partial(self._run_lane, lane) for lane in self.todo]
        if pool is None:
            self.held = held
            for call in self.calls:
                call(0)
        else:
            self.tasks = pool.submit_all(self.calls)
            ended = wait(resources, self.epoch, self, pool, held)
            for worker in np.flatnonzero(resources.ledger.live[:, STATE]).tolist():     # of those that were put aside
                resources.ledger.leave_batch(worker)
        self.calls = []                         # they refer to this object, which is free at once without them
        resources.check_deadline()
        return ended

    def _is_over(self, piece: int) -> bool:
        return piece in self.done or self.keys[piece] in self.epoch.hung

    def _run_lane(self, lane: int, worker: int) -> None:
        """From its start also where a worker died in it, but for updates that cannot be taken back."""
        if not self.updates.at_once:
            for piece in self.lanes[lane]:
                self.done.pop(piece, None)
        self.updates.begin(lane)
        with BlasLimit() if self.held is None and self.resources.plan.program.hooks else nullcontext():
            for piece in self.lanes[lane]:
                if not self._is_over(piece) and not self._run_piece(lane, piece, worker):
                    return

    def _run_piece(self, lane: int, piece: int, worker: int) -> bool:
        """False if the lane is not to go on."""
        if self.over:
            return False
        resources, updates, number = self.resources, self.updates, self.keys[piece][0]
        place = updates.place(lane, piece, worker)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("worker %d: epoch %d batch %d", place.worker, self.epoch.number, number)
        since = resources.ledger.enter_batch(worker, number, place.replica.native)
        try:
            with nullcontext() if self.held is None else self.held.open():
                result = ParallelBatchProcessor(
                    self.pieces[piece], resources.model, resources.loss, None, place.worker, replica=place.replica,
                    gradients=place.gradients, seed=resources.seed, step=place.step,
                    max_retries=resources.policy.retries)()
        finally:
            resources.ledger.leave_batch(worker, since)
        if isinstance(result.exception, KeyboardInterrupt):         # not a failure of the batch
            raise result.exception
        if isinstance(result.exception, engine.CancelledError):
            return False
        with resources.step_lock if updates.at_once else nullcontext():
            if self.over:
                return False
            made = updates.after_piece(lane, piece) if result.success and result.weight > 0 else ()
            self.done[piece] = _Done(result, *made)
        return True

    def outcome(self, lane: range) -> Outcome:
        """What became of the pieces of a lane."""
        done = [self.done.get(i) or self._not_run(i) for i in lane]
        results = [d.result for d in done]
        failures = [BatchFailure(self.epoch.number, self.keys[i][0], r.n_samples, r.thread_id, r.exception,
                                 self.pieces[i].indices) for i, r in zip(lane, results, strict=True) if r.exception is not None]
        return Outcome([r.n_samples for r in results], [r.loss for r in results], [r.weight for r in results],
                       [r.attempts for r in results], [r.thread_id for r in results], [r.success for r in results],
                       failures, norms=[d.norm for d in done], updates=sum(d.updates for d in done),
                       batches=sum(self.keys[i][1] == 0 for i in lane), groups=len(lane))

    def _not_run(self, i: int) -> _Done:
        """For a piece that hung, or that did not come to its end before an exception."""
        error = self.epoch.hung.get(self.keys[i]) or engine.CancelledError("stopped while it ran")
        return _Done(BatchProcessResult(-1, self.keys[i][0], float("nan"), self.pieces[i].n, False, error))

    # ------------------------------------------------------------------ as hung.Work
    def _piece(self, i: int, batch: int) -> int:
        return next(piece for piece in self.lanes[self.todo[i]] if self.keys[piece][0] == batch)

    def unfinished(self, i: int) -> bool:
        return not all(map(self._is_over, self.lanes[self.todo[i]]))

    def row(self, i: int) -> Array:
        row: Array = self.resources.ledger.live[self.tasks[i].worker or 0]
        return row

    def replica(self, i: int) -> engine.Replica:
        lane = self.todo[i]
        return self.updates.place(lane, self.lanes[lane][0], self.tasks[i].worker or 0).replica.native

    def name(self, i: int, batch: int) -> tuple[str, Piece]:
        return f"batch {batch}", self.keys[self._piece(i, batch)]

    def cancel(self) -> None:
        for replica in self.resources.every_replica():
            replica.native.cancel()

    def stop(self, hung: dict[int, int]) -> bool:
        with self.resources.step_lock:
            if hung and all(self._piece(i, batch) in self.done for i, batch in hung.items()):
                return False
            self.over, self.ended = True, set(self.done)
        self.cancel()
        return True

    def gave_up(self, i: int, batch: int, error: BaseException, back: bool) -> bool:
        return self._piece(i, batch) not in self.ended
