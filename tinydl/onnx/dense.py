"""Linear layers, activations, norms, merging, shaping, reductions."""
from __future__ import annotations

from math import pi, prod, sqrt
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.nn.attention import Projection
from tinydl.nn.merge import check_axis
from tinydl.onnx.writer import Tensor, Writer, exports


@exports(nn.Linear, nn.TiedLinear, Projection)
def linear(w: Writer, layer: nn.Linear, x: Tensor) -> str:
    weight = w.parameter(layer.weight)
    y = w.op("MatMul", x, w.op("Transpose", weight, perm=[1, 0]) if layer.transposed else weight)
    return w.affine(y, None, layer.bias)


@exports(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.GaussianNoise, nn.Identity)
def nothing(w: Writer, layer: nn.Layer, x: Tensor) -> str:
    return x.name


# ---------------------------------------------------------------------- activations
@exports(nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Exp, nn.Abs)
def same_name(w: Writer, layer: nn.Layer, x: Tensor) -> str:
    return w.op(type(layer).__name__.capitalize(), x)


@exports(nn.Softmax, nn.LogSoftmax)
def last_axis(w: Writer, layer: nn.Layer, x: Tensor) -> str:
    return w.op(type(layer).__name__, x, axis=-1)


@exports(nn.LeakyReLU)
def leaky_relu(w: Writer, layer: nn.LeakyReLU, x: Tensor) -> str:
    return w.op("PRelu", x, w.numbers([layer.negative_slope]))


@exports(nn.PReLU)
def prelu(w: Writer, layer: nn.PReLU, x: Tensor) -> str:
    slope = w.parameter(layer.weight)
    if layer.channels_first(x.shape):
        slope = w.op("Reshape", slope, w.integers(-1, *[1] * (len(x.shape) - 1)))
    return w.op("PRelu", x, slope)


@exports(nn.ELU)
def elu(w: Writer, layer: nn.ELU, x: Tensor) -> str:
    return w.op("PRelu", w.op("Elu", x), w.numbers([layer.alpha]))


@exports(nn.SELU)
def selu(w: Writer, layer: nn.SELU, x: Tensor) -> str:
    return w.op("Mul", w.op("PRelu", w.op("Elu", x), w.numbers([1.6732632423543772848])), w.numbers(1.0507009873554804934))


@exports(nn.Hardtanh, nn.ReLU6)
def hardtanh(w: Writer, layer: nn.Hardtanh | nn.ReLU6, x: Tensor) -> str:
    """An infinite bound is left out."""
    return w.op("Clip", x, *(None if np.isinf(bound) else w.numbers(bound) for bound in (layer.alpha, layer.beta)))


@exports(nn.Hardsigmoid)
def hardsigmoid(w: Writer, layer: nn.Hardsigmoid, x: Tensor) -> str:
    return w.op("Clip", w.op("Add", w.op("Mul", x, w.numbers([layer.alpha])), w.numbers(layer.beta)), w.numbers(0), w.numbers(1))


@exports(nn.GELU)
def gelu(w: Writer, layer: nn.GELU, x: Tensor) -> str:
    if layer.approximate == "tanh":
        cubic = w.op("Mul", w.op("Mul", w.op("Mul", x, x), x), w.numbers(0.044715))
        between = w.op("Tanh", w.op("Mul", w.op("Add", x, cubic), w.numbers(sqrt(2 / pi))))
    else:
        between = w.op("Erf", w.op("Mul", x, w.numbers(sqrt(0.5))))
    return w.op("Mul", w.op("Mul", x, w.numbers(0.5)), w.op("Add", between, w.numbers(1)))


@exports(nn.SiLU)
def silu(w: Writer, layer: nn.SiLU, x: Tensor) -> str:
    """In float32 a product, whose parts keep to x and to 1, so that tools can make 8-bit numbers of them: those of exp(-x) would
    be steps of exp(8) / 255 for an x of -8. In float64 a quotient: ONNX Runtime before 1.31 takes the product for an operator of
    its own, which it has in float32 alone."""
    if w.dtype == np.float32:
        return w.op("Mul", x, w.op("Sigmoid", x))
    return w.op("Div", x, w.op("Add", w.op("Exp", w.op("Neg", x)), w.numbers(1)))


