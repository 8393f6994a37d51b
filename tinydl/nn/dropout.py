"""Dropout, Dropout2d: each element, or each channel, is zero with probability p in training, and all are kept in inference.

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


@register
class Dropout2d(Dropout):
    """y = x / (1 - p), or 0 for all of a channel of (C, H, W), or (C, L), with probability p (Tompson et al. 2015).

        >>> from tinydl import Model, nn
        >>> Model(nn.Dropout2d(0.1)).predict([[[[1.0, 2.0]]]]).tolist()      # it is there in training alone
        [[[[1.0, 2.0]]]]
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be (C, ...), an axis of channels and others")
        return shape

    def keeps_shape(self) -> bool:
        return True

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C, n = self.output_shape(x.shape)[0], len(x.shape)
        ones = b.value((C,), needs_grad=False)
        if not b.training or self.p == 0:
            return x, lambda dy: dy
        b.emit("fill", out=ones, n=Rows(C), value=1.0)
        mask, _ = super().emit(b, ones)
        last, first = (*range(1, n), 0), (n - 1, *range(n - 1))
        xs = b.whole(x.permute(last))
        each = b.whole(Value(mask.buffer, xs.shape, False, 0, (*[0] * (n - 1), 1)))
        y = b.value(xs.shape, needs_grad=x.needs_grad)
        b.emit("multiply", a=xs, b=each, out=y, n=Rows(x.size))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(xs.shape)
            b.emit("multiply", a=dy.permute(last), b=each, out=dx, n=Rows(x.size))
            return dx.permute(first)
        return y.permute(first), backward
