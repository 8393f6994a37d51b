"""Merging: layers of several inputs, called on a list: y = nn.Add()([a, b]).

The inputs have equal shapes; only Concat's may differ, along its axis.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value, inverse

Shape = tuple[int, ...]


class Merge(Layer):
    """A layer of two inputs or more."""

    n_inputs = None

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2:
            raise ValueError(f"{self!r} takes two inputs or more; got {len(shapes)}")
        if len(set(shapes)) > 1:
            raise ValueError(f"{self!r}: the inputs must have one shape; got {', '.join(map(str, shapes))}")
        return shapes[0]

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        raise NotImplementedError


@register
class Add(Merge):
    """y = a + b + ...

        >>> from tinydl import Model, nn
        >>> x = nn.Input((4,))
        >>> Model(inputs=x, outputs=nn.Add()([x, nn.Linear(4, 4)(x)]), seed=0).output_shape()
        (4,)
    """

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        order, needs_grad = xs[0].order(), any(x.needs_grad for x in xs)
        total = b.whole(xs[0].permute(order))
        for x in xs[1:]:
            y = b.value(total.shape, needs_grad=needs_grad)
            b.emit("add", a=total, b=x.permute(order), out=y, n=Rows(x.size))
            total = y
        return total.permute(inverse(order)), lambda dy: tuple(dy if x.needs_grad else None for x in xs)


@register
class Multiply(Merge):
    """y = a b ..., element by element"""

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        factors, needs_grad = [b.whole(x) for x in xs], any(x.needs_grad for x in xs)
        products = [factors[0]]
        for x in factors[1:]:
            products.append(b.value(x.shape, needs_grad=needs_grad))
            b.emit("multiply", a=products[-2], b=x, out=products[-1], n=Rows(x.size))

        def backward(dy: Value | None) -> tuple[Value | None, ...]:
            grads: list[Value | None] = [None] * len(xs)
            for i in range(len(xs) - 1, -1, -1):
                others = products[i - 1] if i else None         # the product of those before
                if dy is None or not any(x.needs_grad for x in xs[:i + 1]):
                    break
                dy = b.whole(dy)
                if others is None:
                    grads[0] = dy
                    break
                if xs[i].needs_grad:
                    grads[i] = b.value(dy.shape)
                    b.emit("multiply", a=dy, b=others, out=grads[i], n=Rows(dy.size))
                if any(x.needs_grad for x in xs[:i]):
                    rest = b.value(dy.shape)
                    b.emit("multiply", a=dy, b=factors[i], out=rest, n=Rows(dy.size))
                    dy = rest
            return tuple(grads)
        return products[-1], backward


@register
class Concat(Merge):
    """The inputs one after another along an axis of a sample (-1: the last).

        >>> from tinydl import Model, nn
        >>> a, b = nn.Input((3,)), nn.Input((2,))
        >>> Model(inputs=[a, b], outputs=nn.Concat()([a, b])).output_shape()
        (5,)
    """

    @_hints.arguments
    def __init__(self, axis: int = -1) -> None:
        self.axis = int(axis)

    def config(self) -> dict[str, Any]:
        return {"axis": self.axis}

    def output_shape(self, *shapes: Shape) -> Shape:
        axis = check_axis(self, self.axis, shapes[0]) if shapes else 0
        if len({s[:axis] + s[axis + 1:] for s in shapes}) > 1 or len({len(s) for s in shapes}) > 1:
            raise ValueError(f"{self!r}: the inputs may differ along axis {self.axis} alone; got {', '.join(map(str, shapes))}")
        out = super().output_shape(*[shapes[0]] * len(shapes))
        return *out[:axis], sum(s[axis] for s in shapes), *out[axis + 1:]

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        axis = check_axis(self, self.axis, xs[0].shape)
        y = b.value(self.output_shape(*(x.shape for x in xs)), needs_grad=any(x.needs_grad for x in xs))
        starts = [sum(x.shape[axis] for x in xs[:i]) for i in range(len(xs))]
        for x, start in zip(xs, starts, strict=True):
            b.move(x, y.part(axis, start, x.shape[axis]))

        def backward(dy: Value | None) -> tuple[Value | None, ...]:
            return tuple(dy.part(axis, start, x.shape[axis]) if dy is not None and x.needs_grad else None
                         for x, start in zip(xs, starts, strict=True))
        return y, backward


@register
class Dot(Merge):
    """y = sum(a b) over the last axis of two inputs: (..., C), (..., C) -> (..., 1)"""

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = super().output_shape(*shapes)
        if len(shapes) != 2 or not shape:
            raise ValueError(f"{self!r} takes two inputs of one axis or more; got {', '.join(map(str, shapes))}")
        return *shape[:-1], 1

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        product, back = Multiply().emit(b, *xs)
        C = product.shape[-1]
        O = Rows(product.size // C)     # noqa: E741 - the schema's letter
        y = b.value(self.output_shape(*(x.shape for x in xs)), needs_grad=product.needs_grad)
        b.emit("reduce_sum", x=product, out=y, O=O, N=C, I=1)

        def backward(dy: Value | None) -> Any:
            if dy is None:
                return None, None
            each = b.value(product.shape)
            b.emit("spread", dy=b.whole(dy), out=each, O=O, N=C, I=1)
            return back(each)
        return y, backward


def check_axis(layer: Layer, axis: int, shape: Sequence[int]) -> int:
    """An axis of a sample of this shape, from 0; ValueError where there is none."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{layer!r} on samples of shape {tuple(shape)}: there is no axis {axis}")
    return axis % len(shape)
