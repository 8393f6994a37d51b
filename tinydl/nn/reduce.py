"""Reductions over axes of a sample: Mean, Sum, Max. Axes count from 0, -1 is the last; they are left out of the result."""
from __future__ import annotations

from math import prod
from typing import Any, ClassVar

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.nn.merge import check_axis
from tinydl.plan import Builder, Rows, Value
from tinydl.plan.values import INT64

Shape = tuple[int, ...]


class Reduction(Layer):
    """f over some axes of a sample (None: all)."""

    mean: ClassVar[bool] = False

    @_hints.arguments
    def __init__(self, axis: int | Shape | None = None) -> None:
        self.axis = axis if axis is None or isinstance(axis, int) else tuple(int(a) for a in axis)

    def config(self) -> dict[str, Any]:
        return {"axis": list(self.axis) if isinstance(self.axis, tuple) else self.axis}

    def _axes(self, shape: Shape) -> Shape:
        given = tuple(range(len(shape))) if self.axis is None else (self.axis,) if isinstance(self.axis, int) else self.axis
        axes = tuple(sorted(check_axis(self, a, shape) for a in given))
        if not axes or len(set(axes)) < len(axes):
            raise ValueError(f"{self!r} on samples of shape {shape}: each axis once, and at least one")
        return axes

    def output_shape(self, shape: Shape) -> Shape:
        axes = self._axes(shape)
        return tuple(n for i, n in enumerate(shape) if i not in axes)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        axes = self._axes(x.shape)
        kept = tuple(i for i in range(len(x.shape)) if i not in axes)
        first, order = axes[0], (*kept, *axes)
        if axes == tuple(range(first, first + len(axes))):      # side by side: they can stay where they are
            order = tuple(range(len(x.shape)))
        else:
            first = len(kept)
        x2 = b.whole(x.permute(order))
        N = prod(x.shape[a] for a in axes)
        I = prod(x2.shape[first + len(axes):])      # noqa: E741 - the schema's letters
        sizes: dict[str, Any] = {"O": Rows(prod(x2.shape[:first])), "N": N, "I": I}
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad)
        back = self._reduce(b, x2, y, sizes)
        inverse = tuple(order.index(i) for i in range(len(order)))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x2.shape)
            back(b.whole(dy), dx)
            return dx.permute(inverse)
        return y, backward

    def _reduce(self, b: Builder, x: Value, y: Value, sizes: dict[str, Any]) -> Any:
        scale = 1 / sizes["N"] if self.mean else 1.0
        b.emit("reduce_sum", x=x, out=y, scale=scale, **sizes)
        return lambda dy, dx: b.emit("spread", dy=dy, out=dx, scale=scale, **sizes)


@register
class Sum(Reduction):
    """The sum over axes of a sample."""


@register
class Mean(Reduction):
    """The mean over axes of a sample: of a sequence (T, C), nn.Mean(0) is the mean over time.

        >>> from tinydl import Model, nn
        >>> Model(nn.Mean(0)).predict([[[1.0, 2.0], [3.0, 6.0]]]).tolist()
        [[2.0, 4.0]]
    """

    mean = True


@register
class Max(Reduction):
    """The greatest over axes of a sample; the first of equals takes the gradient, NaN is greater than anything."""

    def _reduce(self, b: Builder, x: Value, y: Value, sizes: dict[str, Any]) -> Any:
        place = b.buffer(y.size, dtype=INT64)
        b.emit("reduce_max", x=x, out=y, place=place, **sizes)
        return lambda dy, dx: b.emit("reduce_max_backward", dy=dy, place=place, out=dx, **sizes)
