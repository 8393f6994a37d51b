"""Schedules of the learning rate: its value at each update.

    >>> from tinydl import optim
    >>> rate = optim.schedules.Warmup(5, optim.schedules.Cosine(0.1, 100))
    >>> rate(0), rate(5), rate(105)
    (0.001, 0.1, 0.0)
    >>> optimizer = optim.SGD(lr=rate)

A schedule is called with the number of an update, from 0, and gives its rate; with an array of numbers it gives an array.
It counts updates, never batches, over the whole training: it has no state, and a training that goes on from a checkpoint has
the rates of one that was never interrupted. What it gives behind its end is said with each. A weight decay, and `nn.Dropout`,
may have one likewise.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from tinydl import _hints

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]

__all__ = ["Chained", "Constant", "CosLog", "Cosine", "CosineRestarts", "Exponential", "Linear", "MultiStep", "OneCycle",
           "Polynomial", "Schedule", "Step", "Warmup", "from_config"]

#: updates that are evaluated at a time: always whole blocks of them, so that a rate has the same bits whatever is asked for
#: beside it (NumPy may compute the ends of arrays otherwise than their middles)
BLOCK = 64


class Schedule:
    """The rate of each update. A subclass writes `rate`; its constructor's arguments are attributes of the same names.

        >>> class Halved(Schedule):
        ...     def __init__(self, lr, every):
        ...         self.lr, self.every = lr, every
        ...     def rate(self, n):
        ...         return self.lr * 0.5 ** (n // self.every)
        >>> Halved(0.8, 10)(25)
        0.2
    """

    #: classes by name, for checkpoints
    known: ClassVar[dict[str, type[Schedule]]] = {}

    def __init_subclass__(cls) -> None:
        Schedule.known[cls.__name__] = cls

    def rate(self, n: Array) -> Array:
        """The rates of updates number n (float64, from 0), element by element."""
        raise NotImplementedError(f"{type(self).__name__}.rate")

    def rates(self, first: int, count: int) -> Array:
        """Those of updates first..first + count - 1 (float64)."""
        start = first // BLOCK * BLOCK
        n = np.arange(start, -(-(first + count) // BLOCK) * BLOCK, dtype=np.float64)
        out = np.concatenate([np.broadcast_to(self.rate(block), BLOCK) for block in n.reshape(-1, BLOCK)]) if count else n[:0]
        return np.asarray(out[first - start:first - start + count], np.float64)

    @overload
    def __call__(self, n: int) -> float: ...
    @overload
    def __call__(self, n: Array) -> Array: ...

    def __call__(self, n: int | Array) -> float | Array:
        """The rate of update number n, or of each number in an array."""
        numbers = np.asarray(n)
        if numbers.dtype.kind not in "iu" or (numbers < 0).any():
            raise ValueError(f"{type(self).__name__}({n!r:.60}): numbers of updates, whole and from 0")
        if numbers.ndim == 0:
            return float(self.rates(int(numbers), 1)[0])
        if not numbers.size:
            return np.zeros(numbers.shape)
        first = int(numbers.min())
        return np.asarray(self.rates(first, int(numbers.max()) - first + 1)[numbers - first])

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them; "schedule" is the class. `from_config` makes it again."""
        values = {name: getattr(self, name) for name in signature(type(self)).parameters}
        return {"schedule": type(self).__name__, **{name: plain(value) for name, value in values.items()}}

    def plot(self, path: str | Path, updates: int | None = None) -> Path:
        """Write a picture of the first `updates` rates (default: to its end, or 1,000); ImportError where matplotlib is
        missing."""
        from pathlib import Path

        from tinydl.plotting import plot_rates
        return plot_rates(self.rates(0, updates or self._length() or 1000), Path(path))

    def _length(self) -> int:
        """Updates after which nothing new comes; 0 where there is no end."""
        return int(getattr(self, "total_updates", 0))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Schedule) and self.config() == other.config()

    __hash__ = None     # type: ignore[assignment]

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in signature(type(self)).parameters}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in values.items())})"


