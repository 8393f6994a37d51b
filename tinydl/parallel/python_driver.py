"""The Python driver: an epoch batch by batch, for all that wants Python in between.

Streams, item datasets, custom optimizers. It takes the groups, slots and tree of the native driver (crew.py), so it gives
the same bits: one task a piece of a batch (ParallelBatchProcessor), one GradientAggregator a group. A free run (hogwild)
has an aggregator a piece, and the worker that ran it makes the update.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels import engine
from tinydl.parallel.aggregator import GradientAggregator
from tinydl.parallel.blas import BlasLimit
from tinydl.parallel.errors import BatchFailure, NothingArrivedError
from tinydl.parallel.pool import GRACE, Task, WorkerPool, wait_all, wait_open
from tinydl.parallel.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.replica import Replica
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.stats import BUSY, UPDATED, WAITED

if TYPE_CHECKING:
    from tinydl.data import Batch, LazyBatch
    from tinydl.parallel.crew import Crew
    from tinydl.parallel.job import Job, Setting

Array = np.ndarray[Any, Any]
Tick = Callable[["Job", int], bool]

__all__ = ["next_batches", "run", "wait_for"]

log = logging.getLogger("tinydl")


def run(crew: Crew, job: Job, batches: Iterator[Batch | LazyBatch], setting: Setting, pool: WorkerPool | None,
        tick: Tick, max_updates: int | None = None, *, free: bool = False) -> bool:
    """As Strategy.run_batches says. free: every piece an update of its own, without waiting."""
    crew.prepare(setting)
    size = len(crew.replicas) if free else setting.batches
    left = max_updates
    while left is None or left > 0:
        started = time.perf_counter()
        group, ended = next_batches(crew, job, batches, size if left is None or not free else min(size, left))
        try:
            if group:
                _run_group(crew, job, group, setting.parts, pool, free)
        finally:
            job.seconds += time.perf_counter() - started
        if left is not None:
            left -= len(group) if free else 1
        if ended:
            return True
        if tick(job, job.samples):
            return False
    return False


def next_batches(crew: Crew, job: Job, batches: Iterator[Batch | LazyBatch], n: int) -> tuple[list[Batch | LazyBatch], bool]:
    """The next n batches, fewer at the end; an iterator that raises is a failed batch, and its end."""
    group: list[Batch | LazyBatch] = []
    while len(group) < n:
        try:
            group.append(next(batches))
        except StopIteration:
            return group, True
        except Exception as e:
            failure = BatchFailure(job.epoch, job.batches_done + len(group), 0, -1, e)
            if crew.most_failures(job, 1) < 1:
                crew.stop_for(job, [failure])
            crew.book(job, 1, 1, 0, 0, 0, 0, [failure])
            return group, True
    return group, False


def _run_group(crew: Crew, job: Job, group: list[Batch | LazyBatch], parts: int, pool: WorkerPool | None, free: bool) -> None:
    pieces = [(b, piece) for b, batch in enumerate(group) for piece in batch.cut(parts)]
    while len(crew.slots) < len(pieces):
        crew.slots.append(crew.replicas[0].gradient_vector())
    whole = GradientAggregator(len(pieces))
    aggregators = [GradientAggregator(1) for _ in pieces] if free else [whole] * len(pieces)
    updates = 0
    ended: dict[int, BatchProcessResult] = {}       # free: what became of each piece, under the step lock
    over = False                                    # free: from then on no update is made

    def process(slot: int, worker: int) -> BatchProcessResult:
        nonlocal updates
        piece = pieces[slot][1]
        log.debug("worker %d: epoch %d batch %d", worker, job.epoch, piece.index)
        since = crew.enter_batch(worker, piece.index, crew.replicas[worker])
        try:
            with (held.open() if pool is None else nullcontext(),
                  BlasLimit() if pool is not None and crew.plan.program.hooks else nullcontext()):
                result = ParallelBatchProcessor(
                    piece, crew.model, crew.loss, aggregators[slot], worker, slot=0 if free else slot,
                    replica=crew.replicas[worker], gradients=crew.slots[slot], seed=crew.seed,
                    step=crew.step + (slot if free else 0), max_retries=crew.policy.retries)()
            if free:
                with crew.step_lock:
                    if result.success and not over:
                        crew.optimizer.step(aggregators[slot].get_average_gradients(0))     # type: ignore[arg-type]
                        updates += 1
                    ended[slot] = result
            return result
        finally:
            crew.leave_batch(worker, since)
    with uninterrupted() as held:
        stopped: BaseException | None = None
        try:
            crew.check_deadline()
            if pool is None:
                results = [process(slot, 0) for slot in range(len(pieces))]
            else:
                results = _in_pool(crew, pool, process, aggregators, [p for _, p in pieces], free, held)
                # an update that was made counts, though its worker died then; what was given up stays so when it comes back
                results = [ended[slot] if slot in ended and ended[slot].success else r for slot, r in enumerate(results)]
            for r in results:
                if isinstance(r.exception, KeyboardInterrupt):      # never the batch's fault
                    raise r.exception
            crew.check_deadline()
        except BaseException as e:
            if not free:
                raise
            with crew.step_lock:
                over, came = True, dict(ended)
            stopped = e
            # the batches up to the last that came have made their updates, or are lost; those behind it run again
            last = max((s for s, r in came.items()
                        if not isinstance(r.exception, (engine.CancelledError, KeyboardInterrupt))), default=-1)
            group = group[:pieces[last][0] + 1] if last >= 0 else []
            pieces = [p for p in pieces if p[0] < len(group)]
            results = [came.get(s) or BatchProcessResult(-1, piece.index, float("nan"), piece.n, False,
                       engine.CancelledError("stopped while it ran")) for s, (_, piece) in enumerate(pieces)]
        failures = [BatchFailure(job.epoch, job.batches_done + b, r.n_samples, r.thread_id, r.exception, piece.indices)
                    for (b, piece), r in zip(pieces, results, strict=True) if r.exception is not None]
        fatal = len(failures) > crew.most_failures(job, parts)
        if fatal and not free:
            crew.stop_for(job, failures)
        if not free:
            started = time.monotonic_ns()
            try:
                crew.optimizer.step(whole.get_average_gradients(timeout=0))     # type: ignore[arg-type]
                updates = 1
            except NothingArrivedError:
                pass
            crew.live[0, UPDATED] += time.monotonic_ns() - started
        arrived = [r for r in results if r.success]
        for r in results:
            crew.stats.count_worker(r.thread_id, 1)
        samples = sum(r.n_samples for r in arrived)
        job.add_losses([r.loss * r.n_samples for r in arrived])
        job.samples += samples
        crew.stats.add_live(crew.live)
        crew.live[:, [BUSY, WAITED, UPDATED]] = 0
        crew.step += len(pieces) if free else 1
        retried = sum(r.attempts > 1 for r in arrived)
        crew.book(job, len(group), len(pieces), len(arrived), retried, samples, updates, failures)
        if stopped is not None:
            raise stopped
        if fatal:
            crew.stop_for(job, failures[-1:], booked=True)


def _in_pool(crew: Crew, pool: WorkerPool, process: Callable[[int, int], BatchProcessResult],
             aggregators: list[GradientAggregator], pieces: list[Batch | LazyBatch], free: bool,
             held: uninterrupted) -> list[BatchProcessResult]:
    tasks = pool.submit_all(partial(process, slot) for slot in range(len(pieces)))
    results: dict[int, BatchProcessResult] = {}
    try:
        while not wait_open(held, [t for slot, t in enumerate(tasks) if slot not in results]):
            crew.check_deadline()
            pool.heal(tasks)
            for slot, task in enumerate(tasks):
                if crew.policy.timeout is None or slot in results or task.worker is None:
                    continue
                if crew.hung_batch(crew.live[task.worker], task) is not None:
                    error = crew.timeout_error(pool, task, f"batch {pieces[slot].index}",
                                                crew.replicas[task.worker].native.where())
                    try:
                        aggregators[slot].submit_failure(0 if free else slot, error)
                    except ValueError:
                        continue        # it came back after all
                    results[slot] = BatchProcessResult(task.worker, pieces[slot].index, float("nan"), pieces[slot].n,
                                                       False, error)
                    worker = task.put_aside()
                    if worker is not None:
                        crew.hung_workers += 1
                        crew.replicas[worker].native.cancel()
                        crew.replicas[worker] = crew.new_replica()
                        crew.slots[slot] = crew.replicas[0].gradient_vector()
                        crew.leave_batch(worker)
                        pool.replace(worker)
    except BaseException:
        _end_tasks(crew, tasks, crew.replicas, pool)
        raise
    for slot, task in enumerate(tasks):
        if isinstance(task.exception, KeyboardInterrupt):
            raise task.exception
        if slot not in results and task.exception is not None:      # not the batch's fault, but it failed
            crew.count_death(task.exception)
            aggregators[slot].withdraw(0 if free else slot, task.exception)
            results[slot] = BatchProcessResult(-1 if task.worker is None else task.worker, pieces[slot].index, float("nan"),
                                               pieces[slot].n, False, task.exception)
        results.setdefault(slot, task.result)
    return [results[slot] for slot in range(len(pieces))]


def _end_tasks(crew: Crew, tasks: list[Task], replicas: list[Replica], pool: WorkerPool) -> None:
    for replica in replicas:
        replica.native.cancel()
    if wait_all(tasks, GRACE):
        for replica in replicas:
            replica.native.cancel(False)
    else:
        crew.put_aside_all(tasks, pool)


def wait_for(crew: Crew, tasks: list[Task], pool: WorkerPool, replicas: list[Replica], give_up: Callable[[Task, int], None],
             held: uninterrupted) -> bool:
    """Until all tasks are done: True. False where a worker died, or batches hung: give_up(task, batch) was called for
    each, and the workers that did not come back in the meantime are put aside; the other tasks were cancelled."""
    try:
        while not wait_open(held, tasks):
            crew.check_deadline()
            pool.heal(tasks)
            hung = {} if crew.policy.timeout is None else {
                t: batch for t in tasks
                if t.worker is not None and (batch := crew.hung_batch(crew.live[t.worker], t)) is not None}
            for task, batch in hung.items():
                give_up(task, batch)
            if hung:
                for replica in replicas:
                    replica.native.cancel()
                wait_all((t for t in tasks if t not in hung), GRACE)
                aside = [task.put_aside() for task in tasks]    # all, before a successor takes one that has not begun
                for task, worker in zip(tasks, aside, strict=True):
                    if worker is not None:
                        crew.hung_workers += task in hung
                        crew.leave_batch(worker)
                        pool.replace(worker)
                return False
    except BaseException:
        _end_tasks(crew, tasks, replicas, pool)
        raise
    errors = [t.exception for t in tasks if t.exception is not None]
    for error in errors:
        if isinstance(error, KeyboardInterrupt):
            raise error
        crew.count_death(error)
    return not errors
