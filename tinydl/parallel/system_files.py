"""Small files in which the system tells about this process: its control groups, their limits, its memory."""
from __future__ import annotations

import os

__all__ = ["read"]


def read(file: str | os.PathLike[str]) -> str:
    """The text of `file`; OSError where it cannot be read.

    Unbuffered: training reads a dozen of these files before it begins. CPython 3.13 without the GIL closes a buffered
    file by locking it while it holds that very lock; each time that spins through 40 calls of sched_yield, which on
    a machine whose CPUs are all busy are as many turns of others: 0.2 s for a file, measured on two CPUs.
    """
    with open(file, "rb", buffering=0) as f:
        return os.fsdecode(f.read())
