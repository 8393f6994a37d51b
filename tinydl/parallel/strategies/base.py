"""Strategy: how an epoch's batches become updates."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tinydl.parallel.execution.epoch import Setting
from tinydl.parallel.execution.updates import Updates

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import RunTiming
    from tinydl.parallel.execution.resources import Resources

STRATEGIES: dict[str, type[Strategy]] = {}


class Strategy(ABC):
    """How an epoch's batches become updates. A new strategy is a file with a subclass, and a row in tests/every_strategy.py.

    A strategy says how many batches make an update, into how many parts each is cut (`cut`), and by which class of
    parallel/execution/updates.py they become one (`updates`); the drivers do the rest.
    """

    name: ClassVar[str]
    #: whether it trains in a pool of threads
    parallel: ClassVar[bool] = True
    #: how what was trained becomes updates
    updates: ClassVar[type[Updates]] = Updates

    def __init_subclass__(cls) -> None:
        STRATEGIES[cls.name] = cls

    @abstractmethod
    def cut(self, n_threads: int) -> tuple[int, int]:
        """(batches of an update, parts that each batch is cut into), where n_threads threads are asked for."""

    def update_signature(self, setting: Setting) -> list[int] | None:
        """The numbers that the bits of the updates depend on: batches of an update, parts of each, and what else a strategy
        has. A checkpoint keeps them. None if the bits depend on measurements or on chance."""
        return [int(setting.batches), int(setting.parts)]

    def copies(self, n_threads: int) -> int:
        """How many copies of the model are trained beside the shared one, if n_threads threads are asked for."""
        return 0

    def setting(self, n_threads: int, n_batches: int | None = None) -> tuple[Setting, int | None]:
        """How to run now with n_threads threads, and for how many updates at most (None: to the end of the epoch). n_batches:
        the batches of an epoch, None if that is not known."""
        return Setting("parallel", n_threads, *self.cut(n_threads), self, self.copies(n_threads)), None

    def prepare(self, resources: Resources, setting: Setting) -> None:
        """Allocate what a run with `setting` needs; MemoryError if there is not enough."""
        resources.prepare(setting)

    def forget(self, resources: Resources) -> None:  # noqa: B027
        """Forget what was measured: from now on another model, or other data, is trained (`resources` has it)."""

    def ran(self, setting: Setting, timing: RunTiming) -> None:  # noqa: B027
        """Called after each run: what was done in it, and how long it took. For strategies that measure."""

    def __repr__(self) -> str:
        own = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({own})"


def check_count(name: str, value: int | None, most: int = 1024) -> int | None:
    """`value` if it is None or a whole number from 1 to most."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most):
        raise ValueError(f"{name}={value!r}: a whole number, 1 to {most}, or None")
    return None if value is None else int(value)
