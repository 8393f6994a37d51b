"""Runs plans without the GIL, batch by batch or many groups of batches at a time.

    program.pyx     Source: rows that batches are gathered from; Pictures: what is done to them on the way; Program: a
                    compiled plan, shared by all replicas
    replica.pyx     Replica: a program with its own workspace and a gradient vector lent for each run
    update.pyx      Update: an optimizer's rule bound to its parameters
    reduction.pyx   Reduction: from the gradients of a group's slots to one update
    batches.pyx     Batches: where the rows of a run's batches are, how one of them runs, and what came of each
    native_run.pyx  NativeRun: groups of batches, by one thread or by several that meet at a barrier
    gil.pyx         runs of one worker, side by side, take the GIL in turns
    sync.pxd        what csrc/sync.h declares
"""
from tinydl._kernels.engine.batches import IN_BATCH
from tinydl._kernels.engine.native_run import ALONE, NativeRun, clock, look
from tinydl._kernels.engine.program import (
    ALIGNING,
    DTYPES,
    MIX,
    MOST_LATE_ROWS,
    PAGE,
    SPACES,
    Pictures,
    Program,
    Source,
    aligned,
    partial_sums,
)
from tinydl._kernels.engine.replica import CANCELLED, OK, PYTHON, CancelledError, NonFiniteError, Replica, scratch_bytes
from tinydl._kernels.engine.update import Update

__all__ = [
    "ALIGNING",
    "ALONE",
    "CANCELLED",
    "DTYPES",
    "IN_BATCH",
    "MIX",
    "MOST_LATE_ROWS",
    "OK",
    "PAGE",
    "PYTHON",
    "SPACES",
    "CancelledError",
    "NativeRun",
    "NonFiniteError",
    "Pictures",
    "Program",
    "Replica",
    "Source",
    "Update",
    "aligned",
    "clock",
    "look",
    "partial_sums",
    "scratch_bytes",
]
