"""Activations and what does nothing; and what is only a part of larger patterns."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import nn
from tinydl.onnx.reading.constants import single
from tinydl.onnx.reading.patterns import near, product, same
from tinydl.onnx.reading.reader import Node, Reader, Term, Unreadable, imports

PLAIN = {"Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "Mish": nn.Mish, "HardSwish": nn.Hardswish,
         "Softplus": nn.Softplus, "Softsign": nn.Softsign, "Exp": nn.Exp, "Abs": nn.Abs}


@imports(*PLAIN)
def plain(r: Reader, node: Node) -> Term:
    return r.call(PLAIN[node.op](), node.x(batch_first=False))


@imports("LeakyRelu")
def leaky_relu(r: Reader, node: Node) -> Term:
    return r.call(nn.LeakyReLU(node.attributes.get("alpha", 0.01)), node.x(batch_first=False))


@imports("Elu", "Celu")
def elu(r: Reader, node: Node) -> Term:
    if node.op == "Celu":
        node.expect(alpha=1.0)          # with which it is the same function
    return r.call(nn.ELU(node.attributes.get("alpha", 1.0)), node.x(batch_first=False))


@imports("Selu")
def selu(r: Reader, node: Node) -> Term:
    node.expect(alpha=1.6732632423543772, gamma=1.0507009873554805)
    return r.call(nn.SELU(), node.x(batch_first=False))


@imports("Swish")
def swish(r: Reader, node: Node) -> Term:
    node.expect(alpha=1.0)
    return r.call(nn.SiLU(), node.x(batch_first=False))


@imports("Gelu")
def gelu(r: Reader, node: Node) -> Term:
    return r.call(nn.GELU(node.attributes.get("approximate", "none")), node.x(batch_first=False))


@imports("PRelu")
def prelu(r: Reader, node: Node) -> Term:
    x, slope = node.x(batch_first=False), node.array(1, "slope")
    assert x.symbol is not None
    shape = x.symbol.shape
    columns = slope.size == 1 or (slope.ndim > 0 and slope.shape[-1] == slope.size)
    channels = slope.size > 1 and len(shape) > 1 and slope.shape[-len(shape):] == (slope.size, *[1] * (len(shape) - 1))
    if not columns and not channels:
        raise Unreadable(f"its slope has shape {slope.shape} on samples of shape {shape}; one, or one for each column or "
                         "channel, is read")

    def make() -> nn.Layer:
        layer = nn.PReLU(slope.size, axis=0 if channels else -1)
        r.give(layer.weight, slope.reshape(-1))
        return layer
    return r.call(r.shared(node, make), x)


@imports("HardSigmoid")
def hard_sigmoid(r: Reader, node: Node) -> Term:
    return r.call(nn.Hardsigmoid(node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)), node.x(batch_first=False))


@imports("Clip")
def clip(r: Reader, node: Node) -> Term:
    """One bound or both, or none."""
    x = node.x(batch_first=False)
    low, high = (node.attributes.get(name, open_end) if node.given(i) is None else float(single(node.array(i, name)))
                 for i, name, open_end in ((1, "min", -np.inf), (2, "max", np.inf)))
    inside = node.given(0)
    if (low, high) == (0, 1) and inside is not None and inside.op == "Add":
        for a, b in (inside.args, inside.args[::-1]):
            if a is not None and b is not None and a.array is None and b.array is not None and b.array.size == 1:
                slope, factors = product(a)
                if len(factors) == 1 and factors[0].symbol is not None and slope > 0:
                    return r.call(nn.Hardsigmoid(slope, float(single(b.array))), factors[0])
    return _bounded(r, x, low, high)


@imports("Max", "Min")
def extreme(r: Reader, node: Node) -> Term:
    """With numbers: a bound."""
    computed = [i for i, t in enumerate(node.inputs) if t is None or t.array is None]
    numbers = [t.array for t in node.inputs if t is not None and t.array is not None]
    if len(computed) > 1 or any(a.size != 1 for a in numbers):
        for i in computed:
            node.x(i, batch_first=False)
        raise Unreadable(f"it takes the {node.op.lower()}imum of values that are computed, or of several constants; a number is "
                         "read as the other one")
    x, bounds = node.x(computed[0], batch_first=False), [float(single(a)) for a in numbers]
    return _bounded(r, x, *((max(bounds), np.inf) if node.op == "Max" else (-np.inf, min(bounds)))) if bounds else x


def _bounded(r: Reader, x: Term, low: float, high: float) -> Term:
    """The layer that keeps values within two bounds; float32's largest number, and more, is none."""
    low, high = (-np.inf if low <= -3.4e38 else low), (np.inf if high >= 3.4e38 else high)
    before = x.symbol.layer if x.symbol is not None else None
    if isinstance(before, nn.ReLU) and x.symbol is not None and low <= 0 < high:
        x, low = Term(symbol=x.symbol.inputs[0], batch=x.batch), 0.0
    if (low, high) == (-np.inf, np.inf):
        return x
    if low == 0 and high in (6, np.inf):
        return r.call(nn.ReLU6() if high == 6 else nn.ReLU(), x)
    return r.call(nn.Hardtanh(low, high), x)


