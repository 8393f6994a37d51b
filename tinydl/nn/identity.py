"""Identity: y = x. No operation: the same memory."""
from __future__ import annotations

from typing import TYPE_CHECKING

from tinydl.nn.layer import Layer, register

if TYPE_CHECKING:
    from tinydl.nn.layer import Backward
    from tinydl.nn.values import Value
    from tinydl.plan import Builder


@register
class Identity(Layer):
    """y = x: for the place of a layer that is left out."""

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        return x, lambda dy: dy
