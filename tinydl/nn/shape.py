"""Shaping: Flatten, Reshape, Permute, Slice, Identity. Axes are those of one sample, from 0; most of it moves nothing."""
from __future__ import annotations

from math import prod
from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.nn.merge import check_axis
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


@register
class Identity(Layer):
    """y = x"""

    moves_only = True

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        return x, lambda dy: dy


@register
class Reshape(Layer):
    """The elements of a sample, in C order, in another shape; one size may be -1: what the others leave.

        >>> from tinydl import Model, nn
        >>> Model(nn.Reshape((2, -1))).output_shape((6,))
        (2, 3)
    """

    moves_only = True

    @_hints.arguments
    def __init__(self, shape: int | tuple[int, ...]) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(int(s) for s in shape)
        if sum(s == -1 for s in self.shape) > 1 or any(s < -1 or s == 0 for s in self.shape):
            raise ValueError(f"Reshape({shape}): sizes must be at least 1, and one may be -1")

    def config(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}

    def output_shape(self, shape: Shape) -> Shape:
        size, known = prod(shape), prod(s for s in self.shape if s != -1)
        if size % known or (-1 not in self.shape and size != known):
            raise ValueError(f"{self!r} on samples of shape {shape}: {size} elements do not fit")
        return tuple(size // known if s == -1 else s for s in self.shape)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        y = b.reshape(x, self.output_shape(x.shape))
        return y, lambda dy: None if dy is None else b.reshape(dy, x.shape)


@register
class Flatten(Reshape):
    """All axes of a sample in one, as PyTorch's nn.Flatten() has it."""

    @_hints.arguments
    def __init__(self) -> None:
        super().__init__(-1)

    def config(self) -> dict[str, Any]:
        return {}


@register
class Permute(Layer):
    """The axes of a sample in another order: y.shape[i] = x.shape[axes[i]], as NumPy's transpose.

        >>> from tinydl import Model, nn
        >>> Model(nn.Permute((1, 0))).output_shape((2, 3))
        (3, 2)
    """

    moves_only = True

    @_hints.arguments
    def __init__(self, axes: Shape) -> None:
        if sorted(axes) != list(range(len(axes))):
            raise ValueError(f"Permute({axes}): each axis of a sample once, from 0")
        self.axes = tuple(int(a) for a in axes)

    def config(self) -> dict[str, Any]:
        return {"axes": list(self.axes)}

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.axes):
            raise ValueError(f"{self!r} on samples of shape {shape}: they must have {len(self.axes)} axes")
        return tuple(shape[a] for a in self.axes)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        back = tuple(self.axes.index(i) for i in range(len(self.axes)))
        return x.permute(self.axes), lambda dy: None if dy is None else dy.permute(back)


@register
class Slice(Layer):
    """x[..., start:stop:step, ...] along one axis of a sample, as Python's slice (a step is at least 1).

        >>> from tinydl import Model, nn
        >>> Model(nn.Slice(0, -2)).output_shape((7, 3))         # the last two of seven time steps
        (2, 3)
    """

    moves_only = True

    @_hints.arguments
    def __init__(self, axis: int, start: int | None = None, stop: int | None = None, step: int = 1) -> None:
        if step < 1:
            raise ValueError(f"Slice(step={step}): at least 1")
        self.axis, self.start, self.stop, self.step = int(axis), start, stop, int(step)

    def config(self) -> dict[str, Any]:
        return {"axis": self.axis, "start": self.start, "stop": self.stop, "step": self.step}

    def _range(self, shape: Shape) -> tuple[int, range]:
        axis = check_axis(self, self.axis, shape)
        places = range(shape[axis])[self.start:self.stop:self.step]
        if not places:
            raise ValueError(f"{self!r} on samples of shape {shape}: nothing is left of axis {self.axis}")
        return axis, places

    def output_shape(self, shape: Shape) -> Shape:
        axis, places = self._range(shape)
        return *shape[:axis], len(places), *shape[axis + 1:]

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        axis, places = self._range(x.shape)
        y = x.part(axis, places[0], len(places), self.step)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("fill", out=dx, n=Rows(dx.size))
            b.move(dy, dx.part(axis, places[0], len(places), self.step))
            return dx
        return y, backward
