from collections.abc import Callable
from typing import Any

import numpy as np

from tinydl._kernels.engine.batches import Batches
from tinydl._kernels.engine.program import Source
from tinydl._kernels.engine.replica import Replica
from tinydl._kernels.engine.update import Update

Array = np.ndarray[Any, Any]

ALONE: int

def clock() -> int: ...
def look(alone: Array, now: int, took: int) -> None: ...

class NativeRun(Batches):
    replicas: list[Replica]
    slots: list[Array]
    norms: Array
    n_groups: int
    k: int
    error: BaseException | None
    groups: Array
    shares: Array | None
    free: bool
    fatal: bool
    def __init__(self, replicas: list[Replica], slots: list[Array], sources: list[Source], order: Array | None,
                 bounds: Array, update: Update, *, groups: Array | None = None, t: int = 0, first_step: int = 0,
                 seed: int = 0, spins: int = 0, free: bool = False, max_retries: int = 0, max_failed: int = ...,
                 given_up: dict[int, BaseException] | None = None,
                 alone: Array | None = None, exchange: Callable[[Array, float], float] | None = None,
                 kept: list[Array] = ..., shares: Array | None = None) -> None: ...
    @property
    def next_group(self) -> int: ...
    @property
    def updates(self) -> int: ...
    @property
    def finished(self) -> bool: ...
    def pause(self) -> None: ...
    def cancel(self) -> None: ...
    def abandon(self) -> bool: ...
    def work(self, worker: int, seconds: float = 0.0) -> None: ...
