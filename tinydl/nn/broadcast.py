"""Values of one number of axes whose sizes are equal or 1: what has 1 along an axis is as if it were there as often as needed."""
from __future__ import annotations

from math import prod

from tinydl.nn.layer import Layer
from tinydl.plan import Builder, Rows, Value, inverse

Shape = tuple[int, ...]


def joint_shape(layer: Layer, shapes: tuple[Shape, ...]) -> Shape:
    """The shape that all of them are taken for; ValueError where there is none."""
    if len({len(s) for s in shapes}) > 1 or any(len(set(sizes) - {1}) > 1 for sizes in zip(*shapes, strict=True)):
        hint = ("; nn.Reshape gives one axes of size 1" if len({len(s) for s in shapes}) > 1 else "")
        raise ValueError(f"{layer!r}: the inputs must have one shape, or 1 along an axis where others have more; got "
                         f"{', '.join(map(str, shapes))}{hint}")
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*shapes, strict=True))


def common_order(xs: tuple[Value, ...], shape: Shape) -> tuple[int, ...]:
    """The order of axes in which the first of the whole ones lies."""
    return next((x.order() for x in xs if x.shape == shape), tuple(range(len(shape))))


def spread(x: Value, shape: Shape) -> Value:
    """x as a value of that shape: the same memory, read again along axes of size 1."""
    if x.shape == shape:
        return x
    strides = tuple(0 if n == 1 else s for n, s in zip(x.shape, x.strides, strict=True))
    return Value(x.buffer, shape, x.needs_grad, x.offset, strides)


def summed(b: Builder, dy: Value, shape: Shape) -> Value:
    """The gradient by a value of that shape of the gradient by its `spread`: the sum over what it was spread along."""
    axes = [i for i, n in enumerate(shape) if n != dy.shape[i]]
    if not axes:
        return dy
    order = dy.order()
    places = sorted(order.index(a) for a in axes)
    if places[-1] - places[0] >= len(places):           # not side by side in memory
        order = (*(i for i in range(len(shape)) if i not in axes), *axes)
        places = list(range(len(shape) - len(axes), len(shape)))
    x = b.whole(dy.permute(order))
    sizes = x.shape[:places[0]], x.shape[places[0]:places[-1] + 1], x.shape[places[-1] + 1:]
    dx = b.value(tuple(shape[i] for i in order))
    b.emit("reduce_sum", x=x, out=dx, O=Rows(prod(sizes[0])), N=prod(sizes[1]), I=prod(sizes[2]))
    return dx.permute(inverse(order))
