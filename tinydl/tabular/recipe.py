"""The settings by which networks for tables are made and trained, and what was chosen of them."""
# n rows
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinydl import nn

__all__ = ["ACTIVATIONS", "BATCHES", "BATCH_SIZES", "BETAS", "CLASSES", "EMBEDDING", "MAX_CATEGORIES", "NUMBERS", "RISE",
           "Recipe", "batch_size"]

#: layers by the names that a Recipe has for them
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "mish": nn.Mish, "selu": nn.SELU, "tanh": nn.Tanh}

#: numbers that a category is embedded in (RealMLP's)
EMBEDDING = 8
#: categories of a column that have a code, at most. Of 8,000 with effects of their own in 16,000 rows, 0.54 of the variance of
#: other rows is explained with 1,000 of them and 0.68 with those that came twice; where they have none it is 0.829 and 0.827
MAX_CATEGORIES = 20_000
#: batches of an epoch at most, and rows of a batch
BATCHES, BATCH_SIZES = 16, (32, 256)
#: the share of all updates in which the rate of optim.schedules.CosLog rises to half of its highest: (2**(1/4) - 1) / 15
RISE = 0.0126
#: AdamW's
BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Recipe:
    """The settings. The defaults are for classes, those of NUMBERS for numbers; bench/tabular.py says on which tables they were
    chosen.

    hidden_sizes: of the hidden layers; activation: one of ACTIVATIONS; dropout: behind each of them; embedding: of numbers,
    "periodic" (nn.PeriodicEmbedding), "piecewise" (nn.PiecewiseLinearEmbedding), or None; learning_rate: AdamW's, highest (it
    falls and rises in cycles, optim.schedules.CosLog); weight_decay; label_smoothing: of classes; batch_size: None is a sixteenth
    of the rows, at least 32 and at most 256; max_epochs; patience: epochs without a better one, and training ends; n_members:
    networks; validation_fraction: of the rows, which each of them sets aside."""

    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    activation: str = "silu"
    dropout: float = 0.15
    embedding: str | None = "periodic"
    learning_rate: float = 2e-2
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    batch_size: int | None = None
    max_epochs: int = 24
    patience: int = 16
    n_members: int = 4
    validation_fraction: float = 0.2


#: the recipe for classes
CLASSES = Recipe()
#: the recipe for numbers
NUMBERS = Recipe(activation="relu", dropout=0.0, embedding="piecewise", learning_rate=1e-2, weight_decay=0.0, label_smoothing=0.0,
                 batch_size=64, max_epochs=32)


def batch_size(n: int) -> int:
    """Rows of a batch where there are n in all: a power of 2."""
    return int(np.clip(1 << max(n // BATCHES, 1).bit_length() - 1, *BATCH_SIZES))
