"""Stepper: inference over a stream, a step at a time, with the state of recurrent layers kept between two."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl._kernels.engine import Replica, Source
from tinydl.nn.graph import inputs_of
from tinydl.nn.layer import Layer
from tinydl.nn.stepping import FIRST, LAST, NONE, Steps, first_shape, first_time
from tinydl.plan import Builder, compile_plan

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

__all__ = ["Stepper"]


class Stepper:
    """What `model.stepper()` returns: one stream, or several side by side, which one thread feeds."""

    def __init__(self, layer: Layer, dtype: np.dtype[Any], params: Array, statistics: Array, shape: Any) -> None:
        """shape: of a sample (T, ...), as it was last used."""
        self._layer, self._dtype, self._params, self._statistics = layer, dtype, params, statistics
        inputs = inputs_of(layer)
        if len(inputs) > 1:
            raise ValueError(f"a stepper takes models of one input; this one has {', '.join(name for name, _, _ in inputs)}")
        self._integer = inputs[0][2]
        #: of one step, where it is known before the first one
        self._shape: Shape | None = first_shape(layer)
        self._time = first_time(layer)
        if self._shape is None and shape:
            self._shape = shape[:-1] if self._time == LAST else shape[1:]
        self._rows, self._n = 0, 0  # streams that the replica has room for, and that there are
        self.reset()
        if self._shape is not None:
            self._compile(1, self._shape)

    def reset(self) -> None:
        """Begin anew, with a state of 0, as a sequence does; then the number of streams may be another."""
        self._states: list[Array] | None = None

    def step(self, x: Any) -> Array:
        """The model's output after one more step: x (C,) of one stream, or (B, C) of B side by side; of a model that begins with
        an Embedding, a number, or (B,). The output is that of the step, or where the model has only one for a whole sequence, as
        if the sequence ended here: (K,), or (B, K).

        ValueError where x does not fit the model or the streams so far; the state is as before then.
        """
        a = np.asarray(x)
        if a.dtype.kind not in ("iub" if self._integer else "fiub"):
            raise ValueError(f"x is {a.dtype}; the model takes {'integers' if self._integer else 'numbers'}")
        a = np.ascontiguousarray(a, np.int64 if self._integer else self._dtype).reshape(a.shape)
        shape = a.shape[-1:] * (not self._integer) if self._shape is None else self._shape
        alone = a.shape == shape
        if not alone and (a.ndim != len(shape) + 1 or a.shape[1:] != shape or not len(a)):
            raise ValueError(f"x has shape {a.shape}; one step is {shape}, of B streams {('B', *shape)}".replace("'", ""))
        rows = 1 if alone else len(a)
        if self._states is not None and rows != self._n:
            raise ValueError(f"x has steps of {rows} streams, and there were {self._n} so far: reset() begins others")
        if rows > self._rows:
            self._compile(rows, shape)
        states = self._states
        if states is None:
            states = [np.zeros((rows, 1, n), self._dtype) for n in self._sizes]
        out = np.empty((rows, self._output_size + sum(self._sizes)), self._dtype)
        self._replica.run([Source(a.reshape(rows, 1, *shape)), *map(Source, states)], None, rows, out=out)
        y, *after = np.split(out, np.cumsum([self._output_size, *self._sizes])[:-1], 1)
        self._states, self._n = [np.ascontiguousarray(s).reshape(rows, 1, -1) for s in after], rows
        y = y.copy().reshape(rows, *self._output_shape)
        return y[0] if alone else y

    def _compile(self, rows: int, shape: Shape) -> None:
        b = Builder(self._dtype, training=False, n_params=self._params.size, n_statistics=self._statistics.size)
        x = b.input((1, *shape), integer=self._integer)
        steps = Steps(b)
        y, time = steps.emit(self._layer, [x if self._time == FIRST else b.reshape(x, (*shape, 1))], self._time)
        b.outputs = [y, *steps.after]
        self._output_size, self._output_shape = y.size, {FIRST: y.shape[1:], LAST: y.shape[:-1], NONE: y.shape}[time]
        self._sizes = [s.size for s in steps.after]
        self._replica = Replica(compile_plan(b, rows).program, self._params, self._statistics)
        self._rows, self._shape = rows, shape
