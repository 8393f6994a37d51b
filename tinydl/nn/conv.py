"""Convolutions: Conv2d, Conv1d, ConvTranspose2d, ConvTranspose1d, as PyTorch's: their names, defaults, formulas, and layout of
weights."""
from __future__ import annotations

# C in_channels, O out_channels, G groups: x (C, H, W), weight (O, C / G, kh, kw), bias (O), y (O, Ho, Wo)
from math import prod
from typing import Any, ClassVar

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.images import (
    PADDING_MODES,
    Shape,
    as_given,
    as_image,
    channels_first,
    channels_last,
    image,
    pad,
    pad_backward,
    pair,
)
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.nn.taps import Taps, bias_gradient
from tinydl.plan import Builder, Value


def _taps(layer: Convolution | TransposedConvolution, images: Shape, out: Shape, before: Shape) -> Taps:
    """Of images (C, H, W), or (C, L) as of one row, which a convolution makes `out` of."""
    def two(numbers: Shape, missing: int) -> Any:
        return (missing, *numbers)[-2:]
    return Taps(layer.weight, (images[0], *two(images[1:], 1)), (out[0], *two(out[1:], 1)), two(layer.stride, 1), two(before, 0),
                two(layer.dilation, 1), layer.groups)


class Convolution(Layer):
    """What Conv1d and Conv2d share; of one axis, an image of one row."""

    axes: ClassVar[int]

    @_hints.arguments
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Shape, stride: int | Shape = 1,
                 padding: int | Shape | str = 0, dilation: int | Shape = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", *, init: str = "default_linear") -> None:
        name, n = type(self).__name__, self.axes
        self.in_channels, self.out_channels, self.groups = (
            pair(name, of, given, n=1)[0] for of, given in
            (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)))
        self.kernel_size = pair(name, "kernel_size", kernel_size, n=n)
        self.stride, self.dilation = pair(name, "stride", stride, n=n), pair(name, "dilation", dilation, n=n)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"{name}({in_channels}, {out_channels}, groups={groups}): groups must divide both channels")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}(padding_mode={padding_mode!r}): choose one of {', '.join(PADDING_MODES)}")
        if padding == "same" and max(self.stride) > 1:
            raise ValueError(f"{name}(padding='same', stride={stride}): 'same' needs a stride of 1, as in PyTorch")
        if padding == "causal" and (n != 1 or max(self.stride) > 1 or padding_mode != "zeros"):
            raise ValueError(f"{name}(padding='causal', stride={stride}, padding_mode={padding_mode!r}): 'causal' is for Conv1d, "
                             "with a stride of 1 and zeros")
        if isinstance(padding, str) and padding not in ("same", "valid", "causal"):
            raise ValueError(f"{name}(padding={padding!r}): a number, {n} of them, 'same'{', causal' * (n == 1)} or 'valid'")
        self.padding = padding if isinstance(padding, str) else pair(name, "padding", padding, 0, n)
        self.padding_mode, self.init = padding_mode, init
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        taps = self.kernel_size[0] * self.kernel_size[-1] ** (n - 1)
        fans = (shape[1] * taps, self.out_channels // self.groups * taps)
        self.weight = Parameter(shape, initializers.get(init), fans)
        b_init = initializers.default_linear if init == "default_linear" else initializers.zeros
        self.bias = Parameter((self.out_channels,), b_init, fans) if bias else None

    def config(self) -> dict[str, Any]:
        def listed(v: Any) -> Any:
            return v if isinstance(v, str) else list(v)
        return {"in_channels": self.in_channels, "out_channels": self.out_channels, "kernel_size": listed(self.kernel_size),
                "stride": listed(self.stride), "padding": listed(self.padding), "dilation": listed(self.dilation),
                "groups": self.groups, "bias": self.bias is not None, "padding_mode": self.padding_mode, "init": self.init}

    def _padding(self) -> tuple[Shape, Shape]:
        """Before and behind, along each axis."""
        total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if self.padding == "causal":
            return tuple(total), (0,)
        if self.padding == "same":
            return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        both = (0,) * self.axes if self.padding == "valid" else self.padding
        return tuple(both), tuple(both)     # type: ignore[arg-type]

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape, self.in_channels, self.axes + 1)
        before, behind = self._padding()
        for p, n in zip(zip(before, behind, strict=True), shape[1:], strict=True):
            if max(p) > {"zeros": max(p), "reflect": n - 1, "replicate": max(p), "circular": n}[self.padding_mode]:
                raise ValueError(f"{self!r} on samples of shape {shape}: padding_mode {self.padding_mode!r} finds no {max(p)} "
                                 f"places in {n}")
        sizes = [(n + p + q - d * (k - 1) - 1) // s + 1 for n, p, q, k, s, d in
                 zip(shape[1:], before, behind, self.kernel_size, self.stride, self.dilation, strict=True)]
        if min(sizes) < 1:
            raise ValueError(f"{self!r} on samples of shape {shape}: the kernel is larger than the image with its padding")
        self._taps(shape, (self.out_channels, *sizes)).check(self)
        return (self.out_channels, *sizes)

    def flops(self, shape: Shape) -> int:
        positions = 1
        for n in self.output_shape(shape)[1:]:
            positions *= n
        return positions * self.weight.size

    def _taps(self, shape: Shape, out: Shape) -> Taps:
        before, behind = self._padding()
        if self.padding_mode != "zeros":
            shape = (shape[0], *(n + p + q for n, p, q in zip(shape[1:], before, behind, strict=True)))
            before = (0,) * self.axes
        return _taps(self, shape, out, before)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        out = self.output_shape(x.shape)
        taps = self._taps(x.shape, out)
        b.param(self.weight, self.weight.shape)
        bias = b.param(self.bias, (self.out_channels,)).buffer if self.bias else None
        needs_grad = x.needs_grad or b.trains(self.weight, self.bias)
        before, behind = ((p[0] if self.axes == 2 else 0, p[-1]) for p in self._padding())
        padded = self.padding_mode != "zeros" and any((*before, *behind))
        inside = as_image(x)
        if padded:
            inside = channels_first(pad(b, channels_last(b, inside), before, behind, self.padding_mode))
        y = taps.convolve(b, inside, bias, needs_grad)

        def backward(dy: Value | None) -> Value | None:
            assert dy is not None and needs_grad
            dy = channels_first(channels_last(b, as_image(dy)))
            if b.trains(self.weight):
                taps.by_weight(b, inside, dy, self.bias if b.trains(self.bias) else None)
            elif self.bias and b.trains(self.bias):
                bias_gradient(b, self.bias, dy)
            if not x.needs_grad:
                return None
            dx = taps.transpose(b, dy)
            if padded:
                dx = channels_first(pad_backward(b, channels_last(b, dx), before, behind, self.padding_mode))
            return as_given(dx, x.shape)
        return as_given(y, out), backward


