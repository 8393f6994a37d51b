"""Crew: what the updates of one trainer are made with, and its books.

Replicas and gradient slots, what runs on them now, and what was done, skipped and failed. Two drivers run an epoch with
them. Both take the same groups, the same slots and the same tree, so they give the same bits:
 - native_driver.py: workers stay in native code over many groups. For data in arrays and optimizers with a native rule.
 - python_driver.py: one task a batch, for everything that wants Python between batches.
Strategies say how updates are cut (strategies/base.py); failures are met as the FailurePolicy says (job.py).
An epoch is a Job. Whatever ends it early (an exception, a stop, a change of threads), the job then says how many
batches are behind it; parameters and optimizer are as of the last finished update.
"""
from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinydl._kernels import engine
from tinydl.data import ArrayDataset, Dataset
from tinydl.log import log
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError, TrainingError
from tinydl.parallel.job import FailurePolicy, Job, Setting
from tinydl.parallel.pool import TICK, Task, WorkerPool
from tinydl.parallel.replica import Replica
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.stats import BATCH, BUSY, N_LIVE, SINCE, STATE, ParallelStats, WorkerState
from tinydl.parallel.threads import usable_cpus

Array = np.ndarray[Any, Any]

__all__ = ["Crew"]

#: workers that may die before anything more is booked
MAX_DEATHS = 10


class GaveUpError(BaseException):
    """A shutdown's time is over, and a batch is still under way or still read. It is never the batch's fault."""


class Crew:
    """For a model, a loss and an optimizer. One thread at a time trains with it; `ask`, `cancel`, `workers` and `snapshot`
    are for any thread."""

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, max_rows: int, seed: int,
                 policy: FailurePolicy | None = None, pin_threads: bool = False,
                 input_shape: tuple[int, ...] | None = None, weighted: bool = False) -> None:
        self.model, self.loss, self.optimizer, self.max_rows, self.seed = model, loss, optimizer, max_rows, seed
        self.policy, self.pin_threads = policy or FailurePolicy(), pin_threads
        usable_cpus()                   # the first question takes long: not in a run
        self.plan = model.plan(input_shape, max_rows, loss=loss, weighted=weighted)
        self.state = optimizer.state_for(model.params, model.statistics, model.momenta)     # of this run alone
        self.replicas: list[Replica] = []
        self.slots: list[Array] = []
        self.step = 0                   # groups dispatched so far: the key of random masks
        self.stats = ParallelStats()
        self.hung_workers = 0           # put aside so far for what batch_timeout found
        self.deaths = 0                 # workers that died since something was booked
        self.running_since: float | None = None     # on the performance counter: seconds that are in no job's yet
        self.give_up_at: float | None = None    # on the monotonic clock: when a shutdown's time is over
        self.sources: list[engine.Source] = []      # x and y of the native driver
        self.running: list[engine.Stretch] = []         # what it runs now
        self.whole = False              # that may not be paused
        self.alone: Array = np.zeros(engine.ALONE, np.int64)    # of engine.Stretch: whether meeting paid, lately
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
            for stretch in self.running:
                if not self.whole:
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
        self.replicas, self.slots, self.team, self.running, self.reading = [], [], [], [], None
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

    def rule(self) -> engine.Update:
        """The optimizer's rule on this run's parameters and state, with the numbers as they are now."""
        return self.optimizer.native(self.state)

    def apply(self, gradients: Array) -> None:
        """One update by averaged gradients: the Python driver's way."""
        if type(self.optimizer).step is Optimizer.step:
            self.rule().apply(np.ascontiguousarray(gradients), self.state.t + 1)
            self.state.t += 1
            return
        if self.optimizer.state is not self.state.vectors:
            raise RuntimeError(f"another trainer has taken {self.optimizer!r}, whose own `step` moves the parameters held last: "
                               "give each trainer an optimizer of its own")
        self.optimizer.step(gradients)

    def set_arrays(self, x: Any, *others: Array) -> None:
        """What the native driver trains on; x: of several inputs a dict by their names, or a tuple; then y, and weights."""
        self.sources = [engine.Source(a) for a in (*self.model.sources(x), *others)]

    def most_pieces(self, parts: int) -> int:
        """Pieces of a batch that is to be cut into so many parts: they have rows enough, each."""
        return max(1, min(parts, self.max_rows // self.plan.least_rows))

    def most_failures(self, job: Job, parts: int) -> int:
        """Pieces that may still fail in this epoch."""
        parts = self.most_pieces(parts)
        pieces = None if job.n_batches is None else job.n_batches * parts
        return max(0, self.policy.most_failures(pieces, job.batches_done * parts) - len(job.failures))

    # ------------------------------------------------------------------ workers that die, or do not come back
    def count_death(self, error: BaseException | None) -> None:
        """A worker ended by `error`, which is raised if it is no accident any more."""
        self.deaths += 1
        log.warning("a worker died and is replaced: %r", error)
        if error is not None and self.deaths > MAX_DEATHS:
            raise error

    def put_aside_all(self, tasks: list[Task], pool: WorkerPool | None) -> None:
        """Workers that do not come back keep what they hold; new replicas, slots and threads take over."""
        states = self.workers()
        stuck = [f"thread {task.takers[0].name} {states[i if self.running else task.worker or 0].doing}"
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

    def timeout_error(self, pool: WorkerPool, task: Task, what: str, layer: str) -> BatchTimeoutError:
        """Says where the batch that `task` is in hangs."""
        assert task.worker is not None
        frame = sys._current_frames().get(pool.threads[task.worker].ident or 0)
        stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "  (no Python frame)"
        return BatchTimeoutError(f"{what} took longer than batch_timeout={self.policy.timeout:g} s in layer {layer or '?'} "
                                 f"and is given up. Stack of thread {pool.threads[task.worker].name}:\n{stack}")

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
            if 1 + lost * self.most_pieces(parts) > self.most_failures(job, parts):
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
            running, self.running = self.running, []
            for stretch in running:
                self.stats.add_live(stretch.live)
            yield

    def workers(self) -> list[WorkerState]:
        """What each worker does now."""
        running = self.running
        rows = [row for s in running for row in zip(s.live.copy(), s.replicas, strict=True)] if running else list(
            zip(self.live.copy(), self.in_hand, strict=False))
        now = time.monotonic_ns()
        return [WorkerState.of(i, row, "" if replica is None else replica.where(), now) for i, (row, replica) in enumerate(rows)]

    def snapshot(self) -> ParallelStats:
        """The statistics with what runs now; from any thread."""
        held = self._books.acquire(timeout=TICK)        # booking writes logs: nobody waits for their disk
        try:
            out = self.stats.copy()
            for stretch in list(self.running):
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
    log.warning("%s: %s", what, failure, exc_info=(type(e), e, None))