@exports(nn.Softplus)
def softplus(w: Writer, layer: nn.Softplus, x: Tensor) -> str:
    beta = w.numbers(layer.beta)
    return w.op("Div", w.op("Softplus", w.op("Mul", x, beta)), beta)


@exports(nn.Mish)
def mish(w: Writer, layer: nn.Mish, x: Tensor) -> str:
    return w.op("Mul", x, w.op("Tanh", w.op("Softplus", x)))


@exports(nn.Hardswish)
def hardswish(w: Writer, layer: nn.Hardswish, x: Tensor) -> str:
    gate = w.op("Clip", w.op("Add", x, w.numbers(3)), w.numbers(0), w.numbers(6))
    return w.op("Div", w.op("Mul", x, gate), w.numbers(6))


@exports(nn.Softsign)
def softsign(w: Writer, layer: nn.Softsign, x: Tensor) -> str:
    return w.op("Div", x, w.op("Add", w.op("Abs", x), w.numbers(1)))


@exports(nn.LogSigmoid)
def log_sigmoid(w: Writer, layer: nn.LogSigmoid, x: Tensor) -> str:
    return w.op("Neg", w.op("Softplus", w.op("Neg", x)))


@exports(nn.Square)
def square(w: Writer, layer: nn.Square, x: Tensor) -> str:
    return w.op("Mul", x, x)


@exports(nn.Rescaling)
def rescaling(w: Writer, layer: nn.Rescaling, x: Tensor) -> str:
    scaled = w.op("Mul", x, w.numbers(layer.scale))
    return w.op("Add", scaled, w.numbers(layer.offset)) if layer.offset else scaled


def _half(w: Writer, x: Tensor, axis: int, which: int) -> str:
    """The first or the second half along an axis of a sample."""
    n = x.shape[axis] // 2
    return w.op("Slice", x, *map(w.integers, (which * n, (which + 1) * n, axis + 1, 1)))


@exports(nn.GLU)
def glu(w: Writer, layer: nn.GLU, x: Tensor) -> str:
    axis = check_axis(layer, layer.axis, x.shape)
    return w.op("Mul", _half(w, x, axis, 0), w.op("Sigmoid", _half(w, x, axis, 1)))


@exports(nn.GaussianSample)
def gaussian_sample(w: Writer, layer: nn.GaussianSample, x: Tensor) -> str:
    return _half(w, x, len(x.shape) - 1, 0)


# ---------------------------------------------------------------------- norms
def _unit(w: Writer, x: Tensor, eps: float) -> str:
    total = w.op("ReduceSum", w.op("Mul", x, x), w.integers(-1))
    return w.op("Div", x, w.op("Sqrt", w.op("Add", total, w.numbers(eps))))


@exports(nn.UnitNormalization)
def unit_normalization(w: Writer, layer: nn.UnitNormalization, x: Tensor) -> str:
    return _unit(w, x, layer.eps)


@exports(nn.CosineSimilarity)
def cosine_similarity(w: Writer, layer: nn.CosineSimilarity, a: Tensor, b: Tensor) -> str:
    return w.op("ReduceSum", w.op("Mul", _unit(w, a, layer.eps), _unit(w, b, layer.eps)), w.integers(-1))


@exports(nn.LayerNorm)
def layer_norm(w: Writer, layer: nn.LayerNorm, x: Tensor) -> str:
    n = len(layer.normalized_shape)
    if w.dtype == np.float64:       # the operator's epsilon has the digits of float32
        return w.affine(w.normalised(x, range(-n, 0), layer.eps), layer.weight, layer.bias)
    ones, zeros = (w.numbers(np.full(layer.normalized_shape, i)) for i in (1, 0))
    weight = w.parameter(layer.weight) if layer.weight else ones
    bias = w.parameter(layer.bias) if layer.bias else zeros     # which may be left out, but not for ONNX Runtime before 1.18
    return w.op("LayerNormalization", x, weight, bias, axis=-n, epsilon=layer.eps)


