"""Recurrent layers, and what takes one row of a sequence's steps."""
from __future__ import annotations

import numpy as np

from tinydl import nn
from tinydl.onnx.writer import Tensor, Writer, exports


@exports(nn.LastStep)
def last_step(w: Writer, layer: nn.LastStep, x: Tensor, lengths: Tensor | None = None) -> str:
    T = x.shape[0]
    if lengths is None:
        return w.op("Gather", x, np.array(T - 1), axis=1)
    last = w.op("Sub", w.op("Unsqueeze", lengths, w.integers(1, 2)), np.array(1))
    own = w.op("Equal", np.arange(T).reshape(T, 1), last)
    return w.op("ReduceSum", w.op("Where", own, x, w.numbers(0)), w.integers(1), keepdims=0)


@exports(nn.MeanSteps)
def mean_steps(w: Writer, layer: nn.MeanSteps, x: Tensor, lengths: Tensor | None = None) -> str:
    if lengths is None:
        return w.op("ReduceMean", x, w.integers(1), keepdims=0)
    total = w.op("ReduceSum", w.masked(x, lengths), w.integers(1), keepdims=0)
    count = w.op("Cast", w.op("Max", w.op("Unsqueeze", lengths, w.integers(1)), np.array(1)),
                 to=w.onnx.helper.np_dtype_to_tensor_dtype(w.dtype))
    return w.op("Div", total, count)
