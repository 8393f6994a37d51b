"""Optimizer: a rule of csrc/updates.h, its numbers, and its state vectors (as long as the parameters)."""
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import accumulate, groupby
from math import isfinite
from numbers import Real
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinydl import _hints
from tinydl._kernels.engine import PAGE, Update, aligned
from tinydl._kernels.schema import RULES
from tinydl.optim.schedules import Schedule

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class OptimizerState:
    """What an optimizer keeps of one run: `vectors` by name, as long as the parameters, and `t`, the updates made.

    update: the rule bound to the parameters and these vectors; None before that, and in copies. sizes: the parameters by
    name, in order, with their numbers of values; None where nobody said. norm: of the last update's gradient, as
    Optimizer.apply returned it; None before there was one.
    """

    vectors: dict[str, Array] = field(default_factory=dict)
    t: int = 0
    update: Update | None = None
    sizes: dict[str, int] | None = None
    norm: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "update": None}


class Optimizer:
    """Moves parameters by gradients. `lr` and the other numbers may be changed between updates.

    lr: a number, or a schedule of `tinydl.optim.schedules`, which gives the rate of each update. The rate applies at the step,
    as in PyTorch: momentum is kept without it, so that a cut of the rate makes the very next step smaller. weight_decay, where a
    rule has it, may be a schedule too.

    All optimizers take these, by name:

    - clip_norm: the gradient g of all parameters together is multiplied by min(1, clip_norm / (|g| + 1e-6)) before the update
      (PyTorch's clip_grad_norm_). The mean norm of an epoch, before that, is `gradient_norm` in the history, and each update's
      is in `trainer.gradient_norms`; with clip_norm=float("inf") it is only measured. Where the norm is not finite no update
      is made.
    - clip_value: each element of it is brought into -clip_value..clip_value, before clip_norm.
    - ema: beside the parameters, averaged ones are kept: a := ema a + (1 - ema) p after each update, the first one's p to begin
      with (PyTorch's AveragedModel with get_ema_multi_avg_fn). Validation uses them; `trainer.averaged_model()` has them, and
      checkpoints do. The parameters that are trained on stay as they are.
    - groups: numbers of their own for some parameters, by patterns of their names as in `model.state_dict()`:
      `groups=[{"params": "*.bias", "weight_decay": 0.0}, {"params": ["embed.*"], "lr": 0.01}]`. Of several that match the first
      counts; ValueError where none matches. A group's lr replaces the optimizer's.

        >>> from tinydl import optim
        >>> optim.SGD(optim.schedules.Linear(0.1, 1000), momentum=0.9, clip_norm=1.0).lr(500)
        0.05

    `bind` (the trainer calls it) gives it a model's parameters; the state begins at zero, and `t` counts the
    updates. Given to several trainers, it keeps a state for each, so each trains its own model; they share the numbers, and
    `t`, `state`, `state_dict` and `step` are of the one that was initialised, or began to train, last.

    A subclass may have a `step` of its own, in Python: it is given the averaged gradients, and changes them before
    `super().step(gradients)` makes the update. One that moves the parameters itself takes none of clip_norm, clip_value, ema and
    groups: ValueError at the first update, which is not made then.

    A new optimizer is one file: `rule` and `numbers`; its formula and state vectors are an entry of _kernels/schema.py and one
    function in csrc/updates.h. In updates, numbers too small to be normal (below 1.2e-38 in float32) count as zero.
    """

    #: the rule's name in csrc/updates.h
    rule: ClassVar[str]
    lr: float | Schedule
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    groups: Sequence[Mapping[str, Any]] | None = None

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

    def rate(self, n: int) -> float:
        """The learning rate of update number n (from 0)."""
        return self.lr(n) if isinstance(self.lr, Schedule) else self.lr

    def names(self) -> list[str]:
        """Those of the rule's state vectors that this configuration has."""
        each = [own.numbers() for own in self._members()]
        vectors = [name for name, unless in RULES[self.rule].vectors.items() if not unless or any(n[unless] for n in each)]
        return vectors if self.ema is None else [*vectors, "ema"]

    def options(self, clip_norm: float | None, clip_value: float | None, ema: float | None,
                groups: Sequence[Mapping[str, Any]] | None) -> None:
        """What all optimizers take: the last thing that their constructors do."""
        kind = type(self).__name__
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ValueError(f"{kind}({name}={value}): above 0, or None")
        if ema is not None and not 0 < ema < 1:
            raise ValueError(f"{kind}(ema={ema}): above 0 and below 1, or None")
        for group in groups or () if isinstance(groups, (Sequence, type(None))) else [groups]:
            if not isinstance(group, Mapping) or "params" not in group:
                raise ValueError(f'{kind}(groups={groups!r:.80}): a list of dicts, such as '
                                 '{"params": "*.bias", "weight_decay": 0.0}')
            unknown = group.keys() - {"params"} - self.config().keys()
            if unknown:
                raise ValueError(f"{kind}: a group has {', '.join(sorted(unknown))}; there are {', '.join(self.config())}")
            type(self)(**{**self.config(), **{k: v for k, v in group.items() if k != "params"}})       # checks them
        self.clip_norm, self.clip_value, self.ema, self.groups = clip_norm, clip_value, ema, groups and list(groups)

    def options_config(self) -> dict[str, Any]:
        """Those that were given."""
        given = {"clip_norm": self.clip_norm, "clip_value": self.clip_value, "ema": self.ema, "groups": self.groups}
        return {name: value for name, value in given.items() if value is not None}

    def _members(self) -> list[Optimizer]:
        """Itself, and what it is for each of its groups."""
        members = [self]
        for group in self.groups or ():
            own = copy.copy(self)
            for name, value in group.items():
                if name != "params":
                    setattr(own, name, value)
            members.append(own)
        return members

    def _segments(self, sizes: Mapping[str, int] | None) -> list[tuple[int, int]]:
        """(end, number in _members) of parameters that have the same numbers, in their order."""
        if sizes is None:
            raise ValueError(f"{type(self).__name__} has groups of parameters by name, and is bound to an array without names: "
                             "Trainer.init gives them, or bind(params, sizes=model.sizes())")
        patterns = [[g["params"]] if isinstance(g["params"], str) else list(g["params"]) for g in self.groups or ()]
        for pattern in (p for some in patterns for p in some):
            if not any(fnmatchcase(name, pattern) for name in sizes):
                raise ValueError(f"{type(self).__name__}: no trained parameter's name matches {pattern!r}"
                                 f"{_hints.pattern(pattern, sizes)}")

        def member(name: str) -> int:
            return next((i for i, some in enumerate(patterns, 1) if any(fnmatchcase(name, p) for p in some)), 0)
        ends = zip(accumulate(sizes.values()), map(member, sizes), strict=True)
        return [(list(same)[-1][0], number) for number, same in groupby(ends, lambda pair: pair[1])]

    def set_numbers(self, update: Update, state: OptimizerState, updates: int = 1) -> None:
        """Give `update` the numbers of the next `updates` updates behind `state`."""
        numbers = self.numbers()
        if not self.groups and not any(isinstance(value, Schedule) for value in numbers.values()):     # mostly: the short way
            update.set(numbers, clip_norm=self.clip_norm, clip_value=self.clip_value, ema=self.ema)
            return
        members, updates = self._members(), max(1, updates)
        segments = self._segments(state.sizes) if self.groups else [(update.n, 0)]
        each = [own.numbers() for own in members]
        rates = {(i, name): value.rates(state.t, updates) for i, numbers in enumerate(each)
                 for name, value in numbers.items() if isinstance(value, Schedule)}
        fixed = [{name: 0.0 if isinstance(value, Schedule) else value for name, value in numbers.items()} for numbers in each]
        varying = [(at, name, rates[i, name]) for at, (_, i) in enumerate(segments) for name in each[i] if (i, name) in rates]
        update.set([(end, fixed[i]) for end, i in segments], varying=[(at, name) for at, name, _ in varying],
                   values=np.array([row for _, _, row in varying]) if varying else None, first=state.t,
                   clip_norm=self.clip_norm, clip_value=self.clip_value, ema=self.ema)

    def numbers(self) -> dict[str, Any]:
        """The rule's numbers by name; a schedule where one differs from update to update."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    def bind(self, params: Array, statistics: Array | None = None, momenta: Array | None = None,
             sizes: Mapping[str, int] | None = None) -> None:
        """Take these parameters (flat, float32 or float64) as the ones to move, with state at zero and t = 0.

        Bound to the same array again, or for the first time after `load_state_dict`, it keeps its state and t. ValueError
        where they are not contiguous, of another dtype, or read-only; then nothing changes. sizes: how many of them each
        parameter has, by name: for groups.
        """
        self.hold(self.state_for(params, statistics, momenta, sizes))

    def state_for(self, params: Array, statistics: Array | None = None, momenta: Array | None = None,
                  sizes: Mapping[str, int] | None = None) -> OptimizerState:
        """The state with which `bind` would take these parameters; nothing changes until it is held."""
        held, names = self._state, self.names()
        if self.groups:
            self._segments(sizes)       # ValueError where they do not fit
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
        return OptimizerState(vectors, t, update, None if sizes is None else dict(sizes))

    def hold(self, state: OptimizerState) -> None:
        """Be about this run from now on."""
        self._state = state

    def native(self, state: OptimizerState | None = None, updates: int = 1) -> Update:
        """The bound rule with the numbers as they are now, for the next `updates` updates in the engine. state: of this run,
        instead of the one held."""
        state = state or self._state
        if state.update is None:
            raise RuntimeError(f"{type(self).__name__} is not bound to parameters yet: Trainer.init or bind() does it")
        missing = [n for n in self.names() if n not in state.vectors]
        if missing:
            raise ValueError(f"{self!r} needs state {', '.join(missing)}, which it did not when it was bound to its parameters: "
                             "change such a number before Trainer.init or bind()")
        self.set_numbers(state.update, state, updates)
        return state.update

    def step(self, gradients: Array) -> None:
        """One update of the bound parameters by `gradients` (flat, contiguous, as long as they; batch statistics behind)."""
        self.apply(self._state, np.array(gradients) if self.clip_norm or self.clip_value else np.ascontiguousarray(gradients))

    def apply(self, state: OptimizerState, gradients: Array) -> float:
        """One update of `state`'s parameters by `gradients`, which clipping overwrites. Returns their norm before that (NaN where
        clip_norm is None); where it is not finite no update is made."""
        norm = state.norm = self.native(state).apply(gradients, state.t + 1)
        if self.clip_norm is None or isfinite(norm):
            state.t += 1
        return norm

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


def check_betas(owner: object, betas: tuple[float, float]) -> tuple[float, float]:
    """ValueError where they are not two numbers of 0..1, below 1."""
    if np.shape(betas) != (2,) or not all(0 <= b < 1 for b in betas):
        raise ValueError(f"{type(owner).__name__}(betas={betas}): two numbers, each at least 0 and below 1")
    return float(betas[0]), float(betas[1])


def check(owner: object, **numbers: Any) -> None:
    """TypeError for what is no number (of lr and weight_decay: nor a schedule), ValueError for one that is negative or not
    finite."""
    for name, value in numbers.items():
        if name in ("lr", "weight_decay") and isinstance(value, Schedule):
            continue
        if not isinstance(value, (Real, np.ndarray)) or getattr(value, "ndim", False):
            hint = ("or a Schedule, whose rate(n) is of update n; callbacks.LearningRate(lambda epoch: ...) takes functions"
                    if isinstance(value, FunctionType) else "(trainer.init gives the optimizer the model's parameters)")
            raise TypeError(f"{type(owner).__name__}({name}={value!r:.40}): must be a number {hint}")
        if not 0 <= float(value) < float("inf"):
            raise ValueError(f"{type(owner).__name__}({name}={value}): must be at least 0 and finite")
