"""Graph: layers connected in any way without a circle, of one or several inputs, to one or several outputs.

    numbers, store = nn.Input((8,), name="numbers"), nn.Input((), "int64", name="store")
    y = nn.Linear(12, 1)(nn.Concat()([numbers, nn.Embedding(50, 4)(store)]))
    model = Model(inputs=[numbers, store], outputs=y)               # or outputs={"price": y, "kind": z}
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, Symbol, register
from tinydl.plan import Builder, Rows, Value, inverse

Shape = tuple[int, ...]
DTYPES = ("float32", "float64", "int64")


@_hints.arguments
def Input(shape: int | Sequence[int], dtype: str = "float32", name: str | None = None) -> Symbol:
    """An input of a model, as layers are called on. shape: of one sample; () is a single number. dtype: "float32" for numbers
    (of the model's dtype, whatever the data has), "int64" for integers (categories, for nn.Embedding). name: by which
    data is given to it; input0, input1, ... where left out.

        >>> from tinydl import Model, nn
        >>> a, b = nn.Input((3,), name="a"), nn.Input((3,), name="b")
        >>> Model(inputs=[a, b], outputs=nn.Dot()([a, b])).predict({"a": [[1, 2, 3]], "b": [[1, 0, 1]]}).tolist()
        [[4.0]]
    """
    if dtype not in DTYPES:
        raise ValueError(f"Input(dtype={dtype!r}): one of {', '.join(DTYPES)}")
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else shape
    if not isinstance(sizes, (list, tuple, np.ndarray)) or not all(isinstance(s, (int, np.integer, type(None))) for s in sizes):
        raise TypeError(f"Input(shape={shape!r}): a whole number, or several: the sizes of one sample")
    shape = tuple(sizes)
    if None in shape:
        raise ValueError(f"Input({shape}): each axis of a sample has a size, as of the longest sequence (the batch's axis "
                         "is not among them)")
    shape = tuple(map(int, shape))
    if any(s < 1 for s in shape):
        raise ValueError(f"Input({shape}): sizes must be at least 1")
    return Symbol(shape, "int64" if dtype == "int64" else "float32", name=name)


@register
class Graph(Layer):
    """What `Model(inputs=..., outputs=...)` makes of symbolic values.

    layers: each once, however often it is called. calls: (number of the layer, numbers of its inputs) in an order in which
    they can be made; value i is input i, then come the calls' results. outputs: numbers of values. output_names: of these,
    where they have any.
    """

    n_inputs = None

    def __init__(self, *layers: Layer, inputs: Sequence[Mapping[str, Any]], calls: Sequence[tuple[int, Sequence[int]]],
                 outputs: Sequence[int], output_names: Sequence[str] | None = None) -> None:
        self.layers = layers
        self.inputs = [(str(i["name"]), tuple(i["shape"]), str(i["dtype"])) for i in inputs]
        self.calls = [(int(layer), tuple(int(v) for v in values)) for layer, values in calls]
        self.outputs = [int(v) for v in outputs]
        self.output_names = None if output_names is None else [str(name) for name in output_names]

    @classmethod
    def of(cls, inputs: Symbol | Sequence[Symbol], outputs: Symbol | Sequence[Symbol] | Mapping[str, Symbol]) -> Graph:
        """The graph between symbolic values; ValueError names what is not connected, or doubly named."""
        output_names = list(outputs) if isinstance(outputs, Mapping) else None
        outputs = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
        ins, outs = (list(s) if isinstance(s, (list, tuple)) else [s] for s in (inputs, outputs))
        for what, symbols in (("inputs", ins), ("outputs", outs)):
            for s in symbols or [None]:
                if not isinstance(s, Symbol):
                    raise TypeError(f"Model({what}=...) takes symbolic values, those of nn.Input and of layers called on them; "
                                    f"got {s!r:.60}")
        names = [s.name or f"input{i}" for i, s in enumerate(ins)]
        if len(set(names)) < len(names):
            raise ValueError(f"two inputs of one name: {', '.join(names)}")
        for name, s in zip(names, ins, strict=True):
            if s.layer is not None:
                raise ValueError(f"input {name} is the output of {s.layer!r}; inputs are made by nn.Input")
        numbers = {id(s): i for i, s in enumerate(ins)}
        layers: list[Layer] = []
        calls: list[tuple[int, list[int]]] = []
        work = list(reversed(outs))
        while work:         # depth first, without recursion: graphs may be deep
            s = work[-1]
            if id(s) in numbers:
                work.pop()
                continue
            if s.layer is None:
                raise ValueError(f"the outputs need {s!r}, which is none of the inputs {', '.join(names)}")
            missing = [i for i in s.inputs if id(i) not in numbers]
            if missing:
                work.extend(reversed(missing))
                continue
            if not any(s.layer is layer for layer in layers):
                layers.append(s.layer)
            number = next(i for i, layer in enumerate(layers) if layer is s.layer)
            calls.append((number, [numbers[id(i)] for i in s.inputs]))
            numbers[id(s)] = len(ins) + len(calls) - 1
            work.pop()
        used = {v for _, values in calls for v in values} | {numbers[id(s)] for s in outs}
        unused = [name for i, name in enumerate(names) if i not in used]
        if unused:
            raise ValueError(f"no output depends on input {', '.join(unused)}")
        return cls(*layers, inputs=[{"name": n, "shape": s.shape, "dtype": s.dtype} for n, s in zip(names, ins, strict=True)],
                   calls=calls, outputs=[numbers[id(s)] for s in outs], output_names=output_names)

    def __repr__(self) -> str:
        return f"Graph({len(self.inputs)} inputs, {', '.join(map(repr, self.layers))})"

    def config(self) -> dict[str, Any]:
        named = {} if self.output_names is None else {"output_names": self.output_names}
        return {"inputs": [{"name": n, "shape": list(s), "dtype": d} for n, s, d in self.inputs],
                "calls": [[layer, list(values)] for layer, values in self.calls], "outputs": self.outputs, **named}

    def children(self) -> Iterator[tuple[str, Layer]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def input_shape(self) -> Shape | None:
        return self.inputs[0][1] if len(self.inputs) == 1 else None

    def shapes(self, *given: Shape) -> list[Shape]:
        """Of each value."""
        if len(given) != len(self.inputs):
            raise ValueError(f"the model has {len(self.inputs)} inputs ({', '.join(n for n, _, _ in self.inputs)}); "
                             f"got {len(given)}")
        for (name, shape, _), other in zip(self.inputs, given, strict=True):
            if tuple(other) != shape:
                raise ValueError(f"input {name} takes samples of shape {shape}; got {tuple(other)}")
        shapes = [tuple(s) for s in given]
        for number, values in self.calls:
            try:
                shapes.append(self.layers[number].output_shape(*(shapes[v] for v in values)))
            except ValueError as e:
                raise ValueError(f"layer {number}: {e}") from None
        return shapes

    def output_shape(self, *shapes: Shape) -> Any:
        """Of the output; of several, a tuple of their shapes."""
        every = self.shapes(*shapes)
        return every[self.outputs[0]] if len(self.outputs) == 1 else tuple(every[v] for v in self.outputs)

    def flops(self, *given: Shape) -> int:
        shapes = self.shapes(*given)
        return sum(self.layers[number].flops(*(shapes[v] for v in values)) for number, values in self.calls)

    def emit(self, b: Builder, *xs: Value) -> tuple[Any, Backward]:
        values, backs = list(xs), []
        for number, inputs in self.calls:
            with b.scope(str(number)):
                y, back = self.layers[number].emit(b, *(values[v] for v in inputs))
            values.append(y)
            backs.append(back)
        outputs = tuple(values[v] for v in self.outputs)

        def backward(dys: Any) -> Any:
            grads: list[Value | None] = [None] * len(values)

            def add(v: int, dy: Value | None) -> None:
                before = grads[v]
                if dy is None or before is None:
                    grads[v] = before if dy is None else dy
                    return
                order = dy.order()
                total = b.value(dy.permute(order).shape)
                b.emit("add", a=before.permute(order), b=dy.permute(order), out=total, n=Rows(dy.size))
                grads[v] = total.permute(inverse(order))
            for v, dy in zip(self.outputs, dys if len(self.outputs) > 1 else (dys,), strict=True):
                add(v, dy)
            for i in range(len(self.calls) - 1, -1, -1):
                number, inputs = self.calls[i]
                dy = grads[len(xs) + i]
                if dy is None or not values[len(xs) + i].needs_grad:
                    continue
                with b.scope(str(number)):
                    dx = backs[i](dy)
                    for v, d in zip(inputs, dx if isinstance(dx, tuple) else (dx,), strict=True):
                        add(v, d)
            return tuple(grads[:len(xs)]) if len(xs) > 1 else grads[0]
        return outputs if len(outputs) > 1 else outputs[0], backward


def shortened(layer: Layer, shapes: Sequence[Shape], T: int) -> tuple[Layer, tuple[Shape, ...]]:
    """A model's layer for inputs of T steps, where the first has shapes[0][0], with the same layers inside; and their shapes."""
    less = ((T, *shapes[0][1:]), *shapes[1:])
    if isinstance(layer, Graph):
        layer = copy.copy(layer)
        layer.inputs = [(name, shape, dtype) for (name, _, dtype), shape in zip(layer.inputs, less, strict=True)]
    layer.output_shape(*less)
    return layer, less


def named_outputs(layer: Layer, outputs: Any) -> Any:
    """The outputs of a model's layer (one, or a tuple), as a dict where its graph gives them names."""
    if not isinstance(layer, Graph) or layer.output_names is None:
        return outputs
    return dict(zip(layer.output_names, outputs if len(layer.outputs) > 1 else (outputs,), strict=True))


def unnamed_outputs(layer: Layer, outputs: Any) -> Any:
    """What `named_outputs` made, or a dict with the same keys, as one, or a tuple."""
    if not isinstance(outputs, dict):
        return outputs
    assert isinstance(layer, Graph) and layer.output_names is not None
    every = tuple(outputs[name] for name in layer.output_names)
    return every if len(every) > 1 else every[0]


def inputs_of(layer: Layer) -> list[tuple[str, Shape | None, bool]]:
    """Of a model's layer: name, shape of one sample where it is known, and whether it takes integers."""
    if isinstance(layer, Graph):
        return [(name, shape, dtype == "int64") for name, shape, dtype in layer.inputs]
    return [("x", layer.input_shape(), layer.input_dtype() == "int64")]