@imports("Softmax", "LogSoftmax")
def softmax(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False)
    assert x.symbol is not None
    n = len(x.symbol.shape)
    if r.opset < 13 and n > 1 and node.attributes.get("axis", 1) != n:
        raise Unreadable(f"of opset {r.opset} it goes over several axes together; export it with opset 13 or later")
    axis = r.axis(x, node.attributes.get("axis", -1 if r.opset >= 13 else 1))
    layer = nn.Softmax() if node.op == "Softmax" else nn.LogSoftmax()
    if axis == n - 1:
        return r.call(layer, x)
    order = (*(i for i in range(n) if i != axis), axis)
    back = tuple(order.index(i) for i in range(n))
    return Term(symbol=nn.Permute(back)(layer(nn.Permute(order)(x.symbol))), batch=x.batch)


@imports("Dropout")
def dropout(r: Reader, node: Node) -> list[Term]:
    """As a layer, which is there in training, whatever the file says of that."""
    ratio = node.given(1)
    p = node.attributes.get("ratio", 0.5) if ratio is None else float(single(node.array(1, "ratio")))
    mask = Term()
    mask.trouble = f"{node.label}: its mask is not read"
    return [r.call(nn.Dropout(round(p, 6)), node.x(batch_first=False)), mask]


@imports("Pow")
def power(r: Reader, node: Node) -> Term:
    exponent = node.given(1)
    if exponent is not None and exponent.is_number(2):
        return r.call(nn.Square(), node.x(batch_first=False))
    return part(r, node)


@imports("Log")
def logarithm(r: Reader, node: Node) -> Term:
    """PyTorch's LogSigmoid."""
    x = node.x(batch_first=False)
    if x.symbol is not None and isinstance(x.symbol.layer, nn.Sigmoid):
        return r.call(nn.LogSigmoid(), Term(symbol=x.symbol.inputs[0], batch=x.batch, merged=x.merged))
    return part(r, node)


@imports("Erf", "Greater", "Reciprocal", "ReduceL2", "Sqrt")
def part(r: Reader, node: Node) -> Term:
    """What is read as a part of a pattern alone."""
    for term in node.inputs:
        if term is not None and term.array is None:
            node.x(node.inputs.index(term), batch_first=False)
    raise Unreadable("no layer computes it but as a part of a known activation or norm")


@imports("Where")
def where(r: Reader, node: Node) -> Term:
    """PyTorch's Softplus, which is x itself far above zero, where the difference is below one in 10^8; and integers i, of which
    i + n is taken where they are below zero, as a negative index counts from the end: an Embedding refuses those."""
    test, x, y = node.inputs
    if test is not None and test.op == "Less" and x is not None and x.op == "Add" and y is not None and y.symbol is not None:
        from_end = any(same(a, y) and b is not None and b.array is not None for a, b in (x.args, x.args[::-1]))
        given, zero = test.args
        if y.symbol.dtype == "int64" and from_end and same(given, y) and zero is not None and zero.is_number(0):
            return y
    layer = y.symbol.layer if y is not None and y.symbol is not None else None
    if isinstance(layer, nn.Softplus) and y is not None and y.symbol is not None and x is not None and test is not None:
        threshold = test.args[1] if test.op == "Greater" else None
        if threshold is not None and threshold.array is not None and x.symbol is y.symbol.inputs[0]:
            scale, inner = product(test.args[0]) if test.args[0] is not None else (0.0, [])
            if len(inner) == 1 and same(inner[0], x) and near(scale, layer.beta) and single(threshold.array) >= 18:
                return y
    for i in range(3):
        node.x(i, batch_first=False)
    raise Unreadable("no layer computes it")


@imports("Identity", "ai.onnx.ml.ZipMap")
def identity(r: Reader, node: Node) -> Any:
    """ZipMap makes a dict of each row's probabilities: here they stay an array."""
    return node.inputs[0]


@imports("Cast", "CastLike")
def cast(r: Reader, node: Node) -> Any:
    """To the kind of number that it is: float32 and float64 are the model's dtype, int32 and int64 integers."""
    x = node.x(batch_first=False)
    assert x.symbol is not None
    if node.op == "CastLike":
        other = node.given(1)
        numbers = other is not None and other.symbol is not None and other.symbol.dtype != "int64"
        dtype = np.dtype("float32" if numbers else "int64")
        if other is not None and other.array is not None:
            dtype = other.array.dtype
    else:
        from onnx.helper import tensor_dtype_to_np_dtype
        dtype = np.dtype(tensor_dtype_to_np_dtype(node.attributes["to"]))
    kind = dtype.kind if dtype.itemsize >= 4 else dtype.name
    if kind != ("i" if x.symbol.dtype == "int64" else "f"):
        raise Unreadable(f"it turns {'integers' if x.symbol.dtype == 'int64' else 'numbers'} into "
                         f"{'integers' if kind == 'i' else 'numbers' if kind == 'f' else kind}, which no layer does")
    return x
