from typing import Any

import numpy as np

from tinydl._kernels.engine.program import Program, Source

Array = np.ndarray[Any, Any]

OK: int
CANCELLED: int
PYTHON: int

class NonFiniteError(ArithmeticError): ...
class CancelledError(Exception): ...

def scratch_bytes(program: Program) -> int: ...

class Replica:
    program: Program
    params: Array
    state: Array
    hooks: list[Any]
    @property
    def weight(self) -> float: ...
    def __init__(self, program: Program, params: Array, state: Array, hooks: list[Any] | None = None) -> None: ...
    def cancel(self, on: bool = True) -> None: ...
    def where(self) -> str: ...
    def record(self, max_events: int) -> Array | None: ...
    def run(self, sources: list[Source], index: Array | None, n: int, grads: Array | None = None,
            out: Array | None = None, *, first_id: int = 0, seed: int = 0, step: int = 0) -> float: ...
