"""ParallelBatchProcessor: runs one batch on a replica and hands its gradient, or its failure, to an aggregator."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels.engine import CancelledError
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.parallel.execution.aggregator import GradientAggregator
from tinydl.parallel.execution.replica import Replica

if TYPE_CHECKING:
    from tinydl.data import Batch, LazyBatch

Array = np.ndarray[Any, Any]

__all__ = ["BatchProcessResult", "ParallelBatchProcessor"]


@dataclass(frozen=True, eq=False)
class BatchProcessResult:
    """What became of a batch. If success is False, loss is NaN and `exception` says why, with its traceback. weight: what it
    counts in a mean over batches, the sum of its samples' weights, or without weights their number; 0 if it failed."""

    thread_id: int
    batch_index: int
    loss: float
    n_samples: int
    success: bool
    exception: BaseException | None = None
    attempts: int = 1
    weight: float = 0.0


class ParallelBatchProcessor:
    """Callable: loads `batch`, runs it, submits its gradient (or its failure) to slot `slot` of `aggregator`, if there is one.

    It never raises: every exception, of whatever kind, is in the result and at the aggregator. Without a
    `replica` it makes one; a trainer hands in its worker's, and the slot's vector as `gradients`. A batch that
    fails is run again, max_retries times at most.
    """

    def __init__(self, batch: Batch | LazyBatch, model: Model, loss: Loss, aggregator: GradientAggregator | None,
                 thread_id: int = 0, *, slot: int | None = None, replica: Replica | None = None, gradients: Array | None = None,
                 seed: int = 0, step: int = 0, max_retries: int = 0) -> None:
        self.max_retries = max_retries
        self.batch, self.model, self.loss, self.aggregator, self.thread_id = batch, model, loss, aggregator, thread_id
        self.slot = thread_id if slot is None else slot
        self.replica, self.gradients, self.seed, self.step = replica, gradients, seed, step

    def __call__(self) -> BatchProcessResult:
        n, attempt = self.batch.n, 0
        while True:
            attempt += 1
            try:
                batch = self.batch.for_kernels()
                n = batch.n
                replica = self.replica or Replica(self.model, self.loss, n, weighted=batch.weight_shape)
                gradients = replica.gradient_vector() if self.gradients is None else self.gradients
                loss = replica.run(batch, gradients, seed=self.seed, step=self.step)
                weight = replica.native.weight
                if self.aggregator is not None:
                    self.aggregator.submit_gradients(gradients, n, self.slot, copy=False, weight=weight)
            except BaseException as e:
                if attempt <= self.max_retries and not isinstance(e, (KeyboardInterrupt, CancelledError)):
                    continue
                if self.aggregator is not None:
                    self.aggregator.withdraw(self.slot, e)      # the exception may have come after the gradient was submitted
                return BatchProcessResult(self.thread_id, self.batch.index, float("nan"), n, False, e, attempt)
            return BatchProcessResult(self.thread_id, self.batch.index, loss, n, True, None, attempt, weight)
