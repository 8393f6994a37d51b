"""Convolutions, pooling, and images of another size."""
from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.onnx.writer import Tensor, Writer, exports

PADDING_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}     # of tinydl, and of numpy.pad


@exports(nn.Conv1d, nn.Conv2d)
def conv(w: Writer, layer: Any, x: Tensor) -> str:
    before, behind = layer._padding()
    inside = x.name
    if layer.padding_mode != "zeros":
        # the operator Pad wraps from opset 19 on: rows and columns are picked instead
        for axis, (n, p, q) in enumerate(zip(x.shape[1:], before, behind, strict=True), 2):
            if p or q:
                places = np.pad(np.arange(n), (p, q), PADDING_MODES[layer.padding_mode])
                inside = w.op("Gather", inside, places, axis=axis)
        before = behind = (0,) * layer.axes
    return w.op("Conv", inside, w.parameter(layer.weight), w.parameter(layer.bias) if layer.bias else None,
                pads=[*before, *behind], kernel_shape=layer.kernel_size, strides=layer.stride, dilations=layer.dilation,
                group=layer.groups)


@exports(nn.ConvTranspose1d, nn.ConvTranspose2d)
def conv_transpose(w: Writer, layer: Any, x: Tensor) -> str:
    return w.op("ConvTranspose", x, w.parameter(layer.weight), w.parameter(layer.bias) if layer.bias else None,
                pads=[*layer.padding, *layer.padding], output_padding=layer.output_padding, kernel_shape=layer.kernel_size,
                strides=layer.stride, dilations=layer.dilation, group=layer.groups)


# ceil_mode is written as padding: by the operators' own, ONNX Runtime 1.16 makes a window more where that would begin in the
# padding, and divides those that are cut off by more (1.32 does as PyTorch).
@exports(nn.MaxPool1d, nn.MaxPool2d)
def max_pool(w: Writer, layer: Any, x: Tensor) -> str:
    before, after, inside = layer.padding, layer.padding_behind(x.shape), x.name
    if any(p >= k for p, k in zip(after, layer.kernel_size, strict=True)):      # more than runtimes take there: with dilation
        inside = w.op("Pad", x, w.integers(0, 0, *before, 0, 0, *after), w.numbers(-np.inf))
        before = after = [0] * layer.axes
    return w.op("MaxPool", inside, kernel_shape=layer.kernel_size, strides=layer.stride, dilations=layer.dilation,
                pads=[*before, *after], ceil_mode=0)


@exports(nn.AvgPool1d, nn.AvgPool2d)
def avg_pool(w: Writer, layer: Any, x: Tensor) -> str:
    after, divisor = layer.padding_behind(x.shape), layer.divisor_override
    counted = layer.count_include_pad or divisor is not None
    y = w.op("AveragePool", x, kernel_shape=layer.kernel_size, strides=layer.stride, pads=[*layer.padding, *after],
             count_include_pad=int(counted), ceil_mode=0)
    pixels = prod(layer.kernel_size)
    if divisor is not None:
        return w.op("Mul", y, w.numbers(pixels / divisor))
    if counted and after != list(layer.padding):        # what is beyond the padding counts nothing
        shares = [k / np.minimum(k, n + 2 * p - s * np.arange(size)) for n, size, k, s, p in zip(
            x.shape[1:], layer.output_shape(x.shape)[1:], layer.kernel_size, layer.stride, layer.padding, strict=True)]
        return w.op("Mul", y, w.numbers(shares[0][:, None] * shares[1] if layer.axes == 2 else shares[0]))
    return y


@exports(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
def adaptive_avg_pool(w: Writer, layer: Any, x: Tensor) -> str:
    """Windows of unequal sizes are no operator: the means along each axis are a product with a matrix."""
    def means(N: int, n: int) -> np.ndarray[Any, Any]:
        table = np.zeros((N, n))
        for i in range(n):
            window = slice(i * N // n, -(-(i + 1) * N // n))
            table[window, i] = 1 / (window.stop - window.start)
        return w.numbers(table)
    (_, *sizes), (_, *out) = x.shape, layer.output_shape(x.shape)
    y = w.op("MatMul", x, means(sizes[-1], out[-1]))
    return y if layer.axes == 1 else w.op("MatMul", means(sizes[0], out[0]).T, y)


@exports(nn.GlobalAvgPool, nn.GlobalMaxPool)
def global_pool(w: Writer, layer: Any, x: Tensor) -> str:
    axes = w.integers(*range(2, len(x.shape) + 1))
    return w.op(f"Reduce{layer.kind.__name__}", x, axes, keepdims=0)


@exports(nn.ZeroPad2d)
def zero_pad(w: Writer, layer: nn.ZeroPad2d, x: Tensor) -> str:
    left, right, top, bottom = layer.padding
    return w.op("Pad", x, w.integers(0, 0, top, left, 0, 0, bottom, right), w.numbers(0))


@exports(nn.PixelShuffle)
def pixel_shuffle(w: Writer, layer: nn.PixelShuffle, x: Tensor) -> str:
    return w.op("DepthToSpace", x, blocksize=layer.upscale_factor, mode="CRD")


@exports(nn.Upsample)
def upsample(w: Writer, layer: nn.Upsample, x: Tensor) -> str:
    """Rows and columns are picked by number: which pixel is nearest is then no matter of a runtime's rounding, as in Resize."""
    y = x.name
    for axis, (n, out) in enumerate(zip(x.shape[1:], layer.output_shape(x.shape)[1:], strict=True), 2):
        if layer.mode == "nearest":
            y = w.op("Gather", y, np.arange(out) * n // out, axis=axis)
            continue
        places = np.arange(out) * (n - 1) / max(out - 1, 1) if layer.align_corners else (np.arange(out) + 0.5) * n / out - 0.5
        places = np.clip(places, 0, n - 1)
        low = np.floor(places).astype(np.int64)
        part = w.numbers(places - low).reshape(-1, *[1] * (3 - axis))
        first, next_ = (w.op("Gather", y, rows, axis=axis) for rows in (low, np.minimum(low + 1, n - 1)))
        y = w.op("Add", first, w.op("Mul", w.op("Sub", next_, first), part))
    return y
