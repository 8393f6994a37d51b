"""BlasLimit: one thread for BLAS and OpenMP libraries while workers run.

NumPy in a Python layer calls a BLAS with threads of its own: as many for each of our workers, all on the same
CPUs. While a BlasLimit is entered, such libraries run on the thread that calls them; it takes threadpoolctl (if it is
not installed, nothing is limited). The kernels of tinydl start no threads and need no limit.

Guarantees:
 - Any thread may enter, any number of times, and threads may leave in any order. A thread's first entry sets limits and its
   last exit takes them back; further entries in between only count.
 - A BLAS with one pool for the process (NumPy's own OpenBLAS) is limited for all threads, from the first entry of any
   to the last exit of all.
 - MKL, OpenMP and a BLAS over OpenMP keep a number for each thread: they are limited in the threads that have entered.
   So each worker enters a BlasLimit of its own.
 - A library that is loaded after the first entry of all is not limited.
 - Where a library raises, those limited before it get their threads back, and the error comes out.
 - A forked child keeps the limits as they were at the time of the fork, and never waits for its parent's threads.
"""
from __future__ import annotations

import logging
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["BlasLimit"]

log = logging.getLogger("tinydl")

#: libraries and the numbers of threads that they had
Held = list[tuple[Any, int]]

_lock = threading.Lock()
_entered = 0                        # threads inside
_libraries: list[Any] = []          # of the process, as threadpoolctl shows them, while a thread is inside
_shared: Held = []                  # the limits of all threads
_own = threading.local()            # .depth: entries of this thread; .held: the limits of this thread


class BlasLimit:
    """BLAS and OpenMP on one thread each for the length of a `with`.

        >>> with BlasLimit():
        ...     pass
    """

    def __enter__(self) -> BlasLimit:
        global _entered, _libraries, _shared
        if not getattr(_own, "depth", 0):
            with _lock:
                if not _entered:
                    _libraries = _find()
                    _shared = _limit(of_process=True)
                try:
                    _own.held = _limit(of_process=False)
                except BaseException:
                    if not _entered:
                        _restore(_shared)
                    raise
                _entered += 1
            _own.depth = 0
        _own.depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _entered, _libraries, _shared
        _own.depth -= 1
        if _own.depth:
            return
        with _lock:
            held, _own.held = _own.held, []
            _entered -= 1
            if not _entered:
                held += _shared
                _libraries, _shared = [], []
            _restore(held)


def _find() -> list[Any]:
    """The libraries that are loaded now, an empty list without threadpoolctl. It searches the process's files: about 2 ms."""
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:
        log.debug("BLAS keeps its threads: threadpoolctl is not installed")
        return []
    return list(threadpoolctl.ThreadpoolController().lib_controllers)


def _limit(*, of_process: bool) -> Held:
    """One thread for the libraries with a pool for the process, or for those with a number for each thread."""
    held = [(lib, lib.num_threads) for lib in _libraries if _is_of_process(lib) == of_process and lib.num_threads]
    for i, (lib, _) in enumerate(held):
        try:
            _set(lib, 1)
        except BaseException:
            _restore(held[:i])
            raise
    return held


def _restore(held: Held) -> None:
    """Give all libraries their threads back, then raise the first error, if there was one."""
    errors = []
    for lib, n in held:
        try:
            _set(lib, n)
        except BaseException as e:
            errors.append(e)
    if errors:
        raise errors[0]


def _is_of_process(lib: Any) -> bool:
    return lib.internal_api in ("openblas", "blis", "flexiblas") and getattr(lib, "threading_layer", "") != "openmp"


def _set(lib: Any, n: int) -> None:
    """Set a library's number of threads. From threadpoolctl 3.8 on, only the thread that set the number last may set it again,
    until that is cleared; here different threads do, so it is cleared before and after."""
    forget = getattr(lib, "clear_controlling_thread", None)
    if forget is not None:
        forget(force=True)
    lib.set_num_threads(n)
    if forget is not None:
        forget(force=True)


def _after_fork() -> None:
    """In a forked child: the parent's other threads do not exist here, so they will neither release the lock nor leave."""
    global _lock, _entered
    _lock = threading.Lock()
    _entered = int(getattr(_own, "depth", 0) > 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
