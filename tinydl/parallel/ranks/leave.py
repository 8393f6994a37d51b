"""How a process ends when training over ranks was broken off: without MPI_Finalize, which would wait for ranks that are gone.

The rank that writes the checkpoint calls MPI_Abort with the exit code, so that mpiexec ends all processes, also one that hangs,
and returns that code (MPICH's returns 9 instead where it notices first that it has killed the others). The others wait to be
ended, since mpiexec kills all as soon as one has ended with another code than 0, also the one that is still writing.
"""
from __future__ import annotations

import atexit
import os
import sys
import time
from typing import Any

#: "try again" (EX_TEMPFAIL of sysexits.h): a supervisor may start all anew
TRY_AGAIN = 75
#: seconds for which a rank waits, after a signal, for the one that writes the checkpoint
AFTER_SIGNAL = 3.0
#: seconds that the others have to say why they end
OTHERS_SPEAK = 0.3

_code: int | None = None        # of this process, when it ends


def leave_at_exit(comm: Any, error: BaseException, code: int, saver: int, patience: float) -> None:
    """When this process ends, it ends with this exit code, or after Ctrl-C or SIGTERM with 130 or 143. saver: the rank that ends
    all; the others wait for that, `patience` seconds at most. Called again, it may only correct the signal."""
    global _code
    signalled = not isinstance(error, Exception)
    if signalled:
        code = 130 if isinstance(error, KeyboardInterrupt) else 143
    if _code is None:
        atexit.register(_leave, comm, saver, min(patience, AFTER_SIGNAL) if signalled else patience)
    if _code is None or signalled:
        _code = code


def _leave(comm: Any, saver: int, patience: float) -> None:
    code = TRY_AGAIN if _code is None else _code
    try:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:       # nobody reads it any more
                pass
        if comm.Get_rank() == saver:
            time.sleep(OTHERS_SPEAK)
            comm.Abort(code)
        time.sleep(patience)
    finally:
        os._exit(code)
