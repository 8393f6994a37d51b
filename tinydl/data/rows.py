"""MadeRows: samples that are made of a few arrays, a batch at a time."""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinydl.data.batch import Array, Batch, CountedDataset, LazyBatch, epoch_order, whole_number


def sample_numbers(rows: Any, n: int) -> Array:
    """rows as int64; ValueError where they are not numbers of samples, at least one, of n."""
    a = np.asarray(rows)
    if a.ndim != 1 or not len(a) or a.dtype.kind not in "iu" or a.min() < 0 or a.max() >= n:
        raise ValueError(f"rows must be sample numbers, at least one, from 0 to {n - 1}; got {a!s:.80}"
                         + ": np.flatnonzero(mask) turns a mask into numbers" * (a.dtype == bool))
    return a.astype(np.int64)


class MadeRows(CountedDataset):
    """Samples that are made of a few arrays, a batch at a time; `rows`: which of them are this dataset's."""

    rows: Array | None = None
    #: of a batch, its samples as rows of what kernels gather them from, where they can
    _of_all: Callable[[LazyBatch], Batch] | None = None
    drop_last: bool = False
    _n: int

    def __len__(self) -> int:
        return self._n if self.rows is None else len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        """x and y (and the weight) of sample i as in a batch of it alone, without the batch's axis."""
        batch = self._make(np.array([self._number(whole_number("i", i, 0))]))
        x = tuple(a[0] for a in batch.x) if isinstance(batch.x, tuple) else batch.x[0]
        return (x, batch.y[0], *(() if batch.sample_weight is None else (batch.sample_weight[0],)))

    def _number(self, i: int) -> int:
        if i >= len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return i if self.rows is None else int(self.rows[i])

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        order, bounds = self._order(seed, epoch, shuffle)
        for b in range(len(bounds) - 1):
            yield LazyBatch(self._fetch, order[bounds[b]:bounds[b + 1]], int(bounds[b]), b, divisible=True, rows=self._of_all)

    def _order(self, seed: int, epoch: int, shuffle: bool) -> tuple[Array, Array]:
        return epoch_order(len(self), self.batch_size, self.drop_last, seed, epoch, shuffle)

    def subset(self, rows: Any) -> Any:
        """These samples (numbers 0 to len - 1, in this order), sharing the arrays."""
        rows = sample_numbers(rows, len(self))
        part = copy.copy(self)
        part.rows = rows if self.rows is None else self.rows[rows]
        return part

    def _fetch(self, batch: LazyBatch) -> Batch:
        numbers = batch.indices if self.rows is None else self.rows[batch.indices]
        made = self._make(numbers)
        return Batch(made.x, made.y, None, batch.first_id, batch.index, made.sample_weight)

    def _make(self, numbers: Array) -> Batch:
        raise NotImplementedError
