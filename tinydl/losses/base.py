"""Loss: what a plan emits after the model; PythonLoss: one that a user writes with NumPy."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.nn.arguments import RecordsArguments
from tinydl.nn.values import Value

if TYPE_CHECKING:
    from tinydl.plan import Builder

Array = np.ndarray[Any, Any]


class Loss(RecordsArguments):
    """Emits its targets, its value and, in training, its gradient by the model's output."""

    #: whether targets are class labels (int64, one a sample) rather than numbers shaped like the output
    labels = False

    def emit(self, b: Builder, y: Value) -> Value | None:
        """Emit the operations; return the gradient of y in training, None in evaluation."""
        raise NotImplementedError

    def __call__(self, outputs: Array, targets: Array) -> float:
        """The mean loss of outputs (B, ...) against targets."""
        raise NotImplementedError

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        """The dataset's y as this loss needs it for a model with that output; ValueError says what does not fit."""
        if self.labels:
            if targets.ndim != 1 or targets.dtype.kind not in "iub":
                raise ValueError(f"{type(self).__name__} needs integer class labels of shape (samples,); "
                                 f"y is {targets.dtype} of shape {targets.shape}")
            if len(output_shape) != 1:
                raise ValueError(f"{type(self).__name__} needs one score a class; the model's output is {output_shape}")
            low, high = (int(targets.min()), int(targets.max())) if len(targets) else (0, 0)
            if low < 0 or high >= output_shape[0]:
                raise ValueError(f"class labels run from {low} to {high}; the model's {output_shape[0]} outputs "
                                 f"allow 0 to {output_shape[0] - 1}")
            return np.ascontiguousarray(targets, np.int64)
        size = targets[:1].size if len(targets) else 1
        if targets.dtype.kind not in "fiub" or size != int(np.prod(output_shape)):
            raise ValueError(f"{type(self).__name__} needs targets shaped like the output, (samples, "
                             f"{', '.join(map(str, output_shape))}); y is {targets.dtype} of shape {targets.shape}")
        return np.ascontiguousarray(targets)

    def emit_targets(self, b: Builder, y: Value) -> Value:
        """Emit the gathering of this batch's targets."""
        if self.labels:
            t = Value(b.buffer(1, itemsize=8, name="labels"), (), False)
            b.target_items = 1
            b.emit("gather_labels", [], [t], [y.shape[0]], label="loss")
        else:
            t = Value(b.buffer(y.size, name="targets"), y.shape, False)
            b.target_items = y.size
            b.emit("gather_targets", [], [t], label="loss")
        return t


class PythonLoss(Loss):
    """A loss in NumPy: subclass it and write forward(outputs, targets) -> (mean loss, gradient by outputs).

    Set `labels = True` in the class where targets are class labels. It takes the GIL while it runs; in parallel
    training each replica has its own deep copy.

        >>> class Quartic(PythonLoss):
        ...     def forward(self, outputs, targets):
        ...         d = outputs - targets
        ...         return float(np.mean(d ** 4)), 4 * d ** 3 / d.size
    """

    def forward(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        raise NotImplementedError(f"{type(self).__name__}.forward(outputs, targets) -> (loss, gradient)")

    def __call__(self, outputs: Array, targets: Array) -> float:
        return float(self.forward(np.asarray(outputs), np.asarray(targets))[0])

    def emit(self, b: Builder, y: Value) -> Value | None:
        t = self.emit_targets(b, y)
        dy = b.value(y.shape) if b.training else None
        with b.scope("loss"):
            b.python(_Run(self), [y, t], [dy], [y.shape, t.shape, y.shape])
        return dy


class _Run:
    def __init__(self, loss: PythonLoss) -> None:
        self.layer = loss

    def run(self, local: dict[str, Any], arrays: list[Array | None]) -> float:
        y, t, dy = arrays
        assert y is not None and t is not None
        loss, gradient = self.layer.forward(y, t)
        if dy is not None:
            if np.shape(gradient) != dy.shape:
                raise ValueError(f"{type(self.layer).__name__}.forward returned a gradient of shape {np.shape(gradient)}; "
                                 f"{dy.shape} was expected")
            dy[...] = gradient
        return float(loss)
