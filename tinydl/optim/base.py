"""Optimizer: a rule of csrc/updates.h, its numbers, and its state vectors (as long as the parameters)."""
from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinydl import _hints
from tinydl._kernels.engine import PAGE, Update, aligned
from tinydl._kernels.schema import RULES

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class OptimizerState:
    """What an optimizer keeps of one run: `vectors` by name, as long as the parameters, and `t`, the updates made.

    update: the rule bound to the parameters and these vectors; None before that, and in copies.
    """

    vectors: dict[str, Array] = field(default_factory=dict)
    t: int = 0
    update: Update | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "update": None}


class Optimizer:
    """Moves parameters by gradients. `lr` and the other numbers may be changed between updates.

    `bind` (the trainer calls it) gives it a model's parameters; the state begins at zero, and `t` counts the
    updates. Given to several trainers, it keeps a state for each, so each trains its own model; they share the numbers, and
    `t`, `state`, `state_dict` and `step` are of the one that was initialised, or began to train, last.

    A new optimizer is one file: `rule` and `numbers`; its formula and state vectors are an entry of _kernels/schema.py and one
    function in csrc/updates.h. In updates, numbers too small to be normal (below 1.2e-38 in float32) count as zero.
    """

    #: the rule's name in csrc/updates.h
    rule: ClassVar[str]
    lr: float

    if not TYPE_CHECKING:       # a type checker would take every attribute for one that is there
        __getattr__ = _hints.attribute

    def __init__(self) -> None:
        self._state = OptimizerState()

    @property
    def t(self) -> int:
        """Updates made."""
        return self._state.t

    @t.setter
    def t(self, value: int) -> None:
        self._state.t = value

    @property
    def state(self) -> dict[str, Array]:
        """The state vectors by name; empty before `bind`."""
        return self._state.vectors

    def names(self) -> list[str]:
        """Those of the rule's state vectors that this configuration has."""
        numbers = self.numbers()
        return [name for name, unless in RULES[self.rule].vectors.items() if not unless or numbers[unless]]

    def numbers(self) -> dict[str, float]:
        """The rule's numbers by name."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    def bind(self, params: Array, statistics: Array | None = None, momenta: Array | None = None) -> None:
        """Take these parameters (flat, float32 or float64) as the ones to move, with state at zero and t = 0.

        Bound to the same array again, or for the first time after `load_state_dict`, it keeps its state and t. ValueError
        where they are not contiguous, of another dtype, or read-only; then nothing changes.
        """
        self.hold(self.state_for(params, statistics, momenta))

    def state_for(self, params: Array, statistics: Array | None = None, momenta: Array | None = None) -> OptimizerState:
        """The state with which `bind` would take these parameters; nothing changes until it is held."""
        held, names = self._state, self.names()
        same = held.t > 0 if held.update is None else held.update.params is params
        if same and set(held.vectors) == set(names) and all(
                v.shape == params.shape and v.dtype == params.dtype for v in held.vectors.values()):
            if held.update is not None and held.update.statistics is statistics:
                return held
            vectors, t = {k: _placed(v) for k, v in held.vectors.items()}, held.t
        else:
            vectors, t = {n: aligned(params.size, params.dtype) for n in names}, 0
        statistics = np.zeros(0, params.dtype) if statistics is None else statistics
        update = Update(self.rule, params, vectors, statistics,
                        np.zeros(0) if momenta is None else momenta)
        return OptimizerState(vectors, t, update)

    def hold(self, state: OptimizerState) -> None:
        """Be about this run from now on."""
        self._state = state

    def native(self, state: OptimizerState | None = None) -> Update:
        """The bound rule with the numbers as they are now, for the engine. state: of this run, instead of the one held."""
        state = state or self._state
        if state.update is None:
            raise RuntimeError(f"{type(self).__name__} is not bound to parameters yet: Trainer.init or bind() does it")
        missing = [n for n in self.names() if n not in state.vectors]
        if missing:
            raise ValueError(f"{self!r} needs state {', '.join(missing)}, which it did not when it was bound to its parameters: "
                             "change such a number before Trainer.init or bind()")
        state.update.set(self.numbers())
        return state.update

    def step(self, gradients: Array) -> None:
        """One update of the bound parameters by `gradients` (flat, contiguous, as long as they; batch statistics behind)."""
        self.native().apply(np.ascontiguousarray(gradients), self.t + 1)
        self.t += 1

    def state_dict(self) -> dict[str, Any]:
        """The update count and copies of the state vectors."""
        return {"t": self.t, **{k: v.copy() for k, v in self.state.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError where names or sizes differ, and then nothing changes."""
        given = {k: np.asarray(v) for k, v in state.items() if k != "t"}
        if "t" not in state or set(given) != set(self.names()):
            raise ValueError(f"{type(self).__name__} has state {sorted(self.names())} and t; got {sorted(state)}")
        for k, v in given.items():
            if k in self.state and v.shape != self.state[k].shape:
                raise ValueError(f"state {k!r} has shape {v.shape}; the parameters need {self.state[k].shape}")
        for k, v in given.items():
            if k in self.state:
                self.state[k][...] = v
            else:
                self.state[k] = v.copy()
        self.t = int(state["t"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


def _placed(vector: Array) -> Array:
    """A state vector where updates are fast: a copy where it was loaded, or copied, to another place."""
    if vector.ctypes.data % PAGE == 0:
        return vector
    out = aligned(vector.size, vector.dtype).reshape(vector.shape)
    out[...] = vector
    return out


def check(owner: object, **numbers: float) -> None:
    """TypeError for what is no number, ValueError for one that is negative or not finite."""
    for name, value in numbers.items():
        if not isinstance(value, (Real, np.ndarray)) or np.ndim(value):
            raise TypeError(f"{type(owner).__name__}({name}={value!r:.40}): must be a number "
                            "(trainer.init gives the optimizer the model's parameters)")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{type(owner).__name__}({name}={value}): must be at least 0 and finite")
