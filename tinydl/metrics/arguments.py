"""What metrics are given, checked: labels as class numbers, scores as float64, weights."""
# n samples, K classes
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl.data.checks import as_weights
from tinydl.data.frames import as_array

Array = np.ndarray[Any, Any]


def weights_of(sample_weight: Any, n: int) -> Array:
    """Weights (n,) as float64, ones where there are none; ValueError where they sum to 0."""
    if sample_weight is None:
        return np.ones(n)
    w = as_weights(sample_weight, n).astype(np.float64)
    if not w.any():
        raise ValueError("sample_weight is 0 for every sample: there is nothing to take a mean of")
    return w


def label_array(y: Any, name: str) -> Array:
    """Labels (n,), n at least 1, whose values can be compared; a column (n, 1) counts as (n,)."""
    a = np.asarray(y)
    a = a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a
    if a.ndim != 1:
        raise ValueError(f"{name} must be one label a sample, of shape (n,); it has shape {a.shape}"
                         + (": argmax(1) turns scores into labels" if a.ndim == 2 else ""))
    if not len(a):
        raise ValueError(f"{name} is empty")
    if a.dtype.kind == "f" and np.isnan(a).any():
        raise ValueError(f"{name}[{int(np.isnan(a).argmax())}] is NaN: leave samples without a label out")
    return a


def places(classes: Array, y: Array, name: str) -> Array:
    """The place of each label in `classes`, which are sorted; ValueError names a label that is not there."""
    try:
        at = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        known = classes[at] == y
    except TypeError:
        raise ValueError(f"{name} and the labels cannot be compared: {y.dtype} and {classes.dtype}") from None
    if not np.all(known):
        row = int(np.argmin(known))
        raise ValueError(f"{name}[{row}] is {y[row]!r}, which is not among the labels {_listed(classes)}")
    return at


def different(*arrays: Array) -> Array:
    """The different labels of all arrays, sorted."""
    kinds = {"text" if a.dtype.kind in "US" else "numbers" for a in arrays if a.dtype != object}
    if len(kinds) > 1:      # NumPy would turn numbers into text
        raise ValueError("labels must be numbers or text, not both: y_true and y_pred are "
                         + " and ".join(str(a.dtype) for a in arrays))
    try:
        return np.unique(np.concatenate(arrays))
    except TypeError:
        raise ValueError("labels of several kinds cannot be sorted: make all of them text, or all numbers") from None


def pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Labels and predicted labels, both (n,)."""
    t, p = label_array(y_true, "y_true"), label_array(y_pred, "y_pred")
    if len(t) != len(p):
        raise ValueError(f"y_true has {len(t)} samples and y_pred {len(p)}")
    return t, p


def score_array(y_score: Any, n: int, name: str = "y_score") -> Array:
    """Scores (n,), or (n, K) with K at least 2, as float64; those of (n, 1) as (n,). All must be finite."""
    a = as_array(y_score, name)
    if a.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers; it is {a.dtype}")
    a = a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a
    if a.ndim not in (1, 2) or len(a) != n:
        raise ValueError(f"{name} must have shape ({n},) or ({n}, classes), as y_true has {n} samples; it has shape {a.shape}")
    a = a.astype(np.float64)
    if not np.isfinite(a).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(a))[0]))
        raise ValueError(f"{name}[{', '.join(map(str, at))}] is {a[at]}; all must be finite")
    return a


def class_numbers(y: Array, K: int, labels: Sequence[Any] | None) -> Array:
    """The column of each label among K columns of scores (K = 2 also where one score says it all).

    The columns are of `labels`, in sorted order; without them of the labels that occur, sorted, where these are K, and else
    of 0, 1, ..., K - 1 where the labels are such numbers (a part of a set may lack a class).
    """
    if labels is not None:
        classes = different(np.asarray(labels))
        if len(classes) != K:
            raise ValueError(f"there are {K} columns of scores and {len(classes)} different labels, {_listed(classes)}")
        return places(classes, y, "y_true")
    found = different(y)
    if len(found) == K:
        return places(found, y, "y_true")
    whole = y.dtype.kind in "iub" or (y.dtype.kind == "f" and bool(np.all(found == np.rint(found))))
    if whole and found[0] >= 0 and found[-1] < K:
        return y.astype(np.int64)
    if K == 2 and whole and found.tolist() in ([-1], [1]):
        return (y > 0).astype(np.int64)
    raise ValueError(f"there are scores for {K} classes, and y_true has {len(found)}: {_listed(found)}; say which classes the "
                     "scores are of by labels=[...]")


def _listed(values: Array) -> str:
    return ", ".join(map(repr, values[:8].tolist())) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
