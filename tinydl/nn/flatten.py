"""Flatten: (B, ...) -> (B, product). No operation: the same memory read with another shape."""
from __future__ import annotations

from math import prod

from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Value


@register
class Flatten(Layer):
    """All axes of a sample in one."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (prod(shape),)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        y = Value(x.buffer, self.output_shape(x.shape), x.needs_grad)
        return y, lambda dy: None if dy is None else Value(dy.buffer, x.shape)
