"""The ONNX graph that is being written, and the table of functions that write one layer each."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tinydl.nn.layer import Layer, Parameter, Statistic

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]

#: operators of which ONNX Runtime (1.32) has a kernel for float32 alone
FLOAT32_ALONE = {"AveragePool", "Conv", "ConvTranspose", "Erf", "GRU", "LSTM", "RNN"}

#: by class of layer: function(writer, layer, *inputs) -> name of the output, whose shape the layer says
EXPORTS: dict[type[Layer], Callable[..., str]] = {}
F = TypeVar("F", bound=Callable[..., str])


def exports(*classes: type[Layer]) -> Callable[[F], F]:
    """Decorator of a function(writer, layer, *inputs: Tensor) -> str, the output's name: it writes layers of these classes, but
    not of classes derived from them, which may compute something else."""
    def enter(function: F) -> F:
        EXPORTS.update(dict.fromkeys(classes, function))
        return function
    return enter


def onnx_package() -> Any:
    """The package onnx; ImportError says which extra to install."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as e:
        raise ImportError("ONNX files need the package onnx: pip install 'tinydl-parallel[onnx]'") from e
    return onnx


@dataclass(frozen=True)
class Tensor:
    """A value of the graph: its name, the shape of one sample (the batch's axis stands before it), whether it is integers."""

    name: str
    shape: Shape
    integer: bool = False


class Writer:
    """Nodes and constants of a graph. dtype: of its numbers. reserved: names of the inputs."""

    def __init__(self, dtype: np.dtype[Any], reserved: Sequence[str]) -> None:
        self.onnx, self.dtype = onnx_package(), dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.path, self.layer = "", Layer()
        self._reserved, self._names = frozenset(reserved), set(reserved)

    def call(self, path: str, layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
        """Write a layer; ValueError names one that has no export, and where it stands."""
        before = self.path, self.layer
        self.path, self.layer = path, layer
        if type(layer) not in EXPORTS:
            raise ValueError(f"layer {path or 'of the model'}, {layer!r}, has no export to ONNX. A function that writes it is "
                             "entered by tinydl.onnx.exports")
        name = EXPORTS[type(layer)](self, layer, *inputs)
        self.path, self.layer = before
        return Tensor(name, layer.output_shape(*(x.shape for x in inputs)), layer.moves_only and inputs[0].integer)

    def inner(self, name: str, layer: Layer, *inputs: Tensor) -> Tensor:
        """Write a layer that is a part of the one being written."""
        return self.call(f"{self.path}.{name}" if self.path else name, layer, inputs)

    def op(self, kind: str, *inputs: Tensor | str | Array | None, outputs: int = 1, wanted: int = 0, **attributes: Any) -> str:
        """Add a node; the name of its output number `wanted`, of so many. All have names, also those that nothing reads: of
        two nodes with outputs without one, ONNX Runtime's quant_pre_process says that the graph is cyclic. Inputs: tensors,
        names, constants, None for none."""
        if self.dtype == np.float64 and kind in FLOAT32_ALONE:
            raise ValueError(f"layer {self.path or 'of the model'}, {self.layer!r}: ONNX Runtime computes {kind} in float32 "
                             "alone, and the model is float64. Export a float32 one that has its state_dict")
        names = [self._name_of(x) for x in inputs]
        while names and not names[-1]:      # inputs that are left out behind all others are not written
            names.pop()
        name = self._new(f"{self.path}/{kind}" if self.path else kind)
        results = [name if i == wanted else self._new(name) for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, names, results, name, **attributes))
        return name

    def _name_of(self, x: Tensor | str | Array | None) -> str:
        return "" if x is None else x if isinstance(x, str) else x.name if isinstance(x, Tensor) else self._constant(x)

    def output(self, x: Tensor, name: str) -> None:
        """Let a tensor be the model's output of this name."""
        if x.integer:
            raise ValueError(f"output {name!r} is integers; outputs are numbers that layers compute")
        if name in self._names:
            raise ValueError(f"output {name!r} has the name of an input, or of a value between: give it another one")
        self._names.add(name)
        self.nodes.append(self.onnx.helper.make_node("Identity", [x.name], [name], name))

    def parameter(self, p: Parameter | Statistic) -> str:
        """A parameter as it is, under its name; one that layers share is written once."""
        assert p.data is not None and p.name is not None
        name = f"parameter {p.name}" if p.name in self._reserved else p.name
        self._names.add(name)
        self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(p.data), name)
        return name

    def constant(self, name: str, values: Array) -> str:
        """A constant of this name, behind the layer's path."""
        name = self._new(f"{self.path}.{name}" if self.path else name)
        self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def numbers(self, values: Any) -> Array:
        """A constant of the model's dtype."""
        return np.asarray(values, self.dtype)

    def integers(self, *values: int) -> Array:
        """A vector of integers, as shapes and axes are given."""
        return np.array(values, np.int64)

    def _constant(self, values: Array) -> str:
        name = self._new(f"{self.path}/constant" if self.path else "constant")
        self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
        return name

    def _new(self, name: str) -> str:
        number, found = 1, name
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    # ------------------------------------------------------------------ what several layers need
    def reshape(self, x: Tensor | str, shape: Sequence[int]) -> str:
        """Samples in another shape; 0: as it is at this place."""
        return self.op("Reshape", x, self.integers(0, *shape))

    def normalised(self, x: Tensor | str, axes: Sequence[int], eps: float, *, centred: bool = True) -> str:
        """(x - mean) / sqrt(var + eps), over axes of the whole array; or x / sqrt(mean(x^2) + eps)."""
        over = self.integers(*axes)
        d = self.op("Sub", x, self.op("ReduceMean", x, over)) if centred else x
        var = self.op("ReduceMean", self.op("Mul", d, d), over)
        return self.op("Div", d, self.op("Sqrt", self.op("Add", var, self.numbers(eps))))

    def affine(self, x: str, weight: Parameter | None, bias: Parameter | None, shape: Sequence[int] = ()) -> str:
        """weight x + bias where they are there, in this shape."""
        for kind, p in (("Mul", weight), ("Add", bias)):
            if p is not None:
                values = self.parameter(p)
                x = self.op(kind, x, self.op("Reshape", values, self.integers(*shape)) if shape else values)
        return x

    def steps(self, x: Tensor) -> str:
        """0..T-1, of x (T, C)."""
        return self.op("Range", np.array(0), self.op("Gather", self.op("Shape", x), np.array(1)), np.array(1))

    def present(self, lengths: Tensor, x: Tensor) -> str:
        """(B, T): which steps of x are there."""
        return self.op("Less", self.steps(x), self.op("Unsqueeze", lengths, self.integers(1)))

    def masked(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """x (T, C), and 0 from each sample's length on, whatever lies there."""
        if lengths is None:
            return x
        there = self.op("Unsqueeze", self.present(lengths, x), self.integers(2))
        return Tensor(self.op("Where", there, x, self.numbers(0)), x.shape)
