"""Loss: what a plan emits after the model; PythonLoss: one that a user writes with NumPy."""
from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from tinydl.data.checks import as_weights
from tinydl.nn.arguments import RecordsArguments
from tinydl.plan import Builder, Value
from tinydl.plan.builder import INT64_RANGE

Array = np.ndarray[Any, Any]


def same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes are equal but for axes of size 1 at their ends."""
    n = max(len(a), len(b))
    return a + (1,) * (n - len(a)) == b + (1,) * (n - len(b))


class Loss(RecordsArguments):
    """Emits its targets, its value and, in training, its gradient by the model's output."""

    #: whether targets are class labels (int64, one a sample or place of a sequence) rather than numbers shaped like the output
    labels = False

    def emit(self, b: Builder, y: Any) -> Any:
        """Emit the operations; return the gradient of y in training, None in evaluation. y: a Value; for Joint, a dict or tuple
        of them, and so are the gradients."""
        return self.emit_on(b, y, self.emit_targets(b, y), self.emit_weights(b))

    def emit_on(self, b: Builder, y: Value, targets: Value, weights: Value | None) -> Value | None:
        """The same, of targets and sample weights that are gathered already."""
        raise NotImplementedError(f"{type(self).__name__}.emit_on")

    def unit(self, output_shape: tuple[int, ...], weighted: bool) -> int:
        """What a sample of weight 1, all of which counts, adds to the weight of a batch: more than 1 where the loss counts the
        places of a sequence, as SoftmaxCrossEntropy does. Joint needs it. weighted: whether samples have weights."""
        return 1

    def check_outputs(self, outputs: Any) -> None:
        """ValueError where it is not a loss for outputs of these shapes: of several, a dict by their names or a tuple of
        shapes."""
        if isinstance(outputs, dict) or (outputs and isinstance(outputs[0], tuple)):
            raise ValueError(f"{self!r} is the loss of one output, and the model has {len(outputs)}"
                             f"{' (' + ', '.join(outputs) + ')' if isinstance(outputs, dict) else ''}: losses.Joint gives each "
                             "a loss of its own")

    def sources(self, targets: Any) -> Sequence[Array]:
        """The arrays of a dataset's y, in the order in which `emit` gathers from them."""
        if isinstance(targets, (dict, tuple)):
            raise ValueError(f"{self!r} takes one array of targets, and the data have {len(targets)}: losses.Joint takes several")
        return [targets]

    def __call__(self, outputs: Array, targets: Array, sample_weight: Any = None) -> float:
        """The mean loss of outputs (B, ...) against targets; with sample_weight (B,) or (B, *places), sum(w loss) / sum(w), and 0
        where all weights are 0."""
        raise NotImplementedError

    def mean(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> tuple[float, float]:
        """The same, and what it weighs in a mean over batches: the sum of the weights that counted, or without weights B."""
        if sample_weight is None:
            return float(self(outputs, targets)), float(len(outputs))
        return float(self(outputs, targets, sample_weight)), float(np.sum(sample_weight, dtype=np.float64))

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        """Targets (samples, ...) as this loss needs them for a model with that output; ValueError says what does not fit."""
        self.sources(targets)
        if self.labels:
            places = output_shape[:-1]      # of a sequence
            wanted = f"(samples, {', '.join(map(str, places))})" if places else "(samples,)"
            if not output_shape:
                raise ValueError(f"{type(self).__name__} needs one score a class; the model's output is {output_shape}")
            if targets.shape[1:] != places or targets.ndim < 1 or targets.dtype.kind not in "iub":
                hint = (": np.argmax(y, -1), where they are one-hot; losses.KLDivergence() on nn.LogSoftmax() takes probabilities"
                        if targets.shape[1:] == output_shape else
                        ": y.astype('int64'), where they are whole numbers" if targets.shape[1:] == places else
                        "; scores of a class are along the last axis, where nn.Permute((1, 2, 0)) brings channels of (C, H, W)"
                        if len(output_shape) == 3 and targets.shape[1:] == output_shape[1:] else "")
                raise ValueError(f"{type(self).__name__} needs integer class labels of shape {wanted}; "
                                 f"y is {targets.dtype} of shape {targets.shape}{hint}")
            ignored = getattr(self, "ignore_index", None)
            known = targets if ignored is None else targets[targets != ignored]
            low, high = (int(known.min()), int(known.max())) if known.size else (0, 0)
            if low < 0 or high >= output_shape[-1]:
                hint = (f": ignore_index={low} of the loss, and of AccuracyEvaluator, leaves out what has that label"
                        if low < 0 and ignored is None and hasattr(self, "ignore_index") else "")
                raise ValueError(f"class labels run from {low} to {high}; the model's {output_shape[-1]} outputs "
                                 f"allow 0 to {output_shape[-1] - 1}{hint}")
            return np.ascontiguousarray(targets, np.int64)
        shape = self.target_shape(output_shape)
        if targets.dtype.kind not in "fiub" or targets.ndim < 1 or not same_shape(targets.shape[1:], shape):
            like = "targets shaped like the output," if shape == output_shape else "targets of shape"
            labels = isinstance(self, PythonLoss) and targets.dtype.kind in "iub" and targets.shape[1:] == output_shape[:-1]
            raise ValueError(f"{type(self).__name__} needs {like} (samples, "
                             f"{', '.join(map(str, shape))}); y is {targets.dtype} of shape {targets.shape}"
                             + ": write labels = True in the class, where it takes class labels" * labels)
        return np.ascontiguousarray(targets)

    def target_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a sample's targets, where they are numbers; ValueError where such an output does not fit this loss."""
        return output_shape

    def _pair(self, outputs: Any, targets: Any) -> tuple[Array, Array]:
        """Outputs, and targets of the shape and dtype that they have in training: labels (B,) int64, or as the outputs."""
        y = np.ascontiguousarray(outputs)
        y = y if y.dtype in (np.float32, np.float64) else y.astype(np.float64)
        t = self.check_targets(np.asarray(targets), y.shape[1:])
        if len(t) != len(y):
            raise ValueError(f"{type(self).__name__}: {len(y)} outputs and {len(t)} targets")
        return y, t if self.labels else t.reshape(len(y), *self.target_shape(y.shape[1:])).astype(y.dtype, copy=False)

    def emit_targets(self, b: Builder, y: Value) -> Value:
        """Emit the gathering of this batch's targets."""
        if self.labels:
            every = getattr(self, "ignore_index", None) is not None     # then the loss itself looks at them
            return b.gather(y.shape[:-1], "labels", INT64_RANGE if every else (0, y.shape[-1]), label="loss")
        return b.gather(self.target_shape(y.shape), "targets", label="loss")

    def emit_weights(self, b: Builder) -> Value | None:
        """Emit the gathering of this batch's sample weights (a number a sample, or one for each of its places), behind that of
        its targets; None where the samples have none."""
        return None if b.weight_shape is None else b.gather(b.weight_shape, "sample_weight", label="loss")

    def places(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The first axes of a sample's targets along which weights may differ."""
        return output_shape[:-1] if self.labels else self.target_shape(output_shape)

    def check_weights(self, shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        """ValueError where it takes no weights of this shape a sample."""
        places = self.places(output_shape)
        if shape != places[:len(shape)]:
            taken = [f"(samples, {', '.join(map(str, places[:n]))})" for n in range(1, len(places) + 1)]
            raise ValueError(f"sample_weight has shape (samples, {', '.join(map(str, shape))}); {self!r} of outputs "
                             f"(samples, {', '.join(map(str, output_shape))}) takes {' or '.join(['(samples,)', *taken])}")


class PythonLoss(Loss):
    """A loss in NumPy: subclass it and write forward(outputs, targets) -> (mean loss, gradient by outputs).

    For data with sample weights write forward(outputs, targets, sample_weight=None): the mean is sum(w l) / sum(w) then, w (B,),
    or (B, *places) as the data have them, of the outputs' dtype and never all 0 (such a batch counts nothing). It is not given
    where the data have no weights.

    outputs: (B, ...) of the model's dtype. targets: the same shape and dtype, whatever the dataset has; or, with
    `labels = True` in the class, class labels (B,) int64. So it is in training and in evaluation alike. It takes the GIL
    while it runs; in parallel training each replica has its own deep copy.

        >>> class Quartic(PythonLoss):
        ...     def forward(self, outputs, targets):
        ...         d = outputs - targets
        ...         return float(np.mean(d ** 4)), 4 * d ** 3 / d.size
    """

    def forward(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        raise NotImplementedError(f"{type(self).__name__}.forward(outputs, targets) -> (loss, gradient)")

    def weighted(self, outputs: Array, targets: Array, weights: Array) -> tuple[float, Array, float]:
        """Mean loss, gradient, and the sum of weights."""
        total = float(weights.sum(dtype=np.float64))
        if total == 0:
            return 0.0, np.zeros_like(outputs), 0.0
        self._takes_weights()
        loss, gradient = self.forward(outputs, targets, weights)    # type: ignore[call-arg]
        return loss, gradient, total

    def _takes_weights(self) -> None:
        try:
            signature(self.forward).bind(None, None, None)
        except TypeError:
            name = type(self).__name__
            raise TypeError(f"the data have sample weights, and {name}.forward(outputs, targets) takes none: write "
                            f"{name}.forward(outputs, targets, sample_weight=None)") from None

    def __call__(self, outputs: Array, targets: Array, sample_weight: Any = None) -> float:
        y, t = self._pair(outputs, targets)
        if sample_weight is None:
            return float(self.forward(y, t)[0])
        w = as_weights(sample_weight, len(y), shape=np.shape(sample_weight)[1:])
        self.check_weights(w.shape[1:], y.shape[1:])
        return float(self.weighted(y, t, w.astype(y.dtype, copy=False))[0])

    def emit_on(self, b: Builder, y: Value, targets: Value, weights: Value | None) -> Value | None:
        if weights is not None:
            self._takes_weights()
            self.check_weights(weights.shape, y.shape)
        dy = b.value(y.shape) if b.training else None
        with b.scope("loss"):
            b.python(_Run(self), [b.whole(y), targets, weights], [dy])
        return dy


class _Run:
    def __init__(self, loss: PythonLoss) -> None:
        self.layer = loss

    def run(self, local: dict[str, Any], arrays: list[Array | None]) -> float | tuple[float, float]:
        y, t, w, dy = arrays
        assert y is not None and t is not None
        given = self.layer.forward(y, t) if w is None else self.layer.weighted(y, t, w)
        if not isinstance(given, (tuple, list)) or len(given) < 2:
            raise TypeError(f"{type(self.layer).__name__}.forward must return (loss, gradient by outputs); got "
                            f"{type(given).__name__}")
        loss, gradient, *weight = given
        if np.ndim(loss):
            raise TypeError(f"{type(self.layer).__name__}.forward returned a loss of shape {np.shape(loss)}: it is one number, "
                            "the mean over the batch")
        if dy is not None:
            if np.shape(gradient) != dy.shape:
                raise ValueError(f"{type(self.layer).__name__}.forward returned a gradient of shape {np.shape(gradient)}; "
                                 f"{dy.shape} was expected")
            dy[...] = gradient
        return (float(loss), weight[0]) if weight else float(loss)
