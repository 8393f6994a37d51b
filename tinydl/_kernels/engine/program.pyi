from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES: dict[str, int]
SPACES: dict[str, int]
MIX: int
PAGE: int
ALIGNING: int
MOST_LATE_ROWS: int

def partial_sums(n_terms: int) -> int: ...
def aligned(n_items: int, dtype: Any) -> Array: ...

class Pictures:
    def __init__(self, shape: tuple[int, int, int], scale: Array | None = ..., shift: Array | None = ...,
                 changes: Sequence[tuple[str, Mapping[str, float]]] = ..., mix: Array | None = ...,
                 rows: Array | None = ...) -> None: ...

class Source:
    array: Array
    pictures: Pictures | None
    def __init__(self, array: Array, pictures: Pictures | None = ..., key: int = ...) -> None: ...

class Program:
    n_ops: int
    late: int
    n_late: int
    single: bool
    labels: list[str]
    operations: list[str]
    hooks: list[Any]
    hook_places: list[Any]
    names: list[str]
    source_items: list[int]
    n_inputs: int
    work_bytes: int
    max_rows: int
    n_grads: int
    def __init__(self, single: bool, ops: list[tuple[Any, ...]], work_bytes: int, max_rows: int, n_grads: int,
                 sources: Iterable[tuple[str, int]], n_inputs: int, hooks: Iterable[Any] = ..., hook_places: Iterable[Any] = ...,
                 late: tuple[int, Iterable[tuple[Any, ...]]] = ...,
                 tables: Iterable[tuple[int, int, int, int]] = ...) -> None: ...
    shorter: list[tuple[int, Program]] | None
    def set_shorter(self, forms: list[tuple[int, Program]]) -> None: ...
