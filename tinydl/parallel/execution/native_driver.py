"""The native driver: trains on arrays, with workers that stay in native code over many groups of batches.

Each run is a `NativeRun` (tinydl._kernels.engine) or, in strategy local, one for each copy of the model. The training thread
waits meanwhile, and looks 20 times a second whether the run has ended, a worker died, a batch hangs, or somebody wants training
to stop. python_driver.py runs everything else (streams, item datasets, optimizers with a step of their own), with the same
bits.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinydl._kernels import engine
from tinydl.data.batch import cut_rows
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError
from tinydl.parallel.execution.stats import BATCH
from tinydl.parallel.host.affinity import Places, pin
from tinydl.parallel.host.blas import BlasLimit
from tinydl.parallel.host.threads import machine_cpus
from tinydl.parallel.workers.pool import GRACE, TICK, Task, WorkerPool, wait_all, wait_open
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import EpochProgress, Setting
    from tinydl.parallel.execution.resources import Resources

Array = np.ndarray[Any, Any]
Tick = Callable[["EpochProgress", int], bool]

__all__ = ["drive", "group_starts", "new_run", "train"]

log = logging.getLogger("tinydl")

#: nanoseconds that a waiting worker spins at most before it sleeps (csrc/sync.h): three times what waking it costs
SPINS = 300_000


class Worker(NamedTuple):
    """Worker `number` of a run, and the pool's task that workers it."""

    run: engine.NativeRun
    number: int
    task: Task


def train(resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None,
          tick: Tick,
          max_updates: int | None = None, *, free: bool = False) -> None:
    """Train as Strategy.run_arrays says. free: each piece makes an update of its own, and no worker waits for another."""
    with uninterrupted() as held:
        run, pieces, owner = new_run(resources, epoch, order, bounds, setting, max_updates, free)
        try:
            drive(resources, epoch, [run], pool, tick, held)
        finally:
            with resources.booking():
                fatal = _collect(resources, epoch, run, order, pieces, owner, setting)
    if fatal:
        resources.stop_for(epoch, fatal, booked=free)


def new_run(resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, setting: Setting,
            max_updates: int | None = None,
            free: bool = False) -> tuple[engine.NativeRun, Array, Array]:
    """A run of the batches from epoch.batches_done on; the bounds of its pieces in `order`; the batch that each piece is
    of, counted from the first one here."""
    resources.prepare(setting)
    last = None if max_updates is None else epoch.batches_done + max_updates * setting.batches + 1
    pieces, owner = cut_rows(bounds[epoch.batches_done:last], setting.parts, resources.plan.least_rows)
    n_threads = setting.n_threads if setting.mode == "parallel" else 1
    given_up = {i: epoch.hung[rows] for i in range(len(pieces) - 1)
                if (rows := (int(pieces[i]), int(pieces[i + 1]))) in epoch.hung} if epoch.hung else None
    groups = group_starts(owner, setting.batches)
    n_slots = max(setting.block, setting.n_threads)
    run = engine.NativeRun([r.native for r in resources.replicas[:n_threads]], resources.slots[:n_slots], resources.sources,
                           order, pieces, resources.rule(len(pieces) - 1 if free else len(groups) - 1), t=resources.state.t,
                           groups=None if free else groups,
                           first_step=resources.step, seed=resources.seed, free=free, max_retries=resources.policy.retries,
                           max_failed=resources.most_failures(epoch, setting.parts), given_up=given_up,
                           alone=resources.alone, exchange=resources.exchange, kept=resources.slots[n_slots:setting.n_slots],
                           spins=SPINS if 1 < n_threads <= machine_cpus() else 0)
    return run, pieces, owner


def group_starts(owner: Array, batches: int) -> Array:
    """Where groups of `batches` batches begin: group g is pieces groups[g]..groups[g + 1] - 1. owner: the batch that each
    piece is of (data.batch.cut_rows)."""
    return np.searchsorted(owner, np.arange(0, (owner[-1] if len(owner) else -1) + 1 + batches, batches))


