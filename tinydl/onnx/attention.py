"""Attention and transformer layers, of operators that older runtimes have and that compute in both dtypes."""
from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.nn.transformer import ACTIVATIONS
from tinydl.onnx.writer import Tensor, Writer, exports


@exports(nn.MultiheadAttention)
def attention(w: Writer, layer: nn.MultiheadAttention, x: Tensor, *further: Tensor) -> str:
    inputs = (x, *further)
    numbers = layer._roles([t.shape for t in inputs])
    roles = {name: inputs[i] for name, i in numbers.items()}
    lengths, cross, E = roles.get("lengths"), numbers["k"] > 0, layer.embed_dim
    x = x if cross else w.masked(x, lengths)
    memory = w.masked(roles["k"], lengths) if cross else x
    values = memory if numbers["v"] == numbers["k"] else w.masked(roles["v"], lengths)
    D = E // layer.num_heads
    q, k, v = (_heads(w, layer, t, i) for i, t in enumerate((x, memory, values)))
    scores = _scores(w, q, k, D ** -0.5, D)
    seen = []
    if lengths is not None:
        seen.append(w.op("Unsqueeze", w.present(lengths, memory), w.integers(1, 2)))
    if "ignored" in roles:
        seen.append(w.op("Unsqueeze", w.op("Equal", roles["ignored"], np.array(0)), w.integers(1, 2)))
    if layer.causal:
        seen.append(w.op("LessOrEqual", w.steps(memory), w.op("Unsqueeze", w.steps(x), w.integers(1))))
    if seen:        # a query with nothing to look at gets zeros, where a softmax of -inf alone would be NaN
        allowed = reduce(lambda a, b: w.op("And", a, b), seen)
        weights = w.op("Softmax", w.op("Where", allowed, scores, w.numbers(np.finfo(w.dtype).min)), axis=-1)
        weights = w.op("Where", allowed, weights, w.numbers(0))
    else:
        weights = w.op("Softmax", scores, axis=-1)
    together = _seen(w, weights, v, E)
    return w.inner("out_proj", layer.out_proj, w.masked(Tensor(together, x.shape), None if cross else lengths)).name


@exports(nn.DotProductAttention)
def dot_product(w: Writer, layer: nn.DotProductAttention, x: Tensor, keys: Tensor, values: Tensor) -> str:
    E = x.shape[1]
    D = E // layer.num_heads
    q, k, v = (w.op("Transpose", w.reshape(t, (0, layer.num_heads, D)), perm=[0, 2, 1, 3]) for t in (x, keys, values))
    scores = _scores(w, q, k, layer.factor(E), D)
    if layer.causal:        # every query sees the first key
        allowed = w.op("LessOrEqual", w.steps(keys), w.op("Unsqueeze", w.steps(x), w.integers(1)))
        scores = w.op("Where", allowed, scores, w.numbers(np.finfo(w.dtype).min))
    return _seen(w, w.op("Softmax", scores, axis=-1), v, E)


def _scores(w: Writer, q: str, k: str, scale: float, D: int) -> str:
    """In float64 a vector scales them: ONNX Runtime 1.26 to 1.31 makes a number that scales a product an attribute, with the
    digits of float32. In float32 a number: with a vector OpenVINO, told all sizes, computes something else where there are as
    many steps as heads."""
    factor = w.numbers(scale if w.dtype == np.float32 else [scale] * D)
    return w.op("MatMul", w.op("Mul", q, factor), w.op("Transpose", k, perm=[0, 1, 3, 2]))


def _seen(w: Writer, weights: str, v: str, E: int) -> str:
    """weights v of all heads, side by side."""
    return w.reshape(w.op("Transpose", w.op("MatMul", weights, v), perm=[0, 2, 1, 3]), (0, E))


