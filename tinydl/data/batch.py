"""Batch: some rows of a dataset, not copied; Dataset: what gives an epoch of them."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: what the gather kernel reads; anything else is converted once
SUPPORTED = ("float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "bool")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows `indices` of the sources x and y; indices None: all rows, in order.

    x: (rows, *features), C-contiguous, real. y: (rows,) int64 labels or (rows, *outputs) numbers. first_id: the
    sample number of row 0 where indices is None. index: the batch's number in its epoch.
    """

    x: Array
    y: Array
    indices: Array | None
    first_id: int = 0
    index: int = 0

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.x) if self.indices is None else len(self.indices)

    def load(self) -> Batch:
        """The batch with its data at hand: itself."""
        return self

    def arrays(self) -> tuple[Array, Array]:
        """(x, y) of this batch alone."""
        return (self.x, self.y) if self.indices is None else (self.x[self.indices], self.y[self.indices])


@dataclass(frozen=True, slots=True, eq=False)
class LazyBatch:
    """A batch whose samples are fetched by `load`, in the thread that trains on it."""

    fetch: Callable[[LazyBatch], Batch]
    indices: Array
    first_id: int = 0
    index: int = 0

    @property
    def n(self) -> int:
        return len(self.indices)

    def load(self) -> Batch:
        return self.fetch(self)


class Dataset:
    """What a Trainer trains on: `batch_size`, the shape of one sample, and epochs of batches."""

    batch_size: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample of x."""
        raise NotImplementedError(f"{type(self).__name__}.input_shape")

    @property
    def n_samples(self) -> int | None:
        """Samples of an epoch; None where that is not known."""
        return None

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch; None where that is not known."""
        return None

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        """The batches of one epoch, in an order that depends on (seed, epoch, shuffle) alone."""
        raise NotImplementedError(f"{type(self).__name__}.epoch")


def permutation(n: int, seed: int, epoch: int, shuffle: bool) -> Array:
    """The order of n samples in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n) if shuffle else np.arange(n, dtype=np.int64)


def batch_bounds(n: int, batch_size: int, drop_last: bool) -> Array:
    """Batch b is samples bounds[b]..bounds[b + 1]; the last may be smaller, or is left out."""
    bounds = np.arange(0, n + 1, batch_size, dtype=np.int64)
    return bounds if drop_last or bounds[-1] == n else np.append(bounds, n)


def check_batch_size(batch_size: int) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: a whole number, at least 1")
    return int(batch_size)


def as_features(x: Any) -> Array:
    """x as a C-contiguous array of a supported dtype, copied only where it must be; ValueError says what is wrong."""
    x = x if isinstance(x, np.ndarray) else np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"x must be numbers; got {x.dtype}")
    if x.ndim < 1:
        raise ValueError(f"x must have a first axis of samples; got shape {x.shape}")
    if x.dtype.name not in SUPPORTED:
        x = x.astype(np.float32 if x.dtype.itemsize <= 4 and x.dtype.kind == "f" else np.float64)
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def as_targets(y: Any) -> Array:
    """y as int64 labels (integers in one axis) or as finite float32 or float64 numbers."""
    y = y if isinstance(y, np.ndarray) else np.asarray(y)
    if y.dtype.kind in "iub":
        if y.ndim == 2 and y.shape[1] == 1:
            raise ValueError(f"y is integers of shape {y.shape}: class labels are (samples,), use y.ravel(); "
                             "for numbers to predict use y.astype('float32')")
        if y.ndim != 1:
            raise ValueError(f"y is integers of shape {y.shape}: class labels are (samples,); for numbers use floats")
        if len(y) and y.min() < 0:
            raise ValueError(f"class labels must be 0, 1, 2, ...; y has {y.min()} at sample {int(y.argmin())}")
        return np.ascontiguousarray(y, np.int64)
    if y.dtype.kind != "f":
        raise ValueError(f"y must be integers (class labels) or floats; got {y.dtype}"
                         + (": turn names into numbers with np.unique(y, return_inverse=True)" if y.dtype.kind in "USO" else ""))
    if y.ndim < 1:
        raise ValueError(f"y must have a first axis of samples; got shape {y.shape}")
    if y.dtype not in (np.float32, np.float64):
        y = y.astype(np.float32 if y.dtype.itemsize < 4 else np.float64)
    bad = ~np.isfinite(y)
    if bad.any():
        raise ValueError(f"y has {y[bad][0]} at sample {int(np.argwhere(bad)[0][0])}")
    return np.ascontiguousarray(y)
