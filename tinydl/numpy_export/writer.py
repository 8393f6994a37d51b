"""The lines of the function that is being written, and the arrays that it needs."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydl.nn.layer import Layer, Parameter

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Value:
    """A variable, and the shape of one sample."""

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return self.name


class Writer:
    """expressions: by class of layer. names: of the inputs."""

    def __init__(self, dtype: np.dtype[Any], expressions: dict[type[Layer], Callable[..., str]], names: Sequence[str]) -> None:
        self.dtype, self.expressions = dtype, expressions
        self.eps = float(np.finfo(dtype).eps)
        self.lines: list[str] = []
        self.arrays: dict[str, Array] = {}
        #: layers that have no expression, and where they are
        self.missing: list[str] = []
        self.path = ""
        self._names = set(names)

    def call(self, path: str, layer: Layer, inputs: Sequence[Value]) -> Value:
        """A line for a layer."""
        before, self.path = self.path, path
        shape = layer.output_shape(*(x.shape for x in inputs))
        if type(layer) not in self.expressions:
            self.missing.append(f"{path or 'the model'}: {layer!r:.80}")
            y = Value("None", shape)
        else:
            expression = self.expressions[type(layer)](self, layer, *inputs)
            same = any(expression == x.name for x in inputs)
            y = Value(expression, shape) if same or expression in self._names else self.let(
                expression, shape, f"{path}: {type(layer).__name__}" if path else type(layer).__name__)
        self.path = before
        return y

    def inner(self, name: str, layer: Layer, *inputs: Value) -> Value:
        """A layer that is a part of the one being written."""
        return self.call(f"{self.path}.{name}" if self.path else name, layer, inputs)

    def let(self, expression: str, shape: tuple[int, ...], note: str = "") -> Value:
        """A variable for it."""
        number = len(self.lines)
        while f"v{number}" in self._names:
            number += 1
        name = f"v{number}"
        self._names.add(name)
        self.lines.append(f"{name} = {expression}" + (f"      # {note}" if note else ""))
        return Value(name, shape)

    def p(self, parameter: Parameter | None) -> str:
        """A parameter as the function has it; None where there is none."""
        if parameter is None:
            return "None"
        assert parameter.name is not None and parameter.data is not None
        self.arrays[parameter.name] = parameter.data
        return f"P[{parameter.name!r}]"

    def array(self, name: str, values: Array) -> str:
        """An array of this name, behind the layer's path."""
        name = f"{self.path}.{name}" if self.path else name
        self.arrays[name] = values
        return f"P[{name!r}]"
