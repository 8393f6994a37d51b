"""Linear layers, embeddings, and sums and products."""
from __future__ import annotations

import numpy as np

from tinydl import nn
from tinydl.onnx.reading.attention import attention
from tinydl.onnx.reading.constants import is_uniform
from tinydl.onnx.reading.norms import affine
from tinydl.onnx.reading.patterns import layer_of
from tinydl.onnx.reading.reader import Array, Node, Reader, Term, Unreadable, imports


# ---------------------------------------------------------------------- linear layers
@imports("MatMul")
def matmul(r: Reader, node: Node) -> Term:
    if all(t is not None and t.array is None for t in node.inputs[:2]):
        return attention(r, node)
    x, weight = node.x(0, batch_first=False, merged=True), node.constant(1, "second factor")
    assert weight.array is not None
    if weight.array.ndim != 2:
        raise Unreadable(f"its constant has shape {weight.array.shape}; a matrix is read")
    if x.batch == len(r.full_shape(x)) - 1:
        raise Unreadable("it mixes samples")
    return _linear(r, node, x, weight, None, None)


def _biased(r: Reader, x: Term, bias: Term) -> Term | None:
    """The Linear layer of a MatMul, of which this is the only use, with a bias."""
    layer = x.symbol.layer if x.symbol is not None else None
    if x.op != "MatMul" or not isinstance(layer, nn.Linear) or layer.bias is not None or r.uses(x) != 1:
        return None
    row = _row(bias, layer.out_features)
    if row is None:
        return None
    again = nn.TiedLinear(layer.config()["layer"]) if isinstance(layer, nn.TiedLinear) else nn.Linear(
        layer.in_features, layer.out_features)
    again.weight = layer.weight
    _give_bias(r, again, row, bias.name)
    for name, (first, turned) in r.weights.items():
        if first is layer:
            r.weights[name] = (again, turned)
    y = again(x.symbol.inputs[0])           # type: ignore[union-attr]
    return Term("Add", symbol=y, batch=x.batch, merged=x.merged)


def _give_bias(r: Reader, layer: nn.Linear, values: Array, name: str | None) -> None:
    """A bias that others have too is one parameter, but where it is one number, as `Reader.shared` says."""
    shared = name is not None and not is_uniform(values)
    if shared and name in r.biases:
        layer.bias = r.biases[name]
        return
    assert layer.bias is not None
    r.give(layer.bias, values)
    if name is not None and shared:
        r.biases[name] = layer.bias


