"""Metrics of outputs against targets, and the evaluators that collect them batch by batch."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tinydl.data import Dataset
    from tinydl.losses import Loss
    from tinydl.model import Model

Array = np.ndarray[Any, Any]

__all__ = ["AccuracyEvaluator", "Evaluator", "RegressionEvaluator", "evaluate"]


class Evaluator:
    """Collects figures over batches: start(), update(outputs, targets) for each, result()."""

    #: the names of result()'s figures; None: not known before there is a result
    figure_names: Sequence[str] | None = None

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        """ValueError where it cannot work with such targets (B, ...) and outputs (B, *output_shape). `Trainer.init` asks."""

    def start(self) -> None:
        """Forget everything."""
        raise NotImplementedError

    def update(self, outputs: Array, targets: Array) -> None:
        """One batch: outputs (B, ...), targets (B, ...)."""
        raise NotImplementedError

    def result(self) -> dict[str, float]:
        """The figures by name."""
        raise NotImplementedError

    def evaluate(self, model: Model, dataset: Dataset) -> dict[str, float]:
        """The figures of `model` on all samples of `dataset`."""
        return evaluate(model, dataset, evaluator=self)


class AccuracyEvaluator(Evaluator):
    """`accuracy`: the share of samples whose class is right.

    The class is the output with the highest score (the first of equals), or, of a single output, whether its
    score is above 0 (a probability of one half under SigmoidCrossEntropy).
    """

    figure_names = ("accuracy",)

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        if len(output_shape) > 1:
            raise ValueError(f"AccuracyEvaluator needs a score a class, or one in all; the model's output is {output_shape}")
        columns, classes, low, high = targets[:1].size, max([2, *output_shape]), targets.min(initial=0), targets.max(initial=0)
        numbers = columns == 1 and high < classes and bool(np.all(targets == np.rint(targets)))
        if low < 0 or not (numbers or (columns == classes and high <= 1)):
            raise ValueError(f"AccuracyEvaluator counts classes that are right: targets must be 0 to {classes - 1}, or {classes} "
                             f"columns of 0 to 1; y is {targets.dtype} of shape {targets.shape} from {low:g} to {high:g} (for "
                             "numbers to predict there is RegressionEvaluator)")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.right = self.n = 0

    def update(self, outputs: Array, targets: Array) -> None:
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            classes = outputs.argmax(1)
        else:
            classes = (outputs.reshape(len(outputs)) > 0).astype(np.int64)
        targets = targets.argmax(1) if targets.ndim == 2 and targets.shape[1] > 1 else targets.reshape(len(targets))
        self.right += int(np.count_nonzero(classes == targets))
        self.n += len(outputs)

    def result(self) -> dict[str, float]:
        return {"accuracy": self.right / self.n if self.n else float("nan")}


class RegressionEvaluator(Evaluator):
    """`mse`, `rmse`, `mae`, and `r2` (1 - squared errors / squared deviations; NaN where targets are all equal)."""

    figure_names = ("mse", "rmse", "mae", "r2")

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        if targets[:1].size != np.prod(output_shape, dtype=int):
            raise ValueError(f"RegressionEvaluator needs targets shaped like the output, (samples, "
                             f"{', '.join(map(str, output_shape))}); y is {targets.dtype} of shape {targets.shape} (for classes "
                             "there is AccuracyEvaluator)")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.n = 0
        self.squared = self.absolute = self.mean = self.deviation = 0.0

    def update(self, outputs: Array, targets: Array) -> None:
        t = targets.reshape(outputs.shape).astype(np.float64)
        d = outputs.astype(np.float64) - t
        self.squared += float(np.sum(d * d))
        self.absolute += float(np.sum(np.abs(d)))
        # Chan et al. 1979: means and squared deviations of two parts into those of the whole
        n, mean = t.size, float(t.mean()) if t.size else 0.0
        if n:
            delta, total = mean - self.mean, self.n + n
            self.deviation += float(np.sum((t - mean) ** 2)) + delta * delta * self.n * n / total
            self.mean += delta * n / total
            self.n = total

    def result(self) -> dict[str, float]:
        if not self.n:
            return {"mse": float("nan"), "rmse": float("nan"), "mae": float("nan"), "r2": float("nan")}
        mse = self.squared / self.n
        r2 = 1 - self.squared / self.deviation if self.deviation > 0 else float("nan")
        return {"mse": mse, "rmse": mse ** 0.5, "mae": self.absolute / self.n, "r2": r2}


def evaluate(model: Model, dataset: Dataset, *, loss: Loss | None = None, evaluator: Evaluator | None = None) -> dict[str, float]:
    """`loss` (the mean over samples) and the evaluator's figures, over all samples of `dataset` in order; ValueError where
    there are none."""
    total, n = 0.0, 0
    if evaluator is not None:
        evaluator.start()
    for batch in dataset.epoch(0, 0, shuffle=False):
        x, y = batch.load().arrays()
        outputs = model.predict(x)
        if loss is not None:
            total += loss(outputs, y) * len(x)
        if evaluator is not None:
            evaluator.update(outputs, y)
        n += len(x)
    if not n:
        raise ValueError(f"the dataset is empty: {type(dataset).__name__} gave no sample")
    figures = {} if loss is None else {"loss": total / n}
    return {**figures, **(evaluator.result() if evaluator is not None else {})}
