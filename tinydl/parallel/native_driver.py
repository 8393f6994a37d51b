"""The native driver: trains on arrays, with workers that stay in native code over many groups of batches.

Each run is a `Stretch` (tinydl._kernels.engine) or, in strategy local, one for each copy of the model. The training thread
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
from tinydl.parallel.affinity import Places, pin
from tinydl.parallel.blas import BlasLimit
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError
from tinydl.parallel.pool import GRACE, TICK, Task, WorkerPool, wait_all, wait_open
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.stats import BATCH
from tinydl.parallel.threads import machine_cpus

if TYPE_CHECKING:
    from tinydl.parallel.crew import Crew
    from tinydl.parallel.job import Job, Setting

Array = np.ndarray[Any, Any]
Tick = Callable[["Job", int], bool]

__all__ = ["drive", "group_starts", "run", "stretch_of"]

log = logging.getLogger("tinydl")

#: nanoseconds that a waiting worker spins at most before it sleeps (csrc/sync.h): three times what waking it costs
SPINS = 300_000


class Run(NamedTuple):
    """Worker `number` of a stretch, and the pool's task that runs it."""

    stretch: engine.Stretch
    number: int
    task: Task


def run(crew: Crew, job: Job, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None, tick: Tick,
        max_updates: int | None = None, *, free: bool = False) -> None:
    """Train as Strategy.run_arrays says. free: each piece makes an update of its own, and no worker waits for another."""
    with uninterrupted() as held:
        stretch, pieces, owner = stretch_of(crew, job, order, bounds, setting, max_updates, free)
        try:
            drive(crew, job, [stretch], pool, tick, held)
        finally:
            with crew.booking():
                fatal = _collect(crew, job, stretch, order, pieces, owner, setting)
    if fatal:
        crew.stop_for(job, fatal, booked=free)


def stretch_of(crew: Crew, job: Job, order: Array, bounds: Array, setting: Setting, max_updates: int | None = None,
               free: bool = False) -> tuple[engine.Stretch, Array, Array]:
    """A stretch of the batches from job.batches_done on; the bounds of its pieces in `order`; the batch that each piece is
    of, counted from the first one here."""
    crew.prepare(setting)
    last = None if max_updates is None else job.batches_done + max_updates * setting.batches + 1
    pieces, owner = cut_rows(bounds[job.batches_done:last], setting.parts, crew.plan.least_rows)
    n_threads = setting.n_threads if setting.mode == "parallel" else 1
    given_up = {i: job.hung[rows] for i in range(len(pieces) - 1)
                if (rows := (int(pieces[i]), int(pieces[i + 1]))) in job.hung} if job.hung else None
    groups = group_starts(owner, setting.batches)
    stretch = engine.Stretch([r.native for r in crew.replicas[:n_threads]], crew.slots[:setting.n_slots], crew.sources,
                             order, pieces, crew.rule(len(pieces) - 1 if free else len(groups) - 1), t=crew.state.t,
                             groups=None if free else groups,
                             first_step=crew.step, seed=crew.seed, free=free, max_retries=crew.policy.retries,
                             max_failed=crew.most_failures(job, setting.parts), given_up=given_up,
                             alone=crew.alone, spins=SPINS if 1 < n_threads <= machine_cpus() else 0)
    return stretch, pieces, owner


def group_starts(owner: Array, batches: int) -> Array:
    """Where groups of `batches` batches begin: group g is pieces groups[g]..groups[g + 1] - 1. owner: the batch that each
    piece is of (data.batch.cut_rows)."""
    return np.searchsorted(owner, np.arange(0, (owner[-1] if len(owner) else -1) + 1 + batches, batches))


def drive(crew: Crew, job: Job, stretches: list[engine.Stretch], pool: WorkerPool | None, tick: Tick, held: uninterrupted,
          whole: bool = False) -> bool:
    """Run stretches side by side to their end, or until `tick` says stop, unless they are to be `whole`.

    Signals are delivered while they run (`held` is opened). When this returns or raises, no worker can make an update in them
    any more; the caller then counts what they did. Returns False if a batch exceeded its batch_timeout (see job.hung)."""
    crew.whole, crew.running = whole, stretches
    if crew.asked:          # somebody asked before there was a stretch to pause
        crew.ask()
    started = crew.running_since = time.perf_counter()
    runs: list[Run] = []
    try:
        if pool is None:
            for stretch in stretches:
                while not stretch.finished and not stretch.fatal:
                    crew.check_deadline()
                    with held.open():
                        stretch.work(0, TICK)
                    if stretch.interrupted:
                        raise KeyboardInterrupt
                    if (tick(job, job.samples + sum(s.samples_done for s in stretches)) or crew.asked) and not whole:
                        return True
            return True
        work = partial(_work, pinned=crew.pin_threads, places=pool.places)
        workers = [(s, i) for s in stretches for i in range(s.n_workers)]
        pool.places.begin_run(len(workers))
        tasks = pool.submit_all(partial(work, *worker) for worker in workers)
        runs = [Run(*worker, task) for worker, task in zip(workers, tasks, strict=True)]
        while not wait_open(held, [r.task for r in runs]) or _died(runs):
            for i in _died(runs):        # a new worker takes its place: the other workers of the stretch wait for it
                crew.count_death(runs[i].task.exception)
                stretch, number, _ = runs[i]
                runs[i] = Run(stretch, number, pool.submit(partial(work, stretch, number)))
            asked = tick(job, job.samples + sum(s.samples_done for s in stretches)) and not whole
            if asked or any(s.interrupted for s in stretches):
                for stretch in stretches:
                    stretch.pause()
            crew.check_deadline()
            pool.heal(r.task for r in runs)
            if crew.policy.timeout is not None and _give_up_on_hung(crew, job, runs, pool):
                return False
    except BaseException:
        _end(crew, runs, pool)
        raise
    finally:
        crew.running_since = None
        job.seconds += time.perf_counter() - started
        if pool is not None:
            pool.places.end_run()
    if any(s.interrupted for s in stretches) or any(isinstance(r.task.exception, KeyboardInterrupt) for r in runs):
        raise KeyboardInterrupt
    crew.check_deadline()
    return True


