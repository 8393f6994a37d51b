"""A network over sequences as it goes step by step: the operations of one step, and the state that is kept between two.

Sequences are (T, C), or for convolutions (C, T): what is emitted has one step, (1, C) or (C, 1). `time` says which of them a
value is: FIRST, LAST, or NONE behind the last step.
"""
# T steps, of which there is one here; C features, H units
from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydl.nn.activations import Elementwise, LastAxis
from tinydl.nn.attention import MultiheadAttention
from tinydl.nn.columns import PReLU, Scale
from tinydl.nn.containers import Residual, Sequential
from tinydl.nn.conv import Conv1d
from tinydl.nn.dot_product import DotProductAttention
from tinydl.nn.dropout import Dropout
from tinydl.nn.embedding import Embedding
from tinydl.nn.graph import Graph, inputs_of
from tinydl.nn.image_norm import RMSNorm
from tinydl.nn.layer import Layer
from tinydl.nn.linear import Linear
from tinydl.nn.merge import Add, Concat, Dot, Multiply
from tinydl.nn.norm import BatchNorm1d, LayerNorm
from tinydl.nn.positions import PositionalEncoding
from tinydl.nn.recurrent import Recurrent
from tinydl.nn.shape import Identity, Permute
from tinydl.nn.steps import LastStep
from tinydl.nn.transformer import TransformerEncoderLayer
from tinydl.plan import Buffer, Builder, Value

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]
Attention = MultiheadAttention | DotProductAttention

#: what does to each step the same, whatever the others are: to its numbers, and to its last axis
NUMBERS = Elementwise, Dropout, Identity, Embedding, Add, Multiply
NONE, FIRST, LAST = "", "first", "last"
LAST_AXIS = Linear, LastAxis, BatchNorm1d, LayerNorm, RMSNorm, Scale, PReLU, Concat, Dot


@dataclass
class Kept:
    """A part of the state: a vector, of which each step makes another; or with `grows` one row for each step so far.

    before: what the steps before left, (1, n), or (room, n) rows; after: what this one makes of it, or its row, (1, n)."""

    before: Value
    grows: bool
    after: Value = field(init=False)


