"""Crew: the replicas, gradient slots and pool of one trainer, and the two ways to drive them over an epoch.

Both drivers take the same groups, the same slots and the same tree, so they give the same bits:
 - native: `Stretch` in tinydl._kernels.engine. Workers stay in native code over many groups. For data in
   arrays and optimizers with a native rule.
 - Python: ParallelBatchProcessor, BatchProcessResult, GradientAggregator, one task a batch. For everything that
   wants Python between batches: streams, item datasets, custom optimizers.
An epoch is a Job. Whatever ends it early (an exception, a stop, a change of threads), the job then says how many
batches are behind it; parameters and optimizer are as of the last finished update.
"""
from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tinydl._kernels import engine
from tinydl.data import Batch, LazyBatch
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.parallel.aggregator import GradientAggregator
from tinydl.parallel.errors import BatchFailure, NothingArrivedError
from tinydl.parallel.pool import Task, WorkerPool, wait_all
from tinydl.parallel.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.replica import Replica
from tinydl.parallel.stats import ParallelStats
from tinydl.parallel.threads import usable_cpus

Array = np.ndarray[Any, Any]

__all__ = ["Crew", "Job", "Setting"]

log = logging.getLogger("tinydl")

#: turns that a waiting worker spins at most before it sleeps (csrc/sync.h adapts it): about 0.3 ms, six times
#: what waking it costs
SPINS = 10_000
#: seconds between looks at the clock, signals and requests while workers run
TICK = 0.05
#: seconds that workers have to come back after an interrupt, before they are put aside
GRACE = 0.3


class GaveUpError(Exception):
    """A shutdown's time is over and a worker is still busy."""


@dataclass
class Job:
    """One epoch's way: how far it is, and what it brought."""

    epoch: int
    batches_done: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    updates: int = 0
    seconds: float = 0.0
    failures: list[BatchFailure] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """The mean over the samples that arrived."""
        return self.loss_sum / self.samples if self.samples else float("nan")


@dataclass(frozen=True)
class Setting:
    """How to run: mode "serial", "parallel" or "simplified"; threads; batches of an update."""

    mode: str
    n_threads: int
    k: int