@imports("Gemm")
def gemm(r: Reader, node: Node) -> Term:
    node.expect(transA=0)
    x, weight, bias = node.x(0, merged=True), node.constant(1, "B"), node.given(2)
    matrix = weight.array
    assert matrix is not None
    if matrix.ndim != 2:
        raise Unreadable(f"its B has shape {matrix.shape}; a matrix is read")
    if node.attributes.get("transB"):
        weight = Term(array=matrix.T, name=weight.name, turned=not weight.turned)
    alpha, beta = (node.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    if alpha != 1:
        weight = Term(array=(matrix.T if node.attributes.get("transB") else matrix) * matrix.dtype.type(alpha))
    row = None
    if bias is not None:
        assert weight.array is not None
        row = _row(node.constant(2, "C"), weight.array.shape[1])
        if row is None:
            raise Unreadable("its C is no vector of a number for each column")
        row = row if beta == 1 else row * row.dtype.type(beta)
    return _linear(r, node, x, weight, row, None if bias is None else bias.name)


def _row(term: Term, columns: int) -> Array | None:
    """A constant as (columns,), where it is the same for all rows."""
    a = term.array
    if a is None or a.dtype.kind != "f" or a.size not in (1, columns) or (a.ndim and a.shape[-1] != a.size):
        return None
    return np.broadcast_to(a.reshape(-1), (columns,))


def _linear(r: Reader, node: Node, x: Term, weight: Term, bias: Array | None, bias_name: str | None) -> Term:
    """A layer for each weight and bias; where two of them have a weight in common, they share it."""
    assert weight.array is not None
    name, turned = weight.name, weight.turned

    def make() -> nn.Layer:
        assert weight.array is not None
        first, as_first = r.weights.get(name or "", (None, False))
        if first is not None and not (isinstance(first, nn.Linear) and as_first == turned):
            layer: nn.Linear = nn.TiedLinear(first, bias is not None)
        else:
            layer = nn.Linear(weight.array.shape[0], weight.array.shape[1], bias is not None)
            if first is None:
                r.give(layer.weight, weight.array)
            else:
                layer.weight = first.weight
        if bias is not None:
            _give_bias(r, layer, bias, bias_name)
        if name is not None:
            r.weights.setdefault(name, (layer, turned))
        return layer
    named = name is not None and bias_name is not None
    return r.call(r.shared(node, make, also=(name, turned, bias_name)) if named else make(), x)


def embedding(r: Reader, node: Node) -> Term:
    """Gather of rows of a constant, by integers that are an input."""
    table, rows = node.constant(0, "table"), node.x(1, batch_first=False)
    assert table.array is not None and rows.symbol is not None
    if table.array.ndim != 2 or node.attributes.get("axis", 0):
        raise Unreadable(f"it takes of a constant of shape {table.array.shape}, along axis {node.attributes.get('axis', 0)}; "
                         "rows of a matrix are read, as an Embedding")

    def make() -> nn.Layer:
        assert table.array is not None
        layer = nn.Embedding(*table.array.shape)
        r.give(layer.weight, table.array)
        if table.name is not None:
            r.weights.setdefault(table.name, (layer, table.turned))
        return layer
    return r.call(r.shared(node, make), rows)


# ---------------------------------------------------------------------- sums and products
@imports("Add", "Mul", "Sub", "Div", "Sum")
def arithmetic(r: Reader, node: Node) -> Term:
    known = layer_of(node.op, node.inputs)
    if known is not None:
        layer, x = known
        if x.symbol is not None:
            return r.call(layer, x)
    constants = [t for t in node.inputs if t is not None and t.array is not None]
    if constants:
        return _with_constant(r, node)
    terms = [node.x(i, batch_first=False) for i in range(len(node.inputs))]
    layer = nn.Multiply() if node.op == "Mul" else nn.Subtract() if node.op == "Sub" else nn.Add()
    shapes = [t.symbol.shape for t in terms if t.symbol is not None]
    fits = len({t.batch for t in terms}) == 1
    if fits and len(set(shapes)) > 1:       # one may have 1 along an axis where others have more
        try:
            layer.output_shape(*shapes)
        except ValueError:
            fits = False
    if not fits:
        raise Unreadable(f"values of different shapes are combined: {', '.join(map(str, shapes))}; equal ones are read, and "
                         "those that have 1 along an axis")
    if node.op == "Div":
        raise Unreadable("it divides by a computed value")
    return r.call(layer, *terms)


@imports("Neg")
def negative(r: Reader, node: Node) -> Term:
    return _scaled(r, node.x(batch_first=False), -1)


def _scaled(r: Reader, x: Term, factor: float) -> Term:
    return r.call(nn.Rescaling(factor), x)


def _with_constant(r: Reader, node: Node) -> Term:
    """x times, plus, less or by a constant: one number, or one for each column (or channel). What is subtracted or divided by
    stays as it is in training, as the means and deviations that inputs are standardised by; so does a single number."""
    place = 1 if node.inputs[0] is not None and node.inputs[0].array is None else 0
    x, a = node.x(1 - place, batch_first=False, merged=True), node.array(place, "constant")
    assert x.symbol is not None
    absorbed = affine(r, node, x, a) or (_biased(r, x, node.constant(place, "constant")) if node.op == "Add" else None)
    if absorbed is not None:
        return absorbed
    if a.dtype.kind != "f" or x.symbol.dtype == "int64":
        raise Unreadable(f"it computes with integers, by a constant of {a.dtype}")
    shape = x.symbol.shape
    if x.merged and (a.size > 1 and x.batch == len(shape) - 1):
        raise Unreadable(f"a constant of shape {a.shape} goes along the axis that the samples are in")
    one = not shape         # a number of each sample
    if one:
        x, shape = r.reshaped(x, (1,), x.batch), (1,)
    if a.size == 1 and bool((a == (0 if node.op in ("Add", "Sub", "Sum") else 1)).all()) and not (node.op == "Div" and not place):
        return x
    frozen, images = node.op in ("Sub", "Div") or a.size == 1, x.batch == 0 and len(shape) == 3 and not x.merged
    if images and a.size == 1 and node.op in ("Add", "Sub", "Sum"):         # by columns it would be a large matrix
        a = np.broadcast_to(a.reshape(-1), (shape[0], 1, 1))
    if place == 0 and node.op == "Div":
        raise Unreadable("it divides a constant by a computed value")
    if not a.all() and node.op == "Div":
        raise Unreadable("it divides by a constant of 0")
    factor, shift = {"Mul": (a, None), "Div": (1 / a if node.op == "Div" else None, None), "Add": (None, a), "Sum": (None, a),
                     "Sub": (None, -a) if place else (np.full_like(a, -1), a)}[node.op]

    def own(v: Array | None) -> Array | None:
        return None if v is None else np.broadcast_to(v.reshape(-1), shape[-1:])
    if a.size in (1, shape[-1]) and (not a.ndim or a.shape[-1] == a.size):
        y = _by_columns(r, x, own(factor), own(shift), frozen)
        return r.reshaped(y, (), x.batch) if one else y
    n = len(shape)
    if x.batch == 0 and n in (2, 3) and not x.merged and a.shape[-n:] == (shape[0], *[1] * (n - 1)) and a.size == shape[0]:
        layer = (nn.Conv2d if n == 3 else nn.Conv1d)(shape[0], shape[0], 1, groups=shape[0])
        r.give(layer.weight, (np.ones_like(a) if factor is None else factor).reshape(layer.weight.shape),
               factor is None or frozen)
        r.give(layer.bias, (np.zeros_like(a) if shift is None else shift).reshape(-1), shift is None or frozen)
        return r.call(layer, x)
    if x.batch == 0 and not x.merged and a.size == np.prod(shape) and a.shape[-len(shape):] == shape and node.op != "Sub":
        if len(shape) == 2 and shift is not None:
            added = nn.PositionalEncoding(shape[1], shape[0], learned=True)
            r.give(added.weight, shift.reshape(shape), frozen)
            return r.call(added, x)
        if factor is not None:
            return r.reshaped(_by_columns(r, r.reshaped(x, (a.size,), 0), factor.reshape(-1), None, frozen), shape, 0)
    raise Unreadable(f"a constant of shape {a.shape} is combined with samples of shape {shape}; one number, or one for each "
                     "column or channel, is read")


def _by_columns(r: Reader, x: Term, factor: Array | None, shift: Array | None, frozen: bool) -> Term:
    """A Scale, or, where something is added, a Linear layer of a diagonal matrix that stays as it is."""
    C = len(factor if factor is not None else shift if shift is not None else ())
    if shift is None:
        layer = nn.Scale(C)
        r.give(layer.weight, factor if factor is not None else np.ones(C), frozen)
        return r.call(layer, x)
    if C > 4096:
        raise Unreadable(f"a constant is added to each of {C} columns; up to 4096 are read")
    linear = nn.Linear(C, C)
    r.give(linear.weight, np.diag(np.ones_like(shift) if factor is None else factor), frozen=True)
    r.give(linear.bias, shift, frozen)
    return r.call(linear, x)


@imports("ai.onnx.ml.Scaler")
def scaler(r: Reader, node: Node) -> Term:
    scale, offset = (np.asarray(node.attributes[name], np.float32) for name in ("scale", "offset"))
    x = node.x()
    assert x.symbol is not None
    C = x.symbol.shape[-1]
    scale, offset = (np.broadcast_to(a, (C,)) for a in (scale, offset))
    return _by_columns(r, x, scale, -offset * scale, True)
