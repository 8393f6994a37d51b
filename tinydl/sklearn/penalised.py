"""The loss of scikit-learn's MLPs: with the penalty of their weights in it, so that the epochs' losses are theirs."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl.losses import Loss
from tinydl.nn.layer import Parameter
from tinydl.plan import Builder, Rows, Value

Array = np.ndarray[Any, Any]

__all__ = ["Penalised"]


class Penalised(Loss):
    """loss + scale |W|^2 / w(batch) of a batch: W are the weights before its update, w(batch) its rows, or the sum of their
    sample weights. Its gradient is that of the loss alone: the optimizer adds the penalty's."""

    def __init__(self, loss: Loss, scale: float, weights: Sequence[Parameter]) -> None:
        self.loss, self.scale, self.weights = loss, float(scale), list(weights)
        self.labels = loss.labels

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        return self.loss.check_targets(targets, output_shape)

    def target_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.loss.target_shape(output_shape)

    def __call__(self, outputs: Array, targets: Array, sample_weight: Any = None) -> float:
        """Without the penalty, which is of a batch."""
        return self.loss(outputs, targets, sample_weight)

    def emit_on(self, b: Builder, y: Value, targets: Value, weights: Value | None) -> Value | None:
        dy = self.loss.emit_on(b, y, targets, weights)
        total = b.buffer(1, per_row=False, dtype=np.dtype(np.float64), name="total")
        sizes: dict[str, Any] = {"weights": weights, "total": total, "S": 0 if weights is None else Rows(), "label": "loss"}
        unit = self.loss.unit(y.shape, weights is not None)
        b.emit("join_loss", grad=dy, scale=1.0, unit=unit, accumulate=0, n=Rows(y.size), **sizes)
        for p in self.weights:
            b.emit("squared_norm", x=b.param(p), n=p.size, label="loss")
            b.emit("join_loss", grad=None, scale=self.scale, unit=1, accumulate=1, n=0, **sizes)
        return dy