def drive(resources: Resources, epoch: EpochProgress, runs: list[engine.NativeRun], pool: WorkerPool | None, tick: Tick,
          held: uninterrupted,
          must_finish: bool = False) -> bool:
    """Run runs side by side to their end, or until `tick` says stop, unless they `must_finish`.

    Signals are delivered while they run (`held` is opened). When this returns or raises, no worker can make an update in them
    any more; the caller then counts what they did. Returns False if a batch exceeded its batch_timeout (see epoch.hung)."""
    resources.must_finish, resources.running = must_finish, runs
    if resources.asked:          # somebody asked before there was a run to pause
        resources.ask()
    started = resources.running_since = time.perf_counter()
    workers: list[Worker] = []
    try:
        if pool is None:
            for run in runs:
                while not run.finished and not run.fatal:
                    resources.check_deadline()
                    with held.open():
                        run.work(0, TICK)
                    if run.interrupted:
                        raise KeyboardInterrupt
                    if run.error is not None:
                        raise run.error
                    if (tick(epoch, epoch.samples + sum(s.samples_done for s in runs)) or resources.asked) and not must_finish:
                        return True
            return True
        work = partial(_work, pinned=resources.pin_threads, places=pool.places)
        numbers = [(s, i) for s in runs for i in range(s.n_workers)]
        pool.places.begin_run(len(numbers))
        tasks = pool.submit_all(partial(work, *worker) for worker in numbers)
        workers = [Worker(*worker, task) for worker, task in zip(numbers, tasks, strict=True)]
        while not wait_open(held, [r.task for r in workers]) or _died(workers):
            for i in _died(workers):        # a new worker takes its place: the other workers of the run wait for it
                resources.count_death(workers[i].task.exception)
                run, number, _ = workers[i]
                workers[i] = Worker(run, number, pool.submit(partial(work, run, number)))
            asked = tick(epoch, epoch.samples + sum(s.samples_done for s in runs)) and not must_finish
            if asked or any(s.interrupted for s in runs):
                for run in runs:
                    run.pause()
            resources.check_deadline()
            pool.heal(r.task for r in workers)
            if resources.policy.timeout is not None and _give_up_on_hung(resources, epoch, workers, pool):
                return False
    except BaseException:
        _end(resources, workers, pool)
        raise
    finally:
        resources.running_since = None
        epoch.seconds += time.perf_counter() - started
        if pool is not None:
            pool.places.end_run()
    if any(s.interrupted for s in runs) or any(isinstance(r.task.exception, KeyboardInterrupt) for r in workers):
        raise KeyboardInterrupt
    resources.check_deadline()
    for run in runs:
        if run.error is not None:
            raise run.error
    return True


def _died(workers: list[Worker]) -> list[int]:
    """The workers that ended before their run did, by an exception that was sent to its thread: exceptions of batches
    never leave a run."""
    return [i for i, r in enumerate(workers) if r.task.exception is not None and not r.run.finished and not r.run.fatal
            and not isinstance(r.task.exception, KeyboardInterrupt)]


def _end(resources: Resources, workers: list[Worker], pool: WorkerPool | None) -> None:
    """End the runs within about GRACE seconds, whatever their workers do; an update under way is finished first."""
    tasks = [r.task for r in workers]
    for worker in workers:
        worker.run.cancel()
    if workers and resources.transport is not None:
        resources.transport.cancel()
    if wait_all(tasks, GRACE):
        return
    for run in _stretches(workers):
        while not run.abandon():
            if wait_all((r.task for r in workers if r.run is run), TICK):
                break
    if not wait_all(tasks, TICK):
        resources.put_aside_all([r.task for r in workers], pool)


def _give_up_on_hung(resources: Resources, epoch: EpochProgress, workers: list[Worker], pool: WorkerPool) -> bool:
    """Give up the batches that take longer than batch_timeout; returns whether there were any. If so, their runs are
    over, the group under way made no update, the batches are in epoch.hung and will not run again, and workers that did not
    come back within GRACE seconds are put aside."""
    hung = {i: (batch, _timeout_error_of(resources, pool, worker, batch)) for i, worker in enumerate(workers)
            if (batch := resources.hung_batch(worker.run.live[worker.number], worker.task)) is not None}
    if not hung:
        return False
    others = [r.task for i, r in enumerate(workers) if i not in hung]
    for run in _stretches(workers):
        run.pause()
        if run.free:
            wait_all(others, GRACE)
    over = [s for s in _stretches(workers) if s.abandon()]
    if not over:
        return False            # the batches ended after all
    wait_all(others, GRACE)
    left = {i: worker for i, worker in enumerate(workers) if not worker.task.done}
    aside = {i: worker.task.put_aside() for i, worker in left.items()}    # all at once: a new worker must not take one of them
    for i, (batch, error) in hung.items():
        run, number, _ = workers[i]
        if run.free:
            if i not in left or run.live[number, BATCH] != batch:
                continue        # the batch ended meanwhile, and has made its update
            run.give_up(batch, error)
        elif run not in over:
            continue
        epoch.hung[int(run.bounds[batch]), int(run.bounds[batch + 1])] = error
        resources.hung_workers += aside.get(i) is not None
    gone = [worker.run.replicas[worker.number] for worker in left.values()]
    resources.replicas = [r for r in resources.replicas if r.native not in gone]
    for thread in aside.values():
        if thread is not None:
            pool.replace(thread)
    resources.slots = []
    return True


