"""WorkerPool: a fixed number of daemonic threads, and a shutdown that always ends in time.

Guarantees:
 - Threads are named tinydl-worker-N, begin with the pool, and serve until `shutdown`.
 - An exception in a task, of whatever kind, is kept in its Task; the worker goes on with the next task.
 - A thread that dies all the same (from an exception that was sent to it between two tasks) is replaced by `heal`, and no
   task is lost.
 - A worker that is put aside takes no more tasks and consumes no shutdown marker (the None in the queue that ends one
   thread). Whether a worker finished its task or was put aside with it is decided once, under the task's lock. So `close`
   queues as many markers as there are threads waiting, and a worker's number belongs to one thread at a time.
 - `shutdown(timeout)` returns within the timeout whatever a task does; True if all threads ended. A thread
   that is stuck is abandoned: it is daemonic, holds nothing of the pool, and ends when its task does.
 - When a pool is garbage collected, its threads end as after `close`.
 - After a fork the child has no threads: `alive` is False there, and nothing waits.
concurrent.futures cannot promise the time limit: its exit handler joins its threads for ever.
"""
from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from tinydl.log import log
from tinydl.parallel.errors import WorkerDiedError
from tinydl.parallel.host.affinity import Places
from tinydl.parallel.workers.fork import renew_in_children
from tinydl.parallel.workers.signals import uninterrupted

__all__ = ["Task", "WorkerPool"]

#: seconds between looks at the clock, signals and requests while workers run
TICK = 0.05
#: seconds that workers have to come back after an interrupt, before they are put aside
GRACE = 0.3


class PoolClosedError(RuntimeError):
    """A task was submitted to a pool that is shut down."""


