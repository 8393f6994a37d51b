"""What moves values: reshaping, transposing, slicing, joining; and reductions."""
from __future__ import annotations

from math import prod

import numpy as np

from tinydl import nn
from tinydl.onnx.reading.dense import embedding
from tinydl.onnx.reading.norms import regrouped
from tinydl.onnx.reading.reader import Node, Reader, Term, Unreadable, imports


@imports("Shape")
def shape(r: Reader, node: Node) -> Term:
    full = r.full_shape(node.x(batch_first=False, merged=True))
    return Term(array=np.array(full[node.attributes.get("start", 0):node.attributes.get("end")], np.int64))


@imports("Size")
def size(r: Reader, node: Node) -> Term:
    return Term(array=np.array(prod(r.full_shape(node.x(batch_first=False, merged=True))), np.int64))


@imports("Reshape")
def reshape(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False, merged=True)
    full, asked = r.full_shape(x), [int(n) for n in node.array(1, "shape")]
    if node.attributes.get("allowzero") and 0 in asked:
        raise Unreadable("a shape of nothing")
    wanted = [full[i] if n == 0 else n for i, n in enumerate(asked)]
    if -1 in wanted:
        known = prod(n for n in wanted if n != -1)
        if prod(full) % known:
            raise Unreadable(f"{full} does not fit into {asked}")
        wanted[wanted.index(-1)] = prod(full) // known
    return regrouped(r, x, wanted) or _split(r, x, wanted)


