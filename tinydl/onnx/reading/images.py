"""Convolutions, pooling, padding, and images of another size."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.onnx.reading.constants import single
from tinydl.onnx.reading.reader import Node, Reader, Term, Unreadable, imports

PADDING_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
Sides = tuple[tuple[int, ...], tuple[int, ...]]


def _spatial(node: Node, x: Term) -> tuple[int, ...]:
    assert x.symbol is not None
    sizes = x.symbol.shape[1:]
    if len(sizes) not in (1, 2):
        raise Unreadable(f"samples have shape {x.symbol.shape}; (C, L) and (C, H, W) are read")
    return sizes


def _numbers(node: Node, name: str, n: int, default: int = 1) -> tuple[int, ...]:
    given = tuple(int(v) for v in node.attributes.get(name, [default] * n))
    if len(given) != n:
        raise Unreadable(f"{name}={list(given)} on {n} axes")
    return given


def _sides(node: Node, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Sides:
    """Padding before and behind, along each axis."""
    auto, n = node.attributes.get("auto_pad", "NOTSET"), len(sizes)
    if auto == "NOTSET":
        pads = _numbers(node, "pads", 2 * n, 0)
        return pads[:n], pads[n:]
    if auto == "VALID":
        return (0,) * n, (0,) * n
    total = [max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size) for size, k, s, d in
             zip(sizes, kernel, stride, dilation, strict=True)]
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def _padded(r: Reader, x: Term, before: Sequence[int], behind: Sequence[int]) -> Term:
    """Zeros around the images of x."""
    assert x.symbol is not None
    if len(before) == 2:
        return r.call(nn.ZeroPad2d((before[1], behind[1], before[0], behind[0])), x)
    C, L = x.symbol.shape
    y = r.call(nn.ZeroPad2d((before[0], behind[0], 0, 0)), r.reshaped(x, (C, 1, L), 0))
    return r.reshaped(y, (C, L + before[0] + behind[0]), 0)


@imports("Conv")
def conv(r: Reader, node: Node) -> Term:
    x, weight = node.x(), node.array(1, "weight")
    sizes = _spatial(node, x)
    n = len(sizes)
    kernel = tuple(weight.shape[2:])
    if weight.ndim != n + 2 or _numbers(node, "kernel_shape", len(kernel), 0) not in (kernel, (0,) * n):
        raise Unreadable(f"its weight has shape {weight.shape}, and kernel_shape is {node.attributes.get('kernel_shape')}")
    stride, dilation = _numbers(node, "strides", n), _numbers(node, "dilations", n)
    before, behind = _sides(node, sizes, kernel, stride, dilation)
    mode = "zeros"
    if "picked" in x.attributes:
        if any(before + behind) or x.args[0] is None:
            raise Unreadable("it pads what is padded by another mode")
        mode, (before, behind), x = x.attributes["picked"], x.attributes["sides"], x.args[0]
    assert x.symbol is not None
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    same = (tuple(t // 2 for t in total), tuple(t - t // 2 for t in total))
    how: Any = before
    if before != behind:
        if (before, behind) == same and max(stride) == 1:
            how = "same"
        elif mode == "zeros":
            x, how = _padded(r, x, before, behind), 0
        else:
            raise Unreadable(f"padding of {before} and {behind} by mode {mode}")
    assert x.symbol is not None
    groups, bias = node.attributes.get("group", 1), None if node.given(2) is None else node.array(2, "bias")

    def make() -> nn.Layer:
        layer = (nn.Conv2d if n == 2 else nn.Conv1d)(weight.shape[1] * groups, weight.shape[0], kernel, stride, how, dilation,
                                                    groups, bias is not None, mode)
        r.give(layer.weight, weight)
        if bias is not None:
            r.give(layer.bias, bias)
        return layer
    return r.call(r.shared(node, make, also=(how, mode)), x)


@imports("ConvTranspose")
def conv_transpose(r: Reader, node: Node) -> Term:
    x, weight = node.x(), node.array(1, "weight")
    sizes = _spatial(node, x)
    n, assumed = len(sizes), tuple(weight.shape[2:])
    if weight.ndim != n + 2 or _numbers(node, "kernel_shape", len(assumed), 0) not in (assumed, (0,) * n):
        raise Unreadable(f"its weight has shape {weight.shape}, and kernel_shape is {node.attributes.get('kernel_shape')}")
    stride, dilation = _numbers(node, "strides", n), _numbers(node, "dilations", n)
    extra = _numbers(node, "output_padding", n, 0)
    auto = node.attributes.get("auto_pad", "NOTSET")
    before, behind = _sides(Node(node.op, _Named, node.inputs, {k: v for k, v in node.attributes.items() if k == "pads"}), sizes,
                            assumed, stride, dilation)
    if auto not in ("NOTSET", "VALID") or node.attributes.get("output_shape"):
        wanted = node.attributes.get("output_shape") or [size * s for size, s in zip(sizes, stride, strict=True)]
        total = [s * (size - 1) + o + (k - 1) * d + 1 - w for s, size, o, k, d, w in
                 zip(stride, sizes, extra, assumed, dilation, wanted, strict=True)]
        extra = tuple(o + max(0, -t) + t % 2 * (t > 0) for o, t in zip(extra, total, strict=True))
        # one row more than there is room for is cut off behind (SAME_UPPER cuts the larger half before): by hand
        total = [max(0, t) for t in total]
        if any(t % 2 for t in total):
            raise Unreadable(f"its padding, {total} in all, is of unequal sides")
        before = behind = tuple(t // 2 for t in total)
    if before != behind:
        raise Unreadable(f"its pads {before} and {behind} are of unequal sides")
    groups, bias = node.attributes.get("group", 1), None if node.given(2) is None else node.array(2, "bias")

    def make() -> nn.Layer:
        layer = (nn.ConvTranspose2d if n == 2 else nn.ConvTranspose1d)(
            weight.shape[0], weight.shape[1] * groups, assumed, stride, before, extra, groups, bias is not None, dilation)
        r.give(layer.weight, weight)
        if bias is not None:
            r.give(layer.bias, bias)
        return layer
    return r.call(r.shared(node, make), x)


class _Named:
    """In place of a node's protocol buffer."""

    name, output = "", ["y"]


