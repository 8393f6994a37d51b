"""The native driver: trains on arrays, with workers that stay in native code over many groups of batches.

What it runs side by side is one `NativeRun` (tinydl._kernels.engine) or, in strategy local, one for each copy of the model. The
training thread waits meanwhile, and looks 20 times a second whether they have ended, a worker died, a batch hangs, or somebody
wants training to stop. python_driver.py runs everything else (streams, item datasets, optimizers with a step of their own), with
the same bits.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels import engine
from tinydl.log import log
from tinydl.parallel.errors import BatchFailure
from tinydl.parallel.execution.hung import wait
from tinydl.parallel.execution.ledger import Outcome
from tinydl.parallel.execution.stats import BATCH
from tinydl.parallel.host.affinity import Places, pin
from tinydl.parallel.host.blas import BlasLimit
from tinydl.parallel.workers.pool import GRACE, TICK, WorkerPool, wait_all
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import EpochProgress, Piece, Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.execution.updates import Run

Array = np.ndarray[Any, Any]
Tick = Callable[["EpochProgress", int], bool]

__all__ = ["train"]


def train(resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None,
          tick: Tick, max_updates: int | None = None) -> None:
    """Train batches epoch.batches_done.. of the epoch (batch b is order[bounds[b]:bounds[b + 1]]), until done, or
    tick(epoch, samples so far) says stop, or max_updates updates were made."""
    ledger, asked = resources.ledger, False

    def look(epoch: EpochProgress, samples: int) -> bool:
        nonlocal asked
        asked = tick(epoch, samples) or asked
        return asked
    while True:
        with uninterrupted() as held:
            updates = setting.strategy.updates(resources, epoch, setting)
            runs = updates.runs(order, bounds, max_updates)
            parts: list[Outcome] | None = None
            outcome = None
            try:
                active = [run.native for run in runs if run.native.n_batches]
                ended = _run(resources, epoch, active, pool, look, held, updates.must_finish)
                if ended and updates.must_finish:
                    started = time.perf_counter()
                    try:
                        parts = updates.after_group([_outcome(epoch, run, resources.state.t) for run in runs], held)
                    finally:
                        epoch.seconds += time.perf_counter() - started
            finally:
                with ledger.booking():
                    if not updates.must_finish:
                        parts = [_outcome(epoch, run, resources.state.t) for run in runs]
                    if parts is not None:
                        outcome = updates.end(parts)
                        ledger.count(epoch, outcome)
        if outcome is not None:
            ledger.stop_for(epoch, outcome)
        if not updates.must_finish:         # it went on for as long as there was something to do
            return
        max_updates = None if max_updates is None else max_updates - updates.n_updates
        if look(epoch, epoch.samples) or epoch.batches_done >= len(bounds) - 1 or (max_updates is not None and max_updates <= 0):
            return


def _run(resources: Resources, epoch: EpochProgress, runs: list[engine.NativeRun], pool: WorkerPool | None, tick: Tick,
         held: uninterrupted, must_finish: bool) -> bool:
    """Run `runs` side by side to their end, or until `tick` says stop, unless they `must_finish`. Signals are delivered
    meanwhile. When this returns or raises, no worker can make an update any more. False if batches hung (see epoch.hung)."""
    ledger, started = resources.ledger, time.perf_counter()
    resources.must_finish, ledger.running, ledger.running_since = must_finish, runs, started
    if resources.asked:          # somebody asked before there was a run to pause
        resources.ask()

    def asked() -> bool:
        return tick(epoch, epoch.samples + sum(run.samples_done for run in runs)) and not must_finish

    def look() -> None:
        if asked() or any(run.interrupted for run in runs):
            for run in runs:
                run.pause()
    try:
        if pool is None:
            _run_here(resources, runs, held, asked)
            return True
        pool.places.begin_run(sum(run.n_workers for run in runs))
        ended = wait(resources, epoch, _Work(runs, pool, resources), pool, held, look)
    finally:
        ledger.running_since = None
        epoch.seconds += time.perf_counter() - started
        if pool is not None:
            pool.places.end_run()
    if any(run.interrupted for run in runs):
        raise KeyboardInterrupt
    resources.check_deadline()
    for run in runs:
        if run.error is not None:
            raise run.error
    return ended


def _run_here(resources: Resources, runs: list[engine.NativeRun], held: uninterrupted, asked: Callable[[], bool]) -> None:
    """As `_run`, in the calling thread: one run after the other."""
    for run in runs:
        while not run.finished and not run.fatal:
            resources.check_deadline()
            with held.open():
                run.work(0, TICK)
            if run.interrupted:
                raise KeyboardInterrupt
            if run.error is not None:
                raise run.error
            if asked() or (resources.asked and not resources.must_finish):
                return


class _Work:
    """What hung.wait waits for: a task for each worker of each run."""

    def __init__(self, runs: list[engine.NativeRun], pool: WorkerPool, resources: Resources) -> None:
        self.runs, self.ranks, pinned = runs, resources.ranks, resources.pin_threads
        self.over: list[engine.NativeRun] = []      # those that are given up
        self.workers = [(run, number) for run in runs for number in range(run.n_workers)]
        self.calls: list[Callable[[int], None]] = [partial(_work, *worker, pinned=pinned, places=pool.places)
                                                   for worker in self.workers]
        self.tasks = pool.submit_all(self.calls)

    def unfinished(self, i: int) -> bool:
        run, _ = self.workers[i]
        return not run.finished and not run.fatal

    def row(self, i: int) -> Array:
        run, number = self.workers[i]
        row: Array = run.live[number]
        return row

    def replica(self, i: int) -> engine.Replica:
        run, number = self.workers[i]
        return run.replicas[number]

    def name(self, i: int, batch: int) -> tuple[str, Piece]:
        run, _ = self.workers[i]
        first, end = run.bounds[batch:batch + 2].tolist()
        return f"samples {first} to {end - 1} of the epoch", (first, end)

    def cancel(self) -> None:
        for run in self.runs:
            run.cancel()
        if self.ranks is not None:
            self.ranks.cancel()

    def stop(self, hung: dict[int, int]) -> bool:
        for run in self.runs:
            run.pause()
            if run.free and hung:       # what the others are doing need not be lost
                wait_all((task for i, task in enumerate(self.tasks) if i not in hung), GRACE)
        self.over += [run for run in self.runs if run not in self.over and run.abandon()]
        return bool(self.over)

    def gave_up(self, i: int, batch: int, error: BaseException, back: bool) -> bool:
        run, number = self.workers[i]
        if not run.free:
            return run in self.over
        if back or run.live[number, BATCH] != batch:
            return False                # it has made its update
        run.give_up(batch, error)
        return True


def _work(run: engine.NativeRun, number: int, thread: int, *, pinned: bool, places: Places) -> None:
    """Do the work of worker `number` of a run in the pool's thread number `thread`, which took the task."""
    if not (pinned and pin(number, run.n_workers)):
        places.begin(thread)
    with BlasLimit() if run.replicas[number].hooks else nullcontext():
        run.work(number)


