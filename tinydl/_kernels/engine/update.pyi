from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

class Update:
    params: Array
    statistics: Array
    state: dict[str, Array]
    n: int
    n_statistics: int
    def __init__(self, rule: str, params: Array, state: dict[str, Array], statistics: Array, momenta: Array) -> None: ...
    staged: bool
    first: int
    n_values: int
    def set(self, numbers: dict[str, float] | list[tuple[int, dict[str, float]]], *, varying: Sequence[tuple[int, str]] = (),
            values: Array | None = None, first: int = 0, clip_norm: float | None = None, clip_value: float | None = None,
            ema: float | None = None) -> None: ...
    def check(self, t: int, updates: int) -> None: ...
    def apply(self, vector: Array, t: int) -> float: ...
