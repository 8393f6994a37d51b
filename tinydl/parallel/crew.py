"""Crew: the replicas, gradient slots and pool of one trainer, and the two ways to drive them over an epoch.

Both drivers take the same groups, the same slots and the same tree, so they give the same bits:
 - native: `Stretch` in tinydl._kernels.engine. Workers stay in native code over many groups. For data in
   arrays and optimizers with a native rule.
 - Python: ParallelBatchProcessor, BatchProcessResult, GradientAggregator, one task a batch. For everything that
   wants Python between batches: streams, item datasets, custom optimizers.
Strategies say how updates are cut (strategies/base.py); failures are met as the FailurePolicy says (job.py).
An epoch is a Job. Whatever ends it early (an exception, a stop, a change of threads), the job then says how many
batches are behind it; parameters and optimizer are as of the last finished update.
"""
from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinydl._kernels import engine
from tinydl.data import Batch, LazyBatch
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.parallel.affinity import pin, spread
from tinydl.parallel.aggregator import GradientAggregator
from tinydl.parallel.blas import BlasLimit
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError, NothingArrivedError, TrainingError
from tinydl.parallel.job import FailurePolicy, Job, Setting
from tinydl.parallel.pool import Task, WorkerPool, wait_all
from tinydl.parallel.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.replica import Replica
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.stats import BATCH, BUSY, N_LIVE, SINCE, STATE, UPDATED, WAITED, ParallelStats, WorkerState
from tinydl.parallel.strategies.base import cut_rows
from tinydl.parallel.threads import usable_cpus

Array = np.ndarray[Any, Any]
Tick = Callable[[Job, int], bool]

__all__ = ["Crew"]

log = logging.getLogger("tinydl")

#: nanoseconds that a waiting worker spins at most before it sleeps (csrc/sync.h): three times what waking it costs
SPINS = 300_000
#: seconds between looks at the clock, signals and requests while workers run
TICK = 0.05
#: seconds that workers have to come back after an interrupt, before they are put aside
GRACE = 0.3


class GaveUpError(Exception):
    """A shutdown's time is over and a worker is still busy."""


class Run(NamedTuple):
    """One worker of one stretch, and the task that it is."""

    stretch: engine.Stretch
    number: int
    task: Task


