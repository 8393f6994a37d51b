"""Recurrent layers, positions, and what takes one row of a sequence's steps."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import nn
from tinydl.onnx.writer import Tensor, Writer, exports


@exports(nn.LastStep)
def last_step(w: Writer, layer: nn.LastStep, x: Tensor, lengths: Tensor | None = None) -> str:
    if lengths is None:
        return w.op("Gather", x, np.array(-1), axis=1)
    last = w.op("Sub", w.op("Unsqueeze", lengths, w.integers(1, 2)), np.array(1))
    own = w.op("Equal", w.op("Unsqueeze", w.steps(x), w.integers(1)), last)
    return w.op("ReduceSum", w.op("Where", own, x, w.numbers(0)), w.integers(1), keepdims=0)


@exports(nn.MeanSteps)
def mean_steps(w: Writer, layer: nn.MeanSteps, x: Tensor, lengths: Tensor | None = None) -> str:
    if lengths is None:
        return w.op("ReduceMean", x, w.integers(1), keepdims=0)
    there = w.op("Unsqueeze", w.present(lengths, x), w.integers(2))
    total, count = (w.op("ReduceSum", w.op("Where", there, of, w.numbers(0)), w.integers(1), keepdims=0)
                    for of in (x, w.numbers(1)))        # not Cast: converters to float16 leave the type that it names
    return w.op("Div", total, w.op("Max", count, w.numbers(1)))


@exports(nn.BlankSteps)
def blank_steps(w: Writer, layer: nn.BlankSteps, x: Tensor, lengths: Tensor) -> str:
    first = w.op("Mul", w.steps(x), np.array(layer.stride)) if layer.stride > 1 else w.steps(x)
    there = w.op("Less", first, w.op("Unsqueeze", lengths, w.integers(1)))
    certain = np.where(np.arange(x.shape[1]) == layer.blank, 0, -1e30)
    return w.op("Where", w.op("Unsqueeze", there, w.integers(2)), x, w.numbers(certain))


@exports(nn.CRF)
def crf(w: Writer, layer: nn.CRF, x: Tensor) -> str:
    behind = w.numbers(np.arange(x.shape[0]) > 0).reshape(-1, 1, 1)
    pairs = w.op("Mul", behind, w.parameter(layer.transitions))
    return w.op("Add", w.op("Unsqueeze", x, w.integers(2)), pairs)


@exports(nn.PositionalEncoding)
def positions(w: Writer, layer: nn.PositionalEncoding, x: Tensor) -> str:
    """Sines and cosines of so many steps as x has here: a table of all max_len might be larger than the model."""
    if not layer.learned:
        return w.op("Add", x, w.numbers(layer.positions(x.shape[0])))
    return w.op("Add", x, w.op("Gather", w.parameter(layer.weight), w.steps(x), axis=0))


@exports(nn.LearnedTokens)
def tokens(w: Writer, layer: nn.LearnedTokens, x: Tensor) -> str:
    samples = w.op("Gather", w.op("Shape", x), w.integers(0))
    return w.op("Expand", w.parameter(layer.weight), w.op("Concat", samples, w.integers(*layer.weight.shape), axis=0))


@exports(nn.LSTM, nn.GRU, nn.RNN)
def recurrent(w: Writer, layer: Any, x: Tensor, *further: Tensor) -> str:
    """A node for each layer of the stack; between them, and in ONNX, the axis of time comes first."""
    inputs = (x, *further)
    roles = layer._roles([t.shape for t in inputs])
    lengths = inputs[roles["lengths"]] if "lengths" in roles else None
    steps = None
    if lengths is not None:     # the last of no steps is anything, so it is that of one, which is then replaced
        some = lengths if layer.return_sequences else w.op("Max", lengths, np.array(1))
        steps = w.op("Cast", some, to=w.onnx.TensorProto.INT32)
    y = w.op("Transpose", x, perm=[1, 0, 2])
    states: list[str | None] = []
    for k in range(layer.num_layers):
        weights = [None if a is None else w.constant(f"{kind}_l{k}", a) for kind, a in zip("WRB", _gates(layer, k), strict=True)]
        states = [_state(w, layer, inputs[roles[n]], k) if n in roles else None for n in ("h0", "c0")[:layer.states]]
        whole = layer.return_sequences or k + 1 < layer.num_layers
        direction = "bidirectional" if layer.bidirectional else "forward"
        options: dict[str, Any] = {"hidden_size": layer.hidden_size, "direction": direction, "layout": 0}
        if isinstance(layer, nn.GRU):
            options["linear_before_reset"] = int(layer.reset_after)
        if isinstance(layer, nn.RNN):
            options["activations"] = [layer.nonlinearity.capitalize()] * layer.directions
        # the outputs Y, of all steps (T, directions, B, H), Y_h, of the last one, and Y_c: MNN's converter ends with a fault if
        # an LSTM does not name all three of them
        y = w.op(type(layer).__name__, y, *weights, steps, *states, outputs=1 + layer.states, wanted=int(not whole), **options)
        if whole:
            y = w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), w.integers(0, 0, layer.hidden_size * layer.directions))
    if layer.return_sequences:
        return w.op("Transpose", y, perm=[1, 0, 2])
    if lengths is not None:
        before = w.numbers(0) if states[0] is None else states[0]
        y = w.op("Where", w.op("Equal", w.op("Unsqueeze", lengths, w.integers(0, 2)), np.array(0)), before, y)
    return w.reshape(w.op("Transpose", y, perm=[1, 0, 2]), (layer.hidden_size * layer.directions,))


#: where ONNX has the gates that tinydl, like PyTorch, has as i, f, g, o (ONNX i, o, f, g) and r, z, n (ONNX z, r, n)
ORDER = {nn.LSTM: (0, 3, 1, 2), nn.GRU: (1, 0, 2), nn.RNN: (0,)}


def _gates(layer: Any, k: int) -> list[np.ndarray[Any, Any] | None]:
    """W and R of both directions (directions, gates H, ...), and the biases of both one behind the other, or None."""
    def stacked(kind: str) -> np.ndarray[Any, Any]:
        each = [np.split(getattr(layer, f"{kind}_{suffix}").data, layer.gates) for suffix in layer._suffixes(k)]
        return np.stack([np.concatenate([gates[i] for i in ORDER[type(layer)]]) for gates in each])
    bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1) if layer.bias else None
    return [stacked("weight_ih"), stacked("weight_hh"), bias]


def ungated(layer: Any, k: int, W: Any, R: Any, B: Any) -> dict[str, np.ndarray[Any, Any]]:
    """What `_gates` stacked, by the names of the parameters; ValueError where the shapes do not go with the layer's."""
    order = np.argsort(ORDER[type(layer)])
    names = {"weight_ih": W, "weight_hh": R}
    if layer.bias:
        if B is None or B.ndim != 2 or B.shape[1] != 2 * layer.gates * layer.hidden_size:
            raise ValueError(f"B has shape {np.shape(B)}; (directions, {2 * layer.gates * layer.hidden_size}) is needed")
        names["bias_ih"], names["bias_hh"] = np.split(B, 2, axis=1)
    found = {}
    for kind, stack in names.items():
        if len(stack) != layer.directions or stack.ndim < 2 or stack.shape[1] != layer.gates * layer.hidden_size:
            raise ValueError(f"{kind} has shape {stack.shape} where {layer.directions} directions of "
                             f"{layer.gates * layer.hidden_size} rows are needed")
        for suffix, own in zip(layer._suffixes(k), stack, strict=True):
            gates = np.split(own, layer.gates)
            found[f"{kind}_{suffix}"] = np.concatenate([gates[i] for i in order])
    return found


def _state(w: Writer, layer: Any, s: Tensor, k: int) -> str:
    """That of layer k: (directions, B, H)."""
    D = layer.directions
    own = s.name if layer.num_layers == 1 else w.op("Slice", s, *map(w.integers, (k * D, (k + 1) * D, 1)))
    return w.op("Transpose", own, perm=[1, 0, 2])
