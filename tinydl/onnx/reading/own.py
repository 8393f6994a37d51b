"""Files that `to_onnx` wrote say which layers they were made of, and these come back: attention, dropout, names and all.

That is taken for true only where the graph is, node by node, what `to_onnx` writes of these layers with the values in the file.
Where anything else in the graph was changed since, it is read as anyone's, by its operators.
"""
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from tinydl.nn.layer import REGISTRY, Layer
from tinydl.nn.recurrent import Recurrent
from tinydl.onnx.reading.file import Found
from tinydl.onnx.sequences import ungated
from tinydl.serialization import layer_from_json, layer_to_json, plain, share_parameters, shared_parameters

Array = np.ndarray[Any, Any]
#: the key among the file's metadata, and the version of what it holds
KEY, VERSION = "tinydl", 1


def described(layer: Layer, input_shapes: Any, dtype: np.dtype[Any], name: str) -> str | None:
    """The text under KEY; None where a layer was made with what JSON has not."""
    try:
        spec = layer_to_json(layer, {})
        frozen = sorted({n for n, _, p in layer.named_parameters() if p.frozen})
        return json.dumps(plain({"version": VERSION, "name": name, "dtype": str(dtype), "layer": spec, "frozen": frozen,
                                 "shared": shared_parameters(layer, spec), "input_shapes": input_shapes}))
    except (TypeError, ValueError):
        return None


def read_own(model: Any, stored: dict[str, Array], rewrite: Callable[[Layer, Any, Any, Any], Any]) -> Found | None:
    """The layers that a file says it was made of; None where it does not say that, or is changed. rewrite(layer, input_shapes,
    dtype, opset): the graph as `to_onnx` writes it, of parameters that have their values."""
    text = next((p.value for p in model.metadata_props if p.key == KEY), None)
    if text is None or model.functions:
        return None
    try:
        about = json.loads(text)
        if about["version"] > VERSION:
            return None
        layer = layer_from_json(about["layer"], REGISTRY, [])
        share_parameters(layer, about["shared"])
        names = {p: n for n, _, p in reversed(list(layer.named_parameters()))}
        arrays = _arrays(layer, stored)
        values = {}
        for p, n in names.items():
            p.name, p.data, p.frozen = n, arrays[n], n in about["frozen"]
            values[p] = arrays[n]
            if arrays[n].shape != p.shape or str(arrays[n].dtype) != about["dtype"]:
                return None
        shapes = [tuple(s) for s in about["input_shapes"]]
        graph = rewrite(layer, shapes, np.dtype(about["dtype"]), model.opset_import[0].version)
        if not same_graph(model.graph, graph):
            return None
        return Found(layer, about["dtype"], values, str(about["name"]), shapes[0] if len(shapes) == 1 else None)
    except Exception:       # the text may say anything; the graph is there all the same
        return None


def _arrays(layer: Layer, stored: dict[str, Array]) -> dict[str, Array]:
    """The values in a file by the names of parameters. Those of recurrent layers lie there in ONNX's order."""
    found = {name.removeprefix("parameter "): a for name, a in stored.items()}
    for path, inner in layer.walk():
        if isinstance(inner, Recurrent):
            below = f"{path}." if path else ""
            for k in range(inner.num_layers):
                stacks = [found.get(f"{below}{kind}_l{k}") for kind in "WRB"]
                found |= {below + name: a for name, a in ungated(inner, k, *stacks).items()}
    return found


def same_graph(a: Any, b: Any) -> bool:
    """Whether two graphs compute the same in the same way: names of nodes and notes for people do not count."""
    from onnx.numpy_helper import to_array

    def nodes(graph: Any) -> list[Any]:
        return [(n.op_type, n.domain, list(n.input), list(n.output),
                 sorted(at.SerializeToString(deterministic=True) for at in n.attribute)) for n in graph.node]

    def values(graph: Any) -> dict[str, Any]:
        arrays = ((t.name, to_array(t)) for t in graph.initializer)
        return {name: (x.dtype, x.shape, x.tobytes()) for name, x in arrays}

    def ends(graph: Any) -> list[Any]:
        return [(v.name, v.type.tensor_type.elem_type, len(v.type.tensor_type.shape.dim)) for v in (*graph.input, *graph.output)]
    return ends(a) == ends(b) and nodes(a) == nodes(b) and values(a) == values(b)