@exports(nn.RMSNorm)
def rms_norm(w: Writer, layer: nn.RMSNorm, x: Tensor) -> str:
    axes = range(-len(layer.normalized_shape), 0)
    eps = float(np.finfo(w.dtype).eps) if layer.eps is None else layer.eps
    return w.affine(w.normalised(x, axes, eps, centred=False), layer.weight, None)


@exports(nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
def group_norm(w: Writer, layer: Any, x: Tensor) -> str:
    grouped = w.normalised(w.reshape(x, (layer.num_groups, prod(x.shape) // layer.num_groups)), [-1], layer.eps)
    return w.affine(w.reshape(grouped, x.shape), layer.weight, layer.bias, (layer.num_channels, *[1] * (len(x.shape) - 1)))


@exports(nn.BatchNorm1d, nn.BatchNorm2d)
def batch_norm(w: Writer, layer: nn.BatchNorm1d, x: Tensor) -> str:
    """With its running statistics; the operator BatchNormalization is for channels on the first axis of a sample alone."""
    c = (layer.num_features, *[1] * (len(x.shape) - 1 if layer.features_first(x.shape) else 0))
    mean, var = w.parameter(layer.running_mean), w.parameter(layer.running_var)
    deviation = w.op("Sqrt", w.op("Add", var, w.numbers(layer.eps)))
    if len(c) > 1:
        mean, deviation = (w.op("Reshape", values, w.integers(*c)) for values in (mean, deviation))
    return w.affine(w.op("Div", w.op("Sub", x, mean), deviation), layer.weight, layer.bias, c if len(c) > 1 else ())


# ---------------------------------------------------------------------- merging
@exports(nn.Add, nn.Multiply)
def elementwise(w: Writer, layer: nn.Layer, first: Tensor, *others: Tensor) -> str:
    total = first.name
    for x in others:
        total = w.op("Add" if isinstance(layer, nn.Add) else "Mul", total, x)
    return total


@exports(nn.Subtract)
def subtract(w: Writer, layer: nn.Subtract, a: Tensor, b: Tensor) -> str:
    return w.op("Sub", a, b)


@exports(nn.Concat)
def concat(w: Writer, layer: nn.Concat, *xs: Tensor) -> str:
    return w.op("Concat", *xs, axis=1 + check_axis(layer, layer.axis, xs[0].shape))


@exports(nn.Dot)
def dot(w: Writer, layer: nn.Dot, a: Tensor, b: Tensor) -> str:
    return w.op("ReduceSum", w.op("Mul", a, b), w.integers(-1))


# ---------------------------------------------------------------------- shaping
@exports(nn.Reshape, nn.Flatten)
def reshape(w: Writer, layer: nn.Reshape, x: Tensor) -> str:
    return w.reshape(x, layer.output_shape(x.shape))


@exports(nn.Permute)
def permute(w: Writer, layer: nn.Permute, x: Tensor) -> str:
    return w.op("Transpose", x, perm=[0, *(a + 1 for a in layer.axes)])


@exports(nn.Slice)
def slice_(w: Writer, layer: nn.Slice, x: Tensor) -> str:
    axis = check_axis(layer, layer.axis, x.shape)
    places = range(x.shape[axis])[layer.start:layer.stop:layer.step]
    return w.op("Slice", x, *map(w.integers, (places.start, places.stop, axis + 1, places.step)))


# ---------------------------------------------------------------------- reductions
@exports(nn.Mean, nn.Sum, nn.Max)
def reduction(w: Writer, layer: Any, x: Tensor) -> str:
    given = range(len(x.shape)) if layer.axis is None else (layer.axis,) if isinstance(layer.axis, int) else layer.axis
    axes = sorted(1 + check_axis(layer, a, x.shape) for a in given)
    return w.op(f"Reduce{type(layer).__name__}", x, w.integers(*axes), keepdims=0)
