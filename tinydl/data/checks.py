"""What data must be to become the sources of batches: checked and converted once, at the door."""
from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import _kernels as K
from tinydl.data.batch import Array
from tinydl.data.frames import as_array, first_missing, refuse

#: what the gather kernel reads; anything else is converted once
SUPPORTED = ("float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "bool")
#: elements looked at in one go, so that a memory map is not held in memory
PIECE = 1 << 20


def as_features(x: Any, name: str = "x") -> Array:
    """x as kernels read it: C-contiguous, aligned, of a supported dtype in native byte order; itself if it is.

    Else a copy: float16 as float32, longdouble and uint64 as float64.
    """
    a = as_array(x, name)
    if a.dtype.kind not in "fiub":
        refuse(a, x, name)
    if a.ndim < 1:
        raise ValueError(f"{name} must have a first axis of samples; got the single number {a}")
    dtype = a.dtype.newbyteorder("=")
    if dtype.name not in SUPPORTED:
        dtype = np.dtype(np.float32 if dtype == np.float16 else np.float64)
    if a.dtype == dtype and a.flags.c_contiguous and a.flags.aligned:
        return a
    return np.array(a, dtype, order="C")


def as_targets(y: Any, name: str = "y", numbers: Sequence[int] | Array | None = None) -> Array:
    """y as labels, int64 (samples,) or of sequences (samples, T), where it is integers or bool; else as finite float32 or
    float64. Labels are 0, 1, 2, ...; one negative number may stand for those that a loss ignores (ignore_index).

    numbers: of the samples, for messages, where they are not 0, 1, 2, ...
    """
    if y is None:
        raise ValueError(f"{name} is None: a dataset has targets, whatever they are where nobody looks at them (model.predict "
                         "takes x alone)")
    a = as_array(y, name, squeeze=True)
    if a.dtype.kind in "UST" or (a.dtype == object and a.ndim):
        missing = first_missing(a)
        if missing is not None:
            raise ValueError(f"{_place(name, missing, numbers)} is missing: leave that sample out")
        names = name if np.ndim(y) == 1 else f"np.ravel({name})"
        raise ValueError(f"{name} must be integers (class labels) or floats; got {a.dtype} of shape {a.shape}: "
                         f"np.unique({names}, return_inverse=True)[1] turns names into labels")
    if a.dtype.kind not in "fiub":
        refuse(a, y, name)
    if a.dtype.kind in "iub" and a.ndim > 1 and (a.shape[-1] == 1 or _is_one_hot(a)):
        hint = f"use np.ravel({name})" if a.shape[1:] == (1,) else f"use np.argmax(np.asarray({name}), 1) where it is one-hot"
        hint += f", or for numbers to predict np.asarray({name}, 'float32')"
        raise ValueError(f"{name} is integers of shape {a.shape}; class labels are (samples,): {hint}")
    a = as_features(a.astype(np.int64) if a.dtype == np.uint64 else a, name)
    if a.dtype.kind == "f":
        check_finite(a, name, numbers)
        return a
    least = a.min(initial=0)
    if least < 0 and (a[a < 0] != least).any():
        at = [int(i) for i in np.unravel_index(int(a.argmin()), a.shape)]
        raise ValueError(f"{_place(name, at, numbers)} is {least}; class labels are 0, 1, 2, ..., and at most one negative "
                         "number for those to ignore (for numbers to predict, give floats)")
    return a if a.dtype == np.int64 else a.astype(np.int64)


def _is_one_hot(a: Array) -> bool:
    return bool(a.ndim == 2 and (a.sum(1) == 1).all() and ((a == 0) | (a == 1)).all())


def as_weights(weights: Any, n: int, name: str = "sample_weight", numbers: Sequence[int] | Array | None = None,
               shape: tuple[int, ...] = ()) -> Array:
    """Weights of n samples, of this shape each, as float64, or float32 as they are: finite, at least 0 and at most 1e30 (a sum
    of many larger ones would not be a float32). numbers: as for as_targets."""
    w = as_features(weights, name)
    if w.shape != (n, *shape):
        raise ValueError(f"{name} has shape {w.shape}; " + (f"weights of shape {shape} a sample are {(n, *shape)}" if shape else
                                                             f"one weight a sample is ({n},); several go along the first axes "
                                                             "of its targets"))
    if w.dtype.kind != "f":
        w = w.astype(np.float64)
    if n and not (w.min() >= 0 and w.max() <= 1e30):
        at = [int(i) for i in np.unravel_index(int(np.argmin((w >= 0) & (w <= 1e30))), w.shape)]
        raise ValueError(f"{_place(name, at, numbers)} is {w[tuple(at)]}; weights are finite, and 0 or more (at most "
                         "1e30: only what they are beside each other matters, so divide all by their mean)")
    return w


def check_finite(a: Array, name: str, numbers: Sequence[int] | Array | None = None, columns: Sequence[str] | None = None,
                 remedy: str = "put a value in, or leave that sample out") -> None:
    """ValueError names the first value that is NaN or infinite. numbers: as for as_targets; columns: names of those of a."""
    if a.dtype.kind != "f":
        return
    try:
        K.call("check_finite", x=a)
        return
    except FloatingPointError:
        pass                            # below it is looked where
    step = max(1, PIECE // max(1, a[:1].size))
    for start in range(0, len(a), step):
        finite = np.isfinite(a[start:start + step])
        if not finite.all():
            row, *rest = map(int, np.argwhere(~finite)[0])
            at = [start + row, *rest]
            raise ValueError(f"{_place(name, at, numbers, columns)} is {a[tuple(at)]}; all must be finite: {remedy}")


def is_mapped(a: Array | None) -> bool:
    """Whether a's values lie in a file that is mapped into memory."""
    while a is not None and not isinstance(a, (np.memmap, mmap.mmap)):
        a = getattr(a, "base", None)
    return a is not None


def _place(name: str, at: Sequence[int], numbers: Sequence[int] | Array | None, columns: Sequence[str] | None = None) -> str:
    """x[17, 3], or x[17, 'age'] in columns with names; of a batch whose samples have these numbers, sample 17: x[3]."""
    inside = at[1:] if columns is None else [repr(columns[at[1]])]
    inner = ", ".join(map(str, inside if numbers is not None else [at[0], *inside]))
    return ("" if numbers is None else f"sample {numbers[at[0]]}: ") + name + (f"[{inner}]" if inner else "")


def parts_of(sample: Any, weighted: bool, what: str) -> tuple[Any, ...]:
    """`sample` as (x, y), or where it is weighted (x, y, weight); ValueError where it is something else."""
    parts = tuple(sample) if isinstance(sample, (tuple, list)) else ()
    if len(parts) != 2 + weighted:
        got = f"{len(parts)} values" if parts else type(sample).__name__
        hint = " (weighted=True takes (x, y, weight))" if len(parts) == 3 else ""
        raise ValueError(f"{what} must be {'(x, y, weight)' if weighted else '(x, y)'}; got {got}{hint}")
    return parts


def stack_weights(weights: list[Any], numbers: list[int]) -> Array:
    """The weights of samples as one array."""
    return as_weights(_stacked("weight", weights, numbers), len(weights), "weight", numbers)


def stack(xs: list[Any], ys: list[Any], numbers: list[int], shape: Any) -> tuple[Any, Any]:
    """Samples as x (n, *shape), where they are dicts one for each input, and y (n, ...), likewise; ValueError says which sample
    does not fit the others, or `shape`."""
    try:
        if _are_dicts("y", ys, numbers):
            y: Any = {name: as_targets(_stacked(name, [y[name] for y in ys], numbers), name, numbers) for name in ys[0]}
        else:
            y = as_targets(_stacked("y", ys, numbers), "y", numbers)
        if not _are_dicts("x", xs, numbers):
            return _features("x", xs, numbers, shape), y
        shapes = shape if isinstance(shape, dict) else dict.fromkeys(xs[0])
        return {name: _features(name, [x[name] for x in xs], numbers, shapes[name]) for name in xs[0]}, y
    except ValueError as e:
        e.add_note(f"in a batch of the samples {numbers}")
        raise


def _are_dicts(name: str, values: list[Any], numbers: list[int]) -> bool:
    """Whether the samples' x (or y) are dicts, as the first is; then all must have its keys."""
    if not isinstance(values[0], dict):
        return False
    for number, value in zip(numbers, values, strict=True):
        if not isinstance(value, dict) or value.keys() != values[0].keys():
            what = "inputs" if name == "x" else "targets"
            raise ValueError(f"sample {number}: {name} must have the {what} {', '.join(values[0])}")
    return True


def _features(name: str, values: list[Any], numbers: list[int], shape: tuple[int, ...] | None) -> Array:
    x = _stacked(name, values, numbers)
    check_shape(x, shape)
    x = as_features(x, name)
    check_finite(x, name, numbers)
    return x


def check_shape(x: Array, shape: tuple[int, ...] | None) -> None:
    """A plan's buffers are as large as the dataset's input_shape says, so each batch must be of it."""
    if shape is not None and x.shape[1:] != shape:
        raise ValueError(f"samples of shape {x.shape[1:]} in a dataset of input_shape {shape}")


def _stacked(name: str, values: list[Any], numbers: list[int]) -> Array:
    arrays = [np.asarray(value) for value in values]
    for number, a in zip(numbers, arrays, strict=True):
        if a.shape != arrays[0].shape:
            raise ValueError(f"sample {number}: {name} has shape {a.shape}, and sample {numbers[0]}'s is {arrays[0].shape}")
    return np.stack(arrays)
