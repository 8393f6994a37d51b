"""ItemDataset: the base for a dataset that gives one sample at a time."""
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from tinydl import _hints
from tinydl.data.batch import Array, Batch, CountedDataset, LazyBatch, epoch_order, whole_number
from tinydl.data.checks import parts_of, stack, stack_weights
from tinydl.data.rows import sample_numbers
from tinydl.data.split import Split, dealt


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

    def subset(self, rows: Any) -> ItemDataset:
        """These samples (numbers 0 to len - 1, in this order), each of which is asked of this dataset."""
        return _Part(self, sample_numbers(rows, len(self)))

    @_hints.arguments
    def split(self, train: float | None = None, validation: float | None = None, test: float | None = None, *, seed: int = 0,
              stratify: Any = None) -> Split[ItemDataset]:
        """Random parts, as ArrayDataset.split makes them: floats are shares of all samples, integers numbers of them; `split()`
        is 0.8 to train, 0.2 to test. stratify: the class of each sample (len(self),), of which every part gets its share; no
        sample is asked for it. drop_last holds for train alone.

            >>> class Squares(ItemDataset):
            ...     def __len__(self): return 100
            ...     def __getitem__(self, i): return [i / 100], [(i / 100) ** 2]
            >>> parts = Squares(batch_size=16).split(train=0.8, validation=0.1, test=0.1)
            >>> len(parts.train), parts.train.n_batches
            (80, 5)
        """
        labels = None if stratify is None else np.unique(np.asarray(stratify), return_inverse=True)[1]
        if labels is not None and labels.shape != (len(self),):
            raise ValueError(f"stratify has shape {labels.shape}; it is the class of each of the {len(self)} samples")
        rows = dealt(len(self), labels, "", "auto", seed, train=train, validation=validation, test=test)
        first, second, third = (self.subset(own) if len(own) else None for own in rows)
        assert first is not None
        for part in second, third:
            if part is not None:
                part.drop_last = False
        return Split(first, second, third)

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


class _Part(ItemDataset):
    """Some samples of another dataset."""

    def __init__(self, whole: ItemDataset, rows: Array) -> None:
        super().__init__(whole.batch_size, whole.drop_last, weighted=whole.weighted)
        self.whole, self.rows = whole, rows

    def __repr__(self) -> str:
        return f"{len(self)} samples of {self.whole!r}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        number = int(self.rows[i])
        try:
            return self.whole[number]
        except BaseException as e:
            e.add_note(f"sample {number} of {type(self.whole).__name__}")
            raise

    @property
    def input_shape(self) -> Any:
        return self.whole.input_shape
