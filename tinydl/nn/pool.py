"""Pooling: MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, AdaptiveAvgPool2d, GlobalAvgPool, GlobalMaxPool."""
from __future__ import annotations

# C channels, H, W rows and columns, L places: samples (C, H, W) or (C, L)
from typing import Any, ClassVar

import numpy as np

from tinydl import _hints
from tinydl.nn.images import Shape, as_given, as_image, channels_first, channels_last, image, pair
from tinydl.nn.layer import Backward, Layer, register
from tinydl.nn.reduce import Max, Mean, Reduction
from tinydl.plan import Builder, Rows, Value

UINT8 = np.dtype(np.uint8)


class Pool(Layer):
    """A window over images; of one axis, images of one row."""

    axes: ClassVar[int]
    kernel_size: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    ceil_mode = False

    def _windows(self, kernel_size: int | Shape, stride: int | Shape | None, padding: int | Shape,
                 dilation: int | Shape = 1, ceil_mode: bool = False) -> None:
        name, n = type(self).__name__, self.axes
        self.kernel_size = pair(name, "kernel_size", kernel_size, n=n)
        self.stride = self.kernel_size if stride is None else pair(name, "stride", stride, n=n)
        self.padding, self.dilation = pair(name, "padding", padding, 0, n), pair(name, "dilation", dilation, n=n)
        self.ceil_mode = bool(ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"{name}(kernel_size={kernel_size}, padding={padding}): at most half of the kernel may be padding")

    def config(self) -> dict[str, Any]:
        return {"kernel_size": list(self.kernel_size), "stride": list(self.stride), "padding": list(self.padding),
                **({"ceil_mode": True} if self.ceil_mode else {})}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape, axes=self.axes + 1)
        sizes = [self._places(n, axis) for axis, n in enumerate(shape[1:])]
        if min(sizes) < 1:
            raise ValueError(f"{self!r} on samples of shape {shape}: the window is larger than the image with its padding")
        for axis, (n, size) in enumerate(zip(shape[1:], sizes, strict=True)):
            k, s, p, d = self._axis(axis)
            if d > 1 and not all(any(0 <= i * s - p + j * d < n for j in range(k)) for i in range(size)):
                raise ValueError(f"{self!r} on samples of shape {shape}: a window has no pixel of the image in it")
        return (shape[0], *sizes)

    def _axis(self, axis: int) -> tuple[int, int, int, int]:
        return self.kernel_size[axis], self.stride[axis], self.padding[axis], self.dilation[axis]

    def _places(self, n: int, axis: int) -> int:
        """Windows along an axis of n pixels. ceil_mode: also one that ends beyond the padding, if it begins before the image's
        end."""
        k, s, p, d = self._axis(axis)
        room = n + 2 * p - d * (k - 1) - 1
        if not self.ceil_mode:
            return room // s + 1
        size = -(-room // s) + 1
        return size - ((size - 1) * s >= n + p)

    def padding_behind(self, shape: Shape) -> list[int]:
        """How many pixels behind images (C, H, W), or (C, L), of that shape windows reach: `padding`, or more with ceil_mode."""
        ends = [(size - 1) * s + d * (k - 1) + 1 for size, k, s, d in
                zip(self.output_shape(shape)[1:], self.kernel_size, self.stride, self.dilation[-self.axes:], strict=True)]
        return [max(p, end - n - p) for end, n, p in zip(ends, shape[1:], self.padding, strict=True)]

    def _sizes(self) -> dict[str, Any]:
        two = {"k": (1, *self.kernel_size), "s": (1, *self.stride), "p": (0, *self.padding), "d": (1, *self.dilation)}
        return {f"{letter}{axis}": numbers[-2:][i] for letter, numbers in two.items() for i, axis in enumerate("hw")}

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        out = self.output_shape(x.shape)
        xs = channels_last(b, as_image(x))
        (H, W, C), (Ho, Wo) = xs.shape, (1, *out[1:])[-2:]
        y = b.value((Ho, Wo, C), needs_grad=x.needs_grad)
        back = self._pool(b, xs, y, {"B": Rows(), "H": H, "W": W, "C": C, "Ho": Ho, "Wo": Wo, **self._sizes()})

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(xs.shape)
            back(channels_last(b, as_image(dy)), dx)
            return as_given(channels_first(dx), x.shape)
        return as_given(channels_first(y), out), backward

    def _pool(self, b: Builder, x: Value, y: Value, sizes: dict[str, Any]) -> Any:
        raise NotImplementedError


class MaxPool(Pool):
    """What MaxPool1d and MaxPool2d share."""

    @_hints.arguments
    def __init__(self, kernel_size: int | Shape, stride: int | Shape | None = None, padding: int | Shape = 0,
                 dilation: int | Shape = 1, *, ceil_mode: bool = False) -> None:
        self._windows(kernel_size, stride, padding, dilation, ceil_mode)
        if self.kernel_size[0] * self.kernel_size[-1] ** (self.axes - 1) > 256:
            raise ValueError(f"{type(self).__name__}(kernel_size={kernel_size}): at most 256 places, whose numbers are kept as "
                             "bytes; nn.GlobalMaxPool takes the greatest of a whole image")

    def config(self) -> dict[str, Any]:
        return {**super().config(), "dilation": list(self.dilation)}

    def _pool(self, b: Builder, x: Value, y: Value, sizes: dict[str, Any]) -> Any:
        place = b.buffer(y.size, dtype=UINT8) if b.training and x.needs_grad else None
        b.emit("max_pool2d", x=x, out=y, place=place, **sizes)
        return lambda dy, dx: b.emit("max_pool2d_backward", dy=dy, place=place, out=dx, **sizes)


@register
class MaxPool2d(MaxPool):
    """The greatest in each window: (C, H, W) -> (C, Ho, Wo), Ho = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1

    stride: kernel_size, if it is left out. padding: so many pixels on each side that are less than anything. Of equals the first,
    row by row, takes the gradient; NaN is greater than anything. ceil_mode: // rounds up, so that windows at the lower and right
    border may be cut off by it (if they begin in the image or in its padding before). As PyTorch's.

        >>> from tinydl import Model, nn
        >>> Model(nn.MaxPool2d(2)).output_shape((3, 28, 28))
        (3, 14, 14)
    """

    axes = 2


@register
class MaxPool1d(MaxPool):
    """MaxPool2d along one axis: (C, L) -> (C, Lo)

        >>> from tinydl import Model, nn
        >>> Model(nn.MaxPool1d(2)).predict([[[1.0, 4.0, 3.0, 2.0]]]).tolist()
        [[[4.0, 3.0]]]
    """

    axes = 1


class AvgPool(Pool):
    """What AvgPool1d and AvgPool2d share."""

    dilation = (1, 1)

    @_hints.arguments
    def __init__(self, kernel_size: int | Shape, stride: int | Shape | None = None, padding: int | Shape = 0, *,
                 ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        self._windows(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.count_include_pad, self.divisor_override = bool(count_include_pad), divisor_override
        if divisor_override is not None:
            self.divisor_override = pair(type(self).__name__, "divisor_override", divisor_override, n=1)[0]

    def config(self) -> dict[str, Any]:
        return {**super().config(), "count_include_pad": self.count_include_pad,
                **({} if self.divisor_override is None else {"divisor_override": self.divisor_override})}

    def _pool(self, b: Builder, x: Value, y: Value, sizes: dict[str, Any]) -> Any:
        sizes = {k: v for k, v in sizes.items() if k not in ("dh", "dw")}
        sizes |= {"include": int(self.count_include_pad), "divisor": self.divisor_override or 0}
        b.emit("avg_pool2d", x=x, out=y, **sizes)
        return lambda dy, dx: b.emit("avg_pool2d_backward", dy=dy, out=dx, **sizes)


@register
class AvgPool2d(AvgPool):
    """The mean of each window: (C, H, W) -> (C, Ho, Wo), Ho = (H + 2 padding - kernel_size) // stride + 1

    stride: kernel_size, if it is left out. padding: so many pixels of 0 on each side; count_include_pad: whether they count among
    those that a sum is divided by. ceil_mode: as MaxPool2d's; what is beyond the padding counts nothing. divisor_override: what
    every sum is divided by instead. As PyTorch's.

        >>> from tinydl import Model, nn
        >>> Model(nn.AvgPool2d(2)).predict([[[[1.0, 2.0], [3.0, 6.0]]]]).tolist()
        [[[[3.0]]]]
    """

    axes = 2


@register
class AvgPool1d(AvgPool):
    """AvgPool2d along one axis: (C, L) -> (C, Lo)

        >>> from tinydl import Model, nn
        >>> Model(nn.AvgPool1d(3, stride=1)).output_shape((4, 10))
        (4, 8)
    """

    axes = 1


class AdaptiveAvgPool(Pool):
    """What AdaptiveAvgPool1d and AdaptiveAvgPool2d share."""

    @_hints.arguments
    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        name, axes = type(self).__name__, self.axes
        each = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * axes
        self.output_size = tuple(n if n is None else pair(name, "output_size", n, n=1)[0] for n in each)
        if len(each) != axes:
            raise ValueError(f"{name}(output_size={output_size!r}): a whole number{', or 2 of them' * (axes == 2)}")

    def config(self) -> dict[str, Any]:
        return {"output_size": list(self.output_size)}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape, axes=self.axes + 1)
        return (shape[0], *(n if m is None else m for n, m in zip(shape[1:], self.output_size, strict=True)))

    def _sizes(self) -> dict[str, Any]:
        return {}

    def _pool(self, b: Builder, x: Value, y: Value, sizes: dict[str, Any]) -> Any:
        b.emit("avg_pool2d", x=x, out=y, adaptive=1, **sizes)
        return lambda dy, dx: b.emit("avg_pool2d_backward", dy=dy, out=dx, adaptive=1, **sizes)


@register
class AdaptiveAvgPool2d(AdaptiveAvgPool):
    """The means of as many windows as make (C, *output_size) of images of any size: window i of n along an axis of N covers
    places floor(i N / n) to ceil((i + 1) N / n). As PyTorch's; None in output_size keeps that size.

        >>> from tinydl import Model, nn
        >>> Model(nn.AdaptiveAvgPool2d((4, None))).output_shape((3, 7, 9))
        (3, 4, 9)
    """

    axes = 2


@register
class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """AdaptiveAvgPool2d along one axis: (C, L) -> (C, output_size)

        >>> from tinydl import Model, nn
        >>> Model(nn.AdaptiveAvgPool1d(2)).predict([[[1.0, 2.0, 6.0]]]).tolist()
        [[[1.5, 4.0]]]
    """

    axes = 1


class GlobalPool(Layer):
    """A reduction of all axes but the first."""

    kind: ClassVar[type[Reduction]]

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be (C, ...), an axis of channels and others")
        return shape[:1]

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        n = len(x.shape)
        if x.is_whole:
            return self.kind(tuple(range(1, n))).emit(b, x)
        y, back = self.kind(tuple(range(n - 1))).emit(b, x.permute((*range(1, n), 0)))      # channels last, as images lie mostly

        def backward(dy: Value | None) -> Value | None:
            dx: Value | None = back(dy)
            return None if dx is None else dx.permute((n - 1, *range(n - 1)))
        return y, backward


@register
class GlobalAvgPool(GlobalPool):
    """The mean of each channel: (C, H, W) or (C, L) -> (C,)

        >>> from tinydl import Model, nn
        >>> Model(nn.GlobalAvgPool()).predict([[[[1.0, 2.0], [3.0, 6.0]]]]).tolist()
        [[3.0]]
    """

    kind = Mean


@register
class GlobalMaxPool(GlobalPool):
    """The greatest of each channel: (C, H, W) or (C, L) -> (C,); the first of equals takes the gradient, NaN is greater than
    anything."""

    kind = Max
