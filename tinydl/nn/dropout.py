"""Dropout: each element is zero with probability p in training, and all are kept in inference.

The mask is a hash of (seed, step, layer, sample, element): the same for a sample whichever thread, batch or
order it comes in, and never stored; the backward operation computes it again.
"""
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value, inverse


@register
class Dropout(Layer):
    """y = x / (1 - p) or 0 with probability p (Srivastava et al. 2014)."""

    @_hints.arguments
    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout(p={p}): at least 0 and below 1")
        self.p = float(p)

    def config(self) -> dict[str, Any]:
        return {"p": self.p}

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        if not b.training or self.p == 0:
            return x, lambda dy: dy
        layer, order = b.random_key(), x.order()
        x = b.whole(x.permute(order))
        y = b.value(x.shape, needs_grad=x.needs_grad)
        b.emit("dropout", x=x, out=y, B=Rows(), C=x.size, layer=layer, rate=self.p)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("dropout", x=dy.permute(order), out=dx, B=Rows(), C=x.size, layer=layer, rate=self.p)
            return dx.permute(inverse(order))
        return y.permute(inverse(order)), backward
