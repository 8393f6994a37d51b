"""Batch: some rows of a dataset, not copied; Dataset: what gives an epoch of them."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np

from tinydl.data.prepared import Prepared

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows `indices` of the sources x and y; indices None: all rows, in order.

    x: (rows, *features), C-contiguous, real; of several inputs a dict by their names, or a tuple. y: (rows,) int64 labels or
    (rows, *outputs) numbers; of several outputs a dict or tuple likewise. indices: int64 (n,). first_id: the sample number of
    row 0 where indices is None. index: the batch's number in its epoch. sample_weight: (rows,), or
    (rows, *places), floats, finite and not negative, or None: all count alike. prepared: how the rows of x (and of y) are
    normalized and augmented on their way into the model; None: not at all.
    """

    x: Any
    y: Any
    indices: Array | None
    first_id: int = 0
    index: int = 0
    sample_weight: Array | None = None
    prepared: Prepared | None = None

    @property
    def n(self) -> int:
        """Samples."""
        if self.indices is not None:
            return len(self.indices)
        y = self.y if isinstance(self.y, np.ndarray) else next(iter(self.y.values() if isinstance(self.y, dict) else self.y))
        return len(y)

    def load(self) -> Batch:
        """The batch with its data at hand: itself. `arrays` are its rows; x and y are what they are rows of."""
        return self

    def for_kernels(self) -> Batch:
        """As `load`, or of what kernels gather by themselves."""
        return self

    def part(self, lo: int, hi: int) -> Batch:
        """Its samples lo..hi - 1."""
        if self.indices is None:
            x, y = (each_input(given, lambda a: a[lo:hi]) for given in (self.x, self.y))
            return replace(self, x=x, y=y, first_id=self.first_id + lo,
                           sample_weight=None if self.sample_weight is None else self.sample_weight[lo:hi])
        return replace(self, indices=self.indices[lo:hi], first_id=self.first_id + lo)

    def cut(self, parts: int, least: int = 1) -> list[Batch]:
        """The batch in `parts` nearly equal parts, or in fewer of `least` samples or more."""
        return [self.part(lo, hi) for lo, hi in _pieces(self.n, parts, least)]

    def arrays(self, dtype: Any = None) -> tuple[Any, Any]:
        """x (n, *features) and y (n, ...), normalized and augmented as the model gets them; else the rows copied out, or the
        sources where indices is None. dtype: of an x that is normalized or augmented; float32, or float64 where x is so."""
        if self.prepared is not None:
            return self.prepared.inputs(self.x, self.indices, dtype), self.targets()
        return self.x if self.indices is None else each_input(self.x, lambda a: a[self.indices]), self.targets()

    def targets(self) -> Any:
        """y of its samples, as `arrays`."""
        if self.prepared is not None:
            return self.prepared.targets(self.y, self.indices)
        return self.y if self.indices is None else each_input(self.y, lambda a: a[self.indices])

    def weights(self) -> Array | None:
        """sample_weight (n, ...) of its samples, as `arrays`."""
        w = self.sample_weight
        return w if w is None or self.indices is None else w[self.indices]

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        """Of a sample's weights; None where it has none."""
        return None if self.sample_weight is None else tuple(self.sample_weight.shape[1:])


@dataclass(frozen=True, slots=True, eq=False)
class LazyBatch:
    """The samples `indices` (int64), made by `load` in the thread that trains on them."""

    fetch: Callable[[LazyBatch], Batch]
    indices: Array
    first_id: int = 0
    index: int = 0
    #: whether fetch can make any part of the samples by itself
    divisible: bool = False
    #: where kernels can make the samples: the batch as rows of what they make them of
    rows: Callable[[LazyBatch], Batch] | None = None

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.indices)

    def cut(self, parts: int, least: int = 1) -> list[LazyBatch]:
        """The batch in `parts` nearly equal parts, or in fewer of `least` samples or more; where it can only be fetched whole,
        once for all."""
        fetch = self.fetch if self.divisible else _Once(self)
        return [replace(self, fetch=fetch, indices=self.indices[lo:hi], first_id=self.first_id + lo)
                for lo, hi in _pieces(self.n, parts, least)]

    def load(self) -> Batch:
        """The batch with its data at hand; what a sample raises comes out, with the sample's number as a note."""
        return self.fetch(self)

    def for_kernels(self) -> Batch:
        """As `load`, or of what kernels gather by themselves."""
        return self.load() if self.rows is None else self.rows(self)


def each_input(x: Any, f: Callable[[Array], Any]) -> Any:
    """f of x, or of each of several inputs (or of y), in what holds them."""
    if isinstance(x, dict):
        return {name: f(a) for name, a in x.items()}
    return tuple(map(f, x)) if isinstance(x, tuple) else f(x)


