"""ItemDataset: the base for a dataset that gives one sample at a time."""
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from tinydl.data.batch import Batch, CountedDataset, LazyBatch, epoch_order, whole_number
from tinydl.data.checks import parts_of, stack, stack_weights


class ItemDataset(CountedDataset):
    """Subclass it and write `__len__` and `__getitem__(i) -> (x, y)`; several threads call it at once. weighted:
    `__getitem__(i) -> (x, y, weight)`, what the sample counts, as ArrayDataset's sample_weight.

    x: of one shape throughout, sample 0's; for a model of several inputs a dict by their names. y: an integer label, or a
    float or floats; for a model of several outputs a dict of these by their names. Items are made in the worker that trains on
    their batch. One that raises, or is of another shape, fails its batch alone; the exception carries a note with
    the sample's number.

        >>> class Squares(ItemDataset):
        ...     def __len__(self): return 100
        ...     def __getitem__(self, i): return [i / 100], [(i / 100) ** 2]
        >>> Squares(batch_size=16).n_batches
        7
    """

    batch_size, drop_last = 32, False       # also where a subclass's constructor does not call this one
    _input_shape: Any = None

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if cls is ItemDataset:
            raise TypeError("ItemDataset is an abstract class: write class Mine(data.ItemDataset) with __getitem__(self, "
                            "i), which returns (x, y), and __len__(self), as a dataset of PyTorch has them")
        return super().__new__(cls)

    def __init__(self, batch_size: int = 32, drop_last: bool = False, *, weighted: bool = False) -> None:
        self.batch_size, self.drop_last = whole_number("batch_size", batch_size, 1), bool(drop_last)
        self.weighted = bool(weighted)

    @abstractmethod
    def __len__(self) -> int:
        """Samples in all."""

    @abstractmethod
    def __getitem__(self, i: int) -> tuple[Any, ...]:
        """x and y of sample i, 0 <= i < len(self); and its weight, where the dataset is weighted."""

    @property
    def input_shape(self) -> Any:
        """The shape of sample 0's x, looked up once."""
        if self._input_shape is None:
            if not len(self):
                raise ValueError(f"the dataset is empty: {type(self).__name__} has 0 samples")
            x = self[0][0]
            self._input_shape = {name: np.shape(a) for name, a in x.items()} if isinstance(x, dict) else np.shape(x)
        return self._input_shape

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        order, bounds = epoch_order(len(self), self.batch_size, self.drop_last, seed, epoch, shuffle)
        for b in range(len(bounds) - 1):
            yield LazyBatch(self._fetch, order[bounds[b]:bounds[b + 1]], int(bounds[b]), b, divisible=True)

    def _fetch(self, batch: LazyBatch) -> Batch:
        xs, ys, weights, numbers = [], [], [], batch.indices.tolist()
        for i in numbers:
            try:
                x, y, *weight = parts_of(self[i], self.weighted, "a sample")
            except BaseException as e:
                e.add_note(f"sample {i} of {type(self).__name__}")
                raise
            xs.append(x)
            ys.append(y)
            weights += weight
        return Batch(*stack(xs, ys, numbers, self.input_shape), None, batch.first_id, batch.index,
                     stack_weights(weights, numbers) if self.weighted else None)
