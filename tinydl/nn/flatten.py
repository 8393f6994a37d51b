"""Flatten: (B, ...) -> (B, product). No operation: the same memory read with another shape."""
from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from tinydl.nn.layer import Layer, register
from tinydl.nn.values import Value

if TYPE_CHECKING:
    from tinydl.nn.layer import Backward
    from tinydl.plan import Builder


@register
class Flatten(Layer):
    """All axes of a sample in one."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (prod(shape),)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        y = Value(x.buffer, self.output_shape(x.shape), x.needs_grad)
        return y, lambda dy: None if dy is None else Value(dy.buffer, x.shape)