def cut_rows(bounds: Array, parts: int, least: int = 1) -> tuple[Array, Array]:
    """(pieces, owner): the rows bounds[b]..bounds[b + 1] - 1 of each batch b in `parts` nearly equal pieces, or in fewer of
    `least` rows or more; a batch of fewer rows is one piece. Piece p is rows pieces[p]..pieces[p + 1] - 1, of batch owner[p]."""
    if parts == 1:
        return bounds, np.arange(len(bounds) - 1)
    sizes, number = np.diff(bounds)[:, None], np.arange(parts)
    starts = bounds[:-1, None] + number * sizes // parts
    owner = np.arange(len(sizes)).repeat(parts)
    small = np.flatnonzero(sizes < parts * least)
    if not len(small):
        return np.append(starts, bounds[-1]), owner
    rows = sizes[small]
    starts[small] = bounds[small, None] + np.minimum(number * rows // np.maximum(rows // least, 1), rows)
    pieces = np.append(starts, bounds[-1])
    full = np.diff(pieces) > 0      # of small batches, the pieces that are too many are empty
    return np.append(pieces[:-1][full], pieces[-1]), owner[full]


def _pieces(n: int, parts: int, least: int) -> Iterator[tuple[int, int]]:
    """The same of one batch, which may be empty."""
    return pairwise(cut_rows(np.array([0, n]), min(parts, n // least) or 1)[0].tolist())


class _Once:
    """Fetches a batch once, for whichever of its parts comes first, and cuts each part out of it."""

    def __init__(self, batch: LazyBatch) -> None:
        self._lazy, self._lock = batch, Lock()
        self._batch: Batch | None = None

    def __call__(self, part: LazyBatch) -> Batch:
        with self._lock:
            if self._batch is None:
                self._batch = self._lazy.load()
        lo = part.first_id - self._batch.first_id
        return replace(self._batch.part(lo, lo + part.n), first_id=part.first_id)


class Dataset(ABC):
    """What a Trainer trains on: `batch_size`, the shape of one sample, and epochs of batches."""

    batch_size: int
    #: the names of x's columns, in order, where it was made of a table that has them; a model then tells them apart by name
    feature_names: list[str] | None = None
    #: whether its batches bring a `sample_weight`
    weighted: bool = False
    #: of the inputs and targets, by their numbers, those whose rows are padded behind the lengths that are input 1, so that what
    #: lies there counts nothing; a batch is then run with as few steps as it needs (plan/shorter.py)
    padded: tuple[int, ...] = ()

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        """Of a sample's weights: () where it has one; None where it has none."""
        return () if self.weighted else None

    @property
    @abstractmethod
    def input_shape(self) -> Any:
        """The shape of one sample of x; of several inputs, a dict by their names or a tuple of their shapes."""

    @property
    def n_samples(self) -> int | None:
        """Samples of an epoch; None where that is not known."""
        return None

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where that is not known."""
        return None

    @property
    def largest_batch(self) -> int:
        """Samples of the largest batch: batch_size, or n_samples where there are fewer. What a plan has room for."""
        n = self.n_samples
        return self.batch_size if n is None else max(1, min(self.batch_size, n))

    @abstractmethod
    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        """The batches of one epoch, in an order that depends on (seed, epoch, shuffle) alone."""


class CountedDataset(Dataset):
    """One whose samples are counted: len(dataset) of them, in batches of batch_size, and a smaller last one unless drop_last."""

    drop_last: bool

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @property
    def n_samples(self) -> int:
        return len(self) // self.batch_size * self.batch_size if self.drop_last else len(self)

    @property
    def n_batches(self) -> int:
        return len(self) // self.batch_size if self.drop_last else -(-len(self) // self.batch_size)


def epoch_order(n: int, batch_size: int, drop_last: bool, seed: int, epoch: int, shuffle: bool) -> tuple[Array, Array]:
    """order (used,) and bounds (batches + 1,), int64: batch b is order[bounds[b]:bounds[b + 1]].

    order = np.random.default_rng([seed, epoch]).permutation(n), or 0..n-1; drop_last leaves out what fills no batch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n) if shuffle else np.arange(n)
    used = n // batch_size * batch_size if drop_last else n
    step = min(batch_size, max(1, used))
    bounds = np.arange(0, used + step, step, dtype=np.int64)
    bounds[-1] = used
    return order[:used].astype(np.int64, copy=False), bounds


def whole_number(name: str, value: int, least: int) -> int:
    """`value` as an int, at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}={value!r}: a whole number, at least {least}")
    return int(value)
