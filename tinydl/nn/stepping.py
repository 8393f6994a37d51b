"""A network over sequences (T, C) as it goes step by step: the operations of one step, and the state that is kept between two."""
# T steps, of which there is one here; C features, H units
from __future__ import annotations

from tinydl.nn.activations import Elementwise, LastAxis
from tinydl.nn.columns import PReLU, Scale
from tinydl.nn.containers import Residual, Sequential
from tinydl.nn.dropout import Dropout
from tinydl.nn.embedding import Embedding
from tinydl.nn.graph import Graph
from tinydl.nn.image_norm import BatchNorm2d, RMSNorm
from tinydl.nn.layer import Layer
from tinydl.nn.linear import Linear
from tinydl.nn.merge import Add, Concat, Dot, Multiply
from tinydl.nn.norm import BatchNorm1d, LayerNorm
from tinydl.nn.recurrent import Recurrent
from tinydl.nn.shape import Identity
from tinydl.nn.steps import LastStep
from tinydl.plan import Builder, Value

Shape = tuple[int, ...]

#: what does to each step the same, whatever the others are: to its numbers, and to its last axis
NUMBERS = Elementwise, Dropout, Identity, Embedding, Add, Multiply
LAST_AXIS = Linear, LastAxis, BatchNorm1d, LayerNorm, RMSNorm, Scale, PReLU, Concat, Dot


class Steps:
    """Emits one step of a network in inference. before, after: the vectors of the state, (1, H) each, in the same order."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.before: list[Value] = []
        self.after: list[Value] = []

    def emit(self, layer: Layer, xs: list[Value], timed: bool, path: str = "") -> tuple[Value, bool]:
        """What the layer makes of xs, and whether it has an axis of steps; timed: whether they have one."""
        if not timed:       # behind the last step every layer will do: it sees the sequence so far
            return self._alone(layer, xs, path), False
        if isinstance(layer, Sequential):
            x = xs[0]
            for name, child in layer.children():
                x, timed = self.emit(child, [x], timed, _join(path, name))
            return x, timed
        if isinstance(layer, Residual):
            y, timed = self.emit(layer.layer, xs, True, _join(path, "layer"))
            return self.emit(Add(), [xs[0], y], timed, path)
        if isinstance(layer, Graph):
            return self._graph(layer, xs, path)
        if isinstance(layer, Recurrent):
            return self._recurrent(layer, xs, path)
        if isinstance(layer, LastStep) and len(xs) == 1:
            return self.b.reshape(xs[0], xs[0].shape[1:]), False
        self._check(layer, xs[0].shape, path)
        return self._alone(layer, xs, path), True

    def _alone(self, layer: Layer, xs: list[Value], path: str) -> Value:
        with self.b.scope(path):
            y: Value = layer.emit(self.b, *xs)[0]
        return y

    def _graph(self, graph: Graph, xs: list[Value], path: str) -> tuple[Value, bool]:
        if len(graph.inputs) > 1 or len(graph.outputs) > 1:
            raise ValueError(f"a stepper takes models of one input and one output; this one has {len(graph.inputs)} and "
                             f"{len(graph.outputs)}")
        values = [(xs[0], True)]
        for number, inputs in graph.calls:
            layer, given = graph.layers[number], [values[v] for v in inputs]
            if len({timed for _, timed in given}) > 1:
                raise _cannot(layer, _join(path, str(number)), "it joins what has steps with what is made of the last one")
            values.append(self.emit(layer, [x for x, _ in given], given[0][1], _join(path, str(number))))
        return values[graph.outputs[0]]

    def _recurrent(self, layer: Recurrent, xs: list[Value], path: str) -> tuple[Value, bool]:
        if layer.bidirectional:
            raise _cannot(layer, path, "bidirectional: its second direction begins at the last step")
        if len(xs) > 1:
            raise _cannot(layer, path, "it takes lengths or an initial state; a stepper keeps the state itself")
        layer.output_shape(xs[0].shape)
        n = layer.num_layers * layer.states
        before = [self.b.input((1, layer.hidden_size), name=f"state{len(self.before) + i}") for i in range(n)]
        with self.b.scope(path):
            y, after = layer.step(self.b, xs[0], before)
        self.before += before
        self.after += after
        return (y, True) if layer.return_sequences else (self.b.reshape(y, (layer.hidden_size,)), False)

    def _check(self, layer: Layer, shape: Shape, path: str) -> None:
        if isinstance(layer, BatchNorm2d) or not isinstance(layer, NUMBERS + LAST_AXIS):
            raise _cannot(layer, path, "what it does to a step is not known to depend on that step alone")
        axes = 1
        if isinstance(layer, (LayerNorm, RMSNorm)):
            axes = len(layer.normalized_shape)
        if isinstance(layer, Concat) and layer.axis % max(1, len(shape)) == 0:
            axes = len(shape)
        if isinstance(layer, LAST_AXIS) and len(shape) <= axes:
            raise _cannot(layer, path, "it goes over the axis of steps")


def first_shape(layer: Layer) -> Shape | None:
    """The shape of one step, where the first layers say it."""
    for _, one in layer.walk():
        if isinstance(one, Graph):
            return one.inputs[0][1][1:]
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

