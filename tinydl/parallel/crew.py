"""Crew: the replicas and gradient slots of one trainer, its books, and the native way to drive them over an epoch.

There are two drivers. Both take the same groups, the same slots and the same tree, so they give the same bits:
 - native: `Stretch` in tinydl._kernels.engine. Workers stay in native code over many groups. For data in
   arrays and optimizers with a native rule.
 - Python (python_driver.py): one task a batch, for everything that wants Python between batches.
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
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinydl._kernels import engine
from tinydl.data import ArrayDataset, Dataset
from tinydl.data.batch import cut_rows
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.parallel.affinity import Places, pin
from tinydl.parallel.blas import BlasLimit
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError, TrainingError
from tinydl.parallel.job import FailurePolicy, Job, Setting
from tinydl.parallel.pool import GRACE, TICK, Task, WorkerPool, wait_all, wait_open
from tinydl.parallel.replica import Replica
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.stats import BATCH, BUSY, N_LIVE, SINCE, STATE, ParallelStats, WorkerState
from tinydl.parallel.strategies.base import group_starts
from tinydl.parallel.threads import usable_cpus

Array = np.ndarray[Any, Any]
Tick = Callable[[Job, int], bool]

__all__ = ["Crew"]

log = logging.getLogger("tinydl")

#: workers that may die before anything more is booked
MAX_DEATHS = 10
#: nanoseconds that a waiting worker spins at most before it sleeps (csrc/sync.h): three times what waking it costs
SPINS = 300_000


class GaveUpError(BaseException):
    """A shutdown's time is over, and a batch is still under way or still read. It is never the batch's fault."""


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
        usable_cpus()                   # the first question takes long: not in a run
        self.plan = model.plan(max_rows=max_rows, loss=loss)
        self.replicas: list[Replica] = []
        self.slots: list[Array] = []
        self.step = 0                   # groups dispatched so far: the key of random masks
        self.stats = ParallelStats()
        self.hung_workers = 0           # put aside so far for what batch_timeout found
        self.deaths = 0                 # workers that died since something was booked
        self.running_since: float | None = None     # on the performance counter: seconds that are in no job's yet
        self.give_up_at: float | None = None    # on the monotonic clock: when a shutdown's time is over
        self._sources: tuple[Any, Any] = (None, None)
        self._running: list[engine.Stretch] = []
        self._whole = False             # and may not be paused
        self.asked = False              # to come back after the update under way
        self.live: Array = np.zeros((0, N_LIVE), np.int64)      # a row a worker of the Python driver, as Stretch.live
        self.in_hand: list[engine.Replica | None] = []          # and what it runs, or ran last
        self.renew_locks()
        self.reading: Any = None        # the iterator that gives its batches
        self.team: list[Any] = []       # the local strategy's members

    def renew_locks(self) -> None:
        """For `parallel.fork`."""
        self.step_lock = threading.Lock()       # of the Python driver's free run: one update at a time
        self._asking = threading.RLock()        # also in the handler of a signal
        self._books = threading.RLock()         # what runs and what is booked are not to be read in between

    def take_up(self) -> None:
        """Be free of what ended the last run."""
        self.give_up_at = None
        for replica in self._all_replicas():
            replica.native.cancel(False)

    def ask(self) -> None:
        """Let what runs come back after the update under way (strategy local: its round); from any thread. The trainer takes
        it back before it looks at what is wanted."""
        with self._asking:
            self.asked = True
            for stretch in self._running:
                if not self._whole:
                    stretch.pause()

    def take_back(self) -> None:
        """Nothing is asked for: the next run is not paused by what was asked of the last one."""
        with self._asking:
            self.asked = False

    def cancel(self) -> None:
        """End what runs at its next operation, and the wait for a batch; from any thread, once `give_up_at` is over: whatever
        comes back looks at that before it is booked, and what is about to begin before it does."""
        for replica in self._all_replicas():
            replica.native.cancel()
        if hasattr(self.reading, "cancel"):
            self.reading.cancel(GaveUpError("no batch came in time"))

    def _all_replicas(self) -> list[Replica]:
        return [*self.replicas, *(member.replica for member in self.team)]

    def forget_workers(self) -> None:
        """In a forked child where they are not: what they were in the middle of, and held."""
        self.replicas, self.slots, self.team, self._running, self.reading = [], [], [], [], None
        self.make_room(0)

    def prepare(self, setting: Setting) -> None:
        """Exactly the replicas and slots that `setting` needs and those that it keeps."""
        n = setting.n_threads if setting.mode == "parallel" else 1
        k = setting.n_slots
        del self.replicas[max(n, setting.keep):], self.slots[max(k, setting.keep):]
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

    def takes_arrays(self, dataset: Dataset) -> bool:
        """Whether the native driver can train on it: else its batches come one by one."""
        return type(dataset) is ArrayDataset and type(self.optimizer).step is Optimizer.step

    def set_arrays(self, x: Array, y: Array) -> None:
        """The sources of the native driver."""
        self._sources = engine.Source(x), engine.Source(y)

    @property
    def sources(self) -> tuple[Any, Any]:
        """x and y of the native driver."""
        return self._sources

    def most_failures(self, job: Job, parts: int) -> int:
        """Pieces that may still fail in this epoch."""
        parts = min(parts, self.max_rows)       # a batch has no more pieces than rows
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
                with self.booking():
                    fatal = self._collect(job, stretch, order, pieces, owner, setting)
        if fatal:
            self.stop_for(job, fatal, booked=free)

    def _stretch(self, job: Job, order: Array, bounds: Array, setting: Setting, max_updates: int | None,
                 free: bool) -> tuple[engine.Stretch, Array, Array]:
        """The batches from job.batches_done on as a stretch; its pieces, and the batch that each is of."""
        self.prepare(setting)
        last = None if max_updates is None else job.batches_done + max_updates * setting.batches + 1
        pieces, owner = cut_rows(bounds[job.batches_done:last], setting.parts)
        n_threads = setting.n_threads if setting.mode == "parallel" else 1
        given_up = {i: job.hung[rows] for i in range(len(pieces) - 1)
                    if (rows := (int(pieces[i]), int(pieces[i + 1]))) in job.hung} if job.hung else None
        stretch = engine.Stretch([r.native for r in self.replicas[:n_threads]], self.slots[:setting.n_slots], *self._sources,
                                 order, pieces, self.optimizer.native(), t=self.optimizer.t,
                                 groups=None if free else group_starts(owner, setting.batches),
                                 first_step=self.step, seed=self.seed, free=free, max_retries=self.policy.retries,
                                 max_failed=self.most_failures(job, setting.parts), given_up=given_up,
                                 spins=SPINS if 1 < n_threads <= usable_cpus() else 0)
        return stretch, pieces, owner

    def drive(self, job: Job, stretches: list[engine.Stretch], pool: WorkerPool | None, tick: Tick, held: uninterrupted,
              whole: bool = False) -> bool:
        """Run stretches to their end, side by side. tick may end them early, unless they are to be `whole`. `held` is
        opened to Ctrl-C while they run: when this returns or raises, no worker is in them that could make an update.
        False where a worker was put aside for its batch_timeout (see job.hung). What they brought is to be booked."""
        self._whole, self._running = whole, stretches
        if self.asked:          # before there was something to pause
            self.ask()
        started = self.running_since = time.perf_counter()
        runs: list[Run] = []
        try:
            if pool is None:
                for stretch in stretches:
                    while not stretch.finished and not stretch.fatal:
                        self.check_deadline()
                        with held.open():
                            stretch.work(0, TICK)
                        if stretch.interrupted:
                            raise KeyboardInterrupt
                        if (tick(job, job.samples + sum(s.samples_done for s in stretches)) or self.asked) and not whole:
                            return True
                return True
            work = partial(_work, pinned=self.pin_threads, places=pool.places)
            workers = [(s, i) for s in stretches for i in range(s.n_workers)]
            pool.places.begin_run(len(workers))
            tasks = pool.submit_all(partial(work, *worker) for worker in workers)
            runs = [Run(*worker, task) for worker, task in zip(workers, tasks, strict=True)]
            while not wait_open(held, [r.task for r in runs]) or self._died(runs):
                for i in self._died(runs):      # the others of its stretch wait for it
                    self.count_death(runs[i].task.exception)
                    stretch, number, _ = runs[i]
                    runs[i] = Run(stretch, number, pool.submit(partial(work, stretch, number)))
                asked = tick(job, job.samples + sum(s.samples_done for s in stretches)) and not whole
                if asked or any(s.interrupted for s in stretches):
                    for stretch in stretches:
                        stretch.pause()
                self.check_deadline()
                pool.heal(r.task for r in runs)
                if self.policy.timeout is not None and self._give_up_on_hung(job, runs, pool):
                    return False
        except BaseException:
            self._end(runs, pool)
            raise
        finally:
            self.running_since = None
            job.seconds += time.perf_counter() - started
            if pool is not None:
                pool.places.end_run()
        if any(s.interrupted for s in stretches) or any(isinstance(r.task.exception, KeyboardInterrupt) for r in runs):
            raise KeyboardInterrupt
        self.check_deadline()
        return True

    @staticmethod
    def _died(runs: list[Run]) -> list[int]:
        """Those whose worker ended before its stretch, by an exception from outside: the batches' own stay within."""
        return [i for i, r in enumerate(runs) if r.task.exception is not None and not r.stretch.finished and not r.stretch.fatal
                and not isinstance(r.task.exception, KeyboardInterrupt)]

    def count_death(self, error: BaseException | None) -> None:
        """A worker ended by `error`, which is raised if it is no accident any more."""
        self.deaths += 1
        log.warning("a worker died and is replaced: %r", error)
        if error is not None and self.deaths > MAX_DEATHS:
            raise error

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
            self.put_aside_all([r.task for r in runs], pool)

    def put_aside_all(self, tasks: list[Task], pool: WorkerPool | None) -> None:
        """Workers that do not come back keep what they hold; new replicas, slots and threads take over."""
        states = self.workers()
        stuck = [f"thread {task.takers[0].name} {states[i if self._running else task.worker or 0].doing}"
                 for i, task in enumerate(tasks) if not task.done and task.takers]
        log.warning("put aside, since they do not come back: %s", ", ".join(stuck) or "the workers")
        self.replicas, self.slots = [], []
        for task in tasks:
            task.put_aside()
        if pool is not None:
            pool.shutdown(0)

    def check_deadline(self) -> None:
        if self.give_up_at is not None and time.monotonic() >= self.give_up_at:
            raise GaveUpError("the workers did not come back in time")

    def hung_batch(self, live: Array, task: Task) -> int | None:
        """The batch that `task` has been in for longer than batch_timeout, if it is in one."""
        assert self.policy.timeout is not None
        batch = int(live[BATCH])        # read first: where the worker goes on meanwhile, the clock says that it is not hung
        hung = (not task.done and task.worker is not None and live[STATE] == engine.IN_BATCH
                and time.monotonic_ns() - int(live[SINCE]) > self.policy.timeout * 1e9)
        return batch if hung else None

    def _give_up_on_hung(self, job: Job, runs: list[Run], pool: WorkerPool) -> bool:
        """Give up the batches that take longer than batch_timeout. Whether there were any: their stretches are over then,
        the group under way made no update, job.hung knows the batches that are not to run again, and the workers that did
        not come back in the meantime are put aside."""
        hung = {i: (batch, self._timeout_error_of(pool, run, batch)) for i, run in enumerate(runs)
                if (batch := self.hung_batch(run.stretch.live[run.number], run.task)) is not None}
        if not hung:
            return False
        others = [r.task for i, r in enumerate(runs) if i not in hung]
        for stretch in _stretches(runs):
            stretch.pause()
            if stretch.free:
                wait_all(others, GRACE)
        over = [s for s in _stretches(runs) if s.abandon()]
        if not over:
            return False            # it came back after all
        wait_all(others, GRACE)
        left = {i: run for i, run in enumerate(runs) if not run.task.done}
        aside = {i: run.task.put_aside() for i, run in left.items()}    # all, before a successor takes one that has not begun
        for i, (batch, error) in hung.items():
            stretch, number, _ = runs[i]
            if stretch.free:
                if i not in left or stretch.live[number, BATCH] != batch:
                    continue        # it came back, and has made its update
                stretch.give_up(batch, error)
            elif stretch not in over:
                continue
            job.hung[int(stretch.bounds[batch]), int(stretch.bounds[batch + 1])] = error
            self.hung_workers += aside.get(i) is not None
        gone = [run.stretch.replicas[run.number] for run in left.values()]
        self.replicas = [r for r in self.replicas if r.native not in gone]
        for worker in aside.values():
            if worker is not None:
                pool.replace(worker)
        self.slots = []
        return True

    def _timeout_error_of(self, pool: WorkerPool, run: Run, batch: int) -> BatchTimeoutError:
        first, end = run.stretch.bounds[batch:batch + 2]
        return self.timeout_error(pool, run.task, f"samples {first} to {end - 1} of the epoch",
                                  run.stretch.replicas[run.number].where())

    def timeout_error(self, pool: WorkerPool, task: Task, what: str, layer: str) -> BatchTimeoutError:
        """Says where the batch that `task` is in hangs."""
        assert task.worker is not None
        frame = sys._current_frames().get(pool.threads[task.worker].ident or 0)
        stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "  (no Python frame)"
        return BatchTimeoutError(f"{what} took longer than batch_timeout={self.policy.timeout:g} s in layer {layer or '?'} "
                                 f"and is given up. Stack of thread {pool.threads[task.worker].name}:\n{stack}")

    def _collect(self, job: Job, stretch: engine.Stretch, order: Array, pieces: Array, owner: Array,
                 setting: Setting) -> list[BatchFailure]:
        """What a stretch did, into the job, the optimizer and the statistics. Returns what was fatal, if anything."""
        groups = stretch.next_group
        done = int(stretch.groups[groups])
        sizes, first = np.diff(pieces), job.batches_done
        statuses = stretch.statuses
        arrived = statuses[:done] == engine.OK
        every = bool(arrived.all())
        came = slice(None) if every else arrived        # a view instead of a copy, nearly always

        def failure(i: int) -> BatchFailure:
            error = stretch.errors.get(i) or engine.CancelledError("stopped while it ran")
            return BatchFailure(job.epoch, first + int(owner[i]), int(sizes[i]), int(stretch.workers[i]), error,
                                order[pieces[i]:pieces[i + 1]].copy())
        failures = [] if every else [failure(int(i)) for i in np.flatnonzero(~arrived)]
        fatal = []
        if stretch.fatal and not stretch.free:
            group = range(done, int(stretch.groups[groups + 1]))
            fatal = [failure(i) for i in group if statuses[i] not in (engine.OK, engine.CANCELLED, -1)]
        # not np.dot: from 10,000 numbers on its BLAS wakes threads, which then spin on the next stretch's CPUs for 0.1 s
        job.add_losses(stretch.losses[:done][came] * sizes[:done][came])
        samples = int(sizes[:done][came].sum())
        job.samples += samples
        if log.isEnabledFor(logging.DEBUG):
            for i in range(done):
                log.debug("worker %d: epoch %d batch %d: %d samples, %s", stretch.workers[i], job.epoch, first + owner[i],
                          sizes[i], f"loss {stretch.losses[i]:.6g}" if arrived[i] else "failed")
        for worker, count in enumerate(np.bincount(stretch.workers[:done] + 1).tolist(), -1):
            if count:
                self.stats.count_worker(worker, count)
        batches = min(groups * (1 if stretch.free else setting.batches), len(owner) and int(owner[-1]) + 1)
        retried = int((stretch.attempts[:done][came] > 1).sum())
        if not stretch.free:
            job.steady_updates += max(0, groups - 1)
            job.steady_seconds += stretch.steady_seconds
        updates = stretch.updates - self.optimizer.t
        self.optimizer.t = stretch.updates
        self.step += groups
        self.book(job, batches, done, done - len(failures), retried, samples, updates, failures)
        if stretch.fatal and stretch.free:
            fatal = [f for f in failures if not isinstance(f.exception, engine.CancelledError)][-1:]
        return fatal

    # ------------------------------------------------------------------ what the Python driver's workers do
    def make_room(self, n_workers: int) -> None:
        """Rows for the live states of so many workers of the Python driver."""
        if len(self.live) != n_workers:
            self.live, self.in_hand = np.zeros((n_workers, N_LIVE), np.int64), [None] * n_workers

    def enter_batch(self, worker: int, batch: int, replica: Replica) -> int:
        """Worker `worker` of the Python driver begins a batch on `replica`; since when."""
        self.in_hand[worker] = replica.native
        live, now = self.live[worker], time.monotonic_ns()
        live[BATCH], live[SINCE], live[STATE] = batch, now, engine.IN_BATCH
        return now

    def leave_batch(self, worker: int, since: int | None = None) -> None:
        """And ends it; if it began at `since`, where that is given: one that was put aside has left already, and its
        worker's successor may be in another batch."""
        live, now = self.live[worker], time.monotonic_ns()
        if since is not None and live[SINCE] != since:
            return
        live[BUSY] += now - live[SINCE]
        live[STATE], live[SINCE] = 0, now

    # ------------------------------------------------------------------ books
    def stop_for(self, job: Job, failures: list[BatchFailure], booked: bool = False, lost: int = 0) -> None:
        """End training for these failures; their group made no update. Raises TrainingError. booked: they are among the
        job's already, and counted as skipped. lost: batches that did not come behind them."""
        s = self.stats
        if booked:
            s.skipped -= len(failures)
        else:
            s.dispatched += len(failures)
            for failure in failures:
                log_failure("training ends for a batch", failure)
        s.failed += len(failures)
        every = job.failures if booked else [*job.failures, *failures]
        why = ("on_batch_failure='raise'" if self.policy.on_failure == "raise" else
               f"more than max_failed_fraction={self.policy.max_failed_fraction:g} of the epoch's batches")
        missing = f", and {lost} more did not come" if lost else ""
        raise TrainingError(f"epoch {job.epoch}: {len(every)} of its batches failed{missing} ({why}); parameters are as of the "
                            "last good update", every) from every[0].exception

    def book_end(self, job: Job, end: Exception, parts: int) -> None:
        """There are no more batches. Where `end` is what their source raised: one has failed, and those of n_batches that
        should have come behind it are lost, which counts against max_failed_fraction."""
        if isinstance(end, StopIteration):
            return
        failure = BatchFailure(job.epoch, job.batches_done, 0, -1, end)
        lost = 0 if job.n_batches is None else max(0, job.n_batches - job.batches_done - 1)
        with uninterrupted():
            if 1 + lost * min(parts, self.max_rows) > self.most_failures(job, parts):
                self.stop_for(job, [failure], lost=lost)
            self.book(job, 1, 1, 0, 0, 0, 0, [failure])
            job.broken = True

    def book(self, job: Job, batches: int, dispatched: int, arrived: int, retried: int, samples: int, updates: int,
             failures: list[BatchFailure]) -> None:
        """`batches` batches, in `dispatched` pieces, are behind the job."""
        self.deaths = 0
        for failure in failures:
            job.failures.append(failure)
            log_failure("batch left out", failure)
        job.batches_done += batches
        job.updates += updates
        s = self.stats
        s.dispatched, s.done, s.retried = s.dispatched + dispatched, s.done + arrived - retried, s.retried + retried
        s.skipped, s.samples, s.updates = s.skipped + dispatched - arrived, s.samples + samples, s.updates + updates

    @contextmanager
    def booking(self) -> Iterator[None]:
        """What ran goes into the books: for whoever asks meanwhile it is here or there, and never neither or both."""
        with self._books:
            running, self._running = self._running, []
            for stretch in running:
                self.stats.add_live(stretch.live)
            yield

    def workers(self) -> list[WorkerState]:
        """What each worker does now."""
        running = self._running
        rows = [row for s in running for row in zip(s.live.copy(), s.replicas, strict=True)] if running else list(
            zip(self.live.copy(), self.in_hand, strict=False))
        now = time.monotonic_ns()
        return [WorkerState.of(i, row, "" if replica is None else replica.where(), now) for i, (row, replica) in enumerate(rows)]

    def snapshot(self) -> ParallelStats:
        """The statistics with what runs now; from any thread."""
        held = self._books.acquire(timeout=TICK)        # booking writes logs: nobody waits for their disk
        try:
            out = self.stats.copy()
            for stretch in list(self._running):
                out.add_live(stretch.live)
                out.samples += stretch.samples_done
                out.under_way += int((stretch.statuses == engine.OK).sum())
        finally:
            if held:
                self._books.release()
        since = self.running_since
        if since is not None:
            out.seconds += time.perf_counter() - since
        out.workers = self.workers()
        return out


def log_failure(what: str, failure: BatchFailure) -> None:
    """In the log, with its traceback."""
    e = failure.exception
    log.warning("%s: %s", what, failure, exc_info=(type(e), e, e.__traceback__))


def _stretches(runs: list[Run]) -> list[engine.Stretch]:
    return list({id(r.stretch): r.stretch for r in runs}.values())


def _work(stretch: engine.Stretch, number: int, thread: int, *, pinned: bool, places: Places) -> None:
    """Worker `number` of a stretch, on whichever of the pool's threads took the task."""
    if not (pinned and pin(number, stretch.n_workers)):
        places.begin(thread)
    with BlasLimit() if stretch.replicas[number].hooks else nullcontext():
        stretch.work(number)
