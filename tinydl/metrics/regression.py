"""Metrics of predicted numbers: squared and absolute errors, R2."""
# n samples, O outputs
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl.losses.base import same_shape
from tinydl.metrics.arguments import Array, score_array, weights_of


def mse(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The mean squared error, of all outputs alike. y_true, y_pred: (n,) or (n, O). sample_weight: (n,), 0 or more.

        >>> mse([1.0, 2, 3], [1.0, 2, 6])
        3.0
    """
    t, p, w = _prepared(y_true, y_pred, sample_weight)
    return float(np.average(((t - p) ** 2).mean(1), weights=w))


def rmse(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The root of the mean squared error; of several outputs the mean of the root of each, as scikit-learn's.

        >>> rmse([1.0, 2, 3, 4], [1.0, 2, 3, 6])
        1.0
    """
    t, p, w = _prepared(y_true, y_pred, sample_weight)
    return float(np.sqrt(np.average((t - p) ** 2, axis=0, weights=w)).mean())


def mae(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The mean absolute error, of all outputs alike.

        >>> mae([1.0, 2, 3], [1.0, 2, 6])
        1.0
    """
    t, p, w = _prepared(y_true, y_pred, sample_weight)
    return float(np.average(np.abs(t - p).mean(1), weights=w))


def r2(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """1 - squared errors / squared deviations of y_true from its mean; the mean over outputs.

    Predicting the mean is worth 0. An output whose targets are all equal has 1 if every prediction is right, else 0. NaN of
    fewer than two samples.

        >>> r2([1.0, 2, 3], [1.0, 2, 4])
        0.5
    """
    t, p, w = _prepared(y_true, y_pred, sample_weight)
    if len(t) < 2:
        return float("nan")
    t, p = t - t[:1], p - t[:1]         # so that equal targets deviate by exactly 0, which their rounded mean would not give
    errors = w @ (t - p) ** 2
    deviations = w @ (t - np.average(t, axis=0, weights=w)) ** 2
    each = np.where(deviations > 0, 1 - errors / np.where(deviations > 0, deviations, 1), errors == 0)
    return float(each.mean())


def _prepared(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Targets and predictions (n, O) as float64, weights (n,)."""
    shape = np.shape(y_true)
    if not shape or not shape[0]:
        raise ValueError("y_true is empty" if shape else "y_true must have an axis of samples; it is a single number")
    t, p = score_array(y_true, shape[0], "y_true"), score_array(y_pred, shape[0], "y_pred")
    if not same_shape(t.shape, p.shape):
        raise ValueError(f"y_true and y_pred must be of one shape; they are {t.shape} and {p.shape}")
    return t.reshape(len(t), -1), p.reshape(len(t), -1), weights_of(sample_weight, len(t))
