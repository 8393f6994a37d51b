"""Metrics of outputs against targets, and the evaluators that collect them batch by batch."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.data import ArrayDataset, Batch, Dataset, SequenceDataset
from tinydl.data.batch import each_input
from tinydl.data.frames import check_columns
from tinydl.losses.base import same_shape
from tinydl.sequence_outputs import padded_outputs
from tinydl.serialization import plain

if TYPE_CHECKING:
    from tinydl.losses import Loss
    from tinydl.model import Model

Array = np.ndarray[Any, Any]

__all__ = ["AccuracyEvaluator", "Evaluator", "JointEvaluator", "RegressionEvaluator", "evaluate"]


#: samples, and numbers in them, that `evaluate` takes at a time, where the dataset's batches are no larger
MOST_ROWS, MOST_NUMBERS = 4096, 1 << 18


class Evaluator:
    """Collects figures over batches: start(), update(outputs, targets) for each, result(). One of your own, in NumPy:

        >>> import numpy as np
        >>> from tinydl import Model, data, metrics, nn
        >>> class WorstError(metrics.Evaluator):
        ...     figure_names = ("worst_error",)
        ...     def start(self): self.worst = 0.0
        ...     def update(self, outputs, targets): self.worst = max(self.worst, np.abs(outputs - targets).max())
        ...     def result(self): return {"worst_error": float(self.worst)}
        >>> rows = np.array([[1.0], [2.0], [3.0]])
        >>> WorstError().evaluate(Model(nn.Identity()), data.ArrayDataset(rows, rows + [[0], [0.5], [0.25]]))
        {'worst_error': 0.5}
    """

    #: the names of result()'s figures; None: not known before there is a result
    figure_names: Sequence[str] | None = None

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        """ValueError where it cannot work with such targets (B, ...) and outputs (B, *output_shape). `Trainer.init` asks."""

    def start(self) -> None:
        """Forget everything."""
        raise NotImplementedError(f"{type(self).__name__}.start()")

    def update(self, outputs: Array, targets: Array) -> None:
        """One batch: outputs (B, ...); targets of the same shape, or class labels (B,) of outputs that score classes. Of several
        outputs both are dicts by names, or tuples."""
        raise NotImplementedError(f"{type(self).__name__}.update(outputs, targets)")

    def result(self) -> dict[str, float]:
        """The figures by name."""
        raise NotImplementedError(f"{type(self).__name__}.result() -> {{name: number}}")

    def evaluate(self, model: Model, dataset: Dataset) -> dict[str, float]:
        """The figures of `model` on all samples of `dataset`."""
        return evaluate(model, dataset, evaluator=self)


class AccuracyEvaluator(Evaluator):
    """`accuracy`: the share of samples whose class is right.

    The class is the output with the highest score (the first of equals), or, of a single output, whether its
    score is above 0 (a probability of one half under SigmoidCrossEntropy). Of sequences, outputs (B, T, C) and labels (B, T),
    every place counts as a sample. ignore_index: a label that does not count, as the loss's.
    """

    figure_names = ("accuracy",)

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        _check_one(self, output_shape)
        if len(output_shape) > 1 and targets.shape[1:] == output_shape[:-1]:
            targets, output_shape = targets.reshape(-1), output_shape[-1:]
        if self.ignore_index is not None:
            targets = targets[targets != self.ignore_index]
        if len(output_shape) > 1:
            raise ValueError(f"AccuracyEvaluator needs a score a class, or one in all; the model's output is {output_shape}")
        columns, classes, low, high = targets[:1].size, max([2, *output_shape]), targets.min(initial=0), targets.max(initial=0)
        numbers = columns == 1 and high < classes and bool(np.all(targets == np.rint(targets)))
        if low < 0 or not (numbers or (columns == classes and high <= 1)):
            raise ValueError(f"AccuracyEvaluator counts classes that are right: targets must be 0 to {classes - 1}, or {classes} "
                             f"columns of 0 to 1; y is {targets.dtype} of shape {targets.shape} from {low:g} to {high:g} (a "
                             "label that does not count is its ignore_index, as the loss's; for numbers to predict there is "
                             "RegressionEvaluator)")

    @_hints.arguments
    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        self.start()

    def start(self) -> None:
        self.right = self.n = 0

    def update(self, outputs: Array, targets: Array) -> None:
        if outputs.ndim > 2 and targets.shape == outputs.shape[:-1]:
            outputs, targets = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
        if self.ignore_index is not None and targets.ndim == 1 == len(outputs.shape[1:]):
            known = targets != self.ignore_index
            outputs, targets = outputs[known], targets[known]
        several = outputs.ndim == 2 and outputs.shape[1] > 1
        if several and targets.shape == outputs.shape:
            targets = targets.argmax(1)
        if not (several or same_shape(outputs.shape, outputs.shape[:1])) or not same_shape(targets.shape, outputs.shape[:1]):
            raise ValueError("AccuracyEvaluator needs scores (B, classes) or one score a sample, and labels (B,) or targets "
                             f"shaped like the scores; got outputs {outputs.shape} and targets {targets.shape}")
        classes = outputs.argmax(1) if several else outputs.reshape(len(outputs)) > 0
        targets = targets.reshape(len(outputs))
        self.right += int(np.count_nonzero(classes == targets))
        self.n += len(outputs)

    def result(self) -> dict[str, float]:
        return {"accuracy": self.right / self.n if self.n else float("nan")}


class RegressionEvaluator(Evaluator):
    """`mse`, `rmse` and `mae` over all numbers, and `r2`: the mean over a sample's outputs, as scikit-learn's r2_score.

    r2 of one output is 1 - squared errors / squared deviations of its targets from their mean; where its targets are all
    equal, 1 if every prediction is right, else 0. Of fewer than two samples r2 is NaN.

        >>> import numpy as np
        >>> e = RegressionEvaluator()
        >>> e.update(np.array([[1.0, 20], [1, 20]]), np.array([[0.0, 10], [2, 30]]))       # predicts each output's mean
        >>> e.result()["r2"]
        0.0
    """

    figure_names = ("mse", "rmse", "mae", "r2")

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        _check_one(self, output_shape)
        if targets[:1].size != np.prod(output_shape, dtype=int):
            raise ValueError(f"RegressionEvaluator needs targets shaped like the output, (samples, "
                             f"{', '.join(map(str, output_shape))}); y is {targets.dtype} of shape {targets.shape} (for classes "
                             "there is AccuracyEvaluator)")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.n = 0
        # Each array holds a number for every output. `mean` and `deviation` are of targets less the first sample's: so
        # equal targets have a deviation of exactly 0, which their rounded mean would not give.
        self.first: Array = np.zeros(0)
        self.squared = self.absolute = self.mean = self.deviation = np.zeros(1)

    def update(self, outputs: Array, targets: Array) -> None:
        if not same_shape(targets.shape, outputs.shape):
            raise ValueError(f"RegressionEvaluator needs targets shaped like the outputs, {outputs.shape}; got {targets.shape}")
        n = len(outputs)
        if not n:
            return
        y, t = (np.ascontiguousarray(a.reshape(n, -1).T, np.float64) for a in (outputs, targets.reshape(outputs.shape)))
        self.squared = self.squared + ((y - t) ** 2).sum(1)
        self.absolute = self.absolute + np.abs(y - t).sum(1)
        if not self.n:
            self.first = t[:, :1].copy()
        t = t - self.first
        # Chan et al. 1979: means and squared deviations of two parts into those of the whole
        mean = t.mean(1)
        delta, total = mean - self.mean, self.n + n
        self.deviation = self.deviation + ((t - mean[:, None]) ** 2).sum(1) + delta * delta * (self.n * n / total)
        self.mean = self.mean + delta * n / total
        self.n = total

    def result(self) -> dict[str, float]:
        if not self.n:
            return {"mse": float("nan"), "rmse": float("nan"), "mae": float("nan"), "r2": float("nan")}
        mse, mae = (float(a.mean()) / self.n for a in (self.squared, self.absolute))
        varied = (self.deviation > 0) | np.isnan(self.squared)
        r2 = np.where(varied, 1 - self.squared / np.where(self.deviation > 0, self.deviation, 1), self.squared == 0)
        return {"mse": mse, "rmse": mse ** 0.5, "mae": mae, "r2": float(r2.mean()) if self.n > 1 else float("nan")}


class JointEvaluator(Evaluator):
    """An evaluator for each of several outputs (or for some of them), by their names: figures are `kind_accuracy`, `price_r2`.

    For a model whose outputs have names, and data whose targets have them too (see losses.Joint):

        >>> import numpy as np
        >>> e = JointEvaluator({"kind": AccuracyEvaluator(), "price": RegressionEvaluator()})
        >>> e.update({"kind": np.eye(3), "price": np.ones((3, 1))}, {"kind": np.array([0, 1, 1]), "price": np.ones((3, 1))})
        >>> round(e.result()["kind_accuracy"], 3), e.result()["price_mae"]
        (0.667, 0.0)
    """

    def __init__(self, evaluators: Mapping[str, Evaluator]) -> None:
        if not isinstance(evaluators, Mapping) or not evaluators:
            raise TypeError(f"JointEvaluator takes a dict of evaluators by the names of outputs; got {evaluators!r}")
        for name, evaluator in evaluators.items():
            if not isinstance(evaluator, Evaluator):
                raise _hints.expected(f"the evaluator of {name}", Evaluator, evaluator)
        self.evaluators = dict(evaluators)
        names = [(name, e.figure_names) for name, e in evaluators.items()]
        if all(figures is not None for _, figures in names):
            self.figure_names = [f"{name}_{figure}" for name, figures in names for figure in figures or ()]

    def check_targets(self, targets: Any, output_shape: Any) -> None:
        for name, evaluator in self.evaluators.items():
            for what, given in (("outputs", output_shape), ("targets", targets)):
                if not isinstance(given, Mapping) or name not in given:
                    named = f"are {', '.join(given)}" if isinstance(given, Mapping) else "have no names"
                    raise ValueError(f"JointEvaluator has an evaluator of {name!r}; the {what} {named}")
            evaluator.check_targets(targets[name], output_shape[name])

    def start(self) -> None:
        for evaluator in self.evaluators.values():
            evaluator.start()

    def update(self, outputs: Any, targets: Any) -> None:
        for name, evaluator in self.evaluators.items():
            evaluator.update(outputs[name], targets[name])

    def result(self) -> dict[str, float]:
        return {f"{name}_{figure}": value for name, e in self.evaluators.items() for figure, value in e.result().items()}


def _check_one(evaluator: Evaluator, output_shape: Any) -> None:
    """ValueError where there are several outputs."""
    if isinstance(output_shape, dict) or (output_shape and isinstance(output_shape[0], tuple)):
        raise ValueError(f"{type(evaluator).__name__} is of one output, and the model has {len(output_shape)}: "
                         "JointEvaluator({name: evaluator, ...}) takes several")


def evaluate(model: Model, dataset: Dataset, *, loss: Loss | None = None, evaluator: Evaluator | None = None) -> dict[str, float]:
    """`loss` (the mean over samples, by their weights where they have any) and the evaluator's figures (of all samples alike; of
    sequences whose steps have weights, of all steps but those of weight 0), over all samples of `dataset` in order; ValueError
    where there are none."""
    if not isinstance(dataset, Dataset):
        raise _hints.expected("dataset", Dataset, dataset)
    check_columns(dataset.feature_names, model.feature_names, "the dataset")
    total, weights, n = 0.0, 0.0, 0
    if evaluator is not None:
        evaluator.start()
    for outputs, y, sample_weight in _pieces(model, dataset):
        y = _like(y, outputs)
        if loss is not None:
            mean, weight = loss.mean(outputs, y, sample_weight)
            total, weights = total + mean * weight, weights + weight
        if evaluator is not None:
            evaluator.update(*_known(outputs, y, sample_weight))
        n += len(_each(y)[0])
    if not n:
        raise ValueError(f"the dataset is empty: {type(dataset).__name__} gave no sample")
    figures = {} if loss is None else {"loss": total / weights if weights else 0.0}
    return {**figures, **(plain(evaluator.result()) if evaluator is not None else {})}


def _pieces(model: Model, dataset: Dataset) -> Iterator[tuple[Any, Any, Array | None]]:
    """Outputs, y and weights of all samples in order, several batches at a time: what Python does around a batch of 32 samples
    takes several times as long as a small network does with them, and keeps the GIL from other threads. All kinds of datasets are
    cut alike, so that their figures have the same bits."""
    if type(dataset) is SequenceDataset:
        yield from _pieces_of_sequences(model, dataset)
        return
    if type(dataset) is ArrayDataset:
        rows, _ = dataset.order(0, 0, shuffle=False)
        step = dataset.batch_size * _at_once(dataset.batch_size, dataset.inputs)
        weights = dataset.sources[-1] if dataset.weighted else None
        for at in range(0, len(rows), step):
            piece = Batch(dataset.inputs, dataset.all_y, rows[at:at + step], sample_weight=weights,
                          prepared=dataset.prepared())
            x, y = piece.arrays(model.dtype)
            yield model.predict(x), y, piece.weights()
        return
    if isinstance(dataset, ArrayDataset) and dataset.augment:
        dataset = dataset.with_transforms(dataset.normalize)
    loaded = map(methodcaller("load"), dataset.epoch(0, 0, shuffle=False))
    batches = ((*batch.arrays(model.dtype), batch.weights()) for batch in loaded)
    for x, y, w in batches:
        more = islice(batches, _at_once(len(_each(y)[0]), x) - 1)
        xs, ys, ws = zip((x, y, w), *more, strict=True)
        yield model.predict(_joined(xs)), _joined(ys), None if w is None else _joined(ws)


def _pieces_of_sequences(model: Model, dataset: SequenceDataset) -> Iterator[tuple[Any, Any, Array | None]]:
    """The same, where as many samples go through the model at a time as outputs fit into what `evaluate` takes: the more that are
    brought into batches of similar lengths, the less padding."""
    rows, _ = dataset.order(0, 0, shuffle=False)
    step = dataset.batch_size * _at_once(dataset.batch_size, dataset.inputs)
    outputs = model.output_shape(dataset.input_shape)
    several = isinstance(outputs, dict) or isinstance(outputs[0], tuple)
    largest: int = sum(map(prod, _each(outputs) if several else [outputs]))
    block = max(1, MOST_NUMBERS // largest // step) * step
    for first in range(0, len(rows), block):
        some = dataset.subset(np.arange(first, min(first + block, len(rows))))
        outputs = padded_outputs(model, some)
        for at in range(0, len(some), step):
            piece = Batch(dataset.inputs, dataset.all_y, rows[first + at:first + at + step],
                          sample_weight=dataset.all_weights[0] if dataset.weighted else None)
            yield each_input(outputs, lambda a, at=at: a[at:at + step]), piece.targets(), piece.weights()   # type: ignore[misc]


def _at_once(n: int, x: Any) -> int:
    """How many batches of n samples of x are taken at a time."""
    items: int = sum(prod(a.shape[1:]) for a in _each(x))
    return max(1, min(MOST_ROWS, MOST_NUMBERS // max(1, items)) // max(1, n))


def _each(x: Any) -> Sequence[Array]:
    return list(x.values()) if isinstance(x, dict) else x if isinstance(x, tuple) else [x]


def _joined(parts: Sequence[Any]) -> Any:
    """Arrays, or what holds several, one behind the other."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: _joined([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(map(_joined, zip(*parts, strict=True)))
    return first if len(parts) == 1 else np.concatenate(parts)


def _known(outputs: Any, y: Any, weights: Array | None) -> tuple[Any, Any]:
    """Outputs (B, T, ...) and targets; where each step has a weight (B, T), those of steps that count, one behind the other."""
    if weights is None or not 1 < weights.ndim < np.ndim(outputs):
        return outputs, y
    counts = weights > 0
    return outputs[counts], y[counts]


def _like(y: Any, outputs: Any) -> Any:
    """Targets in the outputs' shape where they have as many numbers: else (B,) - (B, 1) in somebody's evaluator makes (B, B)."""
    if isinstance(y, dict) and isinstance(outputs, dict):
        return {name: _like(one, outputs[name]) if name in outputs else one for name, one in y.items()}
    if isinstance(y, np.ndarray) and isinstance(outputs, np.ndarray) and same_shape(y.shape, outputs.shape):
        return y.reshape(outputs.shape)
    return y
