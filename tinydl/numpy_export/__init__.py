"""Models as Python files that need NumPy alone: `model.export_numpy(path)`.

    functions, sequences    what layers compute, in NumPy, from which a file gets what it needs, as it stands there
    layers                  the expression that each layer is: calls of these functions
    writer                  the lines and arrays of a file

The parameters are in the file too, as base64: one file is simpler to carry than two, at four thirds of their size.
"""
from __future__ import annotations

import ast
import base64
import inspect
import keyword
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from tinydl._version import __version__
from tinydl.nn.interpret import interpret
from tinydl.nn.layer import Layer
from tinydl.numpy_export import functions, sequences
from tinydl.numpy_export.layers import EXPRESSIONS
from tinydl.numpy_export.writer import Array, Value, Writer
from tinydl.serialization import write_atomically

__all__ = ["write_numpy"]

#: of the file; what stands in braces is put in
FILE = '''"""{name}: predict({inputs}) computes what the model of tinydl {version} does, with NumPy alone.

{about}
"""
import base64
import math

import numpy as np


{functions}


def array(dtype, shape, text):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def predict({inputs}):
{body}


# the parameters
P = {{
{arrays}}}
'''


def write_numpy(path: str | Path, layer: Layer, inputs: Sequence[tuple[str, tuple[int, ...], bool]], dtype: np.dtype[Any],
                output_names: Sequence[str] | None, name: str) -> None:
    """Write `layer` as `Model.export_numpy` says. inputs: name, shape of one sample, and whether it is integers, of each."""
    names = _arguments([n for n, _, _ in inputs])
    w = Writer(np.dtype(dtype), EXPRESSIONS, names)
    made = interpret(layer, [Value(n, shape) for n, (_, shape, _) in zip(names, inputs, strict=True)], w.call)
    if w.missing:
        raise ValueError("there is no NumPy for these layers:\n  " + "\n  ".join(w.missing))
    kinds = [np.dtype(np.int64) if integer else w.dtype for _, _, integer in inputs]
    lines = [f"{n} = np.asarray({n}, np.{kind})" for n, kind in zip(names, kinds, strict=True)] + w.lines
    if output_names is not None:
        lines.append(f"return {{{', '.join(f'{n!r}: {y}' for n, y in zip(output_names, made, strict=True))}}}")
    else:
        lines.append(f"return {', '.join(map(str, made))}")
    body = textwrap.indent("\n".join(lines), "    ")
    about = "\n".join(f"{n}: samples along the first axis, of shape {shape} each, {kind}" for n, (_, shape, _), kind in
                      zip(names, inputs, kinds, strict=True))
    text = FILE.format(name=" ".join(name.replace('"', "'").replace("\\", "/").split()), inputs=", ".join(names), about=about,
                       version=__version__, functions="\n\n\n".join(_sources(body)), body=body,
                       arrays="".join(map(_array, w.arrays.items())))
    write_atomically(path, lambda f: f.write(text.encode()))


def _arguments(names: Sequence[str]) -> list[str]:
    """The inputs' names, where those are names in Python that mean nothing else in the file, and others for the rest."""
    taken, found = {"np", "P", "math", "len", "range", "tuple", *_known()}, list[str]()
    for i, name in enumerate(names):
        if not name.isidentifier() or keyword.iskeyword(name) or name in taken:
            name = f"input{i}"
            while name in names:
                name += "_"
        found.append(name)
    return found


def _known() -> dict[str, FunctionType]:
    """The functions that a file may have."""
    return {name: f for module in (functions, sequences) for name, f in vars(module).items() if isinstance(f, FunctionType)}


def _array(item: tuple[str, Array]) -> str:
    name, a = item
    a = np.asarray(a, a.dtype.newbyteorder("<"))
    text = base64.b64encode(a.tobytes()).decode()
    lines = [f"        {part!r}" for part in textwrap.wrap(text, 110)] or ["        ''"]
    return f"    {name!r}: array({a.dtype.str!r}, {a.shape}, (\n" + "\n".join(lines) + ")),\n"


def _sources(body: str) -> list[str]:
    """The functions that the body calls, and those that these do, in the order in which they stand."""
    known, needed, work = _known(), set[str](), [textwrap.dedent(body).replace("return ", "_ = ")]
    while work:
        found = {node.id for node in ast.walk(ast.parse(work.pop())) if isinstance(node, ast.Name)} & known.keys() - needed
        needed |= found
        work += [_source(known[name]) for name in found]
    return [_source(f) for name, f in known.items() if name in needed]


@cache
def _source(function: FunctionType) -> str:
    return inspect.getsource(function).rstrip()
