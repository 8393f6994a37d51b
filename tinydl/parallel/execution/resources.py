"""Resources: the replicas and gradient slots that a trainer makes its updates with, and the counts of what was done with them.

It knows what runs now, and what was done, skipped and failed. Two drivers run an epoch with it. Both make the same groups, use
the same slots and average them in the same tree, so they give the same bits:
 - native_driver.py: workers stay in native code over many groups. For data in arrays and optimizers with a native rule.
 - python_driver.py: one task a batch, for everything that wants Python between batches.
Strategies say how batches become updates (strategies/base.py); the FailurePolicy says what is done about failures (epoch.py).
If an epoch ends early (by an exception, a stop, a change of threads), its EpochProgress says how many batches are done, and
parameters and optimizer are as of the last finished update.
"""
from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from tinydl._kernels import engine
from tinydl.data import ArrayDataset, Dataset
from tinydl.log import log
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError, NothingArrivedError, TrainingError
from tinydl.parallel.execution.epoch import EpochProgress, FailurePolicy, Setting
from tinydl.parallel.execution.replica import Replica
from tinydl.parallel.execution.stats import BATCH, BUSY, N_LIVE, SINCE, STATE, ParallelStats, WorkerState
from tinydl.parallel.host.threads import usable_cpus
from tinydl.parallel.transport import Transport, exchanged
from tinydl.parallel.workers.pool import TICK, Task, WorkerPool
from tinydl.parallel.workers.signals import uninterrupted

Array = np.ndarray[Any, Any]

__all__ = ["Resources"]

#: how many workers may die without a group being finished in between, before training ends with their exception
MAX_DEATHS = 10


class GaveUpError(BaseException):
    """The time that a shutdown was given is over while a batch is still running or being read. A BaseException, so that no
    handler takes it for a failure of the batch."""


