"""Models as ONNX files and back: `model.to_onnx(path)`, `Model.from_onnx(path)`, of the extra `onnx`.

    writer          the graph that is being written: nodes, constants, and one function for each class of layers, by `exports`
    dense, images, tables, sequences, attention
                    those functions, a file for each family of layers
    reading         the other way: a graph's operators as layers

What is computed is what the layer computes in inference; dropout is left out. An operator's attributes are float32, so in place
of one with a slope or an epsilon there are several with a constant, wherever float64 would suffer. Files keep to operators that
have a kernel in runtimes of the last years, in the oldest form that does (see `OPSET`).

A layer of your own is exported once it has a function: `tinydl.onnx.exports(MyLayer)`.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinydl._version import __version__
from tinydl.nn.graph import Graph, inputs_of
from tinydl.nn.interpret import interpret
from tinydl.nn.layer import Layer
from tinydl.onnx import attention, dense, images, sequences, tables
from tinydl.onnx.reading import Found, read
from tinydl.onnx.reading.own import KEY, described
from tinydl.onnx.writer import Tensor, Writer, exports, onnx_package
from tinydl.serialization import write_atomically

__all__ = ["OPSET", "OPSETS", "Writer", "exports", "read_onnx", "write_onnx"]

#: 17 brought LayerNormalization, the youngest operator here, and 18 gave reductions the form that they have since. ONNX Runtime
#: 1.15 (2023) to 1.32 were seen to compute every layer's file of it as tinydl does; in float64, 1.17 and later. The onnx package
#: would stamp its newest opset and version of the format, which the runtime of the month before refuses.
OPSET = 18
#: those in which files were run
OPSETS = range(18, 24)
#: bytes of a file; the format, a protocol buffer, ends at 2 gigabytes
LARGEST = 2 ** 31 - 2 ** 20
#: importing them filled the table of layers
_modules = attention, dense, images, sequences, tables
#: name, shape of one sample, and whether it is integers, of each
Inputs = Sequence[tuple[str, tuple[int, ...], bool]]


def write_onnx(path: str | Path, layer: Layer, inputs: Inputs, dtype: np.dtype[Any], *,
               outputs: Sequence[str] | None = None, opset: int = OPSET, ir_version: int | None = None,
               name: str = "model") -> None:
    """Write `layer` as `Model.to_onnx` says. outputs: their names."""
    onnx = onnx_package()
    if opset not in OPSETS:
        raise ValueError(f"opset={opset}: from {OPSETS[0]} to {OPSETS[-1]}")
    lowest = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    if ir_version is not None and not lowest <= ir_version <= onnx.IR_VERSION:
        raise ValueError(f"ir_version={ir_version}: opset {opset} needs {lowest} or more, and there are {onnx.IR_VERSION}")
    graph = _graph(layer, inputs, np.dtype(dtype), outputs, name)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir_version or lowest,
                                   producer_name="tinydl", producer_version=__version__)
    text = described(layer, [shape for _, shape, _ in inputs], np.dtype(dtype), name)
    if text is not None:
        onnx.helper.set_model_props(model, {KEY: text})
    if model.ByteSize() > LARGEST:
        raise ValueError(f"the model's file would have {model.ByteSize():,} bytes; ONNX's format ends at {LARGEST:,}")
    onnx.checker.check_model(model)
    write_atomically(path, lambda f: f.write(model.SerializeToString()))


def read_onnx(path: str | Path, *, input_shape: Any = None, outputs: Sequence[str] | None = None) -> Found:
    """Read what `Model.from_onnx` makes a model of."""
    def rewrite(layer: Layer, shapes: Any, dtype: np.dtype[Any], opset: int) -> Any:
        inputs = [(name, shape, integer) for (name, _, integer), shape in zip(inputs_of(layer), shapes, strict=True)]
        return _graph(layer, inputs, dtype, layer.output_names if isinstance(layer, Graph) else None, "")
    return read(path, input_shape=input_shape, outputs=outputs, rewrite=rewrite)


def _graph(layer: Layer, inputs: Inputs, dtype: np.dtype[Any], outputs: Sequence[str] | None, name: str) -> Any:
    writer, given, made = _written(layer, inputs, dtype)
    outputs = outputs or (["y"] if len(made) == 1 else [f"output{i}" for i in range(len(made))])
    free, dims = _free_axes(layer, inputs, writer, made)
    for value, output in zip(made, outputs, strict=True):
        writer.output(value, output)
    ins = [_info(t.name, t.integer, writer, [f"{t.name}_{i}" if i in free else n for i, n in enumerate(t.shape)]) for t in given]
    outs = [_info(name, False, writer, shape) for name, shape in zip(outputs, dims, strict=True)]
    return onnx_package().helper.make_graph(writer.nodes, name, ins, outs, list(writer.constants.values()))


def _written(layer: Layer, inputs: Inputs, dtype: np.dtype[Any]) -> tuple[Writer, list[Tensor], list[Tensor]]:
    """The graph with its inputs and outputs."""
    writer = Writer(dtype, [n for n, _, _ in inputs])
    given = [Tensor(n, tuple(shape), integer) for n, shape, integer in inputs]
    return writer, given, interpret(layer, given, writer.call)


def _free_axes(layer: Layer, inputs: Inputs, writer: Writer, made: list[Tensor]) -> tuple[set[int], list[list[int | None]]]:
    """Axes of a sample that may have any size, as time often may: those where one more makes the same graph. And the sizes of the
    outputs' axes, None of those that follow."""
    free, dims = set(), [list[int | None](t.shape) for t in made]
    for axis in range(len(inputs[0][1]) if len(inputs) == 1 else 0):
        name, shape, integer = inputs[0]
        larger = (*shape[:axis], shape[axis] + 1, *shape[axis + 1:])
        try:
            layer.output_shape(larger)
            other, _, others = _written(layer, [(name, larger, integer)], writer.dtype)
        except ValueError:          # as predict would say
            continue
        if other.nodes == writer.nodes and other.constants == writer.constants:
            free.add(axis)
            for sizes, t in zip(dims, others, strict=True):
                sizes[:] = [n if n == m else None for n, m in zip(sizes, t.shape, strict=True)]
    return free, dims


def _info(name: str, integer: bool, writer: Writer, shape: Sequence[int | str | None]) -> Any:
    helper = writer.onnx.helper
    dtype = np.dtype(np.int64) if integer else writer.dtype
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), ["batch", *shape])
