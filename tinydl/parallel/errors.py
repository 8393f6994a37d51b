"""What goes wrong in training, by name."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchFailure:
    """One batch that did not arrive: which, where it ran, and why (`exception` keeps its traceback)."""

    epoch: int
    batch_index: int
    n_samples: int
    thread_id: int
    exception: BaseException

    def __str__(self) -> str:
        e = self.exception
        return (f"epoch {self.epoch}, batch {self.batch_index} ({self.n_samples} samples, worker {self.thread_id}): "
                f"{type(e).__name__}: {e}")


class TrainingError(RuntimeError):
    """Training cannot go on. `failures`: the batches that failed; the first one's exception is the cause."""

    def __init__(self, message: str, failures: list[BatchFailure] | None = None) -> None:
        self.failures = failures or []
        shown = "".join(f"\n  {f}" for f in self.failures[:10])
        more = f"\n  and {len(self.failures) - 10} more" if len(self.failures) > 10 else ""
        super().__init__(message + shown + more)


class AggregationTimeoutError(TimeoutError):
    """Slots are missing; `missing` names them."""

    def __init__(self, missing: list[int], expected: int, timeout: float) -> None:
        self.missing = missing
        super().__init__(f"slots {', '.join(map(str, missing))} of {expected} did not arrive within {timeout:g} s")


class NothingArrivedError(RuntimeError):
    """All slots of a group failed: there is nothing to average."""


class ParallelFallbackWarning(UserWarning):
    """Parallel training cannot run as asked; the message says why and what runs instead."""
