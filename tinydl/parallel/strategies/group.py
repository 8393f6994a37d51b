"""group: k batches, one update."""
from __future__ import annotations

from tinydl.parallel.strategies.base import Strategy, check_count


class Group(Strategy):
    """`batches_per_update` batches (default: the thread count), their mean gradient one update.

    The same mathematics as serial training with a batch that many times as large. With batches_per_update fixed,
    the result has the same bits for any thread count.

    So a batch that is too large for memory is many small ones: batch_size=128 and batches_per_update=64 make the updates of
    batch_size=8192 (BatchNorm apart, which normalises each batch by itself), with the workspace of 128 samples a thread. Of an
    update of many batches not every gradient is kept until the end: on up to 4 threads 8 batches have a gradient vector each,
    as long as the parameters (on more, two a thread or a few more), and log2 of batches_per_update / 8 are kept beside these:
    11 vectors, not 64 (`print(trainer.memory_report())`). The bits are those of a vector for each batch.
    """

    name = "group"

    def __init__(self, batches_per_update: int | None = None) -> None:
        self.batches_per_update = check_count("batches_per_update", batches_per_update)

    def cut(self, n_threads: int) -> tuple[int, int]:
        return self.batches_per_update or n_threads, 1
