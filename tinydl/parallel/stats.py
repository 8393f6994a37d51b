"""ParallelStats: what a trainer has counted, and a text of it."""
from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ParallelStats", "format_parallel_stats"]


@dataclass
class ParallelStats:
    """Counts since `Trainer.init`. dispatched = done + failed, after every update."""

    mode: str = "serial"
    thread_count: int = 1
    batches_per_update: int = 1
    updates: int = 0
    dispatched: int = 0
    done: int = 0
    failed: int = 0
    samples: int = 0
    seconds: float = 0.0
    batches_by_worker: dict[int, int] = field(default_factory=dict)

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds else 0.0


def format_parallel_stats(stats: ParallelStats) -> str:
    """A few lines for a log or a terminal."""
    share = ", ".join(f"worker {w}: {n}" for w, n in sorted(stats.batches_by_worker.items()))
    return "\n".join([
        f"mode          {stats.mode}, {stats.thread_count} thread{'s' * (stats.thread_count != 1)}, "
        f"{stats.batches_per_update} batch{'es' * (stats.batches_per_update != 1)} an update",
        f"updates       {stats.updates:,}",
        f"batches       {stats.dispatched:,} dispatched = {stats.done:,} done + {stats.failed:,} failed",
        f"samples       {stats.samples:,} in {stats.seconds:.2f} s ({stats.samples_per_second:,.0f} a second)",
        f"by worker     {share or '-'}",
    ])
