"""Merging: layers of several inputs, called on a list: y = nn.Add()([a, b]).

The inputs have equal shapes. Those of Add, Subtract and Multiply may also have 1 along an axis where others have more; Concat's
may differ along its axis.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl import _hints
from tinydl._kernels.schema import KINDS
from tinydl.nn.broadcast import common_order, joint_shape, spread, summed
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


class Elementwise(Merge):
    """Element by element; an input with 1 along an axis stands for as many as the others have there: a number (C, 1, 1) for each
    channel of images (C, H, W)."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2:
            raise ValueError(f"{self!r} takes two inputs or more; got {len(shapes)}")
        return joint_shape(self, shapes)


@register
class Add(Elementwise):
    """y = a + b + ...; shapes are equal, or 1 along an axis where others have more: as (C, 1, 1) beside images (C, H, W).

        >>> from tinydl import Model, nn
        >>> x = nn.Input((4,))
        >>> Model(inputs=x, outputs=nn.Add()([x, nn.Linear(4, 4)(x)]), seed=0).output_shape()
        (4,)
    """

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        shape, needs_grad = self.output_shape(*(x.shape for x in xs)), any(x.needs_grad for x in xs)
        order = common_order(xs, shape)
        total = b.whole(spread(xs[0], shape).permute(order))
        for x in xs[1:]:
            y = b.value(total.shape, needs_grad=needs_grad)
            b.emit("add", a=total, b=spread(x, shape).permute(order), out=y, n=Rows(y.size))
            total = y
        return total.permute(inverse(order)), lambda dy: tuple(
            summed(b, dy, x.shape) if dy is not None and x.needs_grad else None for x in xs)


@register
class Subtract(Elementwise):
    """y = a - b, of shapes as Add's

        >>> from tinydl import Model, nn
        >>> a, b = nn.Input((2,)), nn.Input((1,))
        >>> Model(inputs=[a, b], outputs=nn.Subtract()([a, b])).predict(([[5.0, 7.0]], [[1.0]])).tolist()
        [[4.0, 6.0]]
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2:
            raise ValueError(f"{self!r} takes two inputs; got {len(shapes)}")
        return super().output_shape(*shapes)

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        shape, needs_grad = self.output_shape(*(x.shape for x in xs)), any(x.needs_grad for x in xs)
        order = common_order(xs, shape)
        first, second = (spread(x, shape).permute(order) for x in xs)
        y = b.value(first.shape, needs_grad=needs_grad)
        b.emit("weighted_mean", a=first, b=second, out=y, wa=1, wb=-1, n=Rows(y.size))

        def backward(dy: Value | None) -> tuple[Value | None, ...]:
            if dy is None:
                return None, None
            by_second = None
            if xs[1].needs_grad:
                less = summed(b, dy, xs[1].shape)
                along = less.order()
                negative = b.value(tuple(less.shape[a] for a in along))
                b.emit("activation", x=less.permute(along), out=negative, n=Rows(less.size), kind=KINDS["rescaling"], alpha=-1)
                by_second = negative.permute(inverse(along))
            return summed(b, dy, xs[0].shape) if xs[0].needs_grad else None, by_second
        return y.permute(inverse(order)), backward


@register
class Multiply(Elementwise):
    """y = a b ..., element by element, of shapes as Add's: a gate (C, 1, 1) for each channel of images, a weight (E, 1) for each
    of E experts (E, C)."""

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        shape, needs_grad = self.output_shape(*(x.shape for x in xs)), any(x.needs_grad for x in xs)
        order = common_order(xs, shape)
        back = inverse(order)
        factors = [b.whole(spread(x, shape).permute(order)) for x in xs]
        products = [factors[0]]
        for x in factors[1:]:
            products.append(b.value(x.shape, needs_grad=needs_grad))
            b.emit("multiply", a=products[-2], b=x, out=products[-1], n=Rows(x.size))

        def backward(dy: Value | None) -> tuple[Value | None, ...]:
            grads: list[Value | None] = [None] * len(xs)
            dy = dy and dy.permute(order)
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
            return tuple(g and summed(b, g.permute(back), x.shape) for g, x in zip(grads, xs, strict=True))
        return products[-1].permute(back), backward


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
            whole = axis == 1 and {len(s) for s in shapes} == {1, 2}
            raise ValueError(f"{self!r}: the inputs may differ along axis {self.axis} alone; got {', '.join(map(str, shapes))}"
                             + ("; what is of a whole sequence comes to its steps by nn.Add()([nn.Linear(C, H)(x), "
                                "nn.Reshape((1, H))(nn.Linear(D, H)(s))])" if whole else ""))
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
