"""The running statistics of a model whose parameters were not trained, but averaged: made anew by a pass over the data."""
from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.log import log
from tinydl.parallel.execution.replica import Replica

if TYPE_CHECKING:
    from tinydl.data import Dataset
    from tinydl.losses import Loss
    from tinydl.model import Model

Array = np.ndarray[Any, Any]

__all__ = ["mean_statistics"]


def mean_statistics(model: Model, loss: Loss, dataset: Dataset, seed: int, epoch: int) -> Array:
    """What `model.statistics` is to be for the parameters that `model` has now: the mean over the samples of an epoch of
    `dataset` of their batches' statistics (PyTorch's torch.optim.swa_utils.update_bn, which takes the mean over the batches: the
    same where all are as large). `model` stays as it is.

    One forward pass over the epoch (seed, epoch), in the calling thread, in float64 and in the order of the batches: the same
    bits each time. Dropout is at work, as in training. A batch that fails is left out, as in training; where none arrives, the
    statistics are those that the model has.
    """
    frozen = copy.deepcopy(model)
    frozen._freeze(frozen.sizes(), True)        # no gradient is computed then
    replica = Replica(frozen, loss, dataset.largest_batch, weighted=dataset.weight_shape)
    vector = replica.gradient_vector()
    total, n = np.zeros(vector.size), 0
    batches = iter(dataset.epoch(seed, epoch))
    try:
        for batch in batches:
            try:
                loaded = batch.load()
                replica.run(loaded, vector, seed=seed, step=batch.index)
            except Exception as e:
                log.debug("batch %d is not in the statistics of the averaged parameters: %s", batch.index, e)
                continue
            total += vector * np.float64(loaded.n)
            n += loaded.n
    finally:
        if hasattr(batches, "close"):
            batches.close()
    return total / n if n else model.statistics.copy()
