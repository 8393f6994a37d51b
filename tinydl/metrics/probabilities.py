"""Metrics of predicted probabilities: log-loss, Brier score, calibration error."""
# n samples, K classes
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl.metrics.arguments import Array, class_numbers, label_array, score_array, weights_of


def log_loss(y_true: Any, y_prob: Any, *, labels: Sequence[Any] | None = None, sample_weight: Any = None) -> float:
    """The mean over samples of -log(probability of the right class).

    y_prob: of two classes the probability of the second (n,), or (n, K) whose rows sum to 1 (within 1e-3). Probabilities are
    clipped to eps and 1 - eps of their dtype (float32: 1.2e-7), so that one that is wrong and sure does not make it infinite.
    labels: the classes of the columns in sorted order, where they cannot be told from y_true.

        >>> round(log_loss([0, 1, 1], [0.1, 0.8, 0.6]), 4)
        0.2798
    """
    t, p, w = _prepared(y_true, y_prob, labels, sample_weight)
    dtype = np.asarray(y_prob).dtype
    eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else float(np.finfo(np.float64).eps)
    own = np.where(t == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(t)), t]
    return float(np.average(-np.log(np.clip(own, eps, 1 - eps)), weights=w))


def brier(y_true: Any, y_prob: Any, *, labels: Sequence[Any] | None = None, sample_weight: Any = None) -> float:
    """The mean squared error of probabilities: of two classes mean (p - y)^2, p and y of the second; of more the mean over
    samples of the sum over classes (Brier 1950). Arguments as of `log_loss`.

        >>> round(brier([0, 1, 1], [0.1, 0.8, 0.6]), 3)
        0.07
    """
    t, p, w = _prepared(y_true, y_prob, labels, sample_weight)
    if p.ndim == 2 and p.shape[1] == 2:
        p = p[:, 1]
    errors = (p - (t == 1)) ** 2 if p.ndim == 1 else (p * p).sum(1) + 1 - 2 * p[np.arange(len(t)), t]
    return float(np.average(errors, weights=w))


def calibration_error(y_true: Any, y_prob: Any, *, bins: int = 10, labels: Sequence[Any] | None = None,
                      sample_weight: Any = None) -> float:
    """The expected calibration error (Naeini et al. 2015): sum over bins of share of samples |mean y - mean p|.

    The bins, p and y are those of `calibration_curve`, whose distances from the diagonal this is the mean of. (Guo et al. 2017
    take 15 bins.) Arguments as of `log_loss`.

        >>> round(calibration_error([0, 1, 1, 1], [0.25, 0.75, 0.75, 0.75], bins=2), 3)
        0.25
    """
    bin_of, right, p, w = _binned(y_true, y_prob, bins, labels, sample_weight)
    differences = np.bincount(bin_of, w * (right - p), bins)        # share |mean y - mean p| = |sum w (y - p)| / sum w
    return float(np.abs(differences).sum() / w.sum())


def calibration_curve(y_true: Any, y_prob: Any, *, bins: int = 10, labels: Sequence[Any] | None = None,
                      sample_weight: Any = None) -> tuple[Array, Array, Array]:
    """The mean of y, the mean of p and the number of samples (or the sum of their weights) in each bin that has some, all float64
    (bins that have some,): a model is calibrated where the first two are equal.

    The bins are (0, 1/bins], (1/bins, 2/bins], ...: of equal width, 0 in the first. Of two classes p is the probability of
    the second and y whether a sample is of it; of more p is that of the most likely class, and y whether it is the right one.
    Arguments as of `log_loss`.

        >>> share, mean, n = calibration_curve([0, 1, 1, 1], [0.25, 0.75, 0.75, 0.75], bins=2)
        >>> share.tolist(), mean.tolist(), n.tolist()
        ([0.0, 1.0], [0.25, 0.75], [1.0, 3.0])
    """
    bin_of, right, p, w = _binned(y_true, y_prob, bins, labels, sample_weight)
    n = np.bincount(bin_of, w, bins)
    some = n > 0
    return np.bincount(bin_of, w * right, bins)[some] / n[some], np.bincount(bin_of, w * p, bins)[some] / n[some], n[some]


def _binned(y_true: Any, y_prob: Any, bins: int, labels: Sequence[Any] | None, sample_weight: Any,
            ) -> tuple[Array, Array, Array, Array]:
    """Of each sample its bin, y, p and weight, as `calibration_curve` says."""
    if not isinstance(bins, (int, np.integer)) or bins < 1:
        raise ValueError(f"bins={bins!r}: a whole number of at least 1")
    t, p, w = _prepared(y_true, y_prob, labels, sample_weight)
    if p.ndim == 1 or p.shape[1] == 2:
        p, right = p if p.ndim == 1 else p[:, 1], t == 1
    else:
        named = p.argmax(1)
        p, right = p[np.arange(len(t)), named], named == t
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p), right, p, w


def _prepared(y_true: Any, y_prob: Any, labels: Sequence[Any] | None, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Class numbers (n,), probabilities (n,) or (n, K), weights (n,)."""
    y = label_array(y_true, "y_true")
    p, w = score_array(y_prob, len(y), "y_prob"), weights_of(sample_weight, len(y))
    if p.min() < 0 or p.max() > 1:
        at = tuple(map(int, np.argwhere((p < 0) | (p > 1))[0]))
        raise ValueError(f"y_prob[{', '.join(map(str, at))}] is {p[at]:g}, which is no probability: a softmax (or of one output "
                         "a sigmoid) turns scores into them")
    if p.ndim == 2 and np.abs(sums := p.sum(1) - 1).max() > 1e-3:
        row = int(np.abs(sums).argmax())
        raise ValueError(f"the probabilities of sample {row} sum to {1 + sums[row]:g}, and must to 1")
    return class_numbers(y, p.shape[1] if p.ndim == 2 else 2, labels), p, w
