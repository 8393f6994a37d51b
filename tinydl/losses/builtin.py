"""The losses with kernels of their own. R samples, C outputs: outputs (R, C)."""
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tinydl import _kernels as K
from tinydl.losses.base import Array, Loss
from tinydl.plan import Builder, Rows, Value


class _Kernel(Loss):
    """A loss that is one operation, named like it; its constructor's arguments are the operation's numbers."""

    kernel: ClassVar[str]

    def emit(self, b: Builder, y: Value) -> Value | None:
        t = self.emit_targets(b, y)
        dy = b.value(y.shape) if b.training else None
        if self.labels:
            b.emit(self.kernel, logits=b.whole(y), labels=t, grad=dy, R=Rows(), C=y.size, label="loss", **self.config())
        else:
            b.emit(self.kernel, x=b.whole(y), targets=t, grad=dy, n=Rows(y.size), label="loss", **self.config())
        return dy

    def __call__(self, outputs: Array, targets: Array) -> float:
        y = np.ascontiguousarray(outputs)
        y = y if y.dtype in (np.float32, np.float64) else y.astype(np.float64)
        t = self.check_targets(np.asarray(targets), y.shape[1:])
        if self.labels:
            return float(K.call(self.kernel, logits=y, labels=t, **self.config()))
        return float(K.call(self.kernel, x=y, targets=np.ascontiguousarray(t.reshape(y.shape), y.dtype), **self.config()))


class SoftmaxCrossEntropy(_Kernel):
    """-mean(log softmax(outputs)[label]): outputs (R, C) are scores, targets (R,) are labels 0..C-1."""

    kernel = "softmax_cross_entropy"
    labels = True


class SigmoidCrossEntropy(_Kernel):
    """mean(max(x, 0) - x t + log(1 + exp(-|x|))): outputs x are scores, targets t are in 0..1, both (R, ...)."""

    kernel = "sigmoid_cross_entropy"


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
