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
    def set(self, numbers: dict[str, float]) -> None: ...
    def apply(self, vector: Array, t: int) -> None: ...
