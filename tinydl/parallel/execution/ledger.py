"""Ledger: what was done, skipped and failed since `Trainer.init`, and what the workers do now.

Both drivers, with every strategy, describe what they did by an `Outcome`, and `Ledger.count` is the one place that adds it up: in
the epoch's progress and in the statistics.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydl._kernels import engine
from tinydl.log import log
from tinydl.parallel.errors import BatchFailure, TrainingError
from tinydl.parallel.execution.epoch import EpochProgress, FailurePolicy, Setting
from tinydl.parallel.execution.stats import BATCH, BUSY, N_LIVE, SINCE, STATE, UPDATED, ParallelStats, WorkerState
from tinydl.parallel.workers.pool import TICK
from tinydl.parallel.workers.signals import uninterrupted

Array = np.ndarray[Any, Any]
Numbers = Sequence[Any] | Array

__all__ = ["Ledger", "Outcome"]


@dataclass(slots=True, eq=False)
class Outcome:
    """What a run did, or a part of one. The first six have an entry for each piece, in the epoch's order; weights: what its loss
    weighs in a mean; workers: who ran it, -1 if nobody did.

    failures: the pieces that did not arrive. fatal: failures for which training is to end. Their group made no update and is not
    among the pieces; only where updates cannot be taken back (hogwild), they are among `failures`, too. norms: of the
    gradients of updates. batches, groups: how many are over."""

    sizes: Numbers = ()
    losses: Numbers = ()
    weights: Numbers = ()
    attempts: Numbers = ()
    workers: Numbers = ()
    arrived: Numbers = ()
    failures: list[BatchFailure] = field(default_factory=list)
    fatal: list[BatchFailure] = field(default_factory=list)
    norms: Numbers = ()
    updates: int = 0
    batches: int = 0
    groups: int = 0

    @classmethod
    def of_failure(cls, failure: BatchFailure) -> Outcome:
        """One batch of which nothing is known but that it failed."""
        return cls([0], [0.0], [0.0], [1], [-1], [False], [failure], batches=1)

    @classmethod
    def join(cls, parts: Sequence[Outcome]) -> Outcome:
        """The outcome of all parts, which follow each other in the epoch."""
        if len(parts) < 2:
            return parts[0] if parts else cls()
        names = ("sizes", "losses", "weights", "attempts", "workers", "arrived", "norms")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
                   failures=[f for part in parts for f in part.failures], fatal=[f for part in parts for f in part.fatal],
                   updates=sum(part.updates for part in parts), batches=sum(part.batches for part in parts),
                   groups=sum(part.groups for part in parts))

    def of_arrived(self, numbers: Numbers) -> Array:
        """Those of the pieces that arrived; nearly always a view instead of a copy."""
        array = np.asarray(numbers)
        return array[np.asarray(self.arrived, bool)] if self.failures else array


class Ledger:
    """For one trainer. One thread counts; `workers` and `snapshot` are for any thread."""

    def __init__(self, policy: FailurePolicy, *, quiet: bool = False) -> None:
        """quiet: another process has the same failures, and logs them."""
        self.policy, self.quiet = policy, quiet
        self.stats = ParallelStats()
        self.running_since: float | None = None     # perf_counter() when the run under way began: not in epoch.seconds yet
        self.running: list[engine.NativeRun] = []               # what the native driver runs now
        self.live: Array = np.zeros((0, N_LIVE), np.int64)      # as NativeRun.live, for the workers of the Python driver
        self.in_hand: list[engine.Replica | None] = []          # the replica that each of these runs, or ran last
        self.renew_locks()

    def renew_locks(self) -> None:
        """For `workers.fork`."""
        self._books = threading.RLock()         # held while a run's counts move from `running` to `stats`

    def note(self, setting: Setting) -> None:
        """Write into the statistics how updates are made now."""
        self.stats.mode, self.stats.thread_count, self.stats.batches_per_update = setting.mode, setting.n_threads, setting.batches
        self.stats.strategy, self.stats.parts = setting.strategy.name, setting.parts

    # ------------------------------------------------------------------ what the Python driver's workers do
    def make_room(self, n_workers: int) -> None:
        """Make `live` and `in_hand` as long as there are workers of the Python driver."""
        if len(self.live) != n_workers:
            self.live, self.in_hand = np.zeros((n_workers, N_LIVE), np.int64), [None] * n_workers

    def enter_batch(self, worker: int, batch: int, replica: engine.Replica) -> int:
        """Note that a worker of the Python driver begins a batch on `replica`; returns the time."""
        self.in_hand[worker] = replica
        live, now = self.live[worker], engine.clock()
        live[BATCH], live[SINCE], live[STATE] = batch, now, engine.IN_BATCH
        return now

    def leave_batch(self, worker: int, since: int | None = None) -> None:
        """Note that a worker of the Python driver has ended its batch. since: what `enter_batch` returned. If the worker's
        current batch began at another time, nothing is noted: the caller was put aside, and its successor has the row."""
        live, now = self.live[worker], engine.clock()
        if since is not None and live[SINCE] != since:
            return
        live[BUSY] += now - live[SINCE]
        live[STATE], live[SINCE] = 0, now

    # ------------------------------------------------------------------ counting
    @contextmanager
    def booking(self) -> Iterator[None]:
        """Within this context the driver counts the run that ended. `snapshot` waits meanwhile, so that it sees each number
        once: in the run or in the statistics."""
        with self._books:
            running, self.running = self.running, []
            for run in running:
                self.stats.add_live(run.live)
            if not running:
                self.stats.add_live(self.live)
                self.live[:, BUSY:UPDATED + 1] = 0
            yield

    def count(self, epoch: EpochProgress, outcome: Outcome) -> None:
        """Count what was done."""
        stats, weights = self.stats, outcome.of_arrived(outcome.weights)
        # not np.dot: from 10,000 numbers on its BLAS wakes threads, which then spin on the next run's CPUs for 0.1 s
        epoch.add_losses(outcome.of_arrived(outcome.losses) * weights, weights)
        epoch.add_norms(outcome.norms)
        for failure in outcome.failures:
            epoch.failures.append(failure)
            self._log("batch left out", failure)
        samples, pieces, skipped = int(outcome.of_arrived(outcome.sizes).sum()), len(outcome.sizes), len(outcome.failures)
        retried = int(np.count_nonzero(outcome.of_arrived(outcome.attempts) > 1))
        epoch.samples += samples
        epoch.batches_done += outcome.batches
        epoch.updates += outcome.updates
        for worker, count in enumerate(np.bincount(np.asarray(outcome.workers, np.int32) + 1).tolist(), -1):
            if count:
                stats.count_worker(worker, count)
        stats.dispatched, stats.done = stats.dispatched + pieces, stats.done + pieces - skipped - retried
        stats.skipped, stats.retried = stats.skipped + skipped, stats.retried + retried
        stats.samples, stats.updates = stats.samples + samples, stats.updates + outcome.updates

    def stop_for(self, epoch: EpochProgress, outcome: Outcome, lost: int = 0) -> None:
        """Raise TrainingError if the outcome, which was counted, has failures for which training is to end. lost: how many
        batches after them never came."""
        fatal, stats = outcome.fatal, self.stats
        if not fatal:
            return
        counted = fatal[0] in outcome.failures
        if counted:
            stats.skipped -= len(fatal)
        else:
            stats.dispatched += len(fatal)
            for failure in fatal:
                self._log("training ends for a batch", failure)
        stats.failed += len(fatal)
        every = epoch.failures if counted else [*epoch.failures, *fatal]
        why = ("on_batch_failure='raise'" if self.policy.on_failure == "raise" else
               f"more than max_failed_fraction={self.policy.max_failed_fraction:g} of the epoch's batches")
        missing = f", and {lost} more did not come" if lost else ""
        raise TrainingError(f"epoch {epoch.number}: {len(every)} of its batches failed{missing} ({why}); parameters are as of "
                            "the last good update", every) from every[0].exception

    def _log(self, what: str, failure: BatchFailure) -> None:
        if not self.quiet:
            log_failure(what, failure)

    def count_end(self, epoch: EpochProgress, end: Exception, pieces: int) -> None:
        """Note that there are no more batches, because of `end`: StopIteration, or what their source raised. In that case one
        batch has failed, and the rest of the epoch's n_batches are lost; all of them count against max_failed_fraction, each
        as so many pieces."""
        if isinstance(end, StopIteration):
            return
        failure = BatchFailure(epoch.number, epoch.batches_done, 0, -1, end)
        lost = 0 if epoch.n_batches is None else max(0, epoch.n_batches - epoch.batches_done - 1)
        with uninterrupted():
            if 1 + lost * pieces > self.most_failures(epoch, pieces):
                self.stop_for(epoch, Outcome(fatal=[failure]), lost)
            self.count(epoch, Outcome.of_failure(failure))
            epoch.broken = True

    def most_failures(self, epoch: EpochProgress, pieces: int) -> int:
        """How many more pieces may fail in this epoch before training ends, if a batch is so many."""
        n = None if epoch.n_batches is None else epoch.n_batches * pieces
        return max(0, self.policy.most_failures(n, epoch.batches_done * pieces) - len(epoch.failures))

    # ------------------------------------------------------------------ what any thread may ask
    def workers(self) -> list[WorkerState]:
        """What each worker does now."""
        running = self.running
        rows = [row for s in running for row in zip(s.live.copy(), s.replicas, strict=True)] if running else list(
            zip(self.live.copy(), self.in_hand, strict=False))
        now = engine.clock()
        return [WorkerState.of(i, row, "" if replica is None else replica.where(), now) for i, (row, replica) in enumerate(rows)]

    def snapshot(self) -> ParallelStats:
        """The statistics with what runs now."""
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