def _split(r: Reader, x: Term, wanted: list[int]) -> Term:
    """A shape in the file as one of samples: the batch's axis must be among it, with as much before it as there was. It may be
    one with the axis behind it, or before it."""
    assert x.symbol is not None
    full, own = r.full_shape(x), x.symbol.shape
    before = prod(own[:x.batch + (x.merged == "before")])       # so many of a sample's numbers stand before the batch's axis
    if prod(wanted) == prod(full):
        places = [i for i, n in enumerate(wanted) if n == r.rows and prod(wanted[:i]) == before]
        if places:
            batch = min(places, key=lambda i: abs(i - x.batch))
            return r.reshaped(x, (*wanted[:batch], *wanted[batch + 1:]), batch)
        for i, n in enumerate(wanted):
            merged = "behind" if prod(wanted[:i]) == before else "before" if prod(wanted[:i + 1]) == before * r.rows else ""
            if merged and n % r.rows == 0:
                return r.reshaped(x, (*wanted[:i], n // r.rows, *wanted[i + 1:]), i, merged)
    raise Unreadable(f"samples are mixed: {r.shown(full)} becomes {r.shown(wanted)}")


@imports("Flatten")
def flatten(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False)
    full, axis = r.full_shape(x), node.attributes.get("axis", 1)
    axis = axis + len(full) if axis < 0 else axis
    return _split(r, x, [prod(full[:axis]), prod(full[axis:])])


@imports("Squeeze")
def squeeze(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False)
    full, axes = r.full_shape(x), node.integers(1, "axes")
    if axes is None:
        axes = [i for i, n in enumerate(full) if n == 1 and i != x.batch]
    axes = [a % len(full) for a in axes]
    if x.batch in axes or any(full[a] != 1 for a in axes):
        raise Unreadable(f"it takes axes {axes} out of {r.shown(full)}")
    batch = x.batch - sum(a < x.batch for a in axes)
    kept = tuple(n for i, n in enumerate(full) if i not in axes and i != x.batch)
    return r.reshaped(x, kept, batch)


@imports("Unsqueeze")
def unsqueeze(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False)
    full, axes = list(r.full_shape(x)), node.integers(1, "axes") or []
    n = len(full) + len(axes)
    places, rest = {a % n for a in axes}, iter(range(len(full)))
    order = [-1 if i in places else next(rest) for i in range(n)]
    batch = order.index(x.batch)
    return r.reshaped(x, tuple(1 if i < 0 else full[i] for j, i in enumerate(order) if j != batch), batch)


@imports("Transpose")
def transpose(r: Reader, node: Node) -> Term:
    """The batch's axis may go anywhere; the others of a sample go by Permute."""
    x = node.x(batch_first=False, merged=True)
    n = len(r.full_shape(x))
    perm = node.attributes.get("perm", list(range(n))[::-1])
    if sorted(perm) != list(range(n)):
        raise Unreadable(f"perm={perm} of {n} axes")
    batch = perm.index(x.batch)
    assert x.symbol is not None
    order = perm if x.merged else [a - (a > x.batch) for a in perm if a != x.batch]
    return Term(symbol=r.permuted(x.symbol, order), batch=batch, merged=x.merged)


@imports("Expand")
def expand(r: Reader, node: Node) -> Term:
    x, wanted = node.x(batch_first=False), tuple(int(n) for n in node.array(1, "shape"))
    full = r.full_shape(x)
    if np.broadcast_shapes(full, wanted) != full:
        raise Unreadable(f"it repeats {r.shown(full)} to {r.shown(wanted)}, which no layer does")
    return x


@imports("Slice")
def slice_(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None:
        raise Unreadable("starts and ends are not given")
    axes = node.integers(3, "axes", range(len(starts))) or []
    steps = node.integers(4, "steps", [1] * len(starts)) or []
    full = r.full_shape(x)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = full[axis]
        if range(n)[start:end:step] == range(n):
            continue
        if step < 1:
            raise Unreadable(f"steps={steps}: at least 1 is read")
        x = _part(r, x, r.axis(x, axis), range(n)[start:end:step])
    return x


def _part(r: Reader, x: Term, axis: int, places: range) -> Term:
    return r.call(nn.Slice(axis, places.start, places.stop, places.step), x)


@imports("Split")
def split(r: Reader, node: Node) -> list[Term]:
    x = node.x(batch_first=False)
    axis = node.attributes.get("axis", 0)
    n, parts = r.full_shape(x)[axis], len(node.outputs)
    each = -(-n // parts)
    sizes = node.integers(1, "split", [each] * (parts - 1) + [n - each * (parts - 1)]) or []
    ends = np.cumsum(sizes).tolist()
    if ends[-1] != n:
        raise Unreadable(f"split={sizes} of {n}")
    return [_part(r, x, r.axis(x, axis), range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


@imports("Gather")
def gather(r: Reader, node: Node) -> Term:
    """Rows of a constant by integers, an Embedding; or places of an axis by constants."""
    data = node.given(0)
    if data is not None and data.array is not None:
        return embedding(r, node)
    x, indices = node.x(batch_first=False), node.array(1, "indices")
    axis = r.axis(x, node.attributes.get("axis", 0))
    assert x.symbol is not None
    n, shape = x.symbol.shape[axis], x.symbol.shape
    if not indices.ndim:
        place = int(indices) % n
        if len(shape) == 2 and axis == 0 and place == n - 1 and x.symbol.dtype == "float32":
            return r.call(nn.LastStep(), x, batch=x.batch - (x.batch > 0))
        part = _part(r, x, axis, range(place, place + 1))
        return r.reshaped(part, (*shape[:axis], *shape[axis + 1:]), x.batch - (axis < x.batch))
    places = [int(i) % n for i in np.ravel(indices)]
    step = places[1] - places[0] if len(places) > 1 else 1
    run = range(places[0], places[-1] + 1, step) if step > 0 else range(0)
    if indices.ndim != 1 or list(run) != places:
        raise Unreadable(f"it takes places {places[:8]} of an axis; those that a slice takes are read")
    return _part(r, x, axis, run)


@imports("Concat")
def concat(r: Reader, node: Node) -> Term:
    constants = [t is not None and t.array is not None for t in node.inputs]
    if any(constants):
        return _with_rows(r, node, constants)
    terms = [node.x(i, batch_first=False) for i in range(len(node.inputs))]
    if len({t.batch for t in terms}) > 1:
        raise Unreadable("samples lie along different axes of its inputs")
    axis = r.axis(terms[0], node.attributes["axis"])
    return terms[0] if len(terms) == 1 else r.call(nn.Concat(axis), *terms)


def _with_rows(r: Reader, node: Node, constants: list[bool]) -> Term:
    """Constant rows before or behind sequences, such as the token of a class."""
    at = constants.index(False)
    x = node.x(at)
    if constants.count(False) != 1:
        raise Unreadable("of several values and constants; one value, with constant rows before or behind it, is read")
    assert x.symbol is not None
    if len(x.symbol.shape) != 2 or r.axis(x, node.attributes["axis"]) != 0:
        raise Unreadable(f"it joins constants to samples of shape {x.symbol.shape}; rows of a sequence (T, C) are read")
    parts = []
    for t in node.inputs:
        if t is None or t.array is None:
            parts.append(x)
            continue
        if t.array.ndim != 3 or (len(t.array) > 1 and t.array.strides[0]):
            raise Unreadable(f"its constant of shape {t.array.shape} is not the same for all samples")
        tokens = nn.LearnedTokens(*t.array.shape[1:])
        r.give(tokens.weight, t.array[0])
        parts.append(r.call(tokens, x))
    return r.call(nn.Concat(0), *parts)


REDUCTIONS = {"ReduceMean": nn.Mean, "ReduceSum": nn.Sum, "ReduceMax": nn.Max}


@imports(*REDUCTIONS)
def reduction(r: Reader, node: Node) -> Term:
    x = node.x(batch_first=False)
    axes = node.integers(1, "axes")
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            return x
        raise Unreadable("it goes over all axes, that of the samples too")
    places = sorted(r.axis(x, a) for a in axes)
    assert x.symbol is not None
    y = r.call(REDUCTIONS[node.op](places[0] if len(places) == 1 else tuple(places)), x)
    y.batch = x.batch - sum(a < x.batch for a in places)      # a sample's axis a stands before the batch's if a < batch
    if node.attributes.get("keepdims", 1):
        return r.reshaped(y, tuple(1 if i in places else n for i, n in enumerate(x.symbol.shape)), x.batch)
    return y


