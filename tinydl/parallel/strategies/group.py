"""group: k batches, one update."""
from __future__ import annotations

from tinydl.parallel.strategies.base import Strategy, check_count


class Group(Strategy):
    """`batches_per_update` batches (default: the thread count), their mean gradient one update.

    The same mathematics as serial training with a batch that many times as large. With batches_per_update fixed,
    the result has the same bits for any thread count.
    """

    name = "group"

    def __init__(self, batches_per_update: int | None = None) -> None:
        self.batches_per_update = check_count("batches_per_update", batches_per_update)

    def cut(self, n_threads: int) -> tuple[int, int]:
        return self.batches_per_update or n_threads, 1