class Task:
    """A submitted call: whether it is done, its result or exception, and the worker that ran it."""

    def __init__(self, call: Callable[[int], Any]) -> None:
        self.call = call
        self.takers: list[threading.Thread] = []        # the first one runs it
        self.worker: int | None = None
        self.result: Any = None
        self.exception: BaseException | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._aside = False

    def run(self, worker: int) -> bool:
        """Run the call, unless the task was put aside, or another worker took it: `WorkerPool.heal` may have submitted it
        twice. Returns whether the worker may take another task: not if this one was put aside while it ran."""
        with self._lock:
            if self._aside or self.takers:
                return True
            self.takers.append(threading.current_thread())
            self.worker = worker
        try:
            self.result = self.call(worker)
        except BaseException as e:
            self.exception = e
        del self.call               # so that what it refers to is free by the time the task is done
        with self._lock:
            self._done.set()
            return not self._aside

    def put_aside(self) -> int | None:
        """Give the task up. If it has not begun, it never will: None. If it is running, its worker ends with it, and the
        worker's number is returned, for `WorkerPool.replace`. None also if it is done, or was put aside before."""
        with self._lock:
            if self._aside or self.done:
                return None
            self._aside = True
            if self.worker is None:
                del self.call
                self._done.set()
            return self.worker

    def bury(self) -> None:
        """End the task with WorkerDiedError, since the thread that ran it has died."""
        self.exception = WorkerDiedError(f"thread {self.takers[0].name} died")
        self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the task is done, for `timeout` seconds at most; whether it is done."""
        return self._done.wait(timeout)


class WorkerPool:
    """`n_threads` workers taking tasks from one queue in order."""

    def __init__(self, n_threads: int) -> None:
        if n_threads < 1:
            raise ValueError(f"n_threads={n_threads}: at least 1")
        self.n_threads = n_threads
        self._pid = os.getpid()
        self._open = True
        self._renew_locks()
        renew_in_children(self)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        with uninterrupted():       # an interrupt in here would leave threads that nobody shuts down
            self._forgotten = weakref.finalize(self, _end, self._tasks, n_threads, self._pid)
            self._forgotten.atexit = False
            self.threads = [self._start(i) for i in range(n_threads)]
        self.places = Places(self.threads)

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    def _start(self, worker: int) -> threading.Thread:
        thread = threading.Thread(target=_serve, args=(self._tasks, worker), name=f"tinydl-worker-{worker}",
                                  daemon=True)
        thread.start()
        return thread

    def replace(self, worker: int) -> None:
        """Start a new thread for worker number `worker`, whose thread has died or was put aside with its task."""
        with self._lock:
            if self._open and self._pid == os.getpid():
                self.threads[worker] = self._start(worker)

    def heal(self, tasks: Iterable[Task] = ()) -> None:
        """Replace threads that died. Of the given tasks, those that a dead thread was running end with WorkerDiedError. Those
        that nobody has begun are submitted again, since a thread may have died between taking a task and running it; a task
        that is in the queue twice is run once."""
        dead = [worker for worker, thread in enumerate(self.threads) if not thread.is_alive()]
        if not dead or not self._open or self._pid != os.getpid():
            return
        for worker in dead:
            log.warning("thread %s died and is replaced", self.threads[worker].name)
            self.replace(worker)
        for task in tasks:
            if not task.takers:
                self._tasks.put(task)
            elif not task.takers[0].is_alive() and not task.done:      # in this order: the task may have ended before the thread
                task.bury()

    @property
    def alive(self) -> bool:
        """Open, in this process, with all its threads running."""
        return self._open and self._pid == os.getpid() and all(t.is_alive() for t in self.threads)

    def submit(self, call: Callable[[int], Any]) -> Task:
        """Run call(worker number) on the next free worker."""
        return self.submit_all([call])[0]

    def submit_all(self, calls: Iterable[Callable[[int], Any]]) -> list[Task]:
        """As `submit`, for several calls: all of them are submitted or, if the pool is closed, none (PoolClosedError)."""
        tasks = [Task(call) for call in calls]
        with self._lock:
            if not self._open or self._pid != os.getpid():
                raise PoolClosedError("this pool is shut down")
            for task in tasks:
                self._tasks.put(task)
        return tasks

    def close(self) -> None:
        """Accept no more tasks. The threads run what is queued and then end; this does not wait for them."""
        with self._lock, uninterrupted():
            if self._open:
                self._open = False
                self._forgotten.detach()
                _end(self._tasks, self.n_threads, self._pid)

    def shutdown(self, timeout: float = 30.0) -> bool:
        """Close the pool and wait at most `timeout` seconds for its threads, which run what is queued and then end. Returns
        whether all of them ended."""
        self.close()
        if self._pid != os.getpid():
            return True
        deadline = time.monotonic() + max(0.0, timeout)
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(t.is_alive() for t in self.threads)


def _serve(tasks: queue.SimpleQueue[Task | None], worker: int) -> None:
    """What a worker's thread runs: one task after the other until a None. It refers to the queue but not to the pool, so that
    a pool that is no longer used can be garbage collected."""
    while True:
        task = tasks.get()
        if task is None or not task.run(worker):
            return
        del task


def _end(tasks: queue.SimpleQueue[Task | None], n_threads: int, pid: int) -> None:
    """Queue the markers that end n_threads workers when they have run what is queued before. In a forked child, which has
    none of these threads, do nothing."""
    if pid == os.getpid():
        for _ in range(n_threads):
            tasks.put(None)


def wait_all(tasks: Iterable[Task], timeout: float) -> bool:
    """Wait until all tasks are done, for `timeout` seconds at most; whether they are."""
    deadline = time.monotonic() + timeout
    return all(task.wait(max(0.0, deadline - time.monotonic())) for task in tasks)


def wait_open(held: uninterrupted, tasks: list[Task]) -> bool:
    """Wait until all tasks are done, for a TICK at most; whether they are. Signals that arrived are delivered afterwards. They
    must not be delivered during the wait: an exception within Event.wait may leave the event's lock held, and then nobody can
    set the event or wait for it any more."""
    done = wait_all(tasks, TICK)
    held.let_in()
    return done
