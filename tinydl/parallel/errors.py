"""What goes wrong in training, by name."""
from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydl._kernels.frames import forget_frames

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class BatchFailure:
    """One batch (or part of one) that did not arrive: which, where it ran, and why.

    It keeps none of the batch's data alive: exception has its traceback as text (a note, which `traceback` has, too), and
    arrays that it carried are text. indices: the numbers of its samples, None where the dataset gives none.
    """

    epoch: int
    batch_index: int
    n_samples: int
    thread_id: int
    exception: BaseException
    indices: Array | None = field(default=None, compare=False)
    fatal: bool = False                 # training ended for it: it was not left out, and is run again where training goes on

    def __post_init__(self) -> None:
        forget_frames(self.exception)
        if self.indices is not None:        # a view would keep the numbers of the whole epoch
            object.__setattr__(self, "indices", np.array(self.indices))

    @property
    def traceback(self) -> str:
        """The exception and its causes, each with its message and its traceback, as Python prints them."""
        return "".join(traceback.format_exception(self.exception))

    @property
    def reason(self) -> str:
        """The exception's type and message."""
        return f"{type(self.exception).__name__}: {self.exception}"

    def __str__(self) -> str:
        return f"epoch {self.epoch}, batch {self.batch_index} ({self.n_samples} samples, worker {self.thread_id}): {self.reason}"


class TrainingError(RuntimeError):
    """Training cannot go on. `failures`: the batches that failed; the first one's exception is the cause."""

    def __init__(self, message: str, failures: Sequence[BatchFailure] | None = None) -> None:
        self.failures = list(failures or [])
        shown = "".join(f"\n  {f}" for f in self.failures[:10])
        more = f"\n  and {len(self.failures) - 10} more" if len(self.failures) > 10 else ""
        super().__init__(message + shown + more)


class GaveUpError(BaseException):
    """The time that a shutdown was given is over while a batch is still running or being read. A BaseException, so that no
    handler takes it for a failure of the batch."""


class RankError(RuntimeError):
    """Another rank raised an exception, or did not come in time: training over ranks cannot go on, and this process will end with
    exit code 75, whatever becomes of the error. rank: which; gone: whether it did not answer any more."""

    def __init__(self, text: str, rank: int, gone: bool = False) -> None:
        super().__init__(text)
        self.rank, self.gone = rank, gone


class RanksDifferError(ValueError):
    """Ranks were given different data, models or settings; all of them raise it, with the same text."""


class BatchTimeoutError(TimeoutError):
    """A batch took longer than batch_timeout; the message names its layer and has the thread's stack."""


class WorkerDiedError(RuntimeError):
    """A worker's thread ended in the middle of its work."""


class AggregationTimeoutError(TimeoutError):
    """Slots are missing; `missing` names them."""

    def __init__(self, missing: list[int], expected: int, timeout: float) -> None:
        self.missing = missing
        super().__init__(f"slots {', '.join(map(str, missing))} of {expected} did not arrive within {timeout:g} s")


class NothingArrivedError(RuntimeError):
    """All slots of a group failed: there is nothing to average."""


class ParallelFallbackWarning(UserWarning):
    """Parallel training cannot run as asked; the message says why and what runs instead."""
