"""How a network is trained on a table: what TabularClassifier, TabularRegressor and `tinydl train` have in common.

    encoder = TableEncoder(one_hot_up_to=8, binary=True).fit(table)
    x = inputs(encoder, encoder.transform(table))
    ensemble = fit(x, labels, Classes(3), Recipe(), n_codes=sum(encoder.cardinalities), seed=0)
    ensemble.model.predict(given(inputs(encoder, encoder.transform(other))))        # probabilities (n, 3)

Each of a few members is a network of its own, trained on all rows but a part that is set aside; another part for each. Where
the rows that it has not seen are predicted best, a member's training ends. On them all, members' scores are calibrated by one
factor (Guo et al. 2017, "temperature scaling"). The members become one model, whose prediction is their mean.
"""
from tinydl.tabular.network import divide, given, inputs, network
from tinydl.tabular.recipe import (
    ACTIVATIONS,
    BATCH_SIZES,
    BATCHES,
    BETAS,
    CLASSES,
    EMBEDDING,
    MAX_CATEGORIES,
    NUMBERS,
    RISE,
    Recipe,
    batch_size,
)
from tinydl.tabular.rows import counted
from tinydl.tabular.tasks import Classes, Labels, Quantiles, Task, Values, ranks, temperature
from tinydl.tabular.training import Ensemble, fit, one_pass, steady

__all__ = ["ACTIVATIONS", "BATCHES", "BATCH_SIZES", "BETAS", "CLASSES", "EMBEDDING", "MAX_CATEGORIES", "NUMBERS", "RISE",
           "Classes", "Ensemble", "Labels", "Quantiles", "Recipe", "Task", "Values", "batch_size", "counted", "divide", "fit",
           "given", "inputs", "network", "one_pass", "ranks", "steady", "temperature"]
