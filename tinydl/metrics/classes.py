"""Metrics of predicted classes: accuracy, precision, recall, F1 and the confusion matrix."""
# n samples, K classes
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tinydl.metrics.arguments import Array, different, label_array, pair, places, weights_of

Average = Literal["macro", "micro", "weighted", "binary"]


def accuracy(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The share of samples whose class is right, by weight.

    y_true, y_pred: labels (n,), numbers or text. sample_weight: (n,), 0 or more.

        >>> accuracy(["a", "b", "b"], ["a", "b", "a"])
        0.6666666666666666
    """
    t, p = pair(y_true, y_pred)
    different(t, p)
    return float(np.average(t == p, weights=weights_of(sample_weight, len(t))))


def confusion_matrix(y_true: Any, y_pred: Any, *, labels: Sequence[Any] | None = None, sample_weight: Any = None,
                     normalize: Literal["true", "pred", "all"] | None = None) -> Array:
    """Counts (K, K): row i, column j has the samples of class i that were predicted to be j.

    labels: the classes, in the order of rows and columns; samples of others (true or predicted) are left out. By default all
    that occur, sorted. With weights the entries are their sums. normalize: divide by the sums of rows ("true"), of columns
    ("pred") or by that of all; where such a sum is 0 the entries are 0.

        >>> confusion_matrix([0, 0, 1, 2], [0, 1, 1, 1]).tolist()
        [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    """
    t, p = pair(y_true, y_pred)
    if normalize not in (None, "true", "pred", "all"):
        raise ValueError(f"normalize={normalize!r}: 'true', 'pred', 'all' or None")
    w = weights_of(sample_weight, len(t))
    order = different(t, p)
    if labels is not None:
        wanted = label_array(labels, "labels")
        order = different(order, wanted)
        to = np.full(len(order), -1)
        to[places(order, wanted, "labels")] = np.arange(len(wanted))
        if np.count_nonzero(to >= 0) < len(wanted):
            raise ValueError("labels has a class twice")
        K = len(wanted)
    else:
        to, K = np.arange(len(order)), len(order)
    i, j = to[places(order, t, "y_true")], to[places(order, p, "y_pred")]
    kept = (i >= 0) & (j >= 0)
    if labels is not None and not (i >= 0).any():
        raise ValueError("none of the labels occurs in y_true")
    counts = np.bincount(i[kept] * K + j[kept], w[kept], K * K).reshape(K, K)
    if normalize is not None:
        sums = counts.sum({"true": 1, "pred": 0, "all": None}[normalize], keepdims=True)
        return np.asarray(np.divide(counts, sums, out=np.zeros((K, K)), where=sums != 0))
    return counts if sample_weight is not None else np.rint(counts).astype(np.int64)


def balanced_accuracy(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The mean over the classes of y_true of the share that is right in each: recall, averaged. Guessing is worth 1 / K.

        >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
        0.5
    """
    _, right, _, true = _sums(y_true, y_pred, sample_weight)
    there = true > 0
    return float(np.mean(right[there] / true[there]))


def precision(y_true: Any, y_pred: Any, *, average: Average | None = "macro", labels: Sequence[Any] | None = None,
              sample_weight: Any = None) -> Any:
    """Of the samples that were predicted to be of a class, the share that is: tp / (tp + fp).

    average: over classes, alike ("macro", which is the default), weighted by the samples of each ("weighted"), or of all samples
    together ("micro"); None: an array (K,), one for each class; "binary": that of the second of two classes (1 of 0 and 1).
    labels: the classes that count, in order; by default all that occur in y_true or y_pred, sorted. A class that was never
    predicted has precision 0, as one that does not occur has recall 0.

        >>> precision([0, 1, 1, 1], [0, 0, 1, 1])
        0.75
        >>> precision([0, 1, 1, 1], [0, 0, 1, 1], average=None).tolist()
        [0.5, 1.0]
    """
    right, predicted, true = _chosen(y_true, y_pred, average, labels, sample_weight)
    return _averaged(right, predicted, true, average)


def recall(y_true: Any, y_pred: Any, *, average: Average | None = "macro", labels: Sequence[Any] | None = None,
           sample_weight: Any = None) -> Any:
    """Of the samples of a class, the share that was predicted to be: tp / (tp + fn). Arguments as of `precision`.

        >>> recall([0, 1, 1, 1], [0, 0, 1, 1], average="binary")
        0.6666666666666666
    """
    right, _, true = _chosen(y_true, y_pred, average, labels, sample_weight)
    return _averaged(right, true, true, average)


def f1(y_true: Any, y_pred: Any, *, average: Average | None = "macro", labels: Sequence[Any] | None = None,
       sample_weight: Any = None) -> Any:
    """The harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn), 0 where that is 0 / 0. Arguments as of `precision`.

        >>> f1([0, 1, 1, 1], [0, 0, 1, 1], average="binary")
        0.8
    """
    right, predicted, true = _chosen(y_true, y_pred, average, labels, sample_weight)
    return _averaged(2 * right, predicted + true, true, average)


def _sums(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array, Array]:
    """The classes, and the weights of the samples that are right, predicted and true, in each."""
    t, p = pair(y_true, y_pred)
    w = weights_of(sample_weight, len(t))
    classes = different(t, p)
    i, j = places(classes, t, "y_true"), places(classes, p, "y_pred")
    K, same = len(classes), i == j
    return classes, np.bincount(i[same], w[same], K), np.bincount(j, w, K), np.bincount(i, w, K)


def _chosen(y_true: Any, y_pred: Any, average: str | None, labels: Sequence[Any] | None,
            sample_weight: Any) -> tuple[Array, Array, Array]:
    """Of the classes that count: what is right, predicted and true."""
    if average not in ("macro", "micro", "weighted", "binary", None):
        raise ValueError(f"average={average!r}: 'macro', 'micro', 'weighted', 'binary' or None")
    classes, *sums = _sums(y_true, y_pred, sample_weight)
    wanted = classes if labels is None else label_array(labels, "labels")
    if average == "binary":
        if len(wanted) > 2 or (labels is None and len(wanted) == 1 and wanted[0] not in (0, 1)):
            raise ValueError(f"average='binary' is for two classes; here {len(wanted)} occur: "
                             f"{', '.join(map(repr, wanted[:8].tolist()))}")
        wanted = np.array([1]) if len(wanted) == 1 else wanted[1:]
    every = different(classes, wanted)
    at, where = places(every, classes, "labels"), places(every, wanted, "labels")
    out = []
    for s in sums:
        spread = np.zeros(len(every))
        spread[at] = s
        out.append(spread[where])
    return out[0], out[1], out[2]


def _averaged(above: Array, below: Array, true: Array, average: str | None) -> Any:
    """above / below of each class (0 where below is 0), and their mean."""
    if average == "micro":
        above, below = above.sum(keepdims=True), below.sum(keepdims=True)
    each = np.divide(above, below, out=np.zeros(len(above)), where=below != 0)
    if average is None:
        return each
    if average == "weighted":
        return float(np.average(each, weights=true)) if true.any() else 0.0
    return float(each.mean())
