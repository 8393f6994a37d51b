"""Stepper: inference over a stream, a step at a time, with what layers need of the steps before: a state, or keys and values."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinydl._kernels.engine import Replica, Source
from tinydl.nn.graph import inputs_of
from tinydl.nn.layer import Layer
from tinydl.nn.stepping import FIRST, LAST, NONE, Steps, beside_lengths, first_shape, first_time
from tinydl.plan import Builder, compile_plan

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

__all__ = ["Stepper"]

#: steps that attention has room for at first; then twice as many, and so on
ROOM = 32


class Stepper:
    """What `model.stepper()` returns: one stream, or several side by side, which one thread feeds."""

    def __init__(self, layer: Layer, dtype: np.dtype[Any], params: Array, statistics: Array, shape: Any) -> None:
        """shape: of a sample (T, ...), as it was last used."""
        self._layer, self._dtype, self._params, self._statistics = layer, dtype, params, statistics
        inputs = inputs_of(layer)
        if not beside_lengths(layer):
            raise ValueError("a stepper takes models of one input, and lengths of recurrent and attention layers; this one has "
                             f"{', '.join(name for name, _, _ in inputs)}")
        self._integer = inputs[0][2]
        #: of one step, where it is known before the first one
        self._shape: Shape | None = first_shape(layer)
        self._time = first_time(layer)
        if self._shape is None and shape:
            self._shape = shape[:-1] if self._time == LAST else shape[1:]
        self._rows, self._n = 0, 0  # streams that the replica has room for, and that there are
        self._room = ROOM           # steps before this one that it has room for
        self.reset()
        if self._shape is not None:
            self._compile(1, self._shape)

    def reset(self) -> None:
        """Begin anew, with a state of 0, as a sequence does; then the number of streams may be another."""
        self._states: list[Array] | None = None
        self._t = 0                 # steps so far

    def state_dict(self) -> dict[str, Array]:
        """Where the streams are, as copies: `steps`, how many there were, and behind a first one `state0`, `state1`, ..., what
        layers keep, (streams, n), or of attention (streams, steps, n). Of an LSTM it is h and then c, of GRU and RNN h, for each
        layer."""
        state: dict[str, Array] = {"steps": np.array(self._t)}
        for i, array in enumerate(self._states or ()):
            state[f"state{i}"] = (array[:, :self._t] if self._steps.kept[i].grows else array[:, 0]).copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, as often as you like: after a break (`np.savez(path, **stepper.state_dict())` keeps it), or to look
        ahead and come back. With `steps` 0 and states of your own a sequence begins with these, such as what an encoder says.
        ValueError where they do not fit the model; nothing changes then.

            >>> import numpy as np
            >>> from tinydl import Model, nn
            >>> s = Model(nn.Sequential(nn.GRU(1, 4), nn.Linear(4, 1)), seed=0).stepper()
            >>> y = s.step([0.5])
            >>> now = s.state_dict()
            >>> ahead = [y := s.step(y) for _ in range(3)]      # a forecast, which each of its steps is made of
            >>> s.load_state_dict(now)
            >>> s.state_dict()["steps"].item()
            1
        """
        if self._shape is None:
            raise ValueError("the model does not say the shape of a step: give it one before, stepper.step(x), then the state")
        names = [f"state{i}" for i in range(len(self._steps.kept))]
        steps = int(state["steps"]) if "steps" in state else -1
        given = [np.array(state[name], self._dtype) for name in names if name in state]
        rows = len(given[0]) if given and given[0].ndim else 0
        wanted = [(rows, steps, one.after.size) if one.grows else (rows, one.after.size) for one in self._steps.kept]
        if given or steps != 0 or len(state) > 1:
            if set(state) != {"steps", *names} or steps < 0 or rows < bool(names) or [a.shape for a in given] != wanted:
                raise ValueError("state must have steps, and of B streams "
                                 + ", ".join(f"{name} (B, {'steps, ' * one.grows}{one.after.size})" for name, one in
                                             zip(names, self._steps.kept, strict=True))
                                 + f"; got {', '.join(f'{name} {np.shape(value)}' for name, value in state.items())}")
        needed = 1 << max(0, steps - 1).bit_length() if any(one.grows for one in self._steps.kept) else 0
        if rows > self._rows or needed > self._room:
            self._room = max(self._room, needed)
            self._compile(max(rows, self._rows), self._shape)
        self.reset()
        self._t = steps
        if given:
            self._states, self._n = [a if a.ndim == 3 else a[:, None] for a in given], rows
            for i, one in enumerate(self._steps.kept):
                if one.grows:
                    room = np.zeros((rows, self._room, one.after.size), self._dtype)
                    room[:, :steps] = given[i]
                    self._states[i] = room

    def step(self, x: Any) -> Array:
        """The model's output after one more step: x (C,) of one stream, or (B, C) of B side by side; of a model that begins with
        an Embedding, a number, or (B,). The output is that of the step, or where the model has only one for a whole sequence, as
        if the sequence ended here: (K,), or (B, K).

        ValueError where x does not fit the model or the streams so far, or an nn.PositionalEncoding knows no further step; the
        state is as before then. A NaN in x stays in the state: where a measurement is missing give the one before, say.
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
        most, layer = self._steps.most
        if self._t >= most:
            raise ValueError(f"this is step {self._t + 1}, and {layer} knows {most}: reset() begins anew")
        if self._t >= self._room and any(one.grows for one in self._steps.kept):
            self._room *= 2
            self._compile(self._rows, shape)
        states = [] if self._states is None else self._states
        for i, one in enumerate(self._steps.kept):
            if self._states is None:
                states.append(np.zeros((rows, *one.before.shape), self._dtype))
            elif one.grows and states[i].shape[1] < self._room:
                states[i] = np.concatenate([states[i], np.zeros_like(states[i])], 1)
        y, after = self._run(a.reshape(rows, 1, *shape), states, rows)
        for i, one in enumerate(self._steps.kept):
            if one.grows:
                states[i][:, self._t] = after[i]
            else:
                states[i] = np.ascontiguousarray(after[i]).reshape(rows, 1, -1)
        self._states, self._n, self._t = states, rows, self._t + 1
        y = y.copy().reshape(rows, *self._output_shape)
        return y[0] if alone else y

    def _run(self, x: Array, states: list[Array], rows: int) -> tuple[Array, list[Array]]:
        """The outputs of a step x (rows, 1, ...), and what is to be kept of it."""
        for array, numbers in self._steps.clock:
            array[...] = numbers(self._t)
        at = iter(states)
        sources = [Source(self._absent(rows) if one is None else next(at)) for one in self._steps.inputs]
        out = np.empty((rows, sum(self._sizes)), self._dtype)
        self._replica.run([Source(x), *sources], None, rows, out=out)
        y, *after = np.split(out, np.cumsum(self._sizes)[:-1], 1)
        return y, after

    def _absent(self, rows: int) -> Array:
        """Which of the steps that there is room for, and of this one behind them, are not there."""
        absent = np.ones((rows, self._room + 1), np.int64)
        absent[:, :self._t] = absent[:, -1] = 0
        return absent

    def _compile(self, rows: int, shape: Shape) -> None:
        b = Builder(self._dtype, training=False, n_params=self._params.size, n_statistics=self._statistics.size)
        x = b.input((1, *shape), integer=self._integer)
        steps = Steps(b, self._room)
        y, time = steps.emit(self._layer, [x if self._time == FIRST else b.reshape(x, (*shape, 1))], self._time)
        b.outputs = [y, *(one.after for one in steps.kept)]
        self._sizes = [value.size for value in b.outputs]       # of the output, and of what is to be kept
        self._output_shape = {FIRST: y.shape[1:], LAST: y.shape[:-1], NONE: y.shape}[time]
        self._plan = compile_plan(b, rows)      # has the numbers that the steps' clock writes
        self._replica = Replica(self._plan.program, self._params, self._statistics)
        self._steps, self._rows, self._shape = steps, rows, shape
