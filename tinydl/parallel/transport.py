"""Transport: what several trainers of one model, in other threads, processes or machines, do together between the average of the
gradients and the update.

    this trainer's batches  -->  slots  -->  fixed tree of means  -->  exchange  -->  clipping  -->  the update
    another trainer's       -->  slots  -->  fixed tree of means  ---------/    -->  clipping  -->  the same update

Each trainer has parameters of its own, which begin the same and stay the same, since all make the same updates. Here is the
interface alone; how gradients travel is its implementation's.

What is to be kept, so that n trainers of k batches an update each have the bits of one trainer of n k batches an update:
 - The overall mean is a fixed binary tree over the trainers, in their order, as GradientAggregator makes it of slots: the mean of
   (l, weight wl) and (r, wr) is wl / (wl + wr) l + wr / (wl + wr) r, its weight wl + wr, and one of weight 0 is not in the tree.
   Where k is a power of two each trainer's mean is a node of the tree of the one trainer, and the overall mean has the same bits.
   Else it has them for any number of threads of these n trainers.
 - In each update trainer i takes the batches i k .. i k + k - 1 of those n k. Random masks (Dropout) are drawn from the trainer's
   seed and a sample's place in the trainer's own epoch: give the trainers seeds of their own, so that their masks differ; then
   they are not the one trainer's.
 - All make the same number of updates in an epoch: a trainer that has no more batches would keep the others waiting.

Which trainers there are, that they begin with the same parameters, and who stops all when one stops, is not in this interface.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from math import isfinite
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

__all__ = ["Transport", "exchanged"]


class Transport(ABC):
    """Given to a trainer, `Trainer(..., transport=...)`; strategies serial, group and shard call it once an update.

    Calls come from one thread at a time, not always the same one: the thread that trains, or the worker that came last. No
    update is made, and the exception comes out of `train`, where a method raises one; `train` goes on with the same batches then.
    """

    @abstractmethod
    def exchange(self, vector: Array, weight: float) -> float:
        """Write the overall mean into `vector` and return its weight, the sum of all weights.

        vector: this trainer's mean gradient of all parameters, then its mean batch statistics (of BatchNorm), flat, float32 or
        float64, of the same length in all trainers. It must not be kept. weight: the sum of the weights of the samples behind
        it (without weights their number); 0: nothing arrived here, and what is in the vector is not to be read. The result 0
        says that nothing arrived anywhere: no update is made.

        It must not wait for ever: where another trainer does not answer in time, raise TimeoutError.
        """

    @abstractmethod
    def add(self, numbers: Array) -> None:
        """Replace `numbers` (a few, float64) by their sums over all trainers, added in the trainers' order; once, at each
        epoch's end. They are the epoch's loss times weight, weight, and samples."""

    def cancel(self) -> None:   # noqa: B027
        """From any thread: training ends. What waits in another method raises soon, and so does what is called before `renew`."""

    def renew(self) -> None:    # noqa: B027
        """Training begins, or goes on: forget a `cancel`."""


def exchanged(transport: Transport, vector: Array, weight: float) -> float:
    """transport.exchange, and ValueError where its result is no weight."""
    result = float(transport.exchange(vector, weight))
    if not (isfinite(result) and result >= 0):
        raise ValueError(f"{type(transport).__name__}.exchange returned {result}; a sum of weights is finite, and at least 0")
    return result
