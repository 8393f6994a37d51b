"""An ONNX file, and its graph as layers.

A file may come from anyone: it is parsed by the package onnx, checked by its checker, and values outside the file are read from
beside it alone, as that package does. Every shape is checked against the data that is there before a layer of that size is made.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.nn.graph import Graph
from tinydl.nn.layer import Layer, Parameter, Symbol
from tinydl.onnx.reading.reader import QUANTIZED, Reader, Term
from tinydl.onnx.writer import onnx_package

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
#: what stands for the number of samples in shapes, where the file leaves it open: a prime that no size of a file is
ROWS = 1_000_003


@dataclass
class Found:
    """What a file holds: layers, and the values of their parameters and running statistics. input_shape: where it is known."""

    layer: Layer
    dtype: str
    values: dict[Parameter, Array]
    name: str
    input_shape: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)


def load(path: str | Path) -> Any:
    """The file, as the package onnx has it, with the values that lie beside it; ValueError where it is none."""
    onnx = onnx_package()
    import onnx.external_data_helper as external
    data = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(data)
        external.load_external_data_for_model(model, str(Path(path).resolve().parent))
        for output in model.graph.output:       # one without a shape is no matter here
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
        if model.functions:
            from onnx import inliner
            model = inliner.inline_local_functions(model)
    except Exception as e:          # whatever a foreign file may lead to
        raise ValueError(f"{path} is not an ONNX file, or is damaged: {' '.join(str(e).split())[:300]}") from None
    if not model.graph.node:
        raise ValueError(f"{path}: the graph has no nodes")
    return model


def constants(path: str | Path, model: Any) -> dict[str, Array]:
    """The initializers."""
    helper, found = onnx_package().numpy_helper, {}
    if model.graph.sparse_initializer:
        raise ValueError(f"{path}: sparse constants are not read")
    for tensor in model.graph.initializer:
        try:
            found[tensor.name] = helper.to_array(tensor)
        except Exception as e:
            raise ValueError(f"{path}: the values of {tensor.name!r} do not fit its shape {list(tensor.dims)}: {e}") from None
    return found


# ---------------------------------------------------------------------- any file
def read_graph(path: str | Path, model: Any, input_shape: Any, outputs: Sequence[str] | None) -> Found:
    """The graph by its operators; ValueError names all that no layer computes."""
    graph, stored = model.graph, constants(path, model)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    inputs = [i for i in graph.input if i.name not in stored]
    dims = {i.name: _dims(path, i) for i in inputs}
    batches = {name: _batch_axis(shape) for name, shape in dims.items()}
    rows = next((n for name, shape in dims.items() if isinstance(n := shape[batches[name]], int)), ROWS)
    kinds = {a.dtype for a in stored.values()} | {_dtype(i) for i in inputs}
    reader = Reader(opset, rows, np.dtype(np.float64 if np.dtype(np.float64) in kinds else np.float32))
    symbols = []
    for i, given in zip(inputs, _given(path, [i.name for i in inputs], input_shape), strict=True):
        symbol = _input(path, i, dims[i.name], batches[i.name], given)
        symbols.append(symbol)
        reader.terms[i.name] = Term("Input", symbol=symbol, batch=batches[i.name])
    for name, a in stored.items():
        reader.terms[name] = Term("Constant", array=a, name=name)
    every = [o.name for o in graph.output]
    wanted = every if outputs is None else list(outputs)
    missing = [name for name in wanted if name not in every]
    if missing or not wanted:
        raise ValueError(f"{path} has no output {', '.join(map(repr, missing))}; it has {', '.join(map(repr, every))}")
    reader.read(graph.node, wanted, _attributes_of)
    _refuse(path, reader, wanted, every)
    made = [reader.terms[name].symbol for name in wanted]
    return _found(path, symbols, {n: s for n, s in zip(wanted, made, strict=True) if s is not None}, reader, graph.name)


def _found(path: str | Path, symbols: list[Symbol], made: dict[str, Symbol], reader: Reader, name: str) -> Found:
    used, work = set[int](), list(made.values())
    while work:
        s = work.pop()
        if id(s) not in used:
            used.add(id(s))
            work.extend(s.inputs)
    inputs = [s for s in symbols if id(s) in used]      # an output may not need all of them
    if not inputs:
        raise ValueError(f"{path}: its outputs do not depend on its inputs")
    if any(s.dtype == "int64" for s in made.values()):
        raise ValueError(f"{path}: an output is integers; outputs are numbers that layers compute")
    # of one output: an array, as of any model, not a dict
    layer = Graph.of(inputs, made if len(made) > 1 else list(made.values()))
    held = {p for _, _, p in layer.named_parameters()}
    values = {p: a for p, a in reader.values.items() if p in held}
    kinds = {a.dtype for a in values.values()} or {np.dtype(np.float32)}
    if len(kinds) > 1:
        raise ValueError(f"{path}: its constants are of {' and '.join(sorted(map(str, kinds)))}; a model has one dtype")
    return Found(_in_a_row(layer), str(kinds.pop()), values, name or "model", inputs[0].shape)


def _in_a_row(graph: Graph) -> Layer:
    """A Sequential, where layers stand one behind the other, which takes samples of other sizes too; else the graph."""
    if len(graph.inputs) > 1 or len(graph.outputs) > 1 or graph.outputs[0] != len(graph.calls) or len(graph.layers) < len(
            graph.calls) or any(values != (i,) for i, (_, values) in enumerate(graph.calls)):
        return graph
    row = nn.Sequential(*(graph.layers[number] for number, _ in graph.calls))
    integers = graph.inputs[0][2] == "int64"
    return row if (row.input_dtype() == "int64") == integers and graph.calls else graph


def _attributes_of(node: Any) -> dict[str, Any]:
    onnx = onnx_package()
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, float):
            value = float(str(np.float32(value)))       # 1e-05, which float32 has not exactly
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [v.decode("utf-8", "replace") for v in value]
        elif attribute.type == onnx.AttributeProto.TENSOR:
            value = onnx.numpy_helper.to_array(value)
        found[attribute.name] = value
    return found


# ---------------------------------------------------------------------- inputs
def _dims(path: str | Path, value: Any) -> list[int | str | None]:
    if value.type.WhichOneof("value") != "tensor_type" or not value.type.tensor_type.HasField("shape"):
        raise ValueError(f"{path}: input {value.name!r} is no tensor of known rank")
    shape = [d.dim_value if d.WhichOneof("value") == "dim_value" and d.dim_value > 0 else d.dim_param or None
             for d in value.type.tensor_type.shape.dim]
    if not shape:
        raise ValueError(f"{path}: input {value.name!r} is one value for all samples, where a model's inputs have one for each. "
                         "Make it a constant of the file: with file = onnx.load(...), file.graph.initializer.append(onnx."
                         f"numpy_helper.from_array(numpy.array(VALUE, {_dtype(value).name!r}), {value.name!r})), and save it")
    return shape


def _batch_axis(shape: Sequence[int | str | None]) -> int:
    """That of the samples: one that says so, or the only one of any size (but of images, whose width it is), or the first."""
    named = [i for i, n in enumerate(shape) if isinstance(n, str) and "batch" in n.lower()]
    free = [i for i, n in enumerate(shape) if not isinstance(n, int)]
    return named[0] if len(named) == 1 else 0 if 0 in free or len(free) != 1 or len(shape) > 3 else free[0]


def _given(path: str | Path, names: list[str], shape: Any) -> list[Shape | None]:
    """input_shape for each input."""
    if shape is None:
        return [None] * len(names)
    if isinstance(shape, Mapping):
        unknown = [name for name in shape if name not in names]
        if unknown:
            raise ValueError(f"input_shape names {', '.join(map(repr, unknown))}; {path} has {', '.join(map(repr, names))}")
        return [tuple(shape[name]) if name in shape else None for name in names]
    shapes = [shape] if len(names) == 1 and not (len(shape) and isinstance(shape[0], (tuple, list))) else list(shape)
    if len(shapes) != len(names):
        raise ValueError(f"input_shape={shape}: {path} has {len(names)} inputs: {', '.join(map(repr, names))}")
    return [None if s is None else tuple(int(n) for n in s) for s in shapes]


def _input(path: str | Path, value: Any, shape: list[int | str | None], batch: int, given: Shape | None) -> Symbol:
    rest = shape[:batch] + shape[batch + 1:]
    if given is not None:
        if len(given) != len(rest) or any(isinstance(n, int) and n != m for n, m in zip(rest, given, strict=True)):
            raise ValueError(f"input_shape={given}: samples of {value.name!r} in {path} are {_shown(rest)}")
        rest = list(given)
    if not all(isinstance(n, int) for n in rest):
        raise ValueError(f"{path} leaves sizes of input {value.name!r} open, ({_shown(rest)}): pass input_shape, the shape of "
                         "one sample")
    dtype = _dtype(value)
    if dtype not in (np.float32, np.float64, np.int64, np.int32):
        raise ValueError(f"{path}: input {value.name!r} is {dtype}; float32, float64, int32 and int64 are read"
                         f"{': export the model in float32' * (dtype.kind == 'f')}")
    kind = "int64" if dtype.kind == "i" else "float32"
    return nn.Input([n for n in rest if isinstance(n, int)], kind, name=value.name)


def _dtype(value: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(onnx_package().helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return dtype


def _shown(shape: Sequence[Any]) -> str:
    return ", ".join(str(n or "?") for n in shape)


# ---------------------------------------------------------------------- what cannot be read
def _refuse(path: str | Path, reader: Reader, wanted: Sequence[str], every: Sequence[str]) -> None:
    """ValueError with all that outputs need and no layer computes."""
    met: set[str] = set()
    for name in wanted:
        term = reader.terms.get(name)
        if term is None or (term.symbol is None and term.array is None):
            met |= _troubles(term)
        elif term.symbol is None:
            met.add(f"output {name!r} is a constant")
        elif term.merged:
            met.add(f"output {name!r}: samples are mixed in its axes, {reader.shown(reader.full_shape(term))}")
    if not met:
        return
    found = [t for t in reader.troubles if t in met] + sorted(met - set(reader.troubles))
    good = [name for name in every if (t := reader.terms.get(name)) is not None and t.symbol is not None
            and t.symbol.dtype != "int64" and not t.merged]
    hint = f"\nThe outputs {', '.join(map(repr, good))} can be read: pass outputs={good!r}" if good else ""
    if any(t.endswith(QUANTIZED) for t in found):
        hint += "\nIt is a quantized file: read the one that it was made of, which has float32 weights"
    lines = "\n  ".join(found[:40])
    raise ValueError(f"{path} has what no layer of tinydl computes:\n  {lines}{hint}")


def _troubles(term: Term | None) -> set[str]:
    """Of a term and what it is made of."""
    seen, found, work = set[int](), set[str](), [term]
    while work:
        t = work.pop()
        if t is None or id(t) in seen or t.symbol is not None:
            continue
        seen.add(id(t))
        if t.trouble:
            found.add(t.trouble)
        work.extend(t.args)
    return found or {"an output that no node makes"}
