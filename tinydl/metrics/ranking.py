"""Metrics of scores of which only the order counts: ROC AUC, average precision, top-k accuracy."""
# n samples, K classes
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tinydl.metrics.arguments import Array, class_numbers, label_array, score_array, weights_of


def roc_auc(y_true: Any, y_score: Any, *, multi_class: Literal["ovr", "ovo"] = "ovr",
            average: Literal["macro", "weighted"] | None = "macro", labels: Sequence[Any] | None = None,
            sample_weight: Any = None) -> Any:
    """The area under the ROC curve: how likely a sample of a class has a higher score for it than one of another class.
    Equal scores count one half. Guessing is worth 0.5.

    y_true: labels (n,). y_score: of two classes the score of the second (n,), or both (n, 2), of which the second is taken; of
    more (n, K). Scores need not be probabilities. labels: the classes of the columns in sorted order, where they cannot be
    told from y_true.

    Of more than two classes: "ovr" takes each class against all others, "ovo" each pair of classes by itself (Hand and Till
    2001). average: over the classes or pairs, alike ("macro") or by their samples ("weighted"); None: each class's, of "ovr".
    A class of which y_true has no sample, or nothing but samples, has no area (NaN), and does not count in the mean: where
    y_true has one class alone the result is NaN.

        >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
        >>> roc_auc([0, 1, 2, 2], [[3, 1, 1], [2, 5, 1], [1, 2, 3], [4, 3, 2]])
        0.888888888888889
    """
    if multi_class not in ("ovr", "ovo"):
        raise ValueError(f"multi_class={multi_class!r}: 'ovr' or 'ovo'")
    if average not in ("macro", "weighted", None) or (average is None and multi_class == "ovo"):
        raise ValueError(f"average={average!r}: 'macro' or 'weighted'" + " or None" * (multi_class == "ovr"))
    t, scores, w = _prepared(y_true, y_score, labels, sample_weight)
    if scores.ndim == 1:
        return _area(t == 1, scores, w)
    if multi_class == "ovr":
        return _over_classes(_area, t, scores, w, average)
    K = scores.shape[1]
    rows = [np.flatnonzero(t == k) for k in range(K)]
    areas, shares = [], []
    for a in range(K):
        for b in range(a + 1, K):
            if len(rows[a]) and len(rows[b]):
                both = np.concatenate([rows[a], rows[b]])
                is_a = np.arange(len(both)) < len(rows[a])
                areas.append((_area(is_a, scores[both, a], w[both]) + _area(~is_a, scores[both, b], w[both])) / 2)
                shares.append(float(w[both].sum()))
    return _mean(np.array(areas), np.array(shares) if average == "weighted" else np.ones(len(areas)))


def average_precision(y_true: Any, y_score: Any, *, average: Literal["macro", "weighted"] | None = "macro",
                      labels: Sequence[Any] | None = None, sample_weight: Any = None) -> Any:
    """The area under the steps of precision over recall: sum over thresholds of (recall - recall before) precision.

    Arguments as of `roc_auc`; of more than two classes each is taken against all others. 0 where y_true has no sample of the
    (second) class; guessing is worth the share of that class.

        >>> average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.8333333333333333
    """
    if average not in ("macro", "weighted", None):
        raise ValueError(f"average={average!r}: 'macro', 'weighted' or None")
    t, scores, w = _prepared(y_true, y_score, labels, sample_weight)
    return _steps(t == 1, scores, w) if scores.ndim == 1 else _over_classes(_steps, t, scores, w, average)


def top_k_accuracy(y_true: Any, y_score: Any, *, k: int = 2, labels: Sequence[Any] | None = None,
                   sample_weight: Any = None) -> float:
    """The share of samples whose class is among the k with the highest scores.

    y_score: (n, K); of two classes also (n,), where a score above 0 names the second, or, where all lie from 0 to 1, one above
    0.5. Of equal scores those of later classes come first, as in scikit-learn.

        >>> top_k_accuracy([0, 1, 2], [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], k=2)
        0.6666666666666666
    """
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k={k!r}: a whole number of at least 1")
    y = label_array(y_true, "y_true")
    scores, w = score_array(y_score, len(y)), weights_of(sample_weight, len(y))
    t = class_numbers(y, scores.shape[1] if scores.ndim == 2 else 2, labels)
    if scores.ndim == 1:
        second = scores > (0.5 if scores.min() >= 0 and scores.max() <= 1 else 0)
        return 1.0 if k > 1 else float(np.average(second == t, weights=w))
    own = scores[np.arange(len(t)), t][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) > t[:, None]))
    return float(np.average(before.sum(1) < k, weights=w))


def _prepared(y_true: Any, y_score: Any, labels: Sequence[Any] | None, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Class numbers (n,), scores (n,) of two classes or (n, K) of more, weights (n,)."""
    y = label_array(y_true, "y_true")
    scores, w = score_array(y_score, len(y)), weights_of(sample_weight, len(y))
    t = class_numbers(y, scores.shape[1] if scores.ndim == 2 else 2, labels)
    return t, scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores, w


def _over_classes(figure: Callable[[Array, Array, Array], float], t: Array, scores: Array, w: Array,
                  average: str | None) -> Any:
    K = scores.shape[1]
    each = np.array([figure(t == k, scores[:, k], w) for k in range(K)])
    if average is None:
        return each
    return _mean(each, np.bincount(t, w, K) if average == "weighted" else np.ones(K))


def _mean(values: Array, weights: Array) -> float:
    """Over those that are not NaN; NaN where all are."""
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")


def _curve(positive: Array, scores: Array, w: Array) -> tuple[Array, Array]:
    """The weights of positive and of negative samples with a score of at least each different one, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    w, positive = w[order], positive[order]
    return np.cumsum(w * positive)[ends], np.cumsum(w * ~positive)[ends]


def _area(positive: Array, scores: Array, w: Array) -> float:
    tp, fp = _curve(positive, scores, w)
    if not tp[-1] > 0 or not fp[-1] > 0:
        return float("nan")
    tp, fp = tp / tp[-1], fp / fp[-1]
    return float(np.sum(np.diff(fp, prepend=0) * (tp + np.concatenate([[0], tp[:-1]]))) / 2)


def _steps(positive: Array, scores: Array, w: Array) -> float:
    tp, fp = _curve(positive, scores, w)
    if not tp[-1] > 0:
        return 0.0
    reached = tp + fp
    precision = np.divide(tp, reached, out=np.zeros(len(tp)), where=reached > 0)
    return float(np.sum(np.diff(tp, prepend=0) / tp[-1] * precision))
