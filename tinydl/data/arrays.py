"""ArrayDataset: samples in arrays or memory maps, gathered row by row without copying the set."""
from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from tinydl.data.batch import (
    Array,
    Batch,
    Dataset,
    LazyBatch,
    as_features,
    as_targets,
    batch_bounds,
    check_batch_size,
    permutation,
)

D = TypeVar("D", bound=Dataset)


class Split(NamedTuple, Generic[D]):
    """The parts of a dataset; None where a part is empty. A Trainer takes it as it is."""

    train: D
    validation: D | None
    test: D | None


class ArrayDataset(Dataset):
    """Samples x (samples, ...) with targets y: integer class labels (samples,), or floats (samples, ...).

    x may be an array, a memory map or a list, of any real dtype: rows are converted as they are gathered, and the
    set is copied only where it is not C-contiguous or of a dtype such as float16. A NaN in x is found when a batch
    meets it, not here: looking would read a memory map whole. The last, smaller batch counts unless drop_last.

        >>> import numpy as np
        >>> data = ArrayDataset(np.zeros((10, 3)), np.arange(10) % 2, batch_size=4)
        >>> [batch.n for batch in data.epoch(seed=0, epoch=0)]
        [4, 4, 2]
    """

    def __init__(self, x: Any, y: Any, batch_size: int = 32, drop_last: bool = False) -> None:
        self.batch_size, self.drop_last = check_batch_size(batch_size), bool(drop_last)
        self.x, self.y = as_features(x), as_targets(y)
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} samples and y has {len(self.y)}")
        if not len(self.x):
            raise ValueError("the dataset is empty: x has 0 samples")
        if self.drop_last and len(self.x) < self.batch_size:
            raise ValueError(f"drop_last with batch_size={batch_size} leaves nothing of {len(self.x)} samples")
        #: the samples that belong to this part of the sources, or None for all
        self.rows: Array | None = None

    def __len__(self) -> int:
        return len(self.x) if self.rows is None else len(self.rows)

    @property
    def n_samples(self) -> int:
        return len(self) // self.batch_size * self.batch_size if self.drop_last else len(self)

    @property
    def n_batches(self) -> int:
        return len(self) // self.batch_size if self.drop_last else -(-len(self) // self.batch_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.x.shape[1:]

    def order(self, seed: int, epoch: int, shuffle: bool = True) -> tuple[Array, Array]:
        """The whole epoch at once: sample numbers, and bounds (batch b is order[bounds[b]:bounds[b + 1]])."""
        order = permutation(len(self), seed, epoch, shuffle)
        return order if self.rows is None else self.rows[order], batch_bounds(len(self), self.batch_size, self.drop_last)

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        order, bounds = self.order(seed, epoch, shuffle)
        for b in range(len(bounds) - 1):
            yield Batch(self.x, self.y, order[bounds[b]:bounds[b + 1]], 0, b)

    def subset(self, rows: Any) -> ArrayDataset:
        """These samples (numbers of this dataset's), sharing the arrays."""
        rows = np.asarray(rows, np.int64)
        if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= len(self):
            raise ValueError(f"rows must be numbers 0..{len(self) - 1}, at least one; got shape {rows.shape}"
                             + (f", {rows.min()} to {rows.max()}" if rows.size else ""))
        part = copy.copy(self)
        part.rows = np.ascontiguousarray(rows if self.rows is None else self.rows[rows])
        return part

    def with_batch_size(self, batch_size: int) -> ArrayDataset:
        """The same samples in batches of another size."""
        other = copy.copy(self)
        other.batch_size = check_batch_size(batch_size)
        return other

    def split(self, train: float = 0.8, validation: float = 0.0, test: float = 0.2, *, seed: int = 0,
              stratify: bool | str = "auto") -> Split[ArrayDataset]:
        """Random parts that share the arrays: fractions (at most 1 together), or numbers of samples.

        stratify: every part gets its share of each class, as nearly as whole numbers allow; "auto": where y is
        labels and each class has a sample for every part. The same seed gives the same parts.
        """
        sizes = self._sizes(train, validation, test)
        y = self.y if self.rows is None else self.y[self.rows]
        labels = y.dtype.kind == "i"
        if stratify is True and not labels:
            raise ValueError("stratify=True needs class labels; y is numbers")
        rng = np.random.default_rng(seed)
        wanted = labels and stratify is not False
        if wanted:
            counts = np.unique(y, return_counts=True)[1]
            parts_wanted = sum(s > 0 for s in sizes)
            if counts.min() < parts_wanted:
                if stratify is True:
                    raise ValueError(f"a class has {counts.min()} samples, too few for {parts_wanted} parts")
                wanted = False
        shuffled = rng.permutation(len(self))
        chosen = _deal(shuffled, y if wanted else np.zeros(len(self)), sizes)
        first, second, third = (self.subset(np.sort(rows)) if len(rows) else None for rows in chosen)
        assert first is not None
        return Split(first, second, third)

    def _sizes(self, *wanted: float) -> list[int]:
        n, text = len(self), f"train={wanted[0]}, validation={wanted[1]}, test={wanted[2]}"
        if any(not 0 <= w < float("inf") for w in wanted) or wanted[0] == 0:
            raise ValueError(f"split({text}): sizes must be at least 0, and train above 0")
        if all(isinstance(w, (int, np.integer)) and not isinstance(w, bool) for w in wanted) and sum(wanted) > 1:
            sizes = [int(w) for w in wanted]
            if sum(sizes) > n:
                raise ValueError(f"split({text}) asks for {sum(sizes)} of {n} samples")
            return sizes
        if sum(wanted) > 1 + 1e-9:
            raise ValueError(f"split({text}): fractions sum to {sum(wanted):g}, more than 1")
        sizes = _largest_remainder([w * n for w in wanted], round(sum(wanted) * n))
        for w, s in zip(wanted, sizes, strict=True):
            if w > 0 and s == 0:
                raise ValueError(f"split({text}) of {n} samples leaves a part without any")
        return sizes


def _largest_remainder(shares: list[float], total: int) -> list[int]:
    """Whole numbers near `shares` that sum to `total`."""
    out = [int(s) for s in shares]
    for i in sorted(range(len(out)), key=lambda i: out[i] - shares[i])[:total - sum(out)]:
        out[i] += 1
    return out


def _deal(shuffled: Array, y: Array, sizes: list[int]) -> list[Array]:
    """Rows for each part: sizes exact, and each class within one sample of its share."""
    by_class = [list(shuffled[y[shuffled] == label]) for label in np.unique(y)]
    chosen = []
    for size in sizes:
        left = sum(map(len, by_class))
        counts = _largest_remainder([size * len(rows) / max(1, left) for rows in by_class], size)
        chosen.append(np.array([rows.pop() for rows, count in zip(by_class, counts, strict=True) for _ in range(count)], np.int64))
    return chosen