class Resources:
    """For a model, a loss and an optimizer. One thread at a time trains with it; `ask`, `cancel`, `workers` and `snapshot`
    are for any thread."""

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, max_rows: int, seed: int,
                 policy: FailurePolicy | None = None, pin_threads: bool = False,
                 input_shape: tuple[int, ...] | None = None, weighted: bool = False,
                 transport: Transport | None = None) -> None:
        self.model, self.loss, self.optimizer, self.max_rows, self.seed = model, loss, optimizer, max_rows, seed
        self.policy, self.pin_threads = policy or FailurePolicy(), pin_threads
        self.transport = transport      # to other trainers of the same model, if there are any
        self.exchange = None if transport is None else partial(exchanged, transport)
        usable_cpus()                   # the first call reads files for about a millisecond: better now than in a run
        self.plan = model.plan(input_shape, max_rows, loss=loss, weighted=weighted)
        self.state = optimizer.state_for(model.params, model.statistics, model.momenta, model.sizes())    # of this run alone
        self.replicas: list[Replica] = []
        self.slots: list[Array] = []
        self.step = 0                   # groups dispatched so far: the key of random masks
        self.stats = ParallelStats()
        self.hung_workers = 0           # put aside so far for what batch_timeout found
        self.deaths = 0                 # workers that died since a group was last finished
        self.running_since: float | None = None     # perf_counter() when the run under way began: not in epoch.seconds yet
        self.give_up_at: float | None = None    # monotonic() at which the time of a shutdown is over
        self.sources: list[engine.Source] = []      # the native driver's inputs and targets
        self.running: list[engine.NativeRun] = []         # what the native driver runs now
        self.must_finish = False        # `running` must not be paused before its end
        self.alone: Array = np.zeros(engine.ALONE, np.int64)    # see engine.NativeRun: when one worker goes on alone
        self.asked = False              # somebody wants the run to end after the update under way
        self.live: Array = np.zeros((0, N_LIVE), np.int64)      # as NativeRun.live, for the workers of the Python driver
        self.in_hand: list[engine.Replica | None] = []          # the replica that each of these runs, or ran last
        self.renew_locks()
        self.reading: Any = None        # the iterator that batches come from, while an epoch runs
        self.model_copies: list[Any] = []       # of strategy local

    def renew_locks(self) -> None:
        """For `workers.fork`."""
        self.step_lock = threading.Lock()       # of the Python driver's free run: one update at a time
        self._asking = threading.RLock()        # also in the handler of a signal
        self._books = threading.RLock()         # held while a run's counts move from `running` to `stats`

    def take_up(self) -> None:
        """Forget the cancellation and the deadline that ended the last run."""
        self.give_up_at = None
        if self.transport is not None:
            self.transport.renew()
        for replica in self._all_replicas():
            replica.native.cancel(False)

    def ask(self) -> None:
        """Ask the run to end after the update under way (strategy local: its round); from any thread. The trainer calls
        `take_back` before it looks at what is wanted next."""
        with self._asking:
            self.asked = True
            for run in self.running:
                if not self.must_finish:
                    run.pause()

    def take_back(self) -> None:
        """Withdraw `ask`, so that the next run is not ended by what was asked of the last one."""
        with self._asking:
            self.asked = False

    def cancel(self) -> None:
        """End the run at the next operation of each worker, and the wait for a batch; from any thread. Call it only after
        `give_up_at`: every result, and every new run, checks `give_up_at` first (`check_deadline`), so nothing of a
        cancelled run is counted."""
        for replica in self._all_replicas():
            replica.native.cancel()
        if hasattr(self.reading, "cancel"):
            self.reading.cancel(GaveUpError("no batch came in time"))
        if self.transport is not None:
            self.transport.cancel()

    def _all_replicas(self) -> list[Replica]:
        return [*self.replicas, *(c.replica for c in self.model_copies)]

    def forget_workers(self) -> None:
        """In a forked child, which has none of the workers: drop what they were using."""
        self.replicas, self.slots, self.model_copies, self.running, self.reading = [], [], [], [], None
        self.make_room(0)

    def prepare(self, setting: Setting) -> None:
        """Make the replicas and slots that `setting` needs, and free those that it neither needs nor keeps."""
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
        """Write into the statistics how updates are made now."""
        self.stats.mode, self.stats.thread_count, self.stats.batches_per_update = setting.mode, setting.n_threads, setting.batches
        self.stats.strategy, self.stats.parts = setting.strategy.name, setting.parts

    def new_replica(self, own_layers: bool = True) -> Replica:
        return Replica(self.model, self.loss, self.max_rows, plan=self.plan, own_layers=own_layers)

    def takes_arrays(self, dataset: Dataset) -> bool:
        """Whether the native driver can train on `dataset`. If not, the Python driver takes its batches one by one."""
        return type(dataset) is ArrayDataset and type(self.optimizer).step is Optimizer.step

    def rule(self, updates: int) -> engine.Update:
        """The optimizer's rule on this run's parameters and state, with the numbers of the next `updates` updates."""
        return self.optimizer.native(self.state, updates)

    def exchanged(self, mean: tuple[Array, float] | None, held: uninterrupted) -> Array:
        """The averaged gradient of a group, and of other trainers' groups, if there are any. mean: of this one's, and its weight.
        The Python driver calls this. NothingArrivedError where nothing arrived that counts."""
        vector, weight = (self.slots[0], 0.0) if mean is None else mean
        if self.exchange is not None:
            with held.open():
                weight = self.exchange(vector, weight)
        if not weight:
            raise NothingArrivedError("no batch of the group arrived whose weights count")
        return vector

    def totals(self, epoch: EpochProgress) -> tuple[float, int]:
        """The mean loss and the samples of an epoch, over all trainers."""
        if self.transport is None:
            return epoch.loss, epoch.samples
        numbers = np.array([epoch.loss_sum, epoch.weight, epoch.samples], np.float64)
        self.transport.add(numbers)
        over_all = EpochProgress(epoch.number, loss_sum=float(numbers[0]), weight=float(numbers[1]), samples=int(numbers[2]))
        return over_all.loss, over_all.samples

    def apply(self, gradients: Array) -> float:
        """Make one update from averaged gradients, which are used up. The Python driver calls this. Returns their norm, as
        Optimizer.apply does."""
        if type(self.optimizer).step is Optimizer.step:
            return self.optimizer.apply(self.state, np.ascontiguousarray(gradients))
        if self.optimizer.state is not self.state.vectors:
            raise RuntimeError(f"another trainer has taken {self.optimizer!r}, whose own `step` moves the parameters held last: "
                               "give each trainer an optimizer of its own")
        return self._own_step(gradients)

    def _own_step(self, gradients: Array) -> float:
        """An update by the optimizer's own `step`. Returns the gradient's norm, where that calls Optimizer.step, else NaN."""
        options, before = self.optimizer.options_config(), None
        if options and self.state.norm is None:
            before = self.model.params.copy(), self.state.t
        self.optimizer.step(gradients)
        if before is not None and self.state.norm is None:
            self.model.params[...], self.state.t = before
            raise ValueError(f"{type(self.optimizer).__name__} has a step of its own, which does not call Optimizer.step, so "
                             f"nobody looks at {', '.join(options)}: let it call super().step(gradients), or leave these out")
        return float("nan") if self.state.norm is None else self.state.norm

    def set_arrays(self, x: Any, y: Any, *weights: Array) -> None:
        """Set the arrays that the native driver trains on. x, y: with several inputs or outputs, a dict by their names or a
        tuple; then come sample weights, if any."""
        self.sources = [engine.Source(a) for a in (*self.model.sources(x), *self.loss.sources(y), *weights)]

    def most_pieces(self, parts: int) -> int:
        """How many parts a batch is really cut into if `parts` are asked for: each must have enough rows."""
        return max(1, min(parts, self.max_rows // self.plan.least_rows))

    def most_failures(self, epoch: EpochProgress, parts: int) -> int:
        """How many more pieces may fail in this epoch before training ends."""
        parts = self.most_pieces(parts)
        pieces = None if epoch.n_batches is None else epoch.n_batches * parts
        return max(0, self.policy.most_failures(pieces, epoch.batches_done * parts) - len(epoch.failures))

    # ------------------------------------------------------------------ workers that die, or do not come back
    def count_death(self, error: BaseException | None) -> None:
        """Log that a worker ended by `error`; raise `error` after MAX_DEATHS of them without progress."""
        self.deaths += 1
        log.warning("a worker died and is replaced: %r", error)
        if error is not None and self.deaths > MAX_DEATHS:
            raise error

    def put_aside_all(self, tasks: list[Task], pool: WorkerPool | None) -> None:
        """Abandon workers that do not come back, together with the replicas and slots that they use. The next run makes new
        ones, and a new pool."""
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
        """The batch that `task` has been running for longer than batch_timeout, or None. live: its worker's row."""
        assert self.policy.timeout is not None
        batch = int(live[BATCH])        # read before SINCE: if the worker goes on to another batch meanwhile, SINCE is new
        hung = (not task.done and task.worker is not None and live[STATE] == engine.IN_BATCH
                and time.monotonic_ns() - int(live[SINCE]) > self.policy.timeout * 1e9)
        return batch if hung else None

    def timeout_error(self, pool: WorkerPool, task: Task, what: str, layer: str) -> BatchTimeoutError:
        """The exception for a batch that hangs: it names the layer and has the stack of the thread that runs `task`."""
        assert task.worker is not None
        frame = sys._current_frames().get(pool.threads[task.worker].ident or 0)
        stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "  (no Python frame)"
        return BatchTimeoutError(f"{what} took longer than batch_timeout={self.policy.timeout:g} s in layer {layer or '?'} "
                                 f"and is given up. Stack of thread {pool.threads[task.worker].name}:\n{stack}")

    # ------------------------------------------------------------------ what the Python driver's workers do
    def make_room(self, n_workers: int) -> None:
        """Make `live` and `in_hand` as long as there are workers of the Python driver."""
        if len(self.live) != n_workers:
            self.live, self.in_hand = np.zeros((n_workers, N_LIVE), np.int64), [None] * n_workers

    def enter_batch(self, worker: int, batch: int, replica: Replica) -> int:
        """Note that a worker of the Python driver begins a batch on `replica`; returns the time."""
        self.in_hand[worker] = replica.native
        live, now = self.live[worker], time.monotonic_ns()
        live[BATCH], live[SINCE], live[STATE] = batch, now, engine.IN_BATCH
        return now

    def leave_batch(self, worker: int, since: int | None = None) -> None:
        """Note that a worker of the Python driver has ended its batch. since: what `enter_batch` returned. If the worker's
        current batch began at another time, nothing is noted: the caller was put aside, and its successor has the row."""
        live, now = self.live[worker], time.monotonic_ns()
        if since is not None and live[SINCE] != since:
            return
        live[BUSY] += now - live[SINCE]
        live[STATE], live[SINCE] = 0, now

    # ------------------------------------------------------------------ books
    def stop_for(self, epoch: EpochProgress, failures: list[BatchFailure], booked: bool = False, lost: int = 0) -> None:
        """Raise TrainingError for these failures; their group made no update. booked: they were passed to `book` before, and
        counted as skipped. lost: how many batches after them never came."""
        s = self.stats
        if booked:
            s.skipped -= len(failures)
        else:
            s.dispatched += len(failures)
            for failure in failures:
                log_failure("training ends for a batch", failure)
        s.failed += len(failures)
        every = epoch.failures if booked else [*epoch.failures, *failures]
        why = ("on_batch_failure='raise'" if self.policy.on_failure == "raise" else
               f"more than max_failed_fraction={self.policy.max_failed_fraction:g} of the epoch's batches")
        missing = f", and {lost} more did not come" if lost else ""
        raise TrainingError(f"epoch {epoch.number}: {len(every)} of its batches failed{missing} ({why}); parameters are as of "
                            "the last good update", every) from every[0].exception

    def book_end(self, epoch: EpochProgress, end: Exception, parts: int) -> None:
        """Note that there are no more batches, because of `end`: StopIteration, or what their source raised. In that case one
        batch has failed, and the rest of the epoch's n_batches are lost; all of them count against max_failed_fraction."""
        if isinstance(end, StopIteration):
            return
        failure = BatchFailure(epoch.number, epoch.batches_done, 0, -1, end)
        lost = 0 if epoch.n_batches is None else max(0, epoch.n_batches - epoch.batches_done - 1)
        with uninterrupted():
            if 1 + lost * self.most_pieces(parts) > self.most_failures(epoch, parts):
                self.stop_for(epoch, [failure], lost=lost)
            self.book(epoch, 1, 1, 0, 0, 0, 0, [failure])
            epoch.broken = True

    def book(self, epoch: EpochProgress, batches: int, dispatched: int, arrived: int, retried: int, samples: int, updates: int,
             failures: list[BatchFailure]) -> None:
        """Count a group, or several, as done: `batches` batches in `dispatched` pieces, of which `arrived` gave a gradient,
        `retried` of them not at the first try."""
        self.deaths = 0
        for failure in failures:
            epoch.failures.append(failure)
            log_failure("batch left out", failure)
        epoch.batches_done += batches
        epoch.updates += updates
        s = self.stats
        s.dispatched, s.done, s.retried = s.dispatched + dispatched, s.done + arrived - retried, s.retried + retried
        s.skipped, s.samples, s.updates = s.skipped + dispatched - arrived, s.samples + samples, s.updates + updates

    @contextmanager
    def booking(self) -> Iterator[None]:
        """Within this context the driver moves the counts of the run that ended into `stats` and the epoch. `snapshot` waits
        meanwhile, so that it sees each count once: in the run or in the statistics."""
        with self._books:
            running, self.running = self.running, []
            for run in running:
                self.stats.add_live(run.live)
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
        held = self._books.acquire(timeout=TICK)        # with a limit, since who has the lock may be writing to a log
        try:
            out = self.stats.copy()
            for run in list(self.running):
                out.add_live(run.live)
                out.samples += run.samples_done
                out.under_way += int((run.statuses == engine.OK).sum())
        finally:
            if held:
                self._books.release()
        since = self.running_since
        if since is not None:
            out.seconds += time.perf_counter() - since
        out.workers = self.workers()
        return out


def log_failure(what: str, failure: BatchFailure) -> None:
    """Write a failure to the log, with its traceback."""
    e = failure.exception
    log.warning("%s: %s", what, failure, exc_info=(type(e), e, None))