@register
class Conv2d(Convolution):
    """y[o, h, w] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[c, h stride + i dilation, w stride + j dilation]

    (in_channels, H, W) -> (out_channels, Ho, Wo), Ho = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1. Numbers
    may be pairs, of rows and of columns. padding: so many zeros on each side, or what `padding_mode` says stands there:
    "reflect", "replicate" or "circular"; "valid" is none; "same" keeps H and W (with a stride of 1; where an odd number is
    needed, the one more is behind the image, PyTorch's way and Keras's). groups: channels in so many groups that have nothing to
    do with each other; groups=in_channels is a depthwise convolution. weight (out_channels, in_channels / groups, *kernel_size)
    and bias begin as PyTorch's, uniform in +-1/sqrt(fan_in); with any other init, the bias at zero.

    The bits of a sample's output depend on nothing beside it: each sum has one order, over the taps and, in each, the channels.

        >>> from tinydl import Model, nn
        >>> Model(nn.Conv2d(3, 8, 3, stride=2, padding=1), seed=0).output_shape((3, 32, 32))
        (8, 16, 16)
    """

    axes = 2


@register
class Conv1d(Convolution):
    """Conv2d along one axis: (in_channels, L) -> (out_channels, Lo), weight (out_channels, in_channels / groups, kernel_size)

    padding="causal" (Keras's): dilation (kernel_size - 1) zeros before the sequence and none behind it, so that a step sees none
    that follow; L stays as it is. Networks of such layers go step by step (model.stepper()).

        >>> from tinydl import Model, nn
        >>> Model(nn.Conv1d(4, 8, 5, padding="same"), seed=0).output_shape((4, 100))
        (8, 100)
    """

    axes = 1


