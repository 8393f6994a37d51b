"""On which CPU a worker runs: one of its own to begin on, or pinned for good.

Linux alone can say it for a thread; elsewhere these functions do nothing, and the first `pin` logs that.
"""
from __future__ import annotations

import os
import threading

from tinydl._kernels._dispatch import current_cpu
from tinydl.log import log
from tinydl.parallel.fork import renew_in_children

__all__ = ["Places", "pin", "unpin"]

_own = threading.local()        # .cpus: where this thread was allowed before it was pinned
_said: set[str] = set()
_say = threading.Lock()         # workers begin at the same moment, and one of them says it


#: threads that one which begins keeps off its CPU, at most
KEPT_OFF = 4


class Places:
    """The CPUs on which the threads of a pool begin a run: each on one of its own.

    The scheduler likes to wake a thread where the one is that woke it, and there it would wait for a whole batch. So a
    thread that begins keeps those that have not begun off its CPU: they are moved while they wait, for 2 microseconds each,
    and allowed again where they were as they begin, or when all have. One that meets another all the same moves itself, for
    50 to 80.
    """

    def __init__(self, threads: list[threading.Thread]) -> None:
        self._threads = threads
        self._n_workers = 0                 # of this run
        self._begun: dict[int, int] = {}    # of this run, by worker: the CPU on which it began, or -1
        self._kept_off: dict[int, tuple[set[int], set[int]]] = {}   # by worker: where it was allowed, and where it is now
        self._renew_locks()
        renew_in_children(self)

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()       # one begins at a time: none is kept off that has begun

    def begin_run(self, n_workers: int) -> None:
        """Of so many workers nobody has begun."""
        with self._lock:
            self._n_workers, self._begun = n_workers, {}

    def end_run(self) -> None:
        """Allow those again where they were that have not begun."""
        if self._kept_off:
            with self._lock:
                self._allow(list(self._kept_off))

    def begin(self, worker: int) -> None:
        """The calling thread, which is this worker's, begins."""
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
        """The CPU of the calling thread, which moves where another's is the same; -1 where there are too few."""
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
        """Undo `_keep_off`, where nobody else has said meanwhile where they may be."""
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
    """Keep the calling thread on CPU number `worker` of those it is allowed on, until `unpin`; whether it is there now.

    With more workers than CPUs nothing is pinned: two workers bound to one CPU would wait for each other while
    others idle. Threads that a pinned thread starts begin with its one CPU: start them first.
    """
    if not 0 <= worker < n_workers:
        raise ValueError(f"worker {worker} of {n_workers}: must be 0 to {n_workers - 1}")
    if not hasattr(os, "sched_setaffinity"):
        _say_once("workers are not pinned: this system cannot say where a thread runs")
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
    """Allow the calling thread where it was allowed before `pin`; nothing where it was not pinned."""
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
