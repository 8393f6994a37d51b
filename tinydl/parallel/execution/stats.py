"""ParallelStats: what a trainer has counted and what its workers do now, and a text of it."""
from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

__all__ = ["ParallelStats", "WorkerState", "format_parallel_stats"]

# columns of a worker's row (NativeRun.live in tinydl._kernels.engine): times in nanoseconds of engine.clock
STATE, BATCH, SINCE, BUSY, WAITED, UPDATED, N_LIVE = 0, 1, 2, 3, 4, 5, 8
STATES = ("idle", "in a batch", "waiting", "in an update")


@dataclass(frozen=True, eq=False)
class WorkerState:
    """What a worker does: "idle", "in a batch", "waiting" for the others, or "in an update"; and for how many seconds it has.
    batch: the batch's number within the run under way, None outside of a batch; layer: the layer that it is in."""

    worker: int
    state: str
    batch: int | None
    layer: str
    seconds: float

    @classmethod
    def of(cls, worker: int, row: Array, layer: str, now: int) -> WorkerState:
        busy = row[STATE] == STATES.index("in a batch")
        return cls(worker, STATES[int(row[STATE])], int(row[BATCH]) if busy else None, layer if busy else "",
                   max(0.0, (now - int(row[SINCE])) * 1e-9) if row[SINCE] else 0.0)

    @property
    def doing(self) -> str:
        """The state, with batch and layer where it has them."""
        return self.state if self.batch is None else f"{self.state} {self.batch}, layer {self.layer or '?'}"


@dataclass(eq=False)
class ParallelStats:
    """Counts since `Trainer.init`. dispatched = done + retried + skipped + failed, after every update.

    done: batches (or parts of them) that succeeded at the first try; retried: that succeeded at a later one; skipped: that
    failed and were left out; failed: for which training ended. under_way: those done in the run under way, which `done` does
    not count yet. busy, waited, updating: the workers' seconds in batches, waiting for each other and for other ranks, and in
    updates. ranks: processes that train together; batches and samples are of all of them, workers and seconds of this one.
    exchanging: seconds in exchanges with the other ranks; awaiting: those of them that passed until all others had come. A rank
    that awaits less than the others is the one that they wait for.
    """

    mode: str = "serial"
    strategy: str = "serial"
    thread_count: int = 1
    batches_per_update: int = 1
    parts: int = 1
    updates: int = 0
    dispatched: int = 0
    done: int = 0
    retried: int = 0
    skipped: int = 0
    failed: int = 0
    under_way: int = 0
    samples: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    waited: float = 0.0
    updating: float = 0.0
    ranks: int = 1
    exchanging: float = 0.0
    awaiting: float = 0.0
    batches_by_worker: dict[int, int] = field(default_factory=dict)
    workers: list[WorkerState] = field(default_factory=list)

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def efficiency(self) -> float:
        """The share of the workers' time in batches and updates; NaN before there was any."""
        total = self.busy + self.waited + self.updating
        return (self.busy + self.updating) / total if total else float("nan")

    def add_live(self, live: Array) -> None:
        """Add the times in `live` (NativeRun.live, or the Python driver's rows) to busy, waited and updating."""
        busy, waited, updating = (live[:, BUSY:UPDATED + 1].sum(axis=0) * 1e-9).tolist()
        self.busy, self.waited, self.updating = self.busy + busy, self.waited + waited, self.updating + updating

    def count_worker(self, worker: int, batches: int) -> None:
        self.batches_by_worker[worker] = self.batches_by_worker.get(worker, 0) + batches

    def copy(self) -> ParallelStats:
        out = copy.copy(self)
        out.batches_by_worker = dict(self.batches_by_worker)
        return out


def format_parallel_stats(stats: ParallelStats) -> str:
    """A few lines for a log or a terminal."""
    share = ", ".join(f"{'other ranks' if w < 0 < stats.ranks - 1 else f'worker {w}'}: {n}"
                      for w, n in sorted(stats.batches_by_worker.items()))
    cut = f", each in {stats.parts} parts" if stats.parts > 1 else ""
    lines = [
        f"mode          {stats.mode}, strategy {stats.strategy}, {stats.thread_count} thread{'s' * (stats.thread_count != 1)}, "
        f"{stats.batches_per_update} batch{'es' * (stats.batches_per_update != 1)} an update{cut}",
        f"updates       {stats.updates:,}",
        f"batches       {stats.dispatched:,} dispatched = {stats.done:,} done + {stats.retried:,} retried + "
        f"{stats.skipped:,} skipped + {stats.failed:,} failed",
        f"samples       {stats.samples:,} in {stats.seconds:.2f} s ({stats.samples_per_second:,.0f} a second)",
        f"workers       {stats.busy:.2f} s in batches, {stats.updating:.2f} in updates, {stats.waited:.2f} waiting"
        + (f" (efficiency {stats.efficiency:.0%})" if stats.efficiency == stats.efficiency else ""),
        f"by worker     {share or '-'}",
    ]
    if stats.ranks > 1:
        lines.append(f"ranks         {stats.ranks}, {stats.exchanging:.2f} s in exchanges with the others "
                     f"({1e3 * stats.exchanging / max(1, stats.updates):.2f} ms an update), {stats.awaiting:.2f} of these until "
                     "they came")
    lines += [f"worker {w.worker:<7}{w.doing}, {w.seconds:.3f} s" for w in stats.workers]
    return "\n".join(lines)
