"""ONNX files as models: `Model.from_onnx(path)`, of the extra `onnx`.

    file            the file, its inputs, what is refused, and the layers as a Graph, or in a row
    own             files that `to_onnx` wrote: the layers that they were made of
    reader          the walk through a graph, and the table of functions that make layers of operators, by `imports`
    dense, norms, activations, shapes, images, sequences, attention
                    those functions, a file for each family
    patterns        activations and norms that exporters write as several nodes
    constants       what nodes compute of constants alone
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinydl.onnx.reading import activations, attention, dense, images, norms, sequences, shapes
from tinydl.onnx.reading.file import Found, constants, load, read_graph
from tinydl.onnx.reading.own import read_own

__all__ = ["Found", "read"]

#: importing them filled the table of operators
_modules = activations, attention, dense, images, norms, sequences, shapes


def read(path: str | Path, *, input_shape: Any = None, outputs: Sequence[str] | None = None,
         rewrite: Callable[..., Any]) -> Found:
    """What `Model.from_onnx` makes a model of."""
    model = load(path)
    if outputs is None:
        own = read_own(model, constants(path, model), rewrite)
        if own is not None:
            return own
    return read_graph(path, model, input_shape, outputs)
