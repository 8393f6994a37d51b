"""How good predictions are, in figures: of a model, and of those it is compared with."""
# n rows, K classes
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydl.cli.reading import Array
from tinydl.metrics import MetricsEvaluator

#: what people call the figures of tinydl.metrics, in the order to show them
OF_CLASSES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "f1": "F1, mean of classes",
              "log_loss": "log-loss", "brier": "Brier score", "roc_auc": "AUC", "calibration_error": "calibration error"}
OF_NUMBERS = {"mae": "mean absolute error", "rmse": "RMSE", "r2": "R2"}


@dataclass(frozen=True)
class Outcome:
    """What is predicted of n rows, and what is true. classes: their names; None where numbers are predicted.
    y: classes, int64 (n,), or numbers, float64 (n,). outputs: scores of the classes (n, K), or numbers (n,)."""

    target: str
    classes: list[str] | None
    y: Array
    outputs: Array

    def figures(self) -> dict[str, float]:
        """By their names in tinydl.metrics; NaN where one has no value, as the AUC of rows of one class alone."""
        evaluator = MetricsEvaluator(*(OF_CLASSES if self.classes else OF_NUMBERS))
        evaluator.update(self.outputs, self.y)
        return evaluator.result()


def simplest(facts: dict[str, Any], shares: list[float] | None, y: Array) -> Outcome | None:
    """What whoever does not look at the features says of rows whose targets are y: the classes' shares among the training rows
    as probabilities, so the commonest class; or the mean of the training rows. None where the shares are not known."""
    if facts["classes"] is None:
        return Outcome(facts["target"], None, y, np.full(len(y), facts["target_mean"]))
    if shares is None:
        return None
    logs = np.log(np.maximum(shares, 1e-12))        # a class without a training row: hardly
    return Outcome(facts["target"], facts["classes"], y, np.broadcast_to(logs, (len(y), len(logs))))


def text(name: str, value: float | None) -> str:
    """A figure for people; a dash where it has no value."""
    if value is None or value != value:
        return "-"
    return f"{value:.4f}" if name in OF_CLASSES or name == "r2" else f"{value:.6g}"


def table(columns: dict[str, dict[str, Any]], head: str = "") -> list[list[str]]:
    """A header, and a row for each figure that a column has; columns: their figures by name."""
    names = {**OF_CLASSES, **OF_NUMBERS}
    there = [name for name in names if any(name in figures for figures in columns.values())]
    return [[head, *columns],
            *([names[name], *(text(name, figures.get(name)) for figures in columns.values())] for name in there)]
