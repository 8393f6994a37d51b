"""Loss: what a plan emits after the model; PythonLoss: one that a user writes with NumPy."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl.nn.arguments import RecordsArguments
from tinydl.plan import Builder, Value

Array = np.ndarray[Any, Any]


def same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes are equal but for axes of size 1 at their ends."""
    n = max(len(a), len(b))
    return a + (1,) * (n - len(a)) == b + (1,) * (n - len(b))


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
        """Targets (samples, ...) as this loss needs them for a model with that output; ValueError says what does not fit."""
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
        if targets.dtype.kind not in "fiub" or targets.ndim < 1 or not same_shape(targets.shape[1:], output_shape):
            raise ValueError(f"{type(self).__name__} needs targets shaped like the output, (samples, "
                             f"{', '.join(map(str, output_shape))}); y is {targets.dtype} of shape {targets.shape}")
        return np.ascontiguousarray(targets)

    def _pair(self, outputs: Any, targets: Any) -> tuple[Array, Array]:
        """Outputs, and targets of the shape and dtype that they have in training: labels (B,) int64, or as the outputs."""
        y = np.ascontiguousarray(outputs)
        y = y if y.dtype in (np.float32, np.float64) else y.astype(np.float64)
        t = self.check_targets(np.asarray(targets), y.shape[1:])
        if len(t) != len(y):
            raise ValueError(f"{type(self).__name__}: {len(y)} outputs and {len(t)} targets")
        return y, t if self.labels else t.reshape(y.shape).astype(y.dtype, copy=False)

    def emit_targets(self, b: Builder, y: Value) -> Value:
        """Emit the gathering of this batch's targets."""
        if self.labels:
            return b.gather((), "labels", (0, y.shape[0]), label="loss")
        return b.gather(y.shape, "targets", label="loss")


class PythonLoss(Loss):
    """A loss in NumPy: subclass it and write forward(outputs, targets) -> (mean loss, gradient by outputs).

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

    def __call__(self, outputs: Array, targets: Array) -> float:
        return float(self.forward(*self._pair(outputs, targets))[0])

    def emit(self, b: Builder, y: Value) -> Value | None:
        t = self.emit_targets(b, y)
        dy = b.value(y.shape) if b.training else None
        with b.scope("loss"):
            b.python(_Run(self), [b.whole(y), t], [dy])
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
