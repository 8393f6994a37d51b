"""What the losses with kernels of their own have in common."""
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tinydl import _kernels as K
from tinydl.data.checks import as_weights
from tinydl.losses.base import Array, Loss
from tinydl.plan import Builder, Rows, Value


class KernelLoss(Loss):
    """A loss that is one operation (`kernel`) of _kernels/schema.py."""

    kernel: ClassVar[str]

    def numbers(self, output_shape: tuple[int, ...]) -> dict[str, float]:
        """The operation's settings and reals: as a rule the constructor's arguments."""
        return self.config()

    def tables(self) -> dict[str, Array]:
        """Operands that are the same for all batches."""
        return {}

    @property
    def counts(self) -> bool:
        """Whether, without sample weights too, the operation says what a batch weighs."""
        return False

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        """Sizes of the operation; n, R and B: so many a sample."""
        return {"n": int(np.prod(output_shape, dtype=int))}

    def emit_on(self, b: Builder, y: Value, targets: Value, weights: Value | None) -> Value | None:
        dy = b.value(y.shape) if b.training else None
        operands: dict[str, Any] = ({"logits": b.whole(y), "labels": targets} if self.labels else
                                    {"x": b.whole(y), "targets": targets})
        operands |= {name: b.constant(table) for name, table in self.tables().items()}
        sizes: dict[str, Any] = {name: Rows(n) if name in "nRB" else n for name, n in self.sizes(y.shape).items()}
        if weights is not None:
            self.check_weights(weights.shape, y.shape)
            operands["weights"], sizes["S"] = weights, Rows(weights.size)
        b.emit(self.kernel, **operands, grad=dy, **sizes, **self.numbers(y.shape), label="loss")
        return dy

    def __call__(self, outputs: Array, targets: Array, sample_weight: Any = None) -> float:
        return self.mean(outputs, targets, sample_weight)[0]

    def mean(self, outputs: Array, targets: Array, sample_weight: Any = None) -> tuple[float, float]:
        y, t = self._pair(outputs, targets)
        sizes = self.sizes(y.shape[1:])
        if "R" in sizes:
            rows = len(y) * sizes["R"]
            y, t = y.reshape(rows, -1), t.reshape(rows) if self.labels else t.reshape(rows, -1)
        operands: dict[str, Any] = {"logits": y, "labels": t} if self.labels else {"x": y, "targets": t}
        operands |= {name: table.astype(y.dtype) for name, table in self.tables().items()}
        if sample_weight is not None:
            w = as_weights(sample_weight, len(outputs), shape=np.shape(sample_weight)[1:])
            self.check_weights(w.shape[1:], np.shape(outputs)[1:])
            operands["weights"] = w.reshape(-1).astype(y.dtype, copy=False)
        operands |= self.numbers(np.shape(outputs)[1:])
        mean, weight = K.call(self.kernel, **operands, and_weight=True)
        return mean, weight if self.counts or sample_weight is not None else float(len(outputs))


def as_table(owner: str, name: str, numbers: Any) -> Array | None:
    """Weights of classes or outputs: float64 (C,), finite, 0 or more."""
    if numbers is None:
        return None
    if isinstance(numbers, (str, dict)):
        raise TypeError(f"{owner}({name}={numbers!r:.80}): numbers in the order of the classes; 'balanced' are "
                        "len(y) / (len(counts) * counts), with counts = np.bincount(y)")
    a = np.array(numbers, np.float64)
    if a.ndim != 1 or not a.size or not (np.isfinite(a).all() and a.min() >= 0):
        raise ValueError(f"{owner}({name}={numbers!r:.80}): a number for each of them, finite and 0 or more, of shape (n,)")
    return a


def check_smoothing(name: str, smoothing: float) -> float:
    if not 0 <= smoothing < 1:
        raise ValueError(f"{name}(label_smoothing={smoothing!r}): from 0 on, below 1")
    return float(smoothing)
