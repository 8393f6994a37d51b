"""On which CPU a worker runs: spread once at the start, or pinned for good.

Linux alone can say it for a thread; elsewhere these functions do nothing, and the first `pin` logs that.
"""
from __future__ import annotations

import logging
import os
import threading

from tinydl._kernels._dispatch import current_cpu

__all__ = ["pin", "spread", "unpin"]

log = logging.getLogger("tinydl")

_own = threading.local()        # .cpus: where this thread was allowed before it was pinned
_said: set[str] = set()
_say = threading.Lock()         # workers begin at the same moment, and one of them says it


def spread(number: int, n_workers: int) -> None:
    """Begin on a CPU of one's own: the scheduler may have woken two workers on the same one, and they would then
    wait for each other there for long. The thread is put on its CPU and at once allowed everywhere again.

    A thread that is pinned stays where it is. Moving takes 80 microseconds, seeing that one is there already 2.
    """
    if n_workers > 1 and hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        if n_workers <= len(cpus) and cpus[number] != current_cpu():
            try:
                os.sched_setaffinity(0, {cpus[number]})
                os.sched_setaffinity(0, cpus)
            except OSError as e:
                log.debug("worker %d stays where it is: %s", number, e)


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