def plain(value: Any) -> Any:
    """`value` with schedules, in lists and dicts too, as their `config`."""
    if isinstance(value, Schedule):
        return value.config()
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule whose `config` this is; ValueError where its class is not there (import what defines it first)."""
    name = config.get("schedule")
    if name not in Schedule.known:
        raise ValueError(f"no schedule is called {name!r}; there are {', '.join(sorted(Schedule.known))}. "
                         "One of your own is known when the module that defines it was imported")
    return Schedule.known[name](**{k: made(v) for k, v in config.items() if k != "schedule"})


def made(value: Any) -> Any:
    """What `plain` gave, with schedules in it again."""
    if isinstance(value, Mapping):
        return from_config(value) if "schedule" in value else {k: made(v) for k, v in value.items()}
    return [made(v) for v in value] if isinstance(value, list) else value


def _check(owner: Schedule, *, above: Mapping[str, float] | None = None, **rates: float) -> None:
    """ValueError where a rate is negative or not finite, or a number of `above` is not above 0."""
    for name, value in rates.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{type(owner).__name__}({name}={value}): at least 0 and finite")
    for name, value in (above or {}).items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{type(owner).__name__}({name}={value}): above 0")


def _updates(owner: str, at: Any) -> list[int]:
    """`at` as a list; TypeError where it is no list of numbers."""
    if not isinstance(at, (list, tuple, np.ndarray)) or not all(isinstance(n, Real) and isfinite(n) for n in at):
        raise TypeError(f"{owner}(at={at!r:.60}): a list of numbers of updates")
    return list(at)


class Constant(Schedule):
    """Update 0 and all others have the rate lr."""

    @_hints.arguments
    def __init__(self, lr: float) -> None:
        _check(self, lr=lr)
        self.lr = lr

    def rate(self, n: Array) -> Array:
        return np.full(n.shape, float(self.lr))


class Linear(Schedule):
    """From lr at update 0 in a straight line to `end_lr` at update number total_updates, which stays.

    PyTorch's LinearLR(start_factor=1, end_factor=end_lr / lr, total_iters=total_updates).
    """

    @_hints.arguments
    def __init__(self, lr: float, total_updates: int, end_lr: float = 0.0) -> None:
        _check(self, lr=lr, end_lr=end_lr, above={"total_updates": total_updates})
        self.lr, self.total_updates, self.end_lr = lr, total_updates, end_lr

    def rate(self, n: Array) -> Array:
        return self.lr + (self.end_lr - self.lr) * np.minimum(n / self.total_updates, 1)


class Step(Schedule):
    """lr at update 0, times gamma every `every` updates: lr gamma^floor(n / every). PyTorch's StepLR."""

    @_hints.arguments
    def __init__(self, lr: float, every: int, gamma: float = 0.1) -> None:
        _check(self, lr=lr, gamma=gamma, above={"every": every})
        self.lr, self.every, self.gamma = lr, every, gamma

    def rate(self, n: Array) -> Array:
        return self.lr * self.gamma ** (n // self.every)


class MultiStep(Schedule):
    """lr at update 0, times gamma from each of the updates `at` on: lr gamma^(number of them that are n or less). PyTorch's
    MultiStepLR."""

    @_hints.arguments
    def __init__(self, lr: float, at: Sequence[int], gamma: float = 0.1) -> None:
        _check(self, lr=lr, gamma=gamma)
        self.lr, self.at, self.gamma = lr, sorted(_updates("MultiStep", at)), gamma

    def rate(self, n: Array) -> Array:
        return self.lr * self.gamma ** np.searchsorted(self.at, n, "right").astype(np.float64)


class Exponential(Schedule):
    """lr at update 0, lr gamma^n at update n. PyTorch's ExponentialLR."""

    @_hints.arguments
    def __init__(self, lr: float, gamma: float) -> None:
        _check(self, lr=lr, gamma=gamma)
        self.lr, self.gamma = lr, gamma

    def rate(self, n: Array) -> Array:
        return self.lr * self.gamma ** n


class Polynomial(Schedule):
    """lr (1 - n / total_updates)^power: lr at update 0, 0 at update number total_updates and behind. PyTorch's PolynomialLR."""

    @_hints.arguments
    def __init__(self, lr: float, total_updates: int, power: float = 1.0) -> None:
        _check(self, lr=lr, above={"total_updates": total_updates, "power": power})
        self.lr, self.total_updates, self.power = lr, total_updates, power

    def rate(self, n: Array) -> Array:
        return self.lr * np.maximum(1 - n / self.total_updates, 0) ** self.power


class Cosine(Schedule):
    """end_lr + (lr - end_lr) (1 + cos(pi n / total_updates)) / 2: lr at update 0, end_lr at update number total_updates, which
    stays.

    Loshchilov and Hutter (2017) without restarts. PyTorch's CosineAnnealingLR climbs again behind its T_max; this does not.
    """

    @_hints.arguments
    def __init__(self, lr: float, total_updates: int, end_lr: float = 0.0) -> None:
        _check(self, lr=lr, end_lr=end_lr, above={"total_updates": total_updates})
        self.lr, self.total_updates, self.end_lr = lr, total_updates, end_lr

    def rate(self, n: Array) -> Array:
        return _between(self.lr, self.end_lr, np.minimum(n / self.total_updates, 1))


class CosineRestarts(Schedule):
    """`Cosine` from lr towards end_lr, over and over: the first time in `updates` updates, each time `factor` times as many.

    lr at update 0 and at each restart. PyTorch's CosineAnnealingWarmRestarts(T_0=updates, T_mult=factor, eta_min=end_lr).
    """

    @_hints.arguments
    def __init__(self, lr: float, updates: int, factor: int = 1, end_lr: float = 0.0) -> None:
        _check(self, lr=lr, end_lr=end_lr, above={"updates": updates, "factor": factor})
        self.lr, self.updates, self.factor, self.end_lr = lr, updates, factor, end_lr

    def rate(self, n: Array) -> Array:
        if self.factor == 1:
            return _between(self.lr, self.end_lr, n % self.updates / self.updates)
        starts = [0]
        while starts[-1] <= n[-1]:
            starts.append(starts[-1] + self.updates * self.factor ** (len(starts) - 1))
        number = np.searchsorted(starts, n, "right") - 1
        start = np.asarray(starts, np.float64)
        return _between(self.lr, self.end_lr, (n - start[number]) / (start[number + 1] - start[number]))


class OneCycle(Schedule):
    """Up along a cosine and down along another (Smith and Topin 2018): max_lr / div_factor at update 0, max_lr at update number
    pct_start total_updates - 1, and max_lr / div_factor / final_div_factor at the last, number total_updates - 1, which stays.

    PyTorch's OneCycleLR(max_lr, total_steps=total_updates), with its defaults; momentum is left as it is.
    """

    @_hints.arguments
    def __init__(self, max_lr: float, total_updates: int, pct_start: float = 0.3, div_factor: float = 25.0,
                 final_div_factor: float = 1e4) -> None:
        _check(self, max_lr=max_lr, above={"div_factor": div_factor, "final_div_factor": final_div_factor})
        if not 0 < pct_start < 1 or pct_start * total_updates <= 1:
            raise ValueError(f"OneCycle(total_updates={total_updates}, pct_start={pct_start}): pct_start above 0 and below 1, "
                             "and more than one update of it")
        self.max_lr, self.total_updates, self.pct_start = max_lr, total_updates, pct_start
        self.div_factor, self.final_div_factor = div_factor, final_div_factor

    def rate(self, n: Array) -> Array:
        first = self.max_lr / self.div_factor
        top, last = self.pct_start * self.total_updates - 1, self.total_updates - 1
        up = _between(first, self.max_lr, np.minimum(n / top, 1))
        down = _between(self.max_lr, first / self.final_div_factor, np.clip((n - top) / (last - top), 0, 1))
        return np.where(n <= top, up, down)


class CosLog(Schedule):
    """lr (1 - cos(2 pi log2(1 + (2^cycles - 1) n / total_updates))) / 2: `cycles` waves, each twice as long as the one before.

    0 at update 0, and 0 at update number total_updates and behind. cycles=4: of RealMLP (Holzmueller et al. 2024).
    """

    @_hints.arguments
    def __init__(self, lr: float, total_updates: int, cycles: int = 4) -> None:
        _check(self, lr=lr, above={"total_updates": total_updates, "cycles": cycles})
        self.lr, self.total_updates, self.cycles = lr, total_updates, cycles

    def rate(self, n: Array) -> Array:
        t = np.minimum(n / self.total_updates, 1)
        wave = self.lr * (1 - np.cos(2 * np.pi * np.log2(1 + (2.0 ** self.cycles - 1) * t))) / 2
        return np.where(t < 1, wave, 0.0)


class Warmup(Schedule):
    """`then`, begun behind `updates` updates in which the rate rises in a straight line to then(0).

    start then(0) at update 0, (start + (1 - start) n / updates) then(0) at update n < updates, then(n - updates) from there
    on. PyTorch's SequentialLR([LinearLR(start_factor=start, total_iters=updates), then], milestones=[updates]).
    """

    @_hints.arguments
    def __init__(self, updates: int, then: Schedule, start: float = 0.01) -> None:
        if not isinstance(then, Schedule):
            raise TypeError(f"Warmup(then={then!r:.40}): must be a schedule, such as Constant(0.1)")
        _check(self, start=start, above={"updates": updates})
        self.updates, self.then, self.start = updates, then, start

    def rate(self, n: Array) -> Array:
        rise = self.then(0) * (self.start + (1 - self.start) * np.minimum(n / self.updates, 1))
        return np.where(n < self.updates, rise, self.then(np.maximum(n - self.updates, 0).astype(np.int64)))

    def _length(self) -> int:
        return self.updates + self.then._length()


class Chained(Schedule):
    """One schedule behind the other, each counting from its own beginning: schedules[i] from update number at[i - 1] on.

    schedules[0](0) at update 0. PyTorch's SequentialLR(schedulers, milestones=at).

        >>> Chained([Constant(0.1), Linear(0.1, 100)], at=[50])(100)
        0.05
    """

    def __init__(self, schedules: Sequence[Schedule], at: Sequence[int]) -> None:
        if not isinstance(schedules, (list, tuple)) or not all(isinstance(s, Schedule) for s in schedules):
            raise TypeError(f"Chained(schedules={schedules!r:.60}): a list of schedules, such as [Constant(1), Linear(1, 100)]")
        self.schedules: list[Schedule] = list(schedules)
        self.at = _updates("Chained", at)
        if len(at) != len(schedules) - 1 or self.at != sorted(set(self.at)):
            raise ValueError(f"Chained: {len(schedules)} schedules need {len(schedules) - 1} updates where the next begins, in "
                             f"order; got at={self.at}")

    def rate(self, n: Array) -> Array:
        out = self.schedules[0](n.astype(np.int64))
        for start, schedule in zip(self.at, self.schedules[1:], strict=True):
            if n[-1] >= start:
                out = np.where(n < start, out, schedule(np.maximum(n - start, 0).astype(np.int64)))
        return out

    def _length(self) -> int:
        return (self.at[-1] if self.at else 0) + self.schedules[-1]._length()


def _between(a: float, b: float, t: Array) -> Array:
    """From a (t = 0) to b (t = 1) along half a cosine."""
    return b + (a - b) / 2 * (1 + np.cos(np.pi * t))


if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