class TransposedConvolution(Layer):
    """What ConvTranspose1d and ConvTranspose2d share; of one axis, an image of one row."""

    axes: ClassVar[int]

    @_hints.arguments
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Shape, stride: int | Shape = 1,
                 padding: int | Shape = 0, output_padding: int | Shape = 0, groups: int = 1, bias: bool = True,
                 dilation: int | Shape = 1) -> None:
        name, n = type(self).__name__, self.axes
        self.in_channels, self.out_channels, self.groups = (
            pair(name, of, given, n=1)[0] for of, given in
            (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)))
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"{name}({in_channels}, {out_channels}, groups={groups}): groups must divide both channels")
        self.kernel_size, self.stride = pair(name, "kernel_size", kernel_size, n=n), pair(name, "stride", stride, n=n)
        self.padding = pair(name, "padding", padding, 0, n)
        self.output_padding, self.dilation = (pair(name, "output_padding", output_padding, 0, n),
                                              pair(name, "dilation", dilation, n=n))
        if any(o >= max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)):
            raise ValueError(f"{name}(output_padding={output_padding}): less than stride {stride} or dilation {dilation}")
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        fans = (prod(shape[1:]), shape[0] // self.groups * prod(self.kernel_size))
        self.weight = Parameter(shape, initializers.default_linear, fans)
        self.bias = Parameter((self.out_channels,), initializers.default_linear, fans) if bias else None

    def config(self) -> dict[str, Any]:
        return {"in_channels": self.in_channels, "out_channels": self.out_channels, "kernel_size": list(self.kernel_size),
                "stride": list(self.stride), "padding": list(self.padding), "output_padding": list(self.output_padding),
                "groups": self.groups, "bias": self.bias is not None, "dilation": list(self.dilation)}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape, self.in_channels, self.axes + 1)
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, o, d in zip(
            shape[1:], self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation, strict=True)]
        if min(sizes) < 1:
            raise ValueError(f"{self!r} on samples of shape {shape}: nothing is left of {' by '.join(map(str, sizes))} "
                             f"{'pixels' if self.axes == 2 else 'places'}")
        out = (self.out_channels, *sizes)
        self._taps(shape, out).check(self)
        return out

    def flops(self, shape: Shape) -> int:
        return prod(shape[1:]) * self.weight.size

    def _taps(self, shape: Shape, out: Shape) -> Taps:
        """Of the convolution whose gradient this is: its images are what this layer gives."""
        return _taps(self, out, shape, self.padding)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        out = self.output_shape(x.shape)
        taps = self._taps(x.shape, out)
        b.param(self.weight, self.weight.shape)
        bias = b.param(self.bias, (self.out_channels,)).buffer if self.bias else None
        needs_grad = x.needs_grad or b.trains(self.weight, self.bias)
        inside = channels_first(channels_last(b, as_image(x)))
        y = taps.transpose(b, inside, bias, needs_grad)

        def backward(dy: Value | None) -> Value | None:
            assert dy is not None and needs_grad
            dy = channels_first(channels_last(b, as_image(dy)))
            if b.trains(self.weight):
                taps.by_weight(b, dy, inside)
            if self.bias and b.trains(self.bias):
                bias_gradient(b, self.bias, dy)
            return as_given(taps.convolve(b, dy), x.shape) if x.needs_grad else None
        return as_given(y, out), backward


@register
class ConvTranspose2d(TransposedConvolution):
    """The gradient of Conv2d by its input, as a layer: (in_channels, H, W) -> (out_channels, Ho, Wo), Ho = (H - 1) stride -
    2 padding + dilation (kernel_size - 1) + output_padding + 1

    Each pixel adds its multiple of the kernel to what is there, `stride` from where its neighbour does. Numbers may be pairs, of
    rows and of columns. padding: so much is cut off on each side; output_padding, less than stride or dilation: so much more is
    kept behind. weight (in_channels, out_channels / groups, *kernel_size) and bias begin as PyTorch's, uniform in
    +-1/sqrt(out_channels / groups kh kw).

        >>> from tinydl import Model, nn
        >>> Model(nn.ConvTranspose2d(8, 3, 2, stride=2), seed=0).output_shape((8, 16, 16))
        (3, 32, 32)
    """

    axes = 2


@register
class ConvTranspose1d(TransposedConvolution):
    """ConvTranspose2d along one axis: (in_channels, L) -> (out_channels, Lo), weight (in_channels, out_channels / groups,
    kernel_size)

        >>> from tinydl import Model, nn
        >>> Model(nn.ConvTranspose1d(8, 3, 4, stride=2, padding=1), seed=0).output_shape((8, 50))
        (3, 100)
    """

    axes = 1
