"""Runs plans without the GIL, batch by batch or many groups of batches at a time.

    program.pyx     Source: rows that batches are gathered from; Program: a compiled plan, shared by all replicas
    replica.pyx     Replica: a program with its own workspace and a gradient vector lent for each run
    update.pyx      Update: an optimizer's rule bound to its parameters
    fold.pyx        Fold: from the gradients of a group's slots to one update
    stretch.pyx     Stretch: groups of batches, by one thread or by several that meet at a barrier
"""
from tinydl._kernels.engine.program import (
    ALIGNING,
    DTYPES,
    MOST_LATE_ROWS,
    PAGE,
    SPACES,
    Program,
    Source,
    aligned,
    partial_sums,
)
from tinydl._kernels.engine.replica import CANCELLED, OK, PYTHON, CancelledError, NonFiniteError, Replica, scratch_bytes
from tinydl._kernels.engine.stretch import ALONE, IN_BATCH, Stretch, look
from tinydl._kernels.engine.update import Update

__all__ = ["ALIGNING", "ALONE", "CANCELLED", "DTYPES", "IN_BATCH", "MOST_LATE_ROWS", "OK", "PAGE", "PYTHON", "SPACES",
           "CancelledError", "NonFiniteError", "Program", "Replica", "Source", "Stretch", "Update", "aligned", "look",
           "partial_sums", "scratch_bytes"]
