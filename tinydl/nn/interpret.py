"""Going through a model layer by layer with values of any kind: what an exporter needs, which has a value for each tensor."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tinydl.nn.containers import Residual, Sequential
from tinydl.nn.graph import Graph
from tinydl.nn.layer import Layer
from tinydl.nn.merge import Add

V = TypeVar("V")
Call = Callable[[str, Layer, Sequence[V]], V]


def interpret(layer: Layer, values: Sequence[V], call: Call[V], path: str = "") -> list[V]:
    """The outputs of a layer on these inputs, where call(path, layer, inputs) gives that of each layer that is not made of
    others; path: where it stands, as the names of parameters begin. The sum of a Residual is one of nn.Add."""
    below = f"{path}." if path else ""
    if type(layer) is Sequential:
        for name, child in layer.children():
            values = interpret(child, values, call, below + name)
        return list(values)
    if type(layer) is Residual:
        return [call(path, Add(), [*values, *interpret(layer.layer, values, call, f"{below}layer")])]
    if type(layer) is Graph:
        made = list(values)
        for number, inputs in layer.calls:
            made += interpret(layer.layers[number], [made[v] for v in inputs], call, f"{below}{number}")
        return [made[v] for v in layer.outputs]
    return [call(path, layer, values)]
