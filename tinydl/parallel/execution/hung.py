"""Waiting for workers, of which some may die and some may hang: the same rules for both drivers and every strategy.

 1. A worker that dies makes no batch a failure: what it was doing is run again, by a new worker. After MAX_DEATHS of them
    training ends with the exception of the last one.
 2. A batch that takes longer than batch_timeout is noted in `epoch.hung`, and is never run again. The group under way (strategy
    local: the round) makes no update and is run again without it. Where updates cannot be taken back (hogwild), batches that
    have made theirs keep it and are not run again.
 3. Workers that do not come back within GRACE seconds are put aside: each ends when it comes back, and another one takes its
    place. The replica and the gradient slots that it still uses are its own from then on, and nothing that it does counts.
 4. If something else ends the run (Ctrl-C, a shutdown), its workers have GRACE seconds, too. An update under way is finished.
"""
from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tinydl._kernels import engine
from tinydl.log import log
from tinydl.parallel.errors import BatchTimeoutError
from tinydl.parallel.execution.epoch import EpochProgress, Piece
from tinydl.parallel.execution.stats import BATCH, SINCE, STATE, WorkerState
from tinydl.parallel.workers.pool import GRACE, TICK, Task, WorkerPool, wait_all, wait_open
from tinydl.parallel.workers.signals import uninterrupted

if TYPE_CHECKING:
    from tinydl.parallel.execution.resources import Resources

Array = np.ndarray[Any, Any]

__all__ = ["MAX_DEATHS", "Work", "wait"]

#: how many workers may die in a run before training ends with their exception
MAX_DEATHS = 10


class Work(Protocol):
    """What the tasks of a driver do together; task i runs calls[i]."""

    calls: list[Callable[[int], None]]
    tasks: list[Task]

    def unfinished(self, i: int) -> bool:
        """Whether task i, which was ended by an exception, has left something to do."""

    def row(self, i: int) -> Array:
        """The row of task i's worker, as in NativeRun.live."""

    def replica(self, i: int) -> engine.Replica:
        """What task i's worker runs on."""

    def name(self, i: int, batch: int) -> tuple[str, Piece]:
        """What `batch` in the row of task i stands for: in words, and in epoch.hung."""

    def cancel(self) -> None:
        """Let all workers come back at their next operation."""

    def stop(self, hung: dict[int, int]) -> bool:
        """Let no update be made any more, and `cancel`. hung: the tasks that are why, and their batches. False if these ended
        in the meantime; then nothing has happened."""

    def gave_up(self, i: int, batch: int, error: BaseException, back: bool) -> bool:
        """Whether `batch` of task i had not ended when all was stopped. back: the task is done by now."""


def wait(resources: Resources, epoch: EpochProgress, work: Work, pool: WorkerPool, held: uninterrupted,
         look: Callable[[], None] = lambda: None) -> bool:
    """Wait until all tasks are done, and call look() meanwhile. False if batches hung: rules 2 and 3 were followed. If an
    exception ends the wait, no worker can make an update any more."""
    deaths = 0
    try:
        while not wait_open(held, work.tasks) or _died(work):
            for i in _died(work):       # at once: the other workers of a native run wait for it
                deaths += 1
                error = work.tasks[i].exception
                log.warning("a worker died and is replaced: %r", error)
                if error is not None and deaths > MAX_DEATHS:
                    raise error
                work.tasks[i] = pool.submit(work.calls[i])
            look()
            resources.check_deadline()
            pool.heal(work.tasks)
            if resources.policy.timeout is not None and _give_up_on_hung(resources, epoch, work, pool):
                return False
    except BaseException:
        _end(resources, work, pool)
        raise
    for task in work.tasks:
        if isinstance(task.exception, KeyboardInterrupt):       # it is no failure of a batch
            raise task.exception
    return True


def _died(work: Work) -> list[int]:
    """The tasks that ended before their work did, by an exception that was sent to a thread: exceptions of batches never leave
    a task."""
    return [i for i, task in enumerate(work.tasks) if task.exception is not None and work.unfinished(i)
            and not isinstance(task.exception, KeyboardInterrupt)]


def _give_up_on_hung(resources: Resources, epoch: EpochProgress, work: Work, pool: WorkerPool) -> bool:
    """As rules 2 and 3 say; whether there was anything to give up."""
    tasks = work.tasks
    hung = {i: batch for i, task in enumerate(tasks) if (batch := hung_batch(resources, work, i, task)) is not None}
    errors = {i: _timeout_error(resources, work, i, batch, pool) for i, batch in hung.items()}
    if not hung or not work.stop(hung):
        return False
    wait_all((task for i, task in enumerate(tasks) if i not in hung), GRACE)
    left = [i for i, task in enumerate(tasks) if not task.done]
    aside = {i: tasks[i].put_aside() for i in left}     # all at once: a new worker must not take one of them
    resources.drop([work.replica(i) for i, worker in aside.items() if worker is not None])
    for i, batch in hung.items():
        if work.gave_up(i, batch, errors[i], back=i not in left):
            epoch.hung[work.name(i, batch)[1]] = errors[i]
            resources.hung_workers += aside.get(i) is not None
    for worker in aside.values():
        if worker is not None:
            pool.replace(worker)
    return True


def hung_batch(resources: Resources, work: Work, i: int, task: Task) -> int | None:
    """The batch that task i has been running for longer than batch_timeout, or None."""
    assert resources.policy.timeout is not None
    if task.done or task.worker is None:
        return None
    row = work.row(i)
    batch = int(row[BATCH])         # read before SINCE: if the worker goes on to another batch meanwhile, SINCE is new
    late = row[STATE] == engine.IN_BATCH and engine.clock() - int(row[SINCE]) > resources.policy.timeout * 1e9
    return batch if late and not task.done else None


def _timeout_error(resources: Resources, work: Work, i: int, batch: int, pool: WorkerPool) -> BatchTimeoutError:
    """It names the batch and the layer, and has the stack of the thread."""
    worker = work.tasks[i].worker
    assert worker is not None
    thread = pool.threads[worker]
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "  (no Python frame)"
    return BatchTimeoutError(f"{work.name(i, batch)[0]} took longer than batch_timeout={resources.policy.timeout:g} s in layer "
                             f"{work.replica(i).where() or '?'} and is given up. Stack of thread {thread.name}:\n{stack}")


def _end(resources: Resources, work: Work, pool: WorkerPool) -> None:
    """End the tasks within about GRACE seconds, whatever their workers do; an update under way is finished first."""
    work.cancel()
    if wait_all(work.tasks, GRACE):
        return
    while not work.stop({}) and not wait_all(work.tasks, TICK):
        pass
    if wait_all(work.tasks, TICK):
        return
    now = engine.clock()
    stuck = [f"thread {task.takers[0].name} {WorkerState.of(i, work.row(i), work.replica(i).where(), now).doing}"
             for i, task in enumerate(work.tasks) if not task.done and task.takers]
    log.warning("put aside, since they do not come back: %s", ", ".join(stuck) or "the workers")
    resources.drop()
    for task in work.tasks:
        task.put_aside()
    pool.shutdown(0)
