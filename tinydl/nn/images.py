"""What layers for images (C, H, W) share: pairs of numbers, channels last, borders.

Users see PyTorch's order of axes. Between operations an image lies channels last, (H, W, C): a value's layout, which nobody
sees; `channels_last` copies only what lies otherwise.
"""
from __future__ import annotations

# C channels, H, W rows and columns
from typing import Any

import numpy as np

from tinydl.nn.layer import Layer
from tinydl.plan import Builder, Rows, Value

Pair = tuple[int, int]
Shape = tuple[int, ...]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def pair(layer: str, name: str, given: Any, least: int = 1, n: int = 2) -> Shape:
    """One number for all n axes, or n of them; ValueError where one is below `least`, or more than any image has."""
    numbers = tuple(given) if isinstance(given, (tuple, list)) else (given,) * n
    if len(numbers) != n or not all(
            isinstance(i, (int, np.integer)) and not isinstance(i, bool) and least <= i < 2**31 for i in numbers):
        raise ValueError(f"{layer}({name}={given!r}): a whole number of at least {least}{f', or {n} of them' if n > 1 else ''}, "
                         "below 2^31")
    return tuple(map(int, numbers))


def image(layer: Layer, shape: Shape, channels: int | None = None, axes: int = 3) -> None:
    """ValueError where samples are no images (C, H, W), or, of 2 axes, (C, L), with so many channels."""
    if len(shape) != axes or (channels is not None and shape[0] != channels):
        wanted = f"({channels or 'C'}, {'H, W' if axes == 3 else 'L'})"
        last = channels is not None and len(shape) == axes and shape[-1] == channels
        hint = (f": x.transpose({'0, 3, 1, 2' if axes == 3 else '0, 2, 1'}) brings channels to the front" if last else
                ": x[:, None] is one channel" if channels in (1, None) and len(shape) == axes - 1 else "")
        raise ValueError(f"{layer!r} on samples of shape {shape}: they must be {wanted}{hint}")


def channels_last(b: Builder, x: Value) -> Value:
    """(C, H, W) -> (H, W, C), whole."""
    return b.whole(x.permute((1, 2, 0)))


def channels_first(x: Value) -> Value:
    """(H, W, C) -> (C, H, W): the same memory."""
    return x.permute((2, 0, 1))


def as_image(x: Value) -> Value:
    """(C, L) -> (C, 1, L), and images as they are: the same memory."""
    if len(x.shape) == 3:
        return x
    return Value(x.buffer, (x.shape[0], 1, x.shape[1]), x.needs_grad, x.offset, (x.strides[0], 0, x.strides[1]))


def as_given(x: Value, shape: Shape) -> Value:
    """(C, 1, L) -> (C, L), where `shape` has two axes: the same memory."""
    return x if len(shape) == 3 else Value(x.buffer, shape, x.needs_grad, x.offset, (x.strides[0], x.strides[2]))


def pad(b: Builder, x: Value, before: Pair, behind: Pair, mode: str) -> Value:
    """(H, W, C) with rows and columns added around it, by PyTorch's mode."""
    H, W, C = x.shape
    y = Value(b.buffer((H + before[0] + behind[0]) * (W + before[1] + behind[1]) * C),
              (H + before[0] + behind[0], W + before[1] + behind[1], C), x.needs_grad)
    if mode == "zeros":
        b.emit("fill", out=y, n=Rows(y.size))
    b.move(x, _inside(y, before, (H, W)))
    for to, of in _borders(y, before, behind, mode):
        b.move(of, to)
    return y


def pad_backward(b: Builder, dy: Value, before: Pair, behind: Pair, mode: str) -> Value:
    """The gradient of `pad` by its input, a part of a copy of dy."""
    sizes = dy.shape[0] - before[0] - behind[0], dy.shape[1] - before[1] - behind[1]
    if mode != "zeros":
        whole, dy = dy, Value(b.buffer(dy.size), dy.shape)
        b.move(whole, dy)
    for to, of in reversed(_borders(dy, before, behind, mode)):
        b.move(to, of, accumulate=1)
    return _inside(dy, before, sizes)


def _inside(y: Value, before: Pair, sizes: Pair) -> Value:
    return y.part(0, before[0], sizes[0]).part(1, before[1], sizes[1])


def _borders(y: Value, before: Pair, behind: Pair, mode: str) -> list[tuple[Value, Value]]:
    """What is around an image within y, and what in y it is equal to: columns first, then rows, which have those columns."""
    if mode == "zeros":
        return []
    borders = []
    rows = y.part(0, before[0], y.shape[0] - before[0] - behind[0])
    for axis, within in ((1, rows), (0, y)):
        first, n = before[axis], y.shape[axis] - before[axis] - behind[axis]
        last = first + n - 1
        for start, size, near, far in ((0, before[axis], first, last - before[axis] + 1), (last + 1, behind[axis], last, first)):
            if not size:
                continue
            step = {"reflect": -1, "replicate": 0, "circular": 1}[mode]
            of = far if mode == "circular" else near
            if mode == "reflect":
                of = near + size if start == 0 else near - 1
            borders.append((within.part(axis, start, size), within.part(axis, of, size, step)))
    return borders
