"""serial: a batch, an update. What the others are measured against."""
from __future__ import annotations

from tinydl.parallel.strategies.base import Strategy


class Serial(Strategy):
    """One batch, one update, in the calling thread."""

    name = "serial"
    parallel = False

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, 1
