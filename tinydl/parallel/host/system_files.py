"""Small files in which the system tells about this process: its control groups, their limits, its memory."""
from __future__ import annotations

import os

__all__ = ["read"]


def read(file: str | os.PathLike[str]) -> str:
    """The text of `file`; OSError where it cannot be read.

    The file is opened unbuffered. CPython 3.13 without the GIL, when it closes a buffered file, takes a lock that it holds
    already, and calls sched_yield 40 times each time. If all CPUs are busy, other threads run at each of those calls: that took
    0.2 s a file, measured on two CPUs, and training reads a dozen files before it begins.
    """
    with open(file, "rb", buffering=0) as f:
        return os.fsdecode(f.read())
