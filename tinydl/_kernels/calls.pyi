from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl._kernels.engine.program import Source

Array = np.ndarray[Any, Any]

def call(name: str, *, sources: Sequence[Array | Source] = ..., index: Array | None = ..., first_id: int = ..., seed: int = ...,
         step: int = ..., and_weight: bool = ..., **arguments: Array | float | None) -> Any: ...
def weighted_mean(a: Array, b: Array, out: Array, wa: float, wb: float) -> None: ...