class Steps:
    """Emits one step of a network in inference.

    room: so many steps before have room in what grows. inputs: of the plan behind x, in their order; None is which of the rows
    (room + 1, the last one being this step's) are not there, as integers. clock: arrays that operations read, and what is to be
    written into each, of the number of the step, from 0 on. most: steps that there may be, and the layer that says so."""

    def __init__(self, b: Builder, room: int) -> None:
        self.b, self.room = b, room
        self.inputs: list[Kept | None] = []
        self.clock: list[tuple[Array, Callable[[int], Array]]] = []
        self.most: tuple[float, str] = float("inf"), ""
        self._absent: Value | None = None

    @property
    def kept(self) -> list[Kept]:
        """The state."""
        return [one for one in self.inputs if one is not None]

    def emit(self, layer: Layer, xs: list[Value], time: str, path: str = "") -> tuple[Value, str]:
        """What the layer makes of xs, and where it has its axis of steps; time: where they have it."""
        if time == NONE:    # behind the last step every layer will do: it sees the sequence so far
            return self._alone(layer, xs, path), NONE
        if isinstance(layer, Sequential):
            x = xs[0]
            for name, child in layer.children():
                x, time = self.emit(child, [x], time, _join(path, name))
            return x, time
        if isinstance(layer, Residual):
            y, behind = self.emit(layer.layer, xs, time, _join(path, "layer"))
            if behind != time:
                raise _cannot(layer, path, "its sum is of what has steps on other axes")
            return self.emit(Add(), [xs[0], y], time, path)
        if isinstance(layer, Graph):
            return self._graph(layer, xs, time, path)
        if isinstance(layer, Permute) and layer.axes == (1, 0):
            return self._alone(layer, xs, path), FIRST if time == LAST else LAST
        if isinstance(layer, Conv1d):
            return self._convolution(layer, xs[0], time, path), LAST
        if isinstance(layer, Recurrent) and time == FIRST:
            return self._recurrent(layer, xs, path)
        if isinstance(layer, (MultiheadAttention, DotProductAttention, TransformerEncoderLayer)) and time == FIRST:
            return self._attention(layer, xs, path), FIRST
        if isinstance(layer, PositionalEncoding) and time == FIRST:
            return self._position(layer, xs[0], path), FIRST
        if isinstance(layer, LastStep) and len(xs) == 1 and time == FIRST:
            return self.b.reshape(xs[0], xs[0].shape[1:]), NONE
        self._check(layer, xs[0].shape, time, path)
        return self._alone(layer, xs, path), time

    def _alone(self, layer: Layer, xs: list[Value], path: str) -> Value:
        with self.b.scope(path):
            y: Value = layer.emit(self.b, *xs)[0]
        return y

    def _graph(self, graph: Graph, xs: list[Value], time: str, path: str) -> tuple[Value, str]:
        lengths = range(1, len(graph.inputs))
        if not beside_lengths(graph) or len(graph.outputs) > 1:
            raise ValueError(f"a stepper takes models of one input (and its lengths) and one output; this one has "
                             f"{len(graph.inputs)} and {len(graph.outputs)}")
        values = [(xs[0], time)] * len(graph.inputs)
        for number, inputs in graph.calls:
            layer, given = graph.layers[number], [values[v] for v in inputs if v not in lengths]
            if len({of for _, of in given}) > 1:
                raise _cannot(layer, _join(path, str(number)), "it joins what has steps with what is made of the last one")
            values.append(self.emit(layer, [x for x, _ in given], given[0][1], _join(path, str(number))))
        return values[graph.outputs[0]]

    def _state(self, size: int, grows: bool = False) -> Kept:
        """Another part of the state."""
        name = f"state{len(self.inputs)}"
        self.inputs.append(one := Kept(self.b.input((self.room if grows else 1, size), name=name), grows))
        return one

    def _by_step(self, numbers: Callable[[int], Array]) -> Buffer:
        """numbers(t), of a shape that is the same for all t, where operations of step t find them."""
        buffer = self.b.constant(numbers(0))
        self.clock.append((self.b.constants[-1], numbers))
        return buffer

    def _attention(self, layer: Attention | TransformerEncoderLayer, xs: list[Value], path: str) -> Value:
        """Of a step to those before, whose keys and values are kept, and to itself."""
        own = layer.self_attn if isinstance(layer, TransformerEncoderLayer) else layer
        if not own.causal:
            raise _cannot(layer, path, "it looks at steps that follow, where it is not causal")
        if len(xs) > (3 if isinstance(layer, DotProductAttention) else 1):
            raise _cannot(layer, path, "it takes lengths, a mask or a memory; a stepper keeps the steps before by itself")
        layer.output_shape(*(x.shape for x in xs))
        if self._absent is None:
            self._absent = self.b.input((self.room + 1,), name="absent", integer=True)
            self.inputs.append(None)
        absent, kept = self._absent, self._state(2 * xs[0].shape[1], grows=True)

        def attend(*xs: Value) -> Value:
            y, kept.after = own.step(self.b, xs, kept.before, absent, self._by_step)
            return y
        with self.b.scope(path):
            return layer.step(self.b, xs[0], attend) if isinstance(layer, TransformerEncoderLayer) else attend(*xs)

    def _position(self, layer: PositionalEncoding, x: Value, path: str) -> Value:
        layer.output_shape(x.shape)
        self.most = min(self.most, (layer.max_len, f"layer {path or 0}, {layer!r},"))
        with self.b.scope(path):
            return layer.step(self.b, x, self._by_step)

    def _convolution(self, layer: Conv1d, x: Value, time: str, path: str) -> Value:
        """Of the last steps, which are kept, and x (C, 1): (out_channels, 1)."""
        if layer.padding != "causal" and layer.kernel_size != (1,):
            raise _cannot(layer, path, "it looks at steps that follow, where its padding is not 'causal'")
        if time != LAST or x.shape != (layer.in_channels, 1) or max(layer.stride) > 1 or any(layer._padding()[1]):
            raise _cannot(layer, path, f"it takes steps of {layer.in_channels} channels, (C, T), one after another")
        C, kept = layer.in_channels, layer.dilation[0] * (layer.kernel_size[0] - 1)
        window = self.b.value((kept + 1, C), needs_grad=False)
        self.b.move(x.permute((1, 0)), window.part(0, kept, 1))
        if kept:
            state = self._state(kept * C)
            self.b.move(self.b.reshape(state.before, (kept, C)), window.part(0, 0, kept))
            after = self.b.value((kept, C), needs_grad=False)
            self.b.move(window.part(0, 1, kept), after)
            state.after = self.b.reshape(after, (1, kept * C))
        inside = copy.copy(layer)       # with the same parameters
        inside.padding = "valid"
        return self._alone(inside, [window.permute((1, 0))], path)

    def _recurrent(self, layer: Recurrent, xs: list[Value], path: str) -> tuple[Value, str]:
        if layer.bidirectional:
            raise _cannot(layer, path, "bidirectional: its second direction begins at the last step")
        if len(xs) > 1:
            raise _cannot(layer, path, "it takes lengths or an initial state; a stepper keeps the state itself")
        layer.output_shape(xs[0].shape)
        n = layer.num_layers * layer.states
        states = [self._state(layer.hidden_size) for _ in range(n)]
        with self.b.scope(path):
            y, after = layer.step(self.b, xs[0], [one.before for one in states])
        for one, value in zip(states, after, strict=True):
            one.after = value
        return (y, FIRST) if layer.return_sequences else (self.b.reshape(y, (layer.hidden_size,)), NONE)

    def _check(self, layer: Layer, shape: Shape, time: str, path: str) -> None:
        by_channels = ((isinstance(layer, BatchNorm1d) and layer.features_first(shape))
                       or (isinstance(layer, PReLU) and layer.channels_first(shape)))
        if by_channels and time == LAST and len(shape) == 2:
            return
        if by_channels or not isinstance(layer, NUMBERS if time == LAST else NUMBERS + LAST_AXIS):
            raise _cannot(layer, path, "what it does to a step is not known to depend on that step alone; model.predict takes "
                          "the last steps anew")
        axes = 1
        if isinstance(layer, (LayerNorm, RMSNorm)):
            axes = len(layer.normalized_shape)
        if isinstance(layer, Concat) and layer.axis % max(1, len(shape)) == 0:
            axes = len(shape)
        if isinstance(layer, LAST_AXIS) and len(shape) <= axes:
            raise _cannot(layer, path, "it goes over the axis of steps")


