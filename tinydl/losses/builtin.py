"""The losses with kernels of their own. R samples, C outputs: outputs (R, C)."""
from __future__ import annotations

from typing import Any, ClassVar

from tinydl import _kernels as K
from tinydl.data.checks import as_weights
from tinydl.losses.base import Array, Loss
from tinydl.plan import Builder, Rows, Value


class _Kernel(Loss):
    """A loss that is one operation, named like it; its constructor's arguments are the operation's numbers."""

    kernel: ClassVar[str]

    def emit(self, b: Builder, y: Value) -> Value | None:
        t, w = self.emit_targets(b, y), self.emit_weights(b)
        dy = b.value(y.shape) if b.training else None
        sizes: dict[str, Any] = {} if w is None else {"weights": w, "S": Rows()}
        if self.labels:
            b.emit(self.kernel, logits=b.whole(y), labels=t, grad=dy, R=Rows(), C=y.size, label="loss", **sizes, **self.config())
        else:
            b.emit(self.kernel, x=b.whole(y), targets=t, grad=dy, n=Rows(y.size), label="loss", **sizes, **self.config())
        return dy

    def __call__(self, outputs: Array, targets: Array, sample_weight: Any = None) -> float:
        return self.mean(outputs, targets, sample_weight)[0]

    def mean(self, outputs: Array, targets: Array, sample_weight: Any = None) -> tuple[float, float]:
        y, t = self._pair(outputs, targets)
        names: dict[str, Any] = {"logits": y, "labels": t} if self.labels else {"x": y, "targets": t}
        if sample_weight is not None:
            names["weights"] = as_weights(sample_weight, len(y)).astype(y.dtype, copy=False)
        mean, weight = K.call(self.kernel, **names, **self.config(), and_weight=True)
        return mean, float(len(y)) if sample_weight is None else weight


class SoftmaxCrossEntropy(_Kernel):
    """-mean(log softmax(outputs)[label]): outputs (R, C) are scores, targets (R,) are labels 0..C-1."""

    kernel = "softmax_cross_entropy"
    labels = True


class SigmoidCrossEntropy(_Kernel):
    """mean(max(x, 0) - x t + log(1 + exp(-|x|))): outputs x are scores, targets t are in 0..1, both (R, ...)."""

    kernel = "sigmoid_cross_entropy"

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        t = super().check_targets(targets, output_shape)
        low, high = (t.min(), t.max()) if t.size else (0, 0)
        if not (low >= 0 and high <= 1):
            raise ValueError(f"SigmoidCrossEntropy needs targets from 0 to 1; y runs from {low} to {high}: of -1 and 1 make "
                             "(y + 1) / 2, of 0 to 255 make y / 255")
        return t


class MeanSquaredError(_Kernel):
    """mean((outputs - targets)^2)"""

    kernel = "mean_squared_error"


class MeanAbsoluteError(_Kernel):
    """mean(|outputs - targets|)"""

    kernel = "mean_absolute_error"


class Huber(_Kernel):
    """mean of d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2); d = outputs - targets (Huber 1964)."""

    kernel = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        if not 0 < delta < float("inf"):
            raise ValueError(f"Huber(delta={delta}): above 0")
        self.delta = float(delta)

    def config(self) -> dict[str, Any]:
        return {"delta": self.delta}