class Crew:
    """Runs jobs for a model, a loss and an optimizer. One thread at a time calls `run_*`; `workers` any thread."""

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, max_rows: int, seed: int,
                 policy: FailurePolicy | None = None, pin_threads: bool = False) -> None:
        self.model, self.loss, self.optimizer, self.max_rows, self.seed = model, loss, optimizer, max_rows, seed
        self.policy, self.pin_threads = policy or FailurePolicy(), pin_threads
        optimizer.bind(model.params, model.statistics, model.momenta)
        self.plan = model.plan(max_rows=max_rows, loss=loss)
        self.replicas: list[Replica] = []
        self.slots: list[Array] = []
        self.step = 0                   # groups dispatched so far: the key of random masks
        self.stats = ParallelStats()
        self.hung_workers = 0           # put aside so far for what batch_timeout found
        self.give_up_at: float | None = None    # on the monotonic clock: when a shutdown's time is over
        self._sources: tuple[Any, Any] = (None, None)
        self._running: list[engine.Stretch] = []
        self._live: Array = np.zeros((0, N_LIVE), np.int64)      # the Python driver's, as Stretch.live
        self._step_lock = threading.Lock()
        self.team: list[Any] = []       # the local strategy's members

    def prepare(self, setting: Setting) -> None:
        """Exactly the replicas and slots that `setting` needs."""
        n = setting.n_threads if setting.mode == "parallel" else 1
        k = max(setting.k, n)
        del self.replicas[n:], self.slots[k:]
        while len(self.replicas) < n:
            self.replicas.append(self.new_replica(own_layers=bool(self.replicas) or self.hung_workers > 0))
        while len(self.slots) < k:
            self.slots.append(self.replicas[0].gradient_vector())
        self.make_room(n)
        self.note(setting)

    def note(self, setting: Setting) -> None:
        """Say in the statistics how it runs."""
        self.stats.mode, self.stats.thread_count, self.stats.batches_per_update = setting.mode, setting.n_threads, setting.batches
        self.stats.strategy, self.stats.parts = setting.strategy.name, setting.parts

    def new_replica(self, own_layers: bool = True) -> Replica:
        return Replica(self.model, self.loss, self.max_rows, plan=self.plan, own_layers=own_layers)

    def set_arrays(self, x: Array, y: Array) -> None:
        """The sources of the native driver."""
        self._sources = engine.Source(x), engine.Source(y)

    @property
    def sources(self) -> tuple[Any, Any]:
        """x and y of the native driver."""
        return self._sources

    def most_failures(self, job: Job, parts: int) -> int:
        """Pieces that may still fail in this epoch."""
        pieces = None if job.n_batches is None else job.n_batches * parts
        return max(0, self.policy.most_failures(pieces, job.batches_done * parts) - len(job.failures))

    # ------------------------------------------------------------------ the native driver
    def run_arrays(self, job: Job, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None, tick: Tick,
                   max_updates: int | None = None, *, free: bool = False) -> None:
        """As Strategy.run_arrays says. free: every piece an update of its own, without waiting."""
        with uninterrupted() as held:
            stretch, pieces, owner = self._stretch(job, order, bounds, setting, max_updates, free)
            try:
                self.drive(job, [stretch], pool, tick, held)
            finally:
                fatal = self._collect(job, stretch, order, pieces, owner, setting)
        if fatal:
            self.stop_for(job, fatal)

    def _stretch(self, job: Job, order: Array, bounds: Array, setting: Setting, max_updates: int | None,
                 free: bool) -> tuple[engine.Stretch, Array, Array]:
        """The batches from job.batches_done on as a stretch; its pieces, and the batch that each is of."""
        self.prepare(setting)
        last = None if max_updates is None else job.batches_done + max_updates * setting.batches + 1
        pieces, groups, owner = cut_rows(bounds[job.batches_done:last], setting.parts, setting.batches)
        n_threads = len(self.replicas)
        given_up = {i: job.hung[rows] for i in range(len(pieces) - 1)
                    if (rows := (int(pieces[i]), int(pieces[i + 1]))) in job.hung} if job.hung else None
        stretch = engine.Stretch([r.native for r in self.replicas], self.slots, *self._sources, order, pieces,
                                 self.optimizer.native(), groups=None if free else groups, t=self.optimizer.t,
                                 first_step=self.step, seed=self.seed, free=free, max_retries=self.policy.retries,
                                 max_failed=self.most_failures(job, setting.parts), given_up=given_up,
                                 spins=SPINS if 1 < n_threads <= usable_cpus() else 0)
        return stretch, pieces, owner

    def drive(self, job: Job, stretches: list[engine.Stretch], pool: WorkerPool | None, tick: Tick, held: uninterrupted,
              whole: bool = False) -> bool:
        """Run stretches to their end, side by side. tick may end them early, unless they are to be `whole`. `held` is
        opened to Ctrl-C while they run: when this returns or raises, no worker is in them that could make an update.
        False where a worker was put aside for its batch_timeout (see job.hung)."""
        self._running = stretches
        started = time.perf_counter()
        runs: list[Run] = []
        try:
            if pool is None:
                for stretch in stretches:
                    while not stretch.finished and not stretch.fatal:
                        with held.open():
                            stretch.work(0, TICK)
                        if stretch.interrupted:
                            raise KeyboardInterrupt
                        if tick(job, job.samples + sum(s.samples_done for s in stretches)) and not whole:
                            return True
                return True
            runs = [Run(s, i, pool.submit(partial(_work, s, i, self.pin_threads))) for s in stretches
                    for i in range(s.n_workers)]
            while not _wait(held, [r.task for r in runs]):
                if tick(job, job.samples + sum(s.samples_done for s in stretches)) and not whole:
                    for stretch in stretches:
                        stretch.pause()
                self._check_deadline()
                pool.heal()
                if self.policy.timeout is not None and self._give_up_on_hung(job, runs, pool):
                    return False
        except BaseException:
            self._end(runs, pool)
            raise
        finally:
            self._running = []
            job.seconds += time.perf_counter() - started
            for stretch in stretches:
                self.stats.add_live(stretch.live)
        for run in runs:
            if run.task.exception is not None:
                raise run.task.exception
        return True

    def _end(self, runs: list[Run], pool: WorkerPool | None) -> None:
        """End stretches within about GRACE, whatever their workers do; an update under way is finished first."""
        tasks = [r.task for r in runs]
        for run in runs:
            run.stretch.cancel()
        if wait_all(tasks, GRACE):
            return
        for stretch in _stretches(runs):
            while not stretch.abandon():
                if wait_all((r.task for r in runs if r.stretch is stretch), TICK):
                    break
        if not wait_all(tasks, TICK):
            self._put_aside_all([r.task for r in runs], pool)

    def _put_aside_all(self, tasks: list[Task], pool: WorkerPool | None) -> None:
        """Workers that do not come back keep what they hold; new replicas, slots and threads take over."""
        stuck = [f"worker {i} in {self.replicas[i].native.where() or 'its batch'}" for i, task in enumerate(tasks)
                 if not task.done and i < len(self.replicas)]
        log.warning("put aside, since they do not come back: %s", ", ".join(stuck) or "the workers")
        self.replicas, self.slots = [], []
        if pool is not None:
            pool.shutdown(0)

    def _check_deadline(self) -> None:
        if self.give_up_at is not None and time.monotonic() > self.give_up_at:
            raise GaveUpError("the workers did not come back in time")

    def _is_hung(self, live: Array, task: Task) -> bool:
        assert self.policy.timeout is not None
        return (not task.done and task.worker is not None and live[STATE] == engine.IN_BATCH
                and time.monotonic_ns() - int(live[SINCE]) > self.policy.timeout * 1e9)

    def _give_up_on_hung(self, job: Job, runs: list[Run], pool: WorkerPool) -> bool:
        """Put aside the workers whose batch takes longer than batch_timeout. Whether there were any: their stretches
        are over then, the group under way made no update, and job.hung knows the batches that are not to run again."""
        hung = [r for r in runs if self._is_hung(r.stretch.live[r.number], r.task)]
        if not hung:
            return False
        for stretch in _stretches(runs):
            stretch.pause()
            if stretch.free:
                wait_all((r.task for r in runs if r not in hung), GRACE)
            if not stretch.abandon() and any(r.stretch is stretch for r in hung):
                return False        # it came back after all
        wait_all((r.task for r in runs if r not in hung), GRACE)
        for run in [r for r in runs if not r.task.done]:
            batch = int(run.stretch.live[run.number][BATCH])
            rows = int(run.stretch.bounds[batch]), int(run.stretch.bounds[batch + 1])
            replica = run.stretch.replicas[run.number]
            if run in hung:
                error = self.timeout_error(pool, run.task, f"samples {rows[0]} to {rows[1] - 1} of the epoch", replica.where())
                job.hung[rows] = error
                if run.stretch.free:
                    run.stretch.give_up(batch, error)
            self.replicas = [r for r in self.replicas if r.native is not replica]
            pool.replace(run.task.worker or 0)
        self.slots = []
        return True

    def timeout_error(self, pool: WorkerPool, task: Task, what: str, layer: str) -> BatchTimeoutError:
        assert task.worker is not None
        self.hung_workers += 1
        frame = sys._current_frames().get(pool.threads[task.worker].ident or 0)
        stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "  (no Python frame)"
        return BatchTimeoutError(f"{what} took longer than batch_timeout={self.policy.timeout:g} s in layer {layer or '?'}; "
                                 f"its worker is put aside. Stack of thread {pool.threads[task.worker].name}:\n{stack}")

    def _collect(self, job: Job, stretch: engine.Stretch, order: Array, pieces: Array, owner: Array,
                 setting: Setting) -> list[BatchFailure]:
        """What a stretch did, into the job, the optimizer and the statistics. Returns what was fatal, if anything."""
        groups = stretch.next_group
        done = int(stretch.groups[groups])
        sizes, first = np.diff(pieces), job.batches_done
        statuses = stretch.statuses
        arrived = statuses[:done] == engine.OK

        def failure(i: int) -> BatchFailure:
            error = stretch.errors.get(i) or engine.CancelledError("stopped while it ran")
            return BatchFailure(job.epoch, first + int(owner[i]), int(sizes[i]), int(stretch.workers[i]), error,
                                order[pieces[i]:pieces[i + 1]].copy())
        failures = [failure(int(i)) for i in np.flatnonzero(~arrived)]
        fatal = []
        if stretch.fatal and not stretch.free:
            group = range(done, int(stretch.groups[groups + 1]))
            fatal = [failure(i) for i in group if statuses[i] not in (engine.OK, engine.CANCELLED, -1)]
        job.loss_sum += float(np.dot(stretch.losses[:done][arrived], sizes[:done][arrived]))
        samples = int(sizes[:done][arrived].sum())
        job.samples += samples
        if log.isEnabledFor(logging.DEBUG):
            for i in range(done):
                log.debug("worker %d: epoch %d batch %d: %d samples, %s", stretch.workers[i], job.epoch, first + owner[i],
                          sizes[i], f"loss {stretch.losses[i]:.6g}" if arrived[i] else "failed")
        for worker, count in zip(*np.unique(stretch.workers[:done], return_counts=True), strict=True):
            self.stats.count_worker(int(worker), int(count))
        batches = min(groups * (1 if stretch.free else setting.batches), len(owner) and int(owner[-1]) + 1)
        retried = int((stretch.attempts[:done][arrived] > 1).sum())
        updates = stretch.updates - self.optimizer.t
        self.optimizer.t = stretch.updates
        self.step += groups
        self.book(job, batches, done, int(arrived.sum()), retried, samples, updates, failures)
        if stretch.fatal and stretch.free:
            fatal = failures[-1:] or job.failures[-1:]
        return fatal

    # ------------------------------------------------------------------ the Python driver
    def run_batches(self, job: Job, batches: Iterator[Batch | LazyBatch], setting: Setting, pool: WorkerPool | None,
                    tick: Tick, max_updates: int | None = None, *, free: bool = False) -> bool:
        """As Strategy.run_batches says. free: every piece an update of its own, without waiting."""
        self.prepare(setting)
        size = len(self.replicas) if free else setting.batches
        left = max_updates
        while left is None or left > 0:
            started = time.perf_counter()
            group, ended = self.next_batches(job, batches, size if left is None or not free else min(size, left))
            try:
                if group:
                    self._run_group(job, group, setting.parts, pool, free)
            finally:
                job.seconds += time.perf_counter() - started
            if left is not None:
                left -= len(group) if free else 1
            if ended:
                return True
            if tick(job, job.samples):
                return False
        return False

    def next_batches(self, job: Job, batches: Iterator[Batch | LazyBatch], n: int) -> tuple[list[Batch | LazyBatch], bool]:
        """The next n batches, fewer at the end; an iterator that raises is a failed batch, and its end."""
        group: list[Batch | LazyBatch] = []
        while len(group) < n:
            try:
                group.append(next(batches))
            except StopIteration:
                return group, True
            except Exception as e:
                failure = BatchFailure(job.epoch, job.batches_done + len(group), 0, -1, e)
                if self.most_failures(job, 1) < 1:
                    self.stop_for(job, [failure])
                self.book(job, 1, 1, 0, 0, 0, 0, [failure])
                return group, True
        return group, False

    def _run_group(self, job: Job, group: list[Batch | LazyBatch], parts: int, pool: WorkerPool | None, free: bool) -> None:
        pieces = [(b, piece) for b, batch in enumerate(group) for piece in batch.cut(parts)]
        while len(self.slots) < len(pieces):
            self.slots.append(self.replicas[0].gradient_vector())
        whole = GradientAggregator(len(pieces))
        aggregators = [GradientAggregator(1) for _ in pieces] if free else [whole] * len(pieces)
        updates = 0

        def process(slot: int, worker: int) -> BatchProcessResult:
            nonlocal updates
            piece = pieces[slot][1]
            log.debug("worker %d: epoch %d batch %d", worker, job.epoch, piece.index)
            self.enter_batch(worker, piece.index)
            try:
                with BlasLimit() if pool is not None and self.plan.program.hooks else nullcontext():
                    result = ParallelBatchProcessor(
                        piece, self.model, self.loss, aggregators[slot], worker, slot=0 if free else slot,
                        replica=self.replicas[worker], gradients=self.slots[slot], seed=self.seed,
                        step=self.step + (slot if free else 0), max_retries=self.policy.retries)()
                if free and result.success:
                    with self._step_lock:
                        self.optimizer.step(aggregators[slot].get_average_gradients(0))     # type: ignore[arg-type]
                        updates += 1
                return result
            finally:
                self.leave_batch(worker)
        with uninterrupted() as held:
            if pool is None:
                with held.open():
                    results = [process(slot, 0) for slot in range(len(pieces))]
            else:
                results = self._in_pool(pool, process, aggregators, [p for _, p in pieces], free, held)
            for r in results:
                if isinstance(r.exception, KeyboardInterrupt) and pool is None:
                    raise r.exception
            failures = [BatchFailure(job.epoch, job.batches_done + b, r.n_samples, r.thread_id, r.exception, piece.indices)
                        for (b, piece), r in zip(pieces, results, strict=True) if r.exception is not None]
            if len(failures) > self.most_failures(job, parts):
                self.stop_for(job, failures)
            if not free:
                started = time.monotonic_ns()
                try:
                    self.optimizer.step(whole.get_average_gradients(timeout=0))     # type: ignore[arg-type]
                    updates = 1
                except NothingArrivedError:
                    pass
                self._live[0, UPDATED] += time.monotonic_ns() - started
            arrived = [r for r in results if r.success]
            for r in results:
                self.stats.count_worker(r.thread_id, 1)
            samples = sum(r.n_samples for r in arrived)
            job.loss_sum += sum(r.loss * r.n_samples for r in arrived)
            job.samples += samples
            self.stats.add_live(self._live)
            self._live[:, [BUSY, WAITED, UPDATED]] = 0
            self.step += len(pieces) if free else 1
            retried = sum(r.attempts > 1 for r in arrived)
            self.book(job, len(group), len(pieces), len(arrived), retried, samples, updates, failures)

    def _in_pool(self, pool: WorkerPool, process: Callable[[int, int], BatchProcessResult],
                 aggregators: list[GradientAggregator], pieces: list[Batch | LazyBatch], free: bool,
                 held: uninterrupted) -> list[BatchProcessResult]:
        tasks: list[Task] = [pool.submit(partial(process, slot)) for slot in range(len(pieces))]
        results: dict[int, BatchProcessResult] = {}
        try:
            while not _wait(held, [t for slot, t in enumerate(tasks) if slot not in results]):
                self._check_deadline()
                pool.heal()
                for slot, task in enumerate(tasks):
                    if self.policy.timeout is None or slot in results or task.worker is None:
                        continue
                    if self._is_hung(self._live[task.worker], task):
                        error = self.timeout_error(pool, task, f"batch {pieces[slot].index}",
                                                    self.replicas[task.worker].native.where())
                        try:
                            aggregators[slot].submit_failure(0 if free else slot, error)
                        except ValueError:
                            continue        # it came back after all
                        results[slot] = BatchProcessResult(task.worker, pieces[slot].index, float("nan"), pieces[slot].n,
                                                           False, error)
                        self.replicas[task.worker].native.cancel()
                        self.replicas[task.worker] = self.new_replica()
                        self.slots[slot] = self.replicas[0].gradient_vector()
                        self.leave_batch(task.worker)
                        pool.replace(task.worker)
        except BaseException:
            self._end_tasks(tasks, self.replicas, pool)
            raise
        for slot, task in enumerate(tasks):
            if slot not in results:
                if task.exception is not None:
                    raise task.exception
                results[slot] = task.result
        return [results[slot] for slot in range(len(pieces))]

    def _end_tasks(self, tasks: list[Task], replicas: list[Replica], pool: WorkerPool) -> None:
        for replica in replicas:
            replica.native.cancel()
        if wait_all(tasks, GRACE):
            for replica in replicas:
                replica.native.cancel(False)
        else:
            self._put_aside_all(tasks, pool)

    def wait_for(self, tasks: list[Task], pool: WorkerPool, replicas: list[Replica], give_up: Callable[[Task, int], None],
                 held: uninterrupted) -> bool:
        """Until all tasks are done: True. False where batches hung: give_up(task, batch) was called for each, and their
        workers are put aside; the other tasks were cancelled."""
        try:
            while not _wait(held, tasks):
                self._check_deadline()
                pool.heal()
                hung = [] if self.policy.timeout is None else [
                    t for t in tasks if t.worker is not None and self._is_hung(self._live[t.worker], t)]
                for task in hung:
                    give_up(task, int(self._live[task.worker][BATCH]))
                if hung:
                    for replica in replicas:
                        replica.native.cancel()
                    wait_all((t for t in tasks if t not in hung), GRACE)
                    for task in tasks:
                        if not task.done and task.worker is not None:
                            self.leave_batch(task.worker)
                            pool.replace(task.worker)
                    return False
        except BaseException:
            self._end_tasks(tasks, replicas, pool)
            raise
        for task in tasks:
            if task.exception is not None:
                raise task.exception
        return True

    def make_room(self, n_workers: int) -> None:
        """Rows for the live states of so many workers of the Python driver."""
        if len(self._live) != n_workers:
            self._live = np.zeros((n_workers, N_LIVE), np.int64)

    def enter_batch(self, worker: int, batch: int) -> None:
        """Worker `worker` of the Python driver begins a batch."""
        live = self._live[worker]
        live[BATCH], live[SINCE], live[STATE] = batch, time.monotonic_ns(), engine.IN_BATCH

    def leave_batch(self, worker: int) -> None:
        """And ends it."""
        live, now = self._live[worker], time.monotonic_ns()
        live[BUSY] += now - live[SINCE]
        live[STATE], live[SINCE] = 0, now

    # ------------------------------------------------------------------ books
    def stop_for(self, job: Job, failures: list[BatchFailure]) -> None:
        """End training for these failures; their group made no update. Raises TrainingError."""
        s = self.stats
        s.dispatched, s.failed = s.dispatched + len(failures), s.failed + len(failures)
        every = [*job.failures, *failures]
        why = ("on_batch_failure='raise'" if self.policy.on_failure == "raise" else
               f"more than max_failed_fraction={self.policy.max_failed_fraction:g} of the epoch's batches")
        raise TrainingError(f"epoch {job.epoch}: {len(every)} of its batches failed ({why}); parameters are as of the last "
                            "good update", every) from every[0].exception

    def book(self, job: Job, batches: int, dispatched: int, arrived: int, retried: int, samples: int, updates: int,
             failures: list[BatchFailure]) -> None:
        """`batches` batches, in `dispatched` pieces, are behind the job."""
        for failure in failures:
            e = failure.exception
            job.failures.append(failure)
            log.warning("batch left out: %s", failure, exc_info=(type(e), e, e.__traceback__))
        job.batches_done += batches
        job.updates += updates
        s = self.stats
        s.dispatched, s.done, s.retried = s.dispatched + dispatched, s.done + arrived - retried, s.retried + retried
        s.skipped, s.samples, s.updates = s.skipped + dispatched - arrived, s.samples + samples, s.updates + updates

    def workers(self) -> list[WorkerState]:
        """What each worker does now."""
        running = self._running
        rows = [(row, r) for s in running for row, r in zip(s.live.copy(), s.replicas, strict=True)] if running else [
            (row, r.native) for row, r in zip(self._live.copy(), self.replicas, strict=False)]
        now = time.monotonic_ns()
        return [WorkerState.of(i, row, replica.where(), now) for i, (row, replica) in enumerate(rows)]

    def snapshot(self) -> ParallelStats:
        """The statistics with what runs now; from any thread."""
        out = self.stats.copy()
        for stretch in list(self._running):
            out.add_live(stretch.live)
            out.samples += stretch.samples_done
            out.under_way += int((stretch.statuses == engine.OK).sum())
        out.workers = self.workers()
        return out


def _wait(held: uninterrupted, tasks: list[Task]) -> bool:
    """Until all are done, or for a TICK; Ctrl-C comes after it. It must not come within: an exception in an Event's
    wait may leave the event locked, and then nobody can set it or wait for it any more."""
    done = wait_all(tasks, TICK)
    held.let_in()
    return done


def _stretches(runs: list[Run]) -> list[engine.Stretch]:
    return list({id(r.stretch): r.stretch for r in runs}.values())


def _work(stretch: engine.Stretch, number: int, pinned: bool, thread: int) -> None:
    """Worker `number` of a stretch, on whichever thread took the task."""
    if not (pinned and pin(number, stretch.n_workers)):
        spread(number, stretch.n_workers)
    with BlasLimit() if stretch.replicas[number].hooks else nullcontext():
        stretch.work(number)
