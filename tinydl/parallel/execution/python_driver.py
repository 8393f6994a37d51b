"""The Python driver: trains batch by batch, where Python has to run in between: streams, item datasets, custom optimizers.

It takes a group of batches from their source, cuts them into pieces, and runs those in lanes: one after the other within a lane,
the lanes side by side, each as a task of its own. What a lane is, and when updates are made, is said by updates.py. Pieces, slots
and the tree of averages are those of the native driver, so it gives the same bits.
"""
from __future__ import annotations

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
from tinydl.parallel.execution.aggregator import GradientAggregator
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
    """Train as Strategy.run_batches says."""
    left = max_updates
    while left is None or left > 0:
        started = time.perf_counter()
        updates = setting.strategy.updates(resources, epoch, setting)
        group, end = _next_batches(batches, updates.n_batches(left))
        try:
            if group:
                _Group(resources, epoch, updates, group).run(pool)
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


class _Group:
    """A group of batches, which is run until no batch of it hangs."""

    def __init__(self, resources: Resources, epoch: EpochProgress, updates: Updates, group: list[Batch | LazyBatch]) -> None:
        self.resources, self.epoch, self.updates = resources, epoch, updates
        parts = updates.setting.parts
        cuts = [batch.cut(parts, resources.plan.least_rows) for batch in group]
        self.pieces = [piece for cut in cuts for piece in cut]
        self.keys: list[Piece] = [(epoch.batches_done + b, i, parts) for b, cut in enumerate(cuts) for i in range(len(cut))]
        self.lanes: list[range] = []
        self.done: dict[int, _Done] = {}

    def run(self, pool: WorkerPool | None) -> None:
        """Run the lanes, make the updates, and count what was done."""
        ledger, updates, stopped = self.resources.ledger, self.updates, None
        with uninterrupted() as held:
            try:
                while not self._run_lanes(pool, held):
                    updates.prepare()
                    if not updates.at_once:
                        self.done = {}
            except BaseException as e:
                if not updates.at_once:
                    raise
                # the batches up to the last one that has ended count as done or failed; those after it run again
                stopped, self.lanes = e, self.lanes[:max(self.done, default=-1) + 1]
            parts = updates.after_group([self._outcome(lane) for lane in self.lanes])
            with ledger.booking():
                outcome = updates.end(parts)
                ledger.count(self.epoch, outcome)
            if stopped is not None:
                raise stopped
            ledger.stop_for(self.epoch, outcome)

    def _run_lanes(self, pool: WorkerPool | None, held: uninterrupted) -> bool:
        """Run what is not done yet. False if batches hung."""
        resources = self.resources
        for replica in resources.every_replica():
            replica.native.cancel(False)
        resources.check_deadline()
        self.lanes = self.updates.lanes(len(self.pieces))
        attempt = _Attempt(self, held if pool is None else None)
        ended = True
        if pool is None:
            for run in attempt.calls:
                run(0)
        else:
            attempt.tasks = pool.submit_all(attempt.calls)
            ended = wait(resources, self.epoch, attempt, pool, held)
            ledger = resources.ledger
            for worker in np.flatnonzero(ledger.live[:, STATE]).tolist():      # those of workers that were put aside
                ledger.leave_batch(worker)
        resources.check_deadline()
        return ended

    def is_over(self, piece: int) -> bool:
        """Whether nothing is left to do for a piece."""
        return piece in self.done or self.keys[piece] in self.epoch.hung

    def _outcome(self, lane: range) -> Outcome:
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
        """The outcome of a piece that hung, or that was not run to its end before an exception."""
        error = self.epoch.hung.get(self.keys[i]) or engine.CancelledError("stopped while it ran")
        return _Done(BatchProcessResult(-1, self.keys[i][0], float("nan"), self.pieces[i].n, False, error))


class _Attempt:
    """What hung.wait waits for: a task for each lane of a group in which something is left to do. held: of the calling thread, if
    it runs the lanes itself."""

    def __init__(self, group: _Group, held: uninterrupted | None) -> None:
        self.group, self.held = group, held
        self.over = False                       # what comes from now on does not count
        self.ended: set[int] = set()            # the pieces that had ended then
        self.lanes = [i for i, lane in enumerate(group.lanes) if not all(map(group.is_over, lane))]
        self.calls: list[Callable[[int], None]] = [partial(self._run, lane) for lane in self.lanes]
        self.tasks: list[Task] = []
        self.done = group.done

    def _run(self, lane: int, worker: int) -> None:
        """Run a lane; again from its start, if a worker died in it, but for updates that cannot be taken back."""
        group, updates = self.group, self.group.updates
        if not updates.at_once:
            for piece in group.lanes[lane]:
                self.done.pop(piece, None)
        updates.begin(lane)
        hooks = group.resources.plan.program.hooks
        with BlasLimit() if hooks and self.held is None else nullcontext():
            for piece in group.lanes[lane]:
                if not group.is_over(piece) and not self._run_piece(lane, piece, worker):
                    return

    def _run_piece(self, lane: int, piece: int, worker: int) -> bool:
        """False if the lane is not to go on."""
        group, resources, updates = self.group, self.group.resources, self.group.updates
        if self.over:
            return False
        number, place = group.keys[piece][0], updates.place(lane, piece, worker)
        log.debug("worker %d: epoch %d batch %d", place.worker, group.epoch.number, number)
        since = resources.ledger.enter_batch(worker, number, place.replica.native)
        try:
            with nullcontext() if self.held is None else self.held.open():
                result = ParallelBatchProcessor(
                    group.pieces[piece], resources.model, resources.loss, GradientAggregator(1), place.worker, slot=0,
                    replica=place.replica, gradients=place.gradients, seed=resources.seed, step=place.step,
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

    # ------------------------------------------------------------------ for hung.wait
    def _piece(self, i: int, batch: int) -> int:
        return next(piece for piece in self.group.lanes[self.lanes[i]] if self.group.keys[piece][0] == batch)

    def unfinished(self, i: int) -> bool:
        return not all(map(self.group.is_over, self.group.lanes[self.lanes[i]]))

    def row(self, i: int) -> Array:
        row: Array = self.group.resources.ledger.live[self.tasks[i].worker or 0]
        return row

    def replica(self, i: int) -> engine.Replica:
        lane = self.lanes[i]
        return self.group.updates.place(lane, self.group.lanes[lane][0], self.tasks[i].worker or 0).replica.native

    def name(self, i: int, batch: int) -> tuple[str, Piece]:
        return f"batch {batch}", self.group.keys[self._piece(i, batch)]

    def cancel(self) -> None:
        for replica in self.group.resources.every_replica():
            replica.native.cancel()

    def stop(self, hung: dict[int, int]) -> bool:
        with self.group.resources.step_lock:
            if hung and all(self._piece(i, batch) in self.done for i, batch in hung.items()):
                return False
            self.over, self.ended = True, set(self.done)
        self.cancel()
        return True

    def gave_up(self, i: int, batch: int, error: BaseException, back: bool) -> bool:
        return self._piece(i, batch) not in self.ended
