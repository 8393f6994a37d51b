from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

class Update:
    params: Array
    statistics: Array
    state: list[Array | None]
    n: int
    n_statistics: int
    def __init__(self, rule: str, params: Array, state: list[Array | None], statistics: Array, momenta: Array) -> None: ...
    def set(self, numbers: Sequence[float]) -> None: ...
    def apply(self, vector: Array, t: int) -> None: ...
