"""What outputs mean: classes, labels, numbers, quantiles; and by how much the scores of classes are to be divided."""
# n rows, K outputs
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import losses, nn
from tinydl.losses import Loss
from tinydl.nn.layer import Symbol
from tinydl.tabular.recipe import Recipe

Array = np.ndarray[Any, Any]

__all__ = ["Classes", "Labels", "Quantiles", "Task", "Values", "ranks", "temperature"]


class Task:
    """What outputs mean: their number, the loss, how good they are (`figure`: lower is better), and `link`: the layer that
    makes predictions of them, None where they are that."""

    n_outputs: int
    link: type[nn.Layer] | None = None

    def loss(self, recipe: Recipe) -> Loss:
        raise NotImplementedError

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        raise NotImplementedError

    def strata(self, targets: Array) -> Array:
        """(n,): parts of the rows are to have equal shares of each of these."""
        return np.zeros(len(targets), np.int64)

    def apart(self, y: Symbol) -> Symbol:
        """The outputs (members, K) of several, as the loss takes them, for each of which targets are given."""
        return y

    def for_each(self, targets: Array, members: int) -> Array:
        """The targets of so many members, as the loss takes them beside `apart`."""
        return np.repeat(targets[:, None], members, 1)

    def scores(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Scores (n, K) float64 of which softmax makes probabilities, and the right ones' numbers (n,)."""
        raise TypeError(f"{type(self).__name__} has no probabilities")


class Classes(Task):
    """One of n classes: targets (n,) integers, an output a class; log-loss."""

    link: type[nn.Layer] | None = nn.Softmax

    def __init__(self, n: int) -> None:
        self.n_outputs = n

    def loss(self, recipe: Recipe) -> Loss:
        return losses.SoftmaxCrossEntropy(label_smoothing=recipe.label_smoothing)

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        z, right = self.scores(outputs, targets)
        z -= z.max(1, keepdims=True)
        each = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), right]
        return float(np.average(each.reshape(len(outputs), -1).mean(1), weights=weights))

    def strata(self, targets: Array) -> Array:
        return targets

    def scores(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        return outputs.astype(np.float64), targets


class Labels(Classes):
    """Any of n labels: targets (n, labels) of 0 and 1, an output a label; log-loss, the mean over labels."""

    link = nn.Sigmoid

    def loss(self, recipe: Recipe) -> Loss:
        return losses.SigmoidCrossEntropy(label_smoothing=recipe.label_smoothing)

    def strata(self, targets: Array) -> Array:
        return Task.strata(self, targets)

    def scores(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        z = outputs.astype(np.float64).ravel()
        return np.stack([np.zeros_like(z), z], 1), targets.astype(np.int64).ravel()


class Values(Task):
    """Numbers: targets (n, K), of about unit scale; mean squared error."""

    def __init__(self, n: int) -> None:
        self.n_outputs = n

    def loss(self, recipe: Recipe) -> Loss:
        return losses.MeanSquaredError()

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        difference = outputs.astype(np.float64) - targets
        return float(np.average((difference * difference).mean(1), weights=weights))


class Quantiles(Values):
    """Quantiles of one number: targets (n, 1), an output for each of the levels; pinball loss."""

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__(len(levels))
        self.levels = np.array(levels, np.float64)

    def loss(self, recipe: Recipe) -> Loss:
        return losses.Quantile(self.levels)

    def apart(self, y: Symbol) -> Symbol:
        """The loss takes the outputs of all members for the first level, then those for the second, ..."""
        return nn.Flatten()(nn.Permute((1, 0))(y))

    def for_each(self, targets: Array, members: int) -> Array:
        return np.repeat(targets, members, 1)

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        d = targets.astype(np.float64) - outputs
        return float(np.average(np.maximum(self.levels * d, (self.levels - 1) * d).mean(1), weights=weights))


def ranks(levels: Sequence[float]) -> Array:
    """The place of each level among them in ascending order."""
    return np.argsort(np.argsort(levels, kind="stable"), kind="stable")


def temperature(z: Array, right: Array, weights: Array | None = None, smoothing: float = 0.0) -> float:
    """The T > 0 for which softmax(z / T) has the lowest log-loss; z (n, K), the right classes' numbers (n,). From 1/8 to 8.
    smoothing: the share that all classes alike have of what is right, which is the right class's alone with 0. 1 / (n + 1) is as
    if there were one row more, of all classes alike (Platt 1999 does likewise): where a few rows are all right, that says little
    of how sure the scores may be.

    The log-loss is convex in 1 / T: its derivative is the mean of E[z] - z[right], where E is over softmax(z / T).
    """
    z = z - z.max(1, keepdims=True)
    own, low, high = (1 - smoothing) * z[np.arange(len(z)), right] + smoothing * z.mean(1), 1 / 8, 8.0
    for _ in range(20):         # halves the interval of log(1 / T) each time
        middle = float(np.sqrt(low * high))
        p = np.exp(z * middle)
        slope = float(np.average((p * z).sum(1) / p.sum(1) - own, weights=weights))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(1 / np.sqrt(low * high))
