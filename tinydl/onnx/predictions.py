"""What a model of a table gives, as people want it: the label and the probabilities of all classes, or numbers in their unit."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydl.onnx.writer import Array, Tensor, Writer

#: of a model's output: what is written, by name
Finish = Callable[[Writer, Tensor], "list[Output]"]


@dataclass(frozen=True)
class Output:
    """name of the file's output, of the value, dtype of its elements (object: text), and its shape behind the rows."""

    name: str
    value: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def _double(values: Any) -> Array:
    return np.asarray(values, np.float64)


def labels(classes: Any, *, scores: bool = False) -> Finish:
    """label (rows,) and probabilities (rows, K) float32. classes: text, integers, numbers or booleans. scores: the model's output
    is scores, of which softmax makes probabilities, in float64."""
    names = np.asarray(classes)
    if names.dtype.kind in "OU":
        if not all(isinstance(name, str) for name in names.tolist()):
            raise ValueError(f"classes {names.tolist()[:5]} are of different kinds, or of one that ONNX has not")
        names = names.astype(object)
    elif names.dtype.kind in "iu":
        names = names.astype(np.int64)
    elif names.dtype.kind not in "bf":
        raise ValueError(f"classes of {names.dtype} are none that ONNX has")

    def finish(w: Writer, y: Tensor) -> list[Output]:
        label = w.op("Gather", names, w.op("ArgMax", y, axis=1, keepdims=0), axis=0)
        p = y.name
        if scores:
            p = w.op("Softmax", w.op("Cast", p, to=w.onnx.TensorProto.DOUBLE), axis=-1)
            p = w.op("Cast", p, to=w.onnx.TensorProto.FLOAT)
        return [Output("label", label, names.dtype, ()), Output("probabilities", p, np.dtype(np.float32), y.shape)]
    return finish


def several_labels(w: Writer, y: Tensor) -> list[Output]:
    """labels (rows, L) of 0 and 1, and probabilities (rows, L), which the model gives."""
    found = w.op("Cast", w.op("Greater", y, w.numbers(0.5)), to=w.onnx.TensorProto.INT64)
    return [Output("labels", found, np.dtype(np.int64), y.shape), Output("probabilities", y.name, w.dtype, y.shape)]


def values(mean: Any, scale: Any, *, low: Any = None, high: Any = None, ordered: Array | None = None, one: bool = True) -> Finish:
    """value (rows,), or of several targets (rows, K), float64: output scale + mean, from low to high. ordered: each row's by
    these places (K,) in ascending order. one: (rows,)."""
    def finish(w: Writer, y: Tensor) -> list[Output]:
        v = w.op("Cast", y, to=w.onnx.TensorProto.DOUBLE)
        v = w.op("Add", w.op("Mul", v, _double(scale)), _double(mean))
        if ordered is not None:
            v = w.op("TopK", v, w.integers(y.shape[0]), outputs=2, axis=1, largest=0, sorted=1)
            if (np.diff(ordered) < 0).any():
                v = w.op("Gather", v, ordered.astype(np.int64), axis=1)
        if low is not None:
            v = w.op("Min", w.op("Max", v, _double(low)), _double(high))
        if one:
            v = w.op("Squeeze", v, w.integers(1))
        return [Output("value", v, np.dtype(np.float64), () if one else y.shape)]
    return finish
