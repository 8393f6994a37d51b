"""What layers over sequences share: which input is the lengths, what lies beyond them, pieces of a parameter."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl.nn.layer import Layer, Symbol
from tinydl.plan import Buffer, Builder, Rows, Value

Shape = tuple[int, ...]


def check_dtypes(layer: Layer, inputs: Sequence[Symbol], integer_axes: tuple[int, ...] = (0,)) -> None:
    """TypeError where an input of integers is none of so many axes, or one of numbers is (lengths have no axis)."""
    for s in inputs:
        if (s.dtype == "int64") != (len(s.shape) in integer_axes):
            raise TypeError(f"{layer!r} takes integers as lengths, nn.Input((), \"int64\")"
                            f"{', or as a mask' * (len(integer_axes) > 1)}, and numbers as all else; got {s!r}")


def masked(b: Builder, x: Value, lengths: Value | None) -> Value:
    """x (T, C), and 0 from each sample's length on: what lies there might be no number, which no product keeps away."""
    x = b.whole(x)
    if lengths is None:
        return x
    y = b.value(x.shape, needs_grad=x.needs_grad)
    b.emit("mask_steps", x=x, lengths=lengths, out=y, B=Rows(), L=x.shape[0], C=x.shape[1])
    return y


def piece(b: Builder, grad: Value, first: int, n: int) -> Value:
    """Rows first..first + n - 1 of a parameter's gradient, as all of a buffer."""
    items, buffer = grad.size // grad.shape[0], grad.buffer
    part = Buffer(n * items, False, buffer.space, buffer.offset + first * items * b.dtype.itemsize, b.dtype, buffer.name)
    return Value(part, (n, *grad.shape[1:]))


def columns(x: Value, first: int, n: int) -> Any:
    """Columns first..first + n - 1 of a value (T, C) as a matrix, where they lie."""
    matrix = x.part(len(x.shape) - 1, first, n).matrix()
    assert matrix is not None
    return matrix