def _timeout_error_of(resources: Resources, pool: WorkerPool, worker: Worker, batch: int) -> BatchTimeoutError:
    first, end = worker.run.bounds[batch:batch + 2]
    return resources.timeout_error(pool, worker.task, f"samples {first} to {end - 1} of the epoch",
                                   worker.run.replicas[worker.number].where())


def _collect(resources: Resources, epoch: EpochProgress, run: engine.NativeRun, order: Array, pieces: Array, owner: Array,
             setting: Setting) -> list[BatchFailure]:
    """Count what a run did in the epoch, the optimizer's state and the statistics. Returns the failures for which training
    is to end, if there are any."""
    groups = run.next_group
    done = int(run.groups[groups])
    sizes, first = np.diff(pieces), epoch.batches_done
    statuses = run.statuses
    arrived = statuses[:done] == engine.OK
    every = bool(arrived.all())
    came = slice(None) if every else arrived        # a view instead of a copy, nearly always

    def failure(i: int) -> BatchFailure:
        error = run.errors.get(i) or engine.CancelledError("stopped while it ran")
        return BatchFailure(epoch.number, first + int(owner[i]), int(sizes[i]), int(run.workers[i]), error,
                            order[pieces[i]:pieces[i + 1]])
    failures = [] if every else [failure(int(i)) for i in np.flatnonzero(~arrived)]
    fatal = []
    if run.fatal and not run.free:
        group = range(done, int(run.groups[groups + 1]))
        fatal = [failure(i) for i in group if statuses[i] not in (engine.OK, engine.CANCELLED, -1)]
    # not np.dot: from 10,000 numbers on its BLAS wakes threads, which then spin on the next run's CPUs for 0.1 s
    weights = run.weights[:done][came]
    epoch.add_losses(run.losses[:done][came] * weights, weights)
    samples = int(sizes[:done][came].sum())
    epoch.samples += samples
    if log.isEnabledFor(logging.DEBUG):
        for i in range(done):
            log.debug("worker %d: epoch %d batch %d: %d samples, %s", run.workers[i], epoch.number, first + owner[i],
                      sizes[i], f"loss {run.losses[i]:.6g}" if arrived[i] else "failed")
    for worker, count in enumerate(np.bincount(run.workers[:done] + 1).tolist(), -1):
        if count:
            resources.stats.count_worker(worker, count)
    batches = min(groups * (1 if run.free else setting.batches), len(owner) and int(owner[-1]) + 1)
    retried = int((run.attempts[:done][came] > 1).sum())
    epoch.add_norms(run.norms[:groups])
    updates = run.updates - resources.state.t
    resources.state.t = run.updates
    resources.step += groups
    resources.book(epoch, batches, done, done - len(failures), retried, samples, updates, failures)
    if run.fatal and run.free:
        fatal = [f for f in failures if not isinstance(f.exception, engine.CancelledError)][-1:]
    return fatal


def _stretches(workers: list[Worker]) -> list[engine.NativeRun]:
    return list({id(r.run): r.run for r in workers}.values())


def _work(run: engine.NativeRun, number: int, thread: int, *, pinned: bool, places: Places) -> None:
    """Do the work of worker `number` of a run in the pool's thread number `thread`, which took the task."""
    if not (pinned and pin(number, run.n_workers)):
        places.begin(thread)
    with BlasLimit() if run.replicas[number].hooks else nullcontext():
        run.work(number)