def _outcome(epoch: EpochProgress, run: Run, t: int) -> Outcome:
    """What a run did that began after t updates."""
    native, numbers, copy = run
    groups, sizes, statuses = native.next_group, native.bounds[1:] - native.bounds[:-1], native.statuses
    done = int(native.groups[groups])
    arrived = statuses[:done] == engine.OK
    workers = native.workers[:done] if copy is None else np.where(native.workers[:done] < 0, -1, copy)

    def failure(i: int) -> BatchFailure:
        rows = slice(*native.bounds[i:i + 2])
        error = native.errors.get(i) or engine.CancelledError("stopped while it ran")
        worker = int(native.workers[i]) if copy is None or native.workers[i] < 0 else copy
        return BatchFailure(epoch.number, int(numbers[i]), int(sizes[i]), worker, error,
                            None if native.order is None else native.order[rows])
    failures = [] if np.count_nonzero(arrived) == done else [failure(int(i)) for i in np.flatnonzero(~arrived)]
    fatal = []
    if native.fatal and not native.free:
        group = range(done, int(native.groups[groups + 1]))
        fatal = [failure(i) for i in group if statuses[i] not in (engine.OK, engine.CANCELLED, -1)]
    if log.isEnabledFor(logging.DEBUG):
        for i in range(done):
            log.debug("worker %d: epoch %d batch %d: %d samples, %s", workers[i], epoch.number, numbers[i], sizes[i],
                      f"loss {native.losses[i]:.6g}" if arrived[i] else "failed")
    return Outcome(sizes[:done], native.losses[:done], native.weights[:done], native.attempts[:done], workers, arrived, failures,
                   fatal, native.norms[:groups], native.updates - t,
                   int(numbers[done - 1] - numbers[0]) + 1 if done else 0, groups)