def _died(runs: list[Run]) -> list[int]:
    """The runs whose worker ended before its stretch did, by an exception that was sent to its thread: exceptions of batches
    never leave a stretch."""
    return [i for i, r in enumerate(runs) if r.task.exception is not None and not r.stretch.finished and not r.stretch.fatal
            and not isinstance(r.task.exception, KeyboardInterrupt)]


def _end(crew: Crew, runs: list[Run], pool: WorkerPool | None) -> None:
    """End the stretches within about GRACE seconds, whatever their workers do; an update under way is finished first."""
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
        crew.put_aside_all([r.task for r in runs], pool)


def _give_up_on_hung(crew: Crew, job: Job, runs: list[Run], pool: WorkerPool) -> bool:
    """Give up the batches that take longer than batch_timeout; returns whether there were any. If so, their stretches are
    over, the group under way made no update, the batches are in job.hung and will not run again, and workers that did not
    come back within GRACE seconds are put aside."""
    hung = {i: (batch, _timeout_error_of(crew, pool, run, batch)) for i, run in enumerate(runs)
            if (batch := crew.hung_batch(run.stretch.live[run.number], run.task)) is not None}
    if not hung:
        return False
    others = [r.task for i, r in enumerate(runs) if i not in hung]
    for stretch in _stretches(runs):
        stretch.pause()
        if stretch.free:
            wait_all(others, GRACE)
    over = [s for s in _stretches(runs) if s.abandon()]
    if not over:
        return False            # the batches ended after all
    wait_all(others, GRACE)
    left = {i: run for i, run in enumerate(runs) if not run.task.done}
    aside = {i: run.task.put_aside() for i, run in left.items()}    # all at once: a new worker must not take one of them
    for i, (batch, error) in hung.items():
        stretch, number, _ = runs[i]
        if stretch.free:
            if i not in left or stretch.live[number, BATCH] != batch:
                continue        # the batch ended meanwhile, and has made its update
            stretch.give_up(batch, error)
        elif stretch not in over:
            continue
        job.hung[int(stretch.bounds[batch]), int(stretch.bounds[batch + 1])] = error
        crew.hung_workers += aside.get(i) is not None
    gone = [run.stretch.replicas[run.number] for run in left.values()]
    crew.replicas = [r for r in crew.replicas if r.native not in gone]
    for worker in aside.values():
        if worker is not None:
            pool.replace(worker)
    crew.slots = []
    return True


def _timeout_error_of(crew: Crew, pool: WorkerPool, run: Run, batch: int) -> BatchTimeoutError:
    first, end = run.stretch.bounds[batch:batch + 2]
    return crew.timeout_error(pool, run.task, f"samples {first} to {end - 1} of the epoch",
                              run.stretch.replicas[run.number].where())


def _collect(crew: Crew, job: Job, stretch: engine.Stretch, order: Array, pieces: Array, owner: Array,
             setting: Setting) -> list[BatchFailure]:
    """Count what a stretch did in the job, the optimizer's state and the statistics. Returns the failures for which training
    is to end, if there are any."""
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
                            order[pieces[i]:pieces[i + 1]])
    failures = [] if every else [failure(int(i)) for i in np.flatnonzero(~arrived)]
    fatal = []
    if stretch.fatal and not stretch.free:
        group = range(done, int(stretch.groups[groups + 1]))
        fatal = [failure(i) for i in group if statuses[i] not in (engine.OK, engine.CANCELLED, -1)]
    # not np.dot: from 10,000 numbers on its BLAS wakes threads, which then spin on the next stretch's CPUs for 0.1 s
    weights = stretch.weights[:done][came]
    job.add_losses(stretch.losses[:done][came] * weights, weights)
    samples = int(sizes[:done][came].sum())
    job.samples += samples
    if log.isEnabledFor(logging.DEBUG):
        for i in range(done):
            log.debug("worker %d: epoch %d batch %d: %d samples, %s", stretch.workers[i], job.epoch, first + owner[i],
                      sizes[i], f"loss {stretch.losses[i]:.6g}" if arrived[i] else "failed")
    for worker, count in enumerate(np.bincount(stretch.workers[:done] + 1).tolist(), -1):
        if count:
            crew.stats.count_worker(worker, count)
    batches = min(groups * (1 if stretch.free else setting.batches), len(owner) and int(owner[-1]) + 1)
    retried = int((stretch.attempts[:done][came] > 1).sum())
    job.add_norms(stretch.norms[:groups])
    updates = stretch.updates - crew.state.t
    crew.state.t = stretch.updates
    crew.step += groups
    crew.book(job, batches, done, done - len(failures), retried, samples, updates, failures)
    if stretch.fatal and stretch.free:
        fatal = [f for f in failures if not isinstance(f.exception, engine.CancelledError)][-1:]
    return fatal


def _stretches(runs: list[Run]) -> list[engine.Stretch]:
    return list({id(r.stretch): r.stretch for r in runs}.values())


def _work(stretch: engine.Stretch, number: int, thread: int, *, pinned: bool, places: Places) -> None:
    """Do the work of worker `number` of a stretch in the pool's thread number `thread`, which took the task."""
    if not (pinned and pin(number, stretch.n_workers)):
        places.begin(thread)
    with BlasLimit() if stretch.replicas[number].hooks else nullcontext():
        stretch.work(number)
