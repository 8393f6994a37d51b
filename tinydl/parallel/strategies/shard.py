"""shard: one batch cut by rows, one update: the same updates as serial training."""
from __future__ import annotations

from tinydl.parallel.strategies.base import Strategy, check_count


class Shard(Strategy):
    """Each batch in `shards_per_batch` parts (default: the thread count), their mean gradient one update.

    The same updates as serial training, up to rounding, also of random masks. But BatchNorm normalises within a
    part, so with it they are other updates: of batches as small as a part.
    With shards_per_batch fixed, the result has the same bits for any thread count.
    """

    name = "shard"

    def __init__(self, shards_per_batch: int | None = None) -> None:
        self.shards_per_batch = check_count("shards_per_batch", shards_per_batch)

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, self.shards_per_batch or n_threads
