"""MetricsEvaluator: the figures of this package by name, for a `Trainer`."""
# B samples of a batch, K classes
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.losses.base import same_shape
from tinydl.metrics import classes, probabilities, ranking, regression
from tinydl.metrics.evaluators import AccuracyEvaluator, Evaluator, RegressionEvaluator

Array = np.ndarray[Any, Any]

#: by what they are computed from
OF_CLASSES: dict[str, Callable[..., Any]] = {
    "accuracy": classes.accuracy, "balanced_accuracy": classes.balanced_accuracy, "precision": classes.precision,
    "recall": classes.recall, "f1": classes.f1}
OF_SCORES: dict[str, Callable[..., Any]] = {
    "roc_auc": ranking.roc_auc, "average_precision": ranking.average_precision, "top_k_accuracy": ranking.top_k_accuracy}
OF_PROBABILITIES: dict[str, Callable[..., Any]] = {
    "log_loss": probabilities.log_loss, "brier": probabilities.brier, "calibration_error": probabilities.calibration_error}
OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "mse": regression.mse, "rmse": regression.rmse, "mae": regression.mae, "r2": regression.r2}


class MetricsEvaluator(Evaluator):
    """Figures of `tinydl.metrics` by their names, with those functions' default arguments.

    names: of classes (accuracy, balanced_accuracy, precision, recall, f1, roc_auc, average_precision, top_k_accuracy, log_loss,
    brier, calibration_error), or of numbers (mse, rmse, mae, r2), not of both.

    Of classes, outputs are scores as the losses take them: (B, K) for SoftmaxCrossEntropy, or one a sample for
    SigmoidCrossEntropy; a softmax or sigmoid makes the probabilities. Targets are labels, or columns that sum to 1, whose
    largest is the label. Of sequences, outputs (B, T, K) and labels (B, T), each place counts as a sample. ignore_index: a
    label that does not count, as the loss's.

    Most of these figures are no mean over batches, so outputs and targets are kept until `result` (K + 1 numbers a sample). All
    are NaN where an output is not finite.

        >>> import numpy as np
        >>> e = MetricsEvaluator("roc_auc", "accuracy")
        >>> e.update(np.array([[2.0, 0], [0, 1], [1, 0]]), np.array([0, 1, 1]))
        >>> e.result()
        {'roc_auc': 1.0, 'accuracy': 0.6666666666666666}
    """

    @_hints.arguments
    def __init__(self, *names: str, ignore_index: int | None = None) -> None:
        of_classes = {**OF_CLASSES, **OF_SCORES, **OF_PROBABILITIES}
        if not names:
            raise ValueError(f"MetricsEvaluator needs names of figures: of {', '.join(of_classes)}; or of "
                             f"{', '.join(OF_NUMBERS)}")
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"MetricsEvaluator takes names one by one, MetricsEvaluator(\"accuracy\", \"f1\"); got {name!r}"
                                + "; a figure of your own is a metrics.Evaluator with start, update and result" * callable(name))
            if name not in of_classes and name not in OF_NUMBERS:
                raise ValueError(f"MetricsEvaluator has no figure {name!r}; of classes there are {', '.join(of_classes)}; of "
                                 f"numbers {', '.join(OF_NUMBERS)}")
        a, b = (next((name for name in names if name in kind), None) for kind in (of_classes, OF_NUMBERS))
        if a is not None and b is not None:
            raise ValueError(f"{a} is a figure of classes and {b} of numbers: take figures of one kind")
        self.figure_names: tuple[str, ...] = tuple(dict.fromkeys(names))
        self.ignore_index = ignore_index
        self._of_numbers = b is not None
        self.start()

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        checked = RegressionEvaluator() if self._of_numbers else AccuracyEvaluator(self.ignore_index)
        try:
            checked.check_targets(targets, output_shape)
        except ValueError as e:
            raise ValueError(str(e).replace(type(checked).__name__, type(self).__name__)) from None
        if "top_k_accuracy" in self.figure_names and len(output_shape) and output_shape[-1] < 3:
            raise ValueError(f"top_k_accuracy (the first 2) says nothing of outputs {output_shape}")

    def start(self) -> None:
        self._outputs: list[Array] = []
        self._targets: list[Array] = []

    def update(self, outputs: Array, targets: Array) -> None:
        if self._of_numbers:
            if not same_shape(targets.shape, outputs.shape):
                raise ValueError(f"MetricsEvaluator needs targets shaped like the outputs, {outputs.shape}; got {targets.shape}")
            outputs, targets = outputs.reshape(len(outputs), -1), targets.reshape(len(outputs), -1)
        else:
            outputs, targets = self._scores_and_labels(outputs, targets)
        self._outputs.append(np.array(outputs, np.float64))
        self._targets.append(np.array(targets))

    def _scores_and_labels(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """(n, K) and (n,), K at least 2: of one score s a sample, 0 and s."""
        if outputs.ndim > 2 and targets.shape == outputs.shape[:-1]:
            outputs, targets = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
        several = outputs.ndim == 2 and outputs.shape[1] > 1
        if several and targets.shape == outputs.shape:
            targets = targets.argmax(1)
        if not (several or same_shape(outputs.shape, outputs.shape[:1])) or not same_shape(targets.shape, outputs.shape[:1]):
            raise ValueError("MetricsEvaluator needs scores (B, classes) or one score a sample, and labels (B,) or targets "
                             f"shaped like the scores; got outputs {outputs.shape} and targets {targets.shape}")
        outputs, targets = outputs.reshape(len(outputs), -1), targets.reshape(len(outputs))
        if not several:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], 1)
        if self.ignore_index is not None:
            known = targets != self.ignore_index
            outputs, targets = outputs[known], targets[known]
        return outputs, targets.astype(np.int64)

    def result(self) -> dict[str, float]:
        names = self.figure_names
        y = np.concatenate(self._outputs) if self._outputs else np.zeros((0, 1))
        if not len(y) or not np.isfinite(y).all():
            return dict.fromkeys(names, float("nan"))
        t = np.concatenate(self._targets)
        if self._of_numbers:
            return {name: OF_NUMBERS[name](t, y) for name in names}
        K = y.shape[1]
        # The logarithms of the probabilities have their order, and stay apart where probabilities are rounded to 1.
        logs = _log_softmax(y)
        scores = y[:, 1] - y[:, 0] if K == 2 else logs
        named = y.argmax(1)
        figures = {}
        for name in names:
            if name in OF_CLASSES:
                figures[name] = float(OF_CLASSES[name](t, named))
            elif name in OF_SCORES:
                figures[name] = float(OF_SCORES[name](t, scores, labels=range(K)))
            else:
                figures[name] = float(OF_PROBABILITIES[name](t, np.exp(logs), labels=range(K)))
        return figures


def _log_softmax(y: Array) -> Array:
    """log(softmax) of scores (n, K). The largest is set apart: 1 + (all others) would be rounded to 1 where they are small."""
    logs = y - y.max(1, keepdims=True)
    others = np.exp(logs)
    others[np.arange(len(y)), y.argmax(1)] = 0
    return np.asarray(logs - np.log1p(others.sum(1, keepdims=True)))
