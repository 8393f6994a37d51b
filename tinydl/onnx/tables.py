"""Embeddings of categories and of numbers, Scale, and ensembles."""
from __future__ import annotations

from math import pi

import numpy as np

from tinydl import nn
from tinydl.onnx.writer import Tensor, Writer, exports


@exports(nn.Embedding)
def embedding(w: Writer, layer: nn.Embedding, x: Tensor) -> str:
    return w.op("Gather", w.parameter(layer.weight), x, axis=0)


@exports(nn.EmbeddingBag)
def embedding_bag(w: Writer, layer: nn.EmbeddingBag, x: Tensor) -> str:
    rows = w.op("Gather", w.parameter(layer.weight), x, axis=0)
    last = w.integers(-1)
    if layer.padding_idx is None:
        return w.op("ReduceMean" if layer.mode == "mean" else "ReduceSum", rows, w.integers(-2), keepdims=0)
    padding = w.op("Equal", x, np.array(layer.padding_idx, np.int64))
    total = w.op("ReduceSum", w.op("Where", w.op("Unsqueeze", padding, last), w.numbers(0), rows), w.integers(-2), keepdims=0)
    if layer.mode == "sum":
        return total
    counted = w.op("ReduceSum", w.op("Where", padding, w.numbers(0), w.numbers(1)), last)
    return w.op("Div", total, w.op("Max", counted, w.numbers(1)))


@exports(nn.Scale)
def scale(w: Writer, layer: nn.Scale, x: Tensor) -> str:
    return w.op("Mul", x, w.parameter(layer.weight))


@exports(nn.PeriodicEmbedding)
def periodic(w: Writer, layer: nn.PeriodicEmbedding, x: Tensor) -> str:
    each = w.op("Unsqueeze", x, w.integers(2))
    angle = w.op("Mul", w.op("Mul", each, w.parameter(layer.frequency)), w.numbers(2 * pi))
    angle = w.op("Add", angle, w.parameter(layer.phase))
    # ONNX Runtime has the sine in float64 long before the cosine
    cosine = w.op("Cos", angle) if w.dtype == np.float32 else w.op("Sin", w.op("Add", angle, w.numbers(pi / 2)))
    waves = w.op("Unsqueeze", cosine, w.integers(2))
    sums = w.op("Squeeze", w.op("MatMul", waves, w.parameter(layer.weight)), w.integers(2))      # (C, 1, K) (C, K, D)
    return w.op("Concat", each, w.op("Add", sums, w.parameter(layer.bias)), axis=2)


@exports(nn.PiecewiseLinearEmbedding)
def piecewise(w: Writer, layer: nn.PiecewiseLinearEmbedding, x: Tensor) -> str:
    edges = np.array(layer.edges)
    widths = np.diff(edges)
    slopes = np.divide(1, widths, out=np.zeros_like(widths), where=widths > 0)
    each = w.op("Unsqueeze", x, w.integers(2))
    along = w.op("Mul", w.op("Sub", each, w.numbers(edges[:, :-1])), w.numbers(slopes))
    return w.op("Concat", each, w.op("Clip", along, w.numbers(0), w.numbers(1)), axis=2)


@exports(nn.LinearEnsemble)
def linear_ensemble(w: Writer, layer: nn.LinearEnsemble, x: Tensor) -> str:
    each = w.op("Unsqueeze", x, w.integers(1, 2) if len(x.shape) == 1 else w.integers(2))
    y = w.op("Squeeze", w.op("MatMul", each, w.parameter(layer.weight)), w.integers(2))       # (B, k, 1, I) (k, I, O)
    return y if layer.bias is None else w.op("Add", y, w.parameter(layer.bias))


@exports(nn.LinearBatchEnsemble)
def linear_batch_ensemble(w: Writer, layer: nn.LinearBatchEnsemble, x: Tensor) -> str:
    each = w.op("Unsqueeze", x, w.integers(1)) if len(x.shape) == 1 else x
    h = w.op("MatMul", w.op("Mul", each, w.parameter(layer.r)), w.parameter(layer.weight))
    y = w.op("Mul", h, w.parameter(layer.s))
    return y if layer.bias is None else w.op("Add", y, w.parameter(layer.bias))