class Crew:
    """Runs jobs for a model, a loss and an optimizer. One thread at a time calls `run`."""

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, max_rows: int, seed: int) -> None:
        self.model, self.loss, self.optimizer, self.max_rows, self.seed = model, loss, optimizer, max_rows, seed
        optimizer.bind(model.params, model.statistics, model.momenta)
        self.plan = model.plan(max_rows=max_rows, loss=loss)
        self.replicas: list[Replica] = []
        self.slots: list[Array] = []
        self.step = 0                   # groups dispatched so far: the key of random masks
        self.stats = ParallelStats()
        self.give_up_at: float | None = None    # on the monotonic clock: when a shutdown's time is over
        self._sources: tuple[Any, Any] = (None, None)

    def prepare(self, setting: Setting) -> None:
        """Exactly the replicas and slots that `setting` needs."""
        n = setting.n_threads if setting.mode == "parallel" else 1
        del self.replicas[n:], self.slots[setting.k:]
        while len(self.replicas) < n:
            self.replicas.append(Replica(self.model, self.loss, self.max_rows, plan=self.plan,
                                         own_layers=bool(self.replicas)))
        while len(self.slots) < setting.k:
            self.slots.append(self.replicas[0].gradient_vector())
        self.stats.mode, self.stats.thread_count, self.stats.batches_per_update = setting.mode, n, setting.k

    def set_arrays(self, x: Array, y: Array) -> None:
        """The sources of the native driver."""
        self._sources = engine.Source(x), engine.Source(y)

    # ------------------------------------------------------------------ the native driver
    def run_arrays(self, job: Job, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None,
                   tick: Callable[[Job, int], bool]) -> None:
        """Batches job.batches_done.. of the epoch, until done or tick(job, samples so far) says stop (True)."""
        self.prepare(setting)
        bounds = bounds[job.batches_done:]
        n_threads = len(self.replicas)
        stretch = engine.Stretch([r.native for r in self.replicas], self.slots, *self._sources, order, bounds,
                                 self.optimizer.native(), t=self.optimizer.t, first_step=self.step, seed=self.seed,
                                 spins=SPINS if 1 < n_threads <= usable_cpus() else 0)
        started = time.perf_counter()
        tasks: list[Task] = []
        try:
            if pool is None:
                while not stretch.finished:
                    stretch.work(0, TICK)
                    if stretch.interrupted:
                        raise KeyboardInterrupt
                    if tick(job, job.samples + stretch.samples_done):
                        break
            else:
                tasks = [pool.submit(partial(_work, stretch, i)) for i in range(n_threads)]
                while not wait_all(tasks, TICK):
                    if tick(job, job.samples + stretch.samples_done):
                        stretch.pause()
                    self._check_deadline()
        except BaseException:
            self._end(stretch, tasks, pool)
            raise
        finally:
            job.seconds += time.perf_counter() - started
            self._collect(job, stretch, bounds)
        for task in tasks:
            if task.exception is not None:
                raise task.exception

    def _end(self, stretch: engine.Stretch, tasks: list[Task], pool: WorkerPool | None) -> None:
        """End a stretch within about GRACE, whatever its workers do; an update under way is finished first."""
        stretch.cancel()
        if wait_all(tasks, GRACE):
            return
        while not stretch.abandon():
            if wait_all(tasks, TICK):
                return
        if not wait_all(tasks, TICK):
            self._put_aside(tasks, pool)

    def _put_aside(self, tasks: list[Task], pool: WorkerPool | None) -> None:
        """Workers that do not come back keep what they hold; new replicas, slots and threads take over."""
        stuck = [f"worker {i} in {self.replicas[i].native.where() or 'its batch'}" for i, task in enumerate(tasks)
                 if not task.done and i < len(self.replicas)]
        log.warning("put aside, since they do not come back: %s", ", ".join(stuck))
        self.replicas, self.slots = [], []
        if pool is not None:
            pool.shutdown(0)

    def _check_deadline(self) -> None:
        if self.give_up_at is not None and time.monotonic() > self.give_up_at:
            raise GaveUpError("the workers did not come back in time")

    def _collect(self, job: Job, stretch: engine.Stretch, bounds: Array) -> None:
        """What a stretch did, into the job, the optimizer and the statistics."""
        done = min(stretch.next_group * stretch.k, stretch.n_batches)
        sizes = np.diff(bounds[:done + 1])
        arrived = stretch.statuses[:done] == engine.OK
        for b in np.flatnonzero(~arrived):
            self._failed(job, BatchFailure(job.epoch, job.batches_done + int(b), int(sizes[b]),
                                           int(stretch.workers[b]), stretch.errors[int(b)]))
        job.loss_sum += float(np.dot(stretch.losses[:done][arrived], sizes[arrived]))
        job.samples += int(sizes[arrived].sum())
        if log.isEnabledFor(logging.DEBUG):
            for i in range(done):
                log.debug("worker %d: epoch %d batch %d: %d samples, %s", stretch.workers[i], job.epoch,
                          job.batches_done + i, sizes[i], f"loss {stretch.losses[i]:.6g}" if arrived[i] else "failed")
        for worker, count in zip(*np.unique(stretch.workers[:done], return_counts=True), strict=True):
            self._count_worker(int(worker), int(count))
        self._advance(job, done, int(arrived.sum()), int(sizes[arrived].sum()), stretch.next_group,
                      stretch.updates - self.optimizer.t)
        self.optimizer.t = stretch.updates

    # ------------------------------------------------------------------ the Python driver
    def run_batches(self, job: Job, batches: Iterator[Batch | LazyBatch], setting: Setting, pool: WorkerPool | None,
                    tick: Callable[[Job, int], bool]) -> bool:
        """Batches from an iterator, group by group, until it ends (True) or tick says stop (False)."""
        self.prepare(setting)
        while True:
            started = time.perf_counter()
            group, ended = self._next_group(job, batches, setting.k)
            if group:
                self._run_group(job, group, pool)
            job.seconds += time.perf_counter() - started
            if ended:
                return True
            if tick(job, job.samples):
                return False

    def _next_group(self, job: Job, batches: Iterator[Batch | LazyBatch], k: int) -> tuple[list[Batch | LazyBatch], bool]:
        """The next k batches, fewer at the end; an iterator that raises is a failed batch, and its end."""
        group: list[Batch | LazyBatch] = []
        while len(group) < k:
            try:
                group.append(next(batches))
            except StopIteration:
                return group, True
            except Exception as e:
                self._failed(job, BatchFailure(job.epoch, job.batches_done + len(group), 0, -1, e))
                self._advance(job, 1, 0, 0, 0, 0)
                return group, True
        return group, False

    def _run_group(self, job: Job, group: list[Batch | LazyBatch], pool: WorkerPool | None) -> None:
        aggregator = GradientAggregator(len(group))

        def process(slot: int, worker: int) -> BatchProcessResult:
            log.debug("worker %d: epoch %d batch %d", worker, job.epoch, group[slot].index)
            return ParallelBatchProcessor(group[slot], self.model, self.loss, aggregator, worker, slot=slot,
                                          replica=self.replicas[worker], gradients=self.slots[slot], seed=self.seed,
                                          step=self.step)()
        if pool is None:
            results = [process(slot, 0) for slot in range(len(group))]
        else:
            results = self._in_pool(pool, process, len(group))
        updates = 0
        for r in results:
            if isinstance(r.exception, KeyboardInterrupt) and pool is None:
                raise r.exception
        try:
            vector = aggregator.get_average_gradients(timeout=0)
            self.optimizer.step(vector)     # type: ignore[arg-type]
            updates = 1
        except NothingArrivedError:
            pass
        arrived = [r for r in results if r.success]
        for b, r in enumerate(results):
            if not r.success:
                assert r.exception is not None
                self._failed(job, BatchFailure(job.epoch, job.batches_done + b, r.n_samples, r.thread_id, r.exception))
            self._count_worker(r.thread_id, 1)
        samples = sum(r.n_samples for r in arrived)
        job.loss_sum += sum(r.loss * r.n_samples for r in arrived)
        job.samples += samples
        self._advance(job, len(group), len(arrived), samples, 1, updates)

    def _in_pool(self, pool: WorkerPool, process: Callable[[int, int], BatchProcessResult],
                 n: int) -> list[BatchProcessResult]:
        tasks: list[Task] = [pool.submit(partial(process, slot)) for slot in range(n)]
        try:
            while not wait_all(tasks, TICK):
                self._check_deadline()
        except BaseException:
            for replica in self.replicas:
                replica.native.cancel()
            if wait_all(tasks, GRACE):
                for replica in self.replicas:
                    replica.native.cancel(False)
            else:
                self._put_aside(tasks, pool)
            raise
        for task in tasks:
            if task.exception is not None:
                raise task.exception
        return [task.result for task in tasks]

    # ------------------------------------------------------------------ books
    def _failed(self, job: Job, failure: BatchFailure) -> None:
        job.failures.append(failure)
        e = failure.exception
        log.warning("batch left out: %s", failure, exc_info=(type(e), e, e.__traceback__))

    def _count_worker(self, worker: int, batches: int) -> None:
        by = self.stats.batches_by_worker
        by[worker] = by.get(worker, 0) + batches

    def _advance(self, job: Job, dispatched: int, done: int, samples: int, groups: int, updates: int) -> None:
        job.batches_done += dispatched
        job.updates += updates
        self.step += groups
        s = self.stats
        s.dispatched, s.done, s.failed = s.dispatched + dispatched, s.done + done, s.failed + dispatched - done
        s.samples, s.updates = s.samples + samples, s.updates + updates



def _work(stretch: engine.Stretch, number: int, thread: int) -> None:
    """Worker `number` of a stretch, on whichever thread took the task."""
    _spread(number, stretch.n_workers)
    stretch.work(number)


def _spread(number: int, n_workers: int) -> None:
    """Begin on a CPU of one's own: the scheduler may have woken two workers on the same one, and they would then
    wait for each other there for long. The thread is put on its CPU and at once allowed everywhere again."""
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        if 1 < n_workers <= len(cpus):
            try:
                os.sched_setaffinity(0, {cpus[number]})
                os.sched_setaffinity(0, cpus)
            except OSError as e:
                log.debug("worker %d stays where it is: %s", number, e)
