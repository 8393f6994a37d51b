"""The Python driver: trains batch by batch, where Python has to run in between: streams, item datasets, custom optimizers.

Each piece of a batch is a task of its own (ParallelBatchProcessor), and each group has a GradientAggregator. Groups, slots and
the tree of averages are those of the native driver, so it gives the same bits. In a free run (strategy hogwild) each piece has
an aggregator of its own, and the worker that ran it makes the update.
"""
from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels import engine
from tinydl.data.stream import ReaderGoneError
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

__all__ = ["behind", "next_batches", "run", "wait_for"]

log = logging.getLogger("tinydl")


def run(crew: Crew, job: Job, batches: Iterator[Batch | LazyBatch], setting: Setting, pool: WorkerPool | None,
        tick: Tick, max_updates: int | None = None, *, free: bool = False) -> bool:
    """Train as Strategy.run_batches says. free: each piece makes an update of its own, and no worker waits for another."""
    crew.prepare(setting)
    size = len(crew.replicas) if free else setting.batches
    left = max_updates
    while left is None or left > 0:
        started = time.perf_counter()
        group, end = next_batches(batches, size if left is None or not free else min(size, left))
        try:
            if group:
                _run_group(crew, job, group, setting.parts, pool, free)
        finally:
            job.seconds += time.perf_counter() - started
        if left is not None:
            left -= len(group) if free else 1
        if end is not None:
            crew.book_end(job, end, setting.parts)
            return True
        if tick(job, job.samples):
            return False
    return False


def behind(batches: Iterator[Batch | LazyBatch], n: int) -> Iterator[Batch | LazyBatch]:
    """`batches` without the first n. If their source raises an exception while those are skipped, it is raised when the
    first of the others is asked for."""
    try:
        deque(islice(batches, n), maxlen=0)
    except Exception as e:
        return map(_reraise, [e])
    return batches


def _reraise(error: Exception) -> Batch | LazyBatch:
    raise error


def next_batches(batches: Iterator[Batch | LazyBatch], n: int) -> tuple[list[Batch | LazyBatch], Exception | None]:
    """The next n batches, and None. If there are fewer: those, and the exception that ended them, StopIteration or what their
    source raised."""
    group: list[Batch | LazyBatch] = []
    while len(group) < n:
        try:
            group.append(next(batches))
        except ReaderGoneError:
            raise
        except Exception as e:
            return group, e
    return group, None


