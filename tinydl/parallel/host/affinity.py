"""On which CPU a worker runs: each run begins with the workers on different CPUs, or they are pinned for good.

Only on Linux does a thread choose its CPUs; elsewhere these functions do nothing, and the first `pin` logs that.
"""
from __future__ import annotations

import os
import threading

from tinydl._kernels._dispatch import current_cpu
from tinydl.log import log
from tinydl.parallel.workers.fork import renew_in_children

__all__ = ["Places", "pin", "unpin"]

_own = threading.local()        # .cpus: the CPUs that this thread might use before it was pinned
_said: set[str] = set()
_say = threading.Lock()         # of _said: workers begin at the same moment, and only one is to log a message

#: how many waiting threads a worker that begins keeps off its CPU, at most
KEPT_OFF = 4


class Places:
    """Makes the threads of a pool begin a run on different CPUs.

    Problem: the scheduler often wakes a thread on the CPU of the thread that woke it, where it then waits for a whole batch.
    Solution: a worker that begins takes its CPU out of the affinity of the threads that have not begun yet (2 microseconds
    each, while they sleep anyway). They get their affinity back as they begin, or when all workers have begun. A worker that
    finds itself on the CPU of another one all the same moves itself (50 to 80 microseconds).
    """

    def __init__(self, threads: list[threading.Thread]) -> None:
        self._threads = threads
        self._n_workers = 0                 # of this run
        self._begun: dict[int, int] = {}    # worker: the CPU on which it began this run, or -1
        self._kept_off: dict[int, tuple[set[int], set[int]]] = {}   # worker: its affinity before, and the one it was given
        self._renew_locks()
        renew_in_children(self)

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()       # one worker begins at a time, so none that has begun is kept off a CPU

    def begin_run(self, n_workers: int) -> None:
        """A run of n_workers starts, none of which has begun yet."""
        with self._lock:
            self._n_workers, self._begun = n_workers, {}

    def end_run(self) -> None:
        """Give the threads that never began their affinity back."""
        if self._kept_off:
            with self._lock:
                self._allow(list(self._kept_off))

    def begin(self, worker: int) -> None:
        """To be called by the thread of worker number `worker` when it begins."""
        if self._n_workers < 2 or not hasattr(os, "sched_setaffinity"):
            return
        with self._lock:
            self._allow([worker])
            try:
                self._begun[worker] = self._own_cpu(worker)
                waiting = [i for i in range(len(self._threads)) if i not in self._begun]
                for other in waiting[:KEPT_OFF]:
                    self._keep_off(self._begun[worker], other)
            except OSError as e:
                log.debug("worker %d stays where it is: %s", worker, e)
            if len(self._begun) >= self._n_workers:
                self._allow(list(self._kept_off))

    def _own_cpu(self, worker: int) -> int:
        """The CPU that the calling thread is on, after it has moved if another worker began there; -1 if there are fewer CPUs
        than workers."""
        self._begun[worker] = -1
        allowed = os.sched_getaffinity(0)
        if self._n_workers > len(allowed):
            return -1
        here, taken = current_cpu(), set(self._begun.values())
        if here in taken and (free := allowed - taken):
            here = min(free)
            os.sched_setaffinity(0, {here})
            os.sched_setaffinity(0, allowed)
        return here

    def _keep_off(self, cpu: int, worker: int) -> None:
        thread = self._threads[worker].native_id
        if thread is not None:
            now = os.sched_getaffinity(thread)
            if cpu in now and len(now) > 1:
                allowed = self._kept_off[worker][0] if worker in self._kept_off else now
                os.sched_setaffinity(thread, now - {cpu})
                self._kept_off[worker] = allowed, now - {cpu}

    def _allow(self, workers: list[int]) -> None:
        """Undo `_keep_off`, except for threads whose affinity somebody else has changed meanwhile."""
        for worker in workers:
            allowed, now = self._kept_off.pop(worker, (None, None))
            thread = self._threads[worker].native_id
            if allowed is not None and thread is not None:
                try:
                    if os.sched_getaffinity(thread) == now:
                        os.sched_setaffinity(thread, allowed)
                except OSError as e:        # it has ended
                    log.debug("worker %d: %s", worker, e)


def pin(worker: int, n_workers: int) -> bool:
    """Keep the calling thread on CPU number `worker` of those it may use, until `unpin`; returns whether that worked.

    With more workers than CPUs nothing is pinned: two workers bound to one CPU would wait for each other while
    others idle. Threads that a pinned thread starts inherit its one CPU: start them before.
    """
    if not 0 <= worker < n_workers:
        raise ValueError(f"worker {worker} of {n_workers}: must be 0 to {n_workers - 1}")
    if not hasattr(os, "sched_setaffinity"):
        _say_once("workers are not pinned: they are on Linux only")
        return False
    allowed: set[int] = getattr(_own, "cpus", None) or os.sched_getaffinity(0)
    if n_workers > len(allowed):
        _say_once(f"workers are not pinned: {n_workers} workers for {len(allowed)} CPUs")
        return False
    try:
        os.sched_setaffinity(0, {sorted(allowed)[worker]})
    except OSError as e:
        log.debug("worker %d is not pinned: %s", worker, e)
        return False
    _own.cpus = allowed
    return True


def unpin() -> None:
    """Give the calling thread the affinity back that it had before `pin`; do nothing if it was not pinned."""
    allowed: set[int] | None = getattr(_own, "cpus", None)
    if allowed is None:
        return
    _own.cpus = None
    try:
        os.sched_setaffinity(0, allowed)
    except OSError as e:        # those CPUs are gone meanwhile
        log.debug("not unpinned: %s", e)


def _say_once(message: str) -> None:
    with _say:
        first = message not in _said
        _said.add(message)
    if first:
        log.info(message)
