"""Models as ONNX files and back: `model.to_onnx(path)`, `Model.from_onnx(path)`, of the extra `onnx`.

    writer          the graph that is being written: nodes, constants, and one function for each class of layers, by `exports`
    dense, images, tables, sequences, attention
                    those functions, a file for each family of layers
    columns, predictions
                    what stands before and behind a table's model: its columns as they are, and labels or values
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
from tinydl.onnx.columns import column_inputs, encoded
from tinydl.onnx.predictions import Finish, Output
from tinydl.onnx.reading import Found, read
from tinydl.onnx.reading.own import KEY, described
from tinydl.onnx.writer import Tensor, Writer, exports, onnx_package
from tinydl.serialization import write_atomically
from tinydl.tables import TableEncoder

__all__ = ["OPSET", "OPSETS", "Writer", "exports", "read_onnx", "write_onnx", "write_table"]

#: 17 brought LayerNormalization, the youngest operator here, and 18 gave reductions the form that they have since. ONNX Runtime
#: 1.15 (2023) to 1.32 were seen to compute every layer's file of it as tinydl does; in float64, 1.17 and later. The onnx package
#: would stamp its newest opset and version of the format, which the runtime of the month before refuses.
OPSET = 18
#: those in which files were run
OPSETS = range(18, 24)
#: of the domain ai.onnx.ml, whose LabelEncoder takes text
ML_OPSET = 2
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
    version = _version(opset, ir_version)
    graph = _graph(layer, inputs, np.dtype(dtype), outputs, name)
    text = described(layer, [shape for _, shape, _ in inputs], np.dtype(dtype), name)
    _save(path, graph, opset, version, {} if text is None else {KEY: text})


def write_table(path: str | Path, layer: Layer, dtype: np.dtype[Any], encoder: TableEncoder, *, finish: Finish | None = None,
                one_embedding: bool = True, opset: int = OPSET, ir_version: int | None = None, name: str = "model") -> None:
    """Write a model of what `encoder` makes of a table, with the encoder in front of it: an input for each column, as
    `tinydl.onnx.columns` says. finish: what is made of the output, else it is `y` as it is. one_embedding: as `tinydl.tabular`
    has it, codes count on from column to column."""
    version, given = _version(opset, ir_version), column_inputs(encoder)
    writer = Writer(np.dtype(dtype), [label for label, _ in given])
    numbers, codes = encoded(writer, encoder, one_embedding=one_embedding)
    taken = [codes if integer else numbers for _, _, integer in inputs_of(layer)]
    if None in taken or len(taken) != sum(t is not None for t in (numbers, codes)):
        raise ValueError(f"the encoder makes {len(encoder.number_names)} numbers and {len(encoder.cardinalities)} codes; the "
                         f"model's inputs are {', '.join(f'{n} {shape}' for n, shape, _ in inputs_of(layer))}")
    shapes = [t.shape for t in taken if t is not None]
    layer.output_shape(*shapes)
    y, *others = interpret(layer, [t for t in taken if t is not None], writer.call)
    if others:
        raise ValueError("models of several outputs are not written with a table's columns")
    made = [Output("y", y.name, writer.dtype, y.shape)] if finish is None else finish(writer, y)
    labels = {label for label, _ in given}
    ins = [_ends(writer, label, kind, (1,)) for label, kind in given]
    outs = []
    for output in made:
        free = output.name if output.name not in labels else f"predicted {output.name}"
        writer.output(Tensor(output.value, output.shape), free)
        outs.append(_ends(writer, free, output.dtype, output.shape))
    graph = onnx_package().helper.make_graph(writer.nodes, name, ins, outs, list(writer.constants.values()))
    _save(path, graph, opset, version, {})


def _ends(writer: Writer, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> Any:
    helper = writer.onnx.helper
    kind = writer.onnx.TensorProto.STRING if dtype.kind == "O" else helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(name, kind, ["batch", *shape])


def _version(opset: int, ir_version: int | None) -> int:
    """Of the format; ValueError where there is none."""
    onnx = onnx_package()
    if opset not in OPSETS:
        raise ValueError(f"opset={opset}: from {OPSETS[0]} to {OPSETS[-1]}")
    lowest: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    if ir_version is not None and not lowest <= ir_version <= onnx.IR_VERSION:
        raise ValueError(f"ir_version={ir_version}: opset {opset} needs {lowest} or more, and there are {onnx.IR_VERSION}")
    return ir_version or lowest


def _save(path: str | Path, graph: Any, opset: int, ir_version: int, notes: dict[str, str]) -> None:
    onnx = onnx_package()
    domains = {"": opset, "ai.onnx.ml": ML_OPSET} if any(n.domain for n in graph.node) else {"": opset}
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in domains.items()],
                                   ir_version=ir_version, producer_name="tinydl", producer_version=__version__)
    onnx.helper.set_model_props(model, notes)
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