def _run_group(crew: Crew, job: Job, group: list[Batch | LazyBatch], parts: int, pool: WorkerPool | None, free: bool) -> None:
    cuts = [batch.cut(parts, crew.plan.least_rows) for batch in group]
    pieces = [(b, piece) for b, cut in enumerate(cuts) for piece in cut]
    keys = [(job.batches_done + b, i, parts) for b, cut in enumerate(cuts) for i in range(len(cut))]        # in job.hung
    while len(crew.slots) < len(pieces):
        crew.slots.append(crew.replicas[0].gradient_vector())
    whole = GradientAggregator(len(pieces))
    aggregators = [GradientAggregator(1) for _ in pieces] if free else [whole] * len(pieces)
    updates, norms = 0, list[float]()
    ended: dict[int, BatchProcessResult] = {}       # free: the result of each piece that ended (under crew.step_lock)
    given_up: dict[int, BatchProcessResult] = {}
    over = False                                    # free: once this is True, no more updates are made

    def process(slot: int, worker: int) -> BatchProcessResult:
        nonlocal updates
        piece, number = pieces[slot][1], keys[slot][0]
        log.debug("worker %d: epoch %d batch %d", worker, job.epoch, number)
        since = crew.enter_batch(worker, number, crew.replicas[worker])
        try:
            with (held.open() if pool is None else nullcontext(),
                  BlasLimit() if pool is not None and crew.plan.program.hooks else nullcontext()):
                result = ParallelBatchProcessor(
                    piece, crew.model, crew.loss, aggregators[slot], worker, slot=0 if free else slot,
                    replica=crew.replicas[worker], gradients=crew.slots[slot], seed=crew.seed,
                    step=crew.step + (slot if free else 0), max_retries=crew.policy.retries)()
            if free:
                with crew.step_lock:
                    if result.success and result.weight > 0 and not over:
                        before = crew.state.t
                        norms.append(crew.apply(aggregators[slot].get_average_gradients(0)))     # type: ignore[arg-type]
                        updates += crew.state.t - before
                    ended[slot] = result
            return result
        finally:
            crew.leave_batch(worker, since)

    def failed(slot: int, worker: int, error: BaseException) -> BatchProcessResult:
        return BatchProcessResult(worker, keys[slot][0], float("nan"), pieces[slot][1].n, False, error)

    def give_up(slot: int, worker: int, error: BaseException) -> bool:
        """Give up the piece of `slot` for good. False if its result arrived after all."""
        try:
            aggregators[slot].submit_failure(0 if free else slot, error)
        except ValueError:
            return False
        job.hung[keys[slot]] = error
        given_up[slot] = failed(slot, worker, error)
        return True
    with uninterrupted() as held:
        stopped: BaseException | None = None
        try:
            crew.check_deadline()
            for slot, key in enumerate(keys):
                if key in job.hung:
                    give_up(slot, -1, job.hung[key])
            to_run = [slot for slot in range(len(pieces)) if slot not in given_up]
            if pool is None:
                came = {slot: process(slot, 0) for slot in to_run}
            else:
                came = {}
                for slot, task in _in_pool(crew, pool, process, give_up, to_run, held).items():
                    if task.exception is not None:      # the worker died: no fault of the batch, but it has no result
                        crew.count_death(task.exception)
                        aggregators[slot].withdraw(0 if free else slot, task.exception)
                        came[slot] = failed(slot, -1 if task.worker is None else task.worker, task.exception)
                    else:
                        came[slot] = task.result
                # a piece whose update was made counts as done, even if its worker died right after
                came.update((slot, r) for slot, r in ended.items() if r.success)
            for r in came.values():
                if isinstance(r.exception, KeyboardInterrupt):      # not a failure of the batch
                    raise r.exception
            results = [given_up[slot] if slot in given_up else came[slot] for slot in range(len(pieces))]
            crew.check_deadline()
        except BaseException as e:
            if not free:
                raise
            with crew.step_lock:
                over, came = True, {**ended, **given_up}
            stopped = e
            # the batches up to the last one that has ended count as done or failed; those after it run again
            last = max((s for s, r in came.items() if s not in given_up
                        and not isinstance(r.exception, (engine.CancelledError, KeyboardInterrupt))), default=-1)
            group = group[:pieces[last][0] + 1] if last >= 0 else []
            pieces = [p for p in pieces if p[0] < len(group)]
            results = [came.get(s) or failed(s, -1, engine.CancelledError("stopped while it ran")) for s in range(len(pieces))]
        failures = [BatchFailure(job.epoch, job.batches_done + b, r.n_samples, r.thread_id, r.exception, piece.indices)
                    for (b, piece), r in zip(pieces, results, strict=True) if r.exception is not None]
        fatal = len(failures) > crew.most_failures(job, parts)
        if fatal and not free:
            crew.stop_for(job, failures)
        if not free:
            started = time.monotonic_ns()
            try:
                before = crew.state.t
                norms.append(crew.apply(whole.get_average_gradients(timeout=0, in_place=True)))     # type: ignore[arg-type]
                updates = crew.state.t - before
            except NothingArrivedError:
                pass
            crew.live[0, UPDATED] += time.monotonic_ns() - started
        arrived = [r for r in results if r.success]
        for r in results:
            crew.stats.count_worker(r.thread_id, 1)
        samples = sum(r.n_samples for r in arrived)
        job.add_losses([r.loss * r.weight for r in arrived], [r.weight for r in arrived])
        job.add_norms(norms)
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
             give_up: Callable[[int, int, BaseException], bool], to_run: list[int], held: uninterrupted) -> dict[int, Task]:
    """Run the pieces to_run in the pool and wait for them. Returns their tasks by slot, without those that were given up."""
    tasks = pool.submit_all(partial(process, slot) for slot in to_run)
    left = dict(zip(to_run, tasks, strict=True))
    try:
        while not wait_open(held, list(left.values())):
            crew.check_deadline()
            pool.heal(tasks)
            for slot, task in list(left.items()):
                if crew.policy.timeout is None or task.worker is None:
                    continue
                batch = crew.hung_batch(crew.live[task.worker], task)
                if batch is None:
                    continue
                error = crew.timeout_error(pool, task, f"batch {batch}", crew.replicas[task.worker].native.where())
                if give_up(slot, task.worker, error):
                    del left[slot]
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
    for task in tasks:
        if isinstance(task.exception, KeyboardInterrupt):
            raise task.exception
    return left


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
    """Wait until all tasks are done; True if they all ended well. False if a worker died, or if batches hung: then
    give_up(task, batch) was called for each of those, the other tasks were cancelled, and workers that did not come back
    within GRACE seconds are put aside."""
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
                aside = [task.put_aside() for task in tasks]    # all at once: a new worker must not take one of them
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
