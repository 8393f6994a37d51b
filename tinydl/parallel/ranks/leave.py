"""How a process ends when training over ranks was broken off: without MPI_Finalize, which would wait for ranks that are gone.

mpiexec kills all processes as soon as one has ended with another exit code than 0. So the rank that writes the checkpoint is the
first to end, and the others wait for its word, but not for long.
"""
from __future__ import annotations

import atexit
import os
import sys
import time
from typing import Any

import numpy as np

from tinydl.parallel.ranks.messages import BYE

#: "try again" (EX_TEMPFAIL of sysexits.h): a supervisor may start all anew
TRY_AGAIN = 75
#: seconds for which a rank waits, after a signal, until the one that writes the checkpoint has done so
AFTER_SIGNAL = 3.0

_leaving = False


def leave_at_exit(comm: Any, error: BaseException, code: int, saver: int, patience: float) -> None:
    """When this process ends, it ends with this exit code, or after a signal (KeyboardInterrupt, SystemExit) with 130 or 143.
    saver: the rank whose word is waited for, `patience` seconds at most."""
    global _leaving
    if not _leaving:
        _leaving = True
        signalled = not isinstance(error, Exception)
        code = code if not signalled else 130 if isinstance(error, KeyboardInterrupt) else 143
        atexit.register(_leave, comm, code, saver, min(patience, AFTER_SIGNAL) if signalled else patience)


def _leave(comm: Any, code: int, saver: int, patience: float) -> None:
    word, until = np.zeros(1, np.uint8), time.monotonic() + patience
    try:
        if comm.Get_rank() == saver:
            sent = [comm.Isend(word, dest=r, tag=BYE) for r in range(comm.Get_size()) if r != saver]
            until = min(until, time.monotonic() + 0.1)      # time for the others to end by themselves
            while time.monotonic() < until:
                for request in sent:
                    request.Test()
                time.sleep(0.001)
        else:
            while not comm.Iprobe(source=saver, tag=BYE) and time.monotonic() < until:
                time.sleep(0.001)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:       # nobody reads it any more
                pass
        os._exit(code)