@imports("MaxPool", "AveragePool")
def pool(r: Reader, node: Node) -> Term:
    x = node.x()
    sizes, kernel = _spatial(node, x), tuple(int(k) for k in node.attributes["kernel_shape"])
    n = len(sizes)
    stride, dilation = _numbers(node, "strides", n), _numbers(node, "dilations", n)
    before, behind = _sides(node, sizes, kernel, stride, dilation)
    ceil = bool(node.attributes.get("ceil_mode", 0)) and any(
        (size + p + q - d * (k - 1) - 1) % s for size, p, q, k, s, d in
        zip(sizes, before, behind, kernel, stride, dilation, strict=True))
    counted = bool(node.attributes.get("count_include_pad", 0))
    if before != behind:
        if ceil:
            raise Unreadable(f"ceil_mode=1, and its padding, {before} before and {behind} behind, is of unequal sides")
        if not counted and (layer := _ceiled(node.op, kernel, stride, before, behind, dilation, sizes)):
            return r.call(layer, x)
        if not counted if node.op != "MaxPool" else max(dilation) > 1 or not _at_least_zero(x.symbol):
            raise Unreadable(f"its padding, {before} before and {behind} behind, is of unequal sides"
                             f"{', around values that may be below 0' * (node.op == 'MaxPool')}")
        x, before = _padded(r, x, before, behind), (0,) * n
    if node.op == "MaxPool":
        return r.call((nn.MaxPool2d if n == 2 else nn.MaxPool1d)(kernel, stride, before, dilation, ceil_mode=ceil), x)
    if max(dilation) > 1:
        raise Unreadable(f"dilations={list(dilation)}")
    mean = nn.AvgPool2d if n == 2 else nn.AvgPool1d
    return r.call(mean(kernel, stride, before, ceil_mode=ceil, count_include_pad=counted), x)


def _at_least_zero(symbol: Any) -> bool:
    """Whether no value is below 0: then zeros around images change no maximum."""
    if symbol is None or symbol.layer is None:
        return False
    if isinstance(symbol.layer, (nn.MaxPool1d, nn.MaxPool2d, nn.Concat, nn.Identity)):
        return all(map(_at_least_zero, symbol.inputs))
    return isinstance(symbol.layer, (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softplus))


def _ceiled(op: str, kernel: Any, stride: Any, before: Any, behind: Any, dilation: Any, sizes: Any) -> nn.Layer | None:
    """The pooling whose ceil_mode takes so much padding behind images of these sizes; None where there is none. to_onnx writes
    ceil_mode so."""
    n = len(sizes)
    if any(2 * p > k for p, k in zip(before, kernel, strict=True)) or (op == "AveragePool" and max(dilation) > 1):
        return None
    layer: Any = ((nn.MaxPool2d if n == 2 else nn.MaxPool1d)(kernel, stride, before, dilation, ceil_mode=True)
                  if op == "MaxPool" else
                  (nn.AvgPool2d if n == 2 else nn.AvgPool1d)(kernel, stride, before, ceil_mode=True, count_include_pad=False))
    return layer if tuple(layer.padding_behind((1, *sizes))) == tuple(behind) else None


