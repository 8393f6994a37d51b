from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

OK: int
CANCELLED: int
PYTHON: int
IN_BATCH: int
DTYPES: dict[str, int]
SPACES: dict[str, int]

class NonFiniteError(ArithmeticError): ...
class CancelledError(Exception): ...

def current_cpu() -> int: ...
def aligned(n_items: int, dtype: Any) -> Array: ...

class Source:
    array: Array
    def __init__(self, array: Array) -> None: ...

class Program:
    n_ops: int
    single: bool
    labels: list[str]
    hooks: list[Any]
    hook_shapes: list[Any]
    work_bytes: int
    max_rows: int
    n_grads: int
    def __init__(self, single: bool, ops: list[tuple[Any, ...]], work_bytes: int, max_rows: int, n_grads: int,
                 in_items: int, target_items: int, hooks: Iterable[Any] = ..., hook_shapes: Iterable[Any] = ...) -> None: ...

class Replica:
    program: Program
    params: Array
    state: Array
    hooks: list[Any]
    def __init__(self, program: Program, params: Array, state: Array, hooks: list[Any] | None = None) -> None: ...
    def cancel(self, on: bool = True) -> None: ...
    def where(self) -> str: ...
    def record(self, max_events: int) -> Array | None: ...
    def run(self, x: Source, y: Source | None, index: Array | None, n: int, grads: Array | None = None,
            out: Array | None = None, *, first_id: int = 0, seed: int = 0, step: int = 0) -> float: ...

class Update:
    params: Array
    statistics: Array
    state: list[Array | None]
    n: int
    n_statistics: int
    def __init__(self, rule: str, params: Array, state: list[Array | None], statistics: Array, momenta: Array) -> None: ...
    def set(self, numbers: Sequence[float]) -> None: ...
    def apply(self, vector: Array, t: int) -> None: ...

class Stretch:
    replicas: list[Replica]
    slots: list[Array]
    losses: Array
    statuses: Array
    workers: Array
    errors: dict[int, BaseException]
    n_workers: int
    n_batches: int
    n_groups: int
    k: int
    interrupted: bool
    attempts: Array
    live: Array
    groups: Array
    bounds: Array
    order: Array | None
    free: bool
    fatal: bool
    def __init__(self, replicas: list[Replica], slots: list[Array], x: Source, y: Source, order: Array | None,
                 bounds: Array, update: Update, *, groups: Array | None = None, t: int = 0, first_step: int = 0,
                 seed: int = 0, spins: int = 0, free: bool = False, max_retries: int = 0, max_failed: int = ...,
                 given_up: dict[int, BaseException] | None = None) -> None: ...
    @property
    def next_group(self) -> int: ...
    @property
    def updates(self) -> int: ...
    @property
    def samples_done(self) -> int: ...
    @property
    def steady_seconds(self) -> float: ...
    @property
    def finished(self) -> bool: ...
    def pause(self) -> None: ...
    def give_up(self, b: int, error: BaseException) -> None: ...
    def cancel(self) -> None: ...
    def abandon(self) -> bool: ...
    def work(self, worker: int, seconds: float = 0.0) -> None: ...
