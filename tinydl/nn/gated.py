"""GLU: one half of an axis gates the other."""
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn.activations import Sigmoid
from tinydl.nn.layer import Backward, Layer, register
from tinydl.nn.merge import Multiply, check_axis
from tinydl.plan import Builder, Value

Shape = tuple[int, ...]


@register
class GLU(Layer):
    """y = a sigmoid(b), a and b the first and the second half along an axis of a sample (-1: the last) (Dauphin et al. 2017)

        >>> from tinydl import Model, nn
        >>> Model(nn.GLU()).predict([[3.0, 5.0, 0.0, 0.0]]).tolist()
        [[1.5, 2.5]]
    """

    @_hints.arguments
    def __init__(self, axis: int = -1) -> None:
        self.axis = int(axis)

    def config(self) -> dict[str, Any]:
        return {"axis": self.axis}

    def output_shape(self, shape: Shape) -> Shape:
        axis = check_axis(self, self.axis, shape)
        if shape[axis] % 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: axis {self.axis} has two halves, and {shape[axis]} is odd")
        return *shape[:axis], shape[axis] // 2, *shape[axis + 1:]

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        axis = check_axis(self, self.axis, x.shape)
        n = self.output_shape(x.shape)[axis]
        gate, by_score = Sigmoid().emit(b, x.part(axis, n, n))
        y, by_factors = Multiply().emit(b, x.part(axis, 0, n), gate)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            by_a, by_gate = by_factors(dy)
            dx = b.value(x.shape)
            b.move(by_a, dx.part(axis, 0, n))
            b.move(by_score(by_gate), dx.part(axis, n, n))
            return dx
        return y, backward
