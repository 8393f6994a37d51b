"""ItemDataset: the base for a dataset that gives one sample at a time."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinydl.data.batch import (
    Batch,
    Dataset,
    LazyBatch,
    as_features,
    as_targets,
    batch_bounds,
    check_batch_size,
    permutation,
)


class ItemDataset(Dataset):
    """Subclass it and write `__len__` and `__getitem__(i) -> (x, y)`.

    Items are fetched in the worker that trains on their batch. One that raises fails its batch; the exception
    carries a note with the sample's number.

        >>> class Squares(ItemDataset):
        ...     def __len__(self): return 100
        ...     def __getitem__(self, i): return [i / 100], [(i / 100) ** 2]
        >>> Squares(batch_size=16).n_batches
        7
    """

    def __init__(self, batch_size: int = 32, drop_last: bool = False) -> None:
        self.batch_size, self.drop_last = check_batch_size(batch_size), bool(drop_last)

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}.__len__")

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__}.__getitem__(i) -> (x, y)")

    @property
    def n_samples(self) -> int:
        return len(self) // self.batch_size * self.batch_size if self.drop_last else len(self)

    @property
    def n_batches(self) -> int:
        return len(self) // self.batch_size if self.drop_last else -(-len(self) // self.batch_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return np.shape(self[0][0])

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        order = permutation(len(self), seed, epoch, shuffle)
        bounds = batch_bounds(len(self), self.batch_size, self.drop_last)
        for b in range(len(bounds) - 1):
            yield LazyBatch(self._fetch, order[bounds[b]:bounds[b + 1]], int(bounds[b]), b)

    def _fetch(self, batch: LazyBatch) -> Batch:
        xs, ys = [], []
        for i in batch.indices:
            try:
                x, y = self[int(i)]
            except BaseException as e:
                e.add_note(f"sample {i} of {type(self).__name__}")
                raise
            xs.append(x)
            ys.append(y)
        return Batch(as_features(np.stack(xs)), as_targets(np.stack(ys)), None, batch.first_id, batch.index)
