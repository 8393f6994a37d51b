"""The losses with kernels of their own. R samples, C outputs: outputs (R, C)."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinydl import _kernels as K
from tinydl.losses.base import Array, Loss
from tinydl.nn.values import Rows

if TYPE_CHECKING:
    from tinydl.nn.values import Value
    from tinydl.plan import Builder


class _Kernel(Loss):
    """A loss that is one kernel, named like it."""

    kernel: ClassVar[str]

    def _reals(self) -> list[float]:
        return []

    def emit(self, b: Builder, y: Value) -> Value | None:
        t = self.emit_targets(b, y)
        dy = b.value(y.shape) if b.training else None
        dims: list[int | Rows] = [Rows(), y.size] if self.labels else [Rows(y.size)]
        b.emit(self.kernel, [y, t], [dy], dims, self._reals(), label="loss")
        return dy

    def __call__(self, outputs: Array, targets: Array) -> float:
        y = np.ascontiguousarray(outputs)
        y = y if y.dtype in (np.float32, np.float64) else y.astype(np.float64)
        t = self.check_targets(np.asarray(targets), y.shape[1:])
        if not self.labels:
            t = np.ascontiguousarray(t.reshape(y.shape), y.dtype)
        return float(getattr(K, self.kernel)(y, t, **self.config()))


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

    def _reals(self) -> list[float]:
        return [self.delta]

    def config(self) -> dict[str, Any]:
        return {"delta": self.delta}
