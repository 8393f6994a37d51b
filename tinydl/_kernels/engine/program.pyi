from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES: dict[str, int]
SPACES: dict[str, int]
PAGE: int
ALIGNING: int
MOST_LATE_ROWS: int

def partial_sums(n_terms: int) -> int: ...
def aligned(n_items: int, dtype: Any) -> Array: ...

class Source:
    array: Array
    def __init__(self, array: Array) -> None: ...

class Program:
    n_ops: int
    late: int
    late_end: int
    single: bool
    labels: list[str]
    hooks: list[Any]
    hook_shapes: list[Any]
    work_bytes: int
    max_rows: int
    n_grads: int
    def __init__(self, single: bool, ops: list[tuple[Any, ...]], work_bytes: int, max_rows: int, n_grads: int,
                 in_items: int, target_items: int, hooks: Iterable[Any] = ..., hook_shapes: Iterable[Any] = ...,
                 late: tuple[int, int] = ...) -> None: ...