@imports("GlobalAveragePool", "GlobalMaxPool")
def global_pool(r: Reader, node: Node) -> Term:
    x = node.x()
    sizes = _spatial(node, x)
    y = r.call(nn.GlobalAvgPool() if node.op == "GlobalAveragePool" else nn.GlobalMaxPool(), x)
    assert y.symbol is not None
    return r.reshaped(y, (*y.symbol.shape, *[1] * len(sizes)), 0)


@imports("Pad")
def pad(r: Reader, node: Node) -> Term:
    """Zeros around samples, but for channels of images; other modes are a convolution's own."""
    x, pads = node.x(), node.integers(1, "pads") or []
    assert x.symbol is not None
    shape = x.symbol.shape
    n, mode = len(shape) + 1, node.attributes.get("mode", "constant")
    if node.given(3) is not None:
        axes = [a % n for a in node.integers(3, "axes") or []]
        full = [0] * (2 * n)
        for i, a in enumerate(axes):
            full[a], full[n + a] = pads[i], pads[len(axes) + i]
        pads = full
    before, behind = pads[1:n], pads[n + 1:]
    value = node.attributes.get("value", 0.0) if node.given(2) is None else single(node.array(2, "value"))
    if len(pads) != 2 * n or pads[0] or pads[n] or min(pads) < 0 or (mode == "constant" and value):
        raise Unreadable(f"pads={pads} of {value}; samples padded with zeros are read")
    if mode == "constant":
        image = (*[1] * (3 - len(shape)), *shape)
        (_, *low), (_, *high) = ([*[0] * (3 - len(shape)), *p] for p in (before, behind))
        if len(image) > 3 or (len(shape) == 3 and before[0] + behind[0]):
            raise Unreadable(f"pads={pads}: zeros around the last two axes are read, of (C, H, W) or less")
        y = _padded(r, r.reshaped(x, image, 0), low, high)
        return r.reshaped(y, tuple(s + p + q for s, p, q in zip(shape, before, behind, strict=True)), 0)
    sizes = _spatial(node, x)
    if before[0] or behind[0]:
        raise Unreadable(f"pads={pads}, of channels")
    if mode not in PADDING_MODES:
        raise Unreadable(f"mode={mode!r}")
    user = r.user(node.outputs[0], "Conv")
    if user is None:
        raise Unreadable(f"mode={mode!r} is read in front of a convolution alone")
    padded = (shape[0], *(s + p + q for s, p, q in zip(sizes, before[1:], behind[1:], strict=True)))
    term = Term("Pad", [x], symbol=nn.Input(padded))        # a stand-in of that shape: the convolution takes x itself
    term.attributes = {"picked": PADDING_MODES[mode], "sides": (tuple(before[1:]), tuple(behind[1:]))}
    return term


@imports("DepthToSpace")
def depth_to_space(r: Reader, node: Node) -> Term:
    if node.attributes.get("mode", "DCR") != "CRD":
        raise Unreadable("mode='DCR'; 'CRD' is read")
    return r.call(nn.PixelShuffle(node.attributes["blocksize"]), node.x())


@imports("Resize", "Upsample")
def resize(r: Reader, node: Node) -> Term:
    x = node.x()
    sizes = _spatial(node, x)
    if len(sizes) != 2:
        raise Unreadable("images (C, H, W) are read")
    assert x.symbol is not None
    place = {"Upsample": 1, "Resize": 1 if r.opset < 11 else 2}[node.op]
    scales = node.given(place)
    if node.attributes.get("axes") is not None:
        raise Unreadable("it has axes")
    if scales is not None and scales.array is not None and scales.array.size:
        factors = scales.array.tolist()
        out = [int(np.floor(n * f)) for n, f in zip(sizes, factors[2:], strict=True)]
        kept = factors[:2] == [1, 1] and all(abs(o - n * f) < 1e-4 for o, n, f in zip(out, sizes, factors[2:], strict=True))
    else:
        wanted = node.array(3, "sizes").tolist()
        out, kept = wanted[2:], wanted[1] == x.symbol.shape[0]
    if not kept:
        raise Unreadable("it changes channels, or sizes are not whole")
    mode, how = node.attributes.get("mode", "nearest"), node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if node.op == "Upsample" or r.opset < 11:
        how = "asymmetric"
    if mode == "nearest" and (r.opset < 11 or (how == "asymmetric" and node.attributes.get("nearest_mode") == "floor")):
        return r.call(nn.Upsample(tuple(out)), x)
    if mode == "linear" and (how in ("half_pixel", "align_corners") or (how == "pytorch_half_pixel" and min(out) > 1)):
        if not node.attributes.get("antialias"):
            return r.call(nn.Upsample(tuple(out), mode="bilinear", align_corners=how == "align_corners"), x)
    raise Unreadable(f"mode={mode!r}, coordinate_transformation_mode={how!r}, "
                     f"nearest_mode={node.attributes.get('nearest_mode')!r}: nearest of asymmetric and floor, and linear of "
                     "half_pixel or align_corners, are read")
