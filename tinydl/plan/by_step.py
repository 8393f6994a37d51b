"""ByStep: a number that differs from step to step, for operations that read it by the step that they run in.

A plan is compiled once, and runs in native code for many steps. So the numbers of the steps to come stand in a table at a fixed
address. Before workers are started, and only then, the trainer has the table `reach` the step that comes next; a run is of at
most AHEAD steps, so that no worker comes to the table's end.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: steps that a run may take (W1's take 5 milliseconds), and of which a table has the numbers: with twice as many it is written
#: anew once in AHEAD steps
AHEAD = 1024


class ByStep:
    """numbers(first, count): those of steps first..first + count - 1 (float64); what it raises comes out of `reach`.

    table: the number of a step, then the numbers of 2 AHEAD steps from that one on."""

    def __init__(self, numbers: Callable[[int, int], Array]) -> None:
        self.numbers = numbers
        self.table = np.empty(1 + 2 * AHEAD)
        self._write(0)

    def _write(self, step: int) -> None:
        self.table[1:] = self.numbers(step, 2 * AHEAD)
        self.table[0] = step

    def reach(self, step: int) -> None:
        """Have the numbers of the AHEAD steps from `step` on in the table."""
        if not 0 <= step - int(self.table[0]) <= AHEAD:
            self._write(step)
