"""The Python driver: trains batch by batch, where Python has to run in between: streams, item datasets, custom optimizers.

Each piece of a batch is a task of its own (ParallelBatchProcessor), and each group, or block of a large one, has a
GradientAggregator. Groups, slots and the tree of averages are those of the native driver, so it gives the same bits. In a free
run (strategy hogwild) each piece has an aggregator of its own, and the worker that ran it makes the update.
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
from tinydl.parallel.errors import BatchFailure, NothingArrivedError
from tinydl.parallel.execution.aggregator import BlockMeans, GradientAggregator
from tinydl.parallel.execution.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.execution.replica import Replica
from tinydl.parallel.execution.stats import BUSY, UPDATED, WAITED
from tinydl.parallel.host.blas import BlasLimit
from tinydl.parallel.workers.pool import GRACE, Task, WorkerPool, wait_all, wait_open
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.data import Batch, LazyBatch
    from tinydl.parallel.execution.epoch import EpochProgress, Setting
    from tinydl.parallel.execution.resources import Resources

Array = np.ndarray[Any, Any]
Tick = Callable[["EpochProgress", int], bool]

__all__ = ["behind", "next_batches", "train", "wait_for"]

log = logging.getLogger("tinydl")


def train(resources: Resources, epoch: EpochProgress, batches: Iterator[Batch | LazyBatch], setting: Setting,
          pool: WorkerPool | None,
          tick: Tick, max_updates: int | None = None, *, free: bool = False) -> bool:
    """Train as Strategy.run_batches says. free: each piece makes an update of its own, and no worker waits for another."""
    resources.prepare(setting)
    size = len(resources.replicas) if free else setting.batches
    left = max_updates
    while left is None or left > 0:
        started = time.perf_counter()
        group, end = next_batches(batches, size if left is None or not free else min(size, left))
        try:
            if group:
                _run_group(resources, epoch, group, setting, pool, free)
        finally:
            epoch.seconds += time.perf_counter() - started
        if left is not None:
            left -= len(group) if free else 1
        if end is not None:
            resources.book_end(epoch, end, setting.parts)
            return True
        if tick(epoch, epoch.samples):
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


def _run_group(resources: Resources, epoch: EpochProgress, group: list[Batch | LazyBatch], setting: Setting,
               pool: WorkerPool | None, free: bool) -> None:
    parts = setting.parts
    cuts = [batch.cut(parts, resources.plan.least_rows) for batch in group]
    pieces = [(b, piece) for b, cut in enumerate(cuts) for piece in cut]
    keys = [(epoch.batches_done + b, i, parts) for b, cut in enumerate(cuts) for i in range(len(cut))]        # in epoch.hung
    size = len(pieces) if free else setting.block
    while len(resources.slots) < min(size, len(pieces)):
        resources.slots.append(resources.replicas[0].gradient_vector())
    blocks = [range(lo, min(lo + size, len(pieces))) for lo in range(0, len(pieces), size)]
    aggregators = ([GradientAggregator(1) for _ in pieces] if free else
                   [a for block in blocks for a in [GradientAggregator(len(block))] * len(block)])
    means = BlockMeans(resources.slots[setting.n_slots - (setting.n_blocks - 1).bit_length():])
    mean: tuple[Array, float] | None = None         # of the group
    updates, norms = 0, list[float]()
    ended: dict[int, BatchProcessResult] = {}       # free: the result of each piece that ended (under resources.step_lock)
    given_up: dict[int, BatchProcessResult] = {}
    over = False                                    # free: once this is True, no more updates are made

    def process(slot: int, worker: int) -> BatchProcessResult:
        nonlocal updates
        piece, number = pieces[slot][1], keys[slot][0]
        log.debug("worker %d: epoch %d batch %d", worker, epoch.number, number)
        since = resources.enter_batch(worker, number, resources.replicas[worker])
        try:
            with (held.open() if pool is None else nullcontext(),
                  BlasLimit() if pool is not None and resources.plan.program.hooks else nullcontext()):
                result = ParallelBatchProcessor(
                    piece, resources.model, resources.loss, aggregators[slot], worker,
                    slot=0 if free else slot % size, replica=resources.replicas[worker], gradients=resources.slots[slot % size],
                    seed=resources.seed, step=resources.step + (slot if free else 0), max_retries=resources.policy.retries)()
            if free:
                with resources.step_lock:
                    if result.success and result.weight > 0 and not over:
                        before = resources.state.t
                        norms.append(resources.apply(aggregators[slot].get_average_gradients(0)))     # type: ignore[arg-type]
                        updates += resources.state.t - before
                    ended[slot] = result
            return result
        finally:
            resources.leave_batch(worker, since)

    def failed(slot: int, worker: int, error: BaseException) -> BatchProcessResult:
        return BatchProcessResult(worker, keys[slot][0], float("nan"), pieces[slot][1].n, False, error)

    def give_up(slot: int, worker: int, error: BaseException) -> bool:
        """Give up the piece of `slot` for good. False if its result arrived after all."""
        try:
            aggregators[slot].submit_failure(0 if free else slot % size, error)
        except ValueError:
            return False
        epoch.hung[keys[slot]] = error
        given_up[slot] = failed(slot, worker, error)
        return True
    with uninterrupted() as held:
        stopped: BaseException | None = None
        try:
            resources.check_deadline()
            for slot, key in enumerate(keys):
                if key in epoch.hung:
                    give_up(slot, -1, epoch.hung[key])
            came: dict[int, BatchProcessResult] = {}
            for block in blocks:
                to_run = [slot for slot in block if slot not in given_up]
                if pool is None:
                    came.update((slot, process(slot, 0)) for slot in to_run)
                else:
                    for slot, task in _in_pool(resources, pool, process, give_up, to_run, held, size).items():
                        if task.exception is not None:      # the worker died: no fault of the batch, but it has no result
                            resources.count_death(task.exception)
                            aggregators[slot].withdraw(0 if free else slot % size, task.exception)
                            came[slot] = failed(slot, -1 if task.worker is None else task.worker, task.exception)
                        else:
                            came[slot] = task.result
                if not free:
                    _stop_if_interrupted(came)
                    resources.check_deadline()
                    started = time.monotonic_ns()
                    mean = means.add(aggregators[block[0]].mean(), block is blocks[-1])
                    resources.live[0, UPDATED] += time.monotonic_ns() - started
            if pool is not None:
                # a piece whose update was made counts as done, even if its worker died right after
                came.update((slot, r) for slot, r in ended.items() if r.success)
            _stop_if_interrupted(came)
            results = [given_up[slot] if slot in given_up else came[slot] for slot in range(len(pieces))]
            resources.check_deadline()
        except BaseException as e:
            if not free:
                raise
            with resources.step_lock:
                over, came = True, {**ended, **given_up}
            stopped = e
            # the batches up to the last one that has ended count as done or failed; those after it run again
            last = max((s for s, r in came.items() if s not in given_up
                        and not isinstance(r.exception, (engine.CancelledError, KeyboardInterrupt))), default=-1)
            group = group[:pieces[last][0] + 1] if last >= 0 else []
            pieces = [p for p in pieces if p[0] < len(group)]
            results = [came.get(s) or failed(s, -1, engine.CancelledError("stopped while it ran")) for s in range(len(pieces))]
        failures = [BatchFailure(epoch.number, epoch.batches_done + b, r.n_samples, r.thread_id, r.exception, piece.indices)
                    for (b, piece), r in zip(pieces, results, strict=True) if r.exception is not None]
        fatal = len(failures) > resources.most_failures(epoch, parts)
        if fatal and not free:
            resources.stop_for(epoch, failures)
        if not free:
            started = time.monotonic_ns()
            try:
                before = resources.state.t
                norms.append(resources.apply(resources.exchanged(mean, held)))
                updates = resources.state.t - before
            except NothingArrivedError:
                pass
            resources.live[0, UPDATED] += time.monotonic_ns() - started
        arrived = [r for r in results if r.success]
        for r in results:
            resources.stats.count_worker(r.thread_id, 1)
        samples = sum(r.n_samples for r in arrived)
        epoch.add_losses([r.loss * r.weight for r in arrived], [r.weight for r in arrived])
        epoch.add_norms(norms)
        epoch.samples += samples
        resources.stats.add_live(resources.live)
        resources.live[:, [BUSY, WAITED, UPDATED]] = 0
        resources.step += len(pieces) if free else 1
        retried = sum(r.attempts > 1 for r in arrived)
        resources.book(epoch, len(group), len(pieces), len(arrived), retried, samples, updates, failures)
        if stopped is not None:
            raise stopped
        if fatal:
            resources.stop_for(epoch, failures[-1:], booked=True)


def _stop_if_interrupted(came: dict[int, BatchProcessResult]) -> None:
    for r in came.values():
        if isinstance(r.exception, KeyboardInterrupt):      # not a failure of the batch
            raise r.exception


def _in_pool(resources: Resources, pool: WorkerPool, process: Callable[[int, int], BatchProcessResult],
             give_up: Callable[[int, int, BaseException], bool], to_run: list[int], held: uninterrupted,
             size: int) -> dict[int, Task]:
    """Run the pieces to_run in the pool and wait for them. Returns their tasks by piece, without those that were given up.
    size: of a block, in which each piece has a slot."""
    tasks = pool.submit_all(partial(process, slot) for slot in to_run)
    left = dict(zip(to_run, tasks, strict=True))
    try:
        while not wait_open(held, list(left.values())):
            resources.check_deadline()
            pool.heal(tasks)
            for slot, task in list(left.items()):
                if resources.policy.timeout is None or task.worker is None:
                    continue
                batch = resources.hung_batch(resources.live[task.worker], task)
                if batch is None:
                    continue
                error = resources.timeout_error(pool, task, f"batch {batch}", resources.replicas[task.worker].native.where())
                if give_up(slot, task.worker, error):
                    del left[slot]
                    worker = task.put_aside()
                    if worker is not None:
                        resources.hung_workers += 1
                        resources.replicas[worker].native.cancel()
                        resources.replicas[worker] = resources.new_replica()
                        resources.slots[slot % size] = resources.replicas[0].gradient_vector()
                        resources.leave_batch(worker)
                        pool.replace(worker)
    except BaseException:
        _end_tasks(resources, tasks, resources.replicas, pool)
        raise
    for task in tasks:
        if isinstance(task.exception, KeyboardInterrupt):
            raise task.exception
    return left


def _end_tasks(resources: Resources, tasks: list[Task], replicas: list[Replica], pool: WorkerPool) -> None:
    for replica in replicas:
        replica.native.cancel()
    if wait_all(tasks, GRACE):
        for replica in replicas:
            replica.native.cancel(False)
    else:
        resources.put_aside_all(tasks, pool)


def wait_for(resources: Resources, tasks: list[Task], pool: WorkerPool, replicas: list[Replica],
             give_up: Callable[[Task, int], None],
             held: uninterrupted) -> bool:
    """Wait until all tasks are done; True if they all ended well. False if a worker died, or if batches hung: then
    give_up(task, batch) was called for each of those, the other tasks were cancelled, and workers that did not come back
    within GRACE seconds are put aside."""
    try:
        while not wait_open(held, tasks):
            resources.check_deadline()
            pool.heal(tasks)
            hung = {} if resources.policy.timeout is None else {
                t: batch for t in tasks
                if t.worker is not None and (batch := resources.hung_batch(resources.live[t.worker], t)) is not None}
            for task, batch in hung.items():
                give_up(task, batch)
            if hung:
                for replica in replicas:
                    replica.native.cancel()
                wait_all((t for t in tasks if t not in hung), GRACE)
                aside = [task.put_aside() for task in tasks]    # all at once: a new worker must not take one of them
                for task, worker in zip(tasks, aside, strict=True):
                    if worker is not None:
                        resources.hung_workers += task in hung
                        resources.leave_batch(worker)
                        pool.replace(worker)
                return False
    except BaseException:
        _end_tasks(resources, tasks, replicas, pool)
        raise
    errors = [t.exception for t in tasks if t.exception is not None]
    for error in errors:
        if isinstance(error, KeyboardInterrupt):
            raise error
        resources.count_death(error)
    return not errors