def _heads(w: Writer, layer: nn.MultiheadAttention, x: Tensor, i: int) -> str:
    """q, k or v (i of 0 to 2), made of x: (B, heads, T, D)."""
    E = layer.embed_dim
    parameter, at = layer.weights()[i]
    weight = w.parameter(parameter)
    if parameter.shape[0] > E:
        weight = w.op("Slice", weight, w.integers(at), w.integers(at + E), w.integers(0))
    y = w.op("MatMul", x, w.op("Transpose", weight, perm=[1, 0]))
    if layer.in_proj_bias is not None:
        third = [w.integers(i * E), w.integers((i + 1) * E), w.integers(0)]
        y = w.op("Add", y, w.op("Slice", w.parameter(layer.in_proj_bias), *third))
    heads = w.reshape(y, (0, layer.num_heads, E // layer.num_heads))
    if layer.rotary and i < 2:
        heads = _turned(w, layer, heads, x)
    return w.op("Transpose", heads, perm=[0, 2, 1, 3])


def _turned(w: Writer, layer: nn.MultiheadAttention, heads: str, x: Tensor) -> str:
    """heads (B, T, heads, D) by the angles of their steps; as PositionalEncoding, a table of so many steps as x has here. In
    plain operators: RotaryEmbedding is of opset 23. Before axes change places: behind it the last two of k would, for a product
    alone, and ONNX Runtime to 1.25 makes an operator of these two that it has not in float64."""
    D, turns = layer.embed_dim // layer.num_heads, layer.turns(x.shape[0])
    swap = np.zeros((D, D))     # a, b -> -b, a
    swap[np.arange(1, D, 2), np.arange(0, D, 2)], swap[np.arange(0, D, 2), np.arange(1, D, 2)] = -1, 1
    cos, sin = (w.numbers(turns[:, None, i::2].repeat(2, 2)) for i in range(2))
    return w.op("Add", w.op("Mul", heads, cos), w.op("Mul", w.op("MatMul", heads, w.numbers(swap)), sin))


@exports(nn.TransformerEncoderLayer)
def encoder(w: Writer, layer: nn.TransformerEncoderLayer, x: Tensor, lengths: Tensor | None = None) -> str:
    given = [] if lengths is None else [lengths]
    h = _step(w, layer, "norm1", w.masked(x, lengths), lambda h: w.inner("self_attn", layer.self_attn, h, *given))
    return w.masked(_step(w, layer, "norm2", h, lambda h: _feed(w, layer, h)), lengths).name


@exports(nn.TransformerDecoderLayer)
def decoder(w: Writer, layer: nn.TransformerDecoderLayer, x: Tensor, *further: Tensor) -> str:
    inputs = (x, *further)
    roles = {name: inputs[i] for name, i in layer._roles([t.shape for t in inputs]).items()}
    lengths, memory_lengths = roles.get("lengths"), roles.get("memory_lengths")
    own = [] if lengths is None else [lengths]
    other = [roles["memory"], *([] if memory_lengths is None else [memory_lengths])]
    h = _step(w, layer, "norm1", w.masked(x, lengths), lambda h: w.inner("self_attn", layer.self_attn, h, *own))
    h = _step(w, layer, "norm2", h, lambda h: w.inner("multihead_attn", layer.multihead_attn, h, *other))
    return w.masked(_step(w, layer, "norm3", h, lambda h: _feed(w, layer, h)), lengths).name


def _step(w: Writer, layer: Any, norm: str, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """norm(x + f(x)), or x + f(norm(x))."""
    def normed(h: Tensor) -> Tensor:
        return w.inner(norm, getattr(layer, norm), h)
    total = w.op("Add", x, f(normed(x) if layer.norm_first else x))
    return Tensor(total, x.shape) if layer.norm_first else normed(Tensor(total, x.shape))


def _feed(w: Writer, layer: Any, x: Tensor) -> Tensor:
    h = w.inner("act", ACTIVATIONS[layer.activation](), w.inner("linear1", layer.linear1, x))
    if layer.activation == "swiglu":
        h = Tensor(w.op("Mul", h, w.inner("gate", layer.gate, x)), h.shape)
    return w.inner("linear2", layer.linear2, h)
