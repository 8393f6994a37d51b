from typing import Any

import numpy as np

from tinydl._kernels.engine.program import Source

Array = np.ndarray[Any, Any]

IN_BATCH: int

class Batches:
    sources: list[Source]
    order: Array | None
    bounds: Array
    losses: Array
    weights: Array
    statuses: Array
    workers: Array
    attempts: Array
    live: Array
    errors: dict[int, BaseException]
    n_workers: int
    n_batches: int
    interrupted: bool
    @property
    def samples_done(self) -> int: ...
    def give_up(self, b: int, error: BaseException) -> None: ...