def beside_lengths(layer: Layer) -> bool:
    """Whether the network has one input, beside those that say where sequences end alone: going step by step needs none."""
    inputs = inputs_of(layer)
    others = range(1, len(inputs))
    if any(shape != () or not integer for _, shape, integer in inputs[1:]):
        return False
    takers = Recurrent, LastStep, MultiheadAttention, TransformerEncoderLayer
    return not others or (isinstance(layer, Graph) and all(
        isinstance(layer.layers[number], takers) and given[0] not in others
        for number, given in layer.calls if not set(others).isdisjoint(given)))


def first_time(layer: Layer) -> str:
    """Where the axis of steps is in what the network is given: last before a convolution, else first."""
    for _, one in layer.walk():
        if isinstance(one, Conv1d):
            return LAST
        if not (isinstance(one, (Sequential, Residual, Graph)) or one.keeps_shape()):
            return FIRST
    return FIRST


def first_shape(layer: Layer) -> Shape | None:
    """The shape of one step, where the first layers say it."""
    for _, one in layer.walk():
        if isinstance(one, Graph):
            shape = one.inputs[0][1]
            return shape[:-1] if first_time(layer) == LAST else shape[1:]
        if isinstance(one, Conv1d):
            return (one.in_channels,)
        if isinstance(one, Recurrent):
            return (one.input_size,)
        if type(one) is Embedding:
            return ()
        if not isinstance(one, (Sequential, Residual)) and one.input_shape() is not None:
            return one.input_shape()
        if not (isinstance(one, (Sequential, Residual)) or one.keeps_shape()):
            return None
    return None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _cannot(layer: Layer, path: str, why: str) -> ValueError:
    return ValueError(f"layer {path or 0}, {layer!r}, cannot go step by step: {why}")

