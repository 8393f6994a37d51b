"""The recipe of `tinydl train`: which network is trained on a table, on what loss, by which optimizer, and when it ends.

Another default is a change of this file alone: train.py asks a Recipe for each of these, and for what --resume must find
unchanged.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from tinydl import Model, losses, nn, optim
from tinydl.callbacks import Callback, EarlyStopping
from tinydl.cli.errors import CommandError
from tinydl.cli.reading import Array
from tinydl.cli.time_limit import TimeLimit
from tinydl.metrics import MetricsEvaluator
from tinydl.metrics.named import OF_CLASSES, OF_NUMBERS, OF_PROBABILITIES, OF_SCORES
from tinydl.optim import schedules
from tinydl.tables import TableEncoder

#: numbers that a category is embedded in (RealMLP, Holzmueller et al. 2024)
EMBEDDING = 8
#: their classes, default learning rates, and what else they are given
OPTIMIZERS: dict[str, tuple[Any, float, dict[str, float]]] = {
    "adam": (optim.Adam, 1e-3, {}), "adamw": (optim.AdamW, 1e-3, {}), "sgd": (optim.SGD, 1e-2, {"momentum": 0.9}),
    "rmsprop": (optim.RMSprop, 1e-3, {})}
#: from the rate and the number of updates
SCHEDULES: dict[str, Callable[[float, int], schedules.Schedule]] = {
    "constant": lambda rate, updates: schedules.Constant(rate), "linear": schedules.Linear, "cosine": schedules.Cosine,
    "one-cycle": schedules.OneCycle, "cos-log": schedules.CosLog}
RISING = ("one-cycle", "cos-log")
#: metrics that are better where they are lower
LOW = ("log_loss", "brier", "calibration_error", "mse", "rmse", "mae")
#: share of the training rows that is set aside where something asks for the best epoch
VALIDATION = 0.1
#: what --resume must find as it was, besides what `settings` adds
SAME = ("batch_size", "optimizer", "schedule", "warm_up", "weight_decay", "clip_norm", "dropout", "class_weight", "patience")


class Recipe:
    """As the options say. n_classes: of the target; 0 where it is a number. CommandError where options do not go together."""

    def __init__(self, options: argparse.Namespace, n_classes: int) -> None:
        self.options, self.n_classes, self.n_outputs = options, n_classes, n_classes or 1
        self.rate: float = options.learning_rate or OPTIMIZERS[options.optimizer][1]
        #: what picks the best epoch
        self.metric: str = options.metric or ("log_loss" if n_classes else "rmse")
        wanted = next((f"--{name}" for name in ("metric", "patience") if getattr(options, name) is not None), None)
        fitting = {**OF_CLASSES, **OF_SCORES, **OF_PROBABILITIES} if n_classes else OF_NUMBERS
        if self.metric not in fitting:
            raise CommandError(f"--metric {self.metric} does not measure {'classes' if n_classes else 'numbers'}: take one of "
                               f"{', '.join(fitting)}")
        if self.metric == "top_k_accuracy" and n_classes < 3:
            raise CommandError("--metric top_k_accuracy asks whether a class is among the first two, and there are but two")
        given = options.validation
        #: share of the training rows that is set aside
        self.validation: float = given if given is not None else VALIDATION if wanted or options.time else 0.0
        if wanted and not self.validation:
            raise CommandError(f"{wanted} looks at rows that are set aside: let --validation be more than 0, or leave it out "
                               f"(it is {VALIDATION:g} then)")
        if options.class_weight == "balanced" and not n_classes:
            raise CommandError("--class-weight balanced is for classes; here a number is predicted")
        if options.warm_up and options.schedule in RISING:
            raise CommandError(f"--schedule {options.schedule} begins with a rate that rises: leave --warm-up out")

    # ------------------------------------------------------------------ what is trained, and on what
    def network(self, facts: dict[str, Any], x: Any, rows: Array) -> Model:
        """Linear layers with ReLU between them, on the numbers and the embeddings of the categories of x, which `encode` made
        by these facts. rows: those to train on."""
        hidden, outputs, dropout, seed = self.options.hidden, self.n_outputs, self.options.dropout, self.options.seed
        if not isinstance(x, dict) and x.dtype.kind == "f":
            return mlp((x.shape[1], *hidden, outputs), seed, dropout)
        numbers, codes = (x["numbers"], x["categories"]) if isinstance(x, dict) else (None, x)
        total = sum(TableEncoder.from_dict(facts["encoder"]).cardinalities)
        category = nn.Input((codes.shape[1],), "int64", name="categories")
        joined, inputs, width = nn.Flatten()(nn.Embedding(total, EMBEDDING)(category)), [category], codes.shape[1] * EMBEDDING
        if numbers is not None:
            number = nn.Input((numbers.shape[1],), name="numbers")
            joined, inputs, width = nn.Concat()([number, joined]), [number, category], numbers.shape[1] + width
        sizes = (width, *hidden, outputs)
        model = Model(inputs=inputs, outputs=nn.Sequential(*_layers(sizes, dropout))(joined), seed=seed,
                      name="MLP " + "-".join(map(str, sizes)))
        # A code without a row to train on keeps the embedding it begins with: let that be 0, the mean of all, and not chance.
        values = model.state_dict()
        name = next(n for n, v in values.items() if v.shape == (total, EMBEDDING))
        table = values[name].copy()
        table[np.bincount(codes[rows].ravel(), minlength=total) == 0] = 0
        model.load_state_dict({**values, name: table})
        return model

    def loss(self, y: Array) -> losses.Loss:
        """Of the targets y of the rows to train on: classes (n,), or numbers (n, 1)."""
        if not self.n_classes:
            return losses.MeanSquaredError()
        if self.options.class_weight != "balanced":
            return losses.SoftmaxCrossEntropy()
        counts = np.bincount(y, minlength=self.n_classes)       # of a class that is in other rows alone: 0
        weight = len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1)) * (counts > 0)
        return losses.SoftmaxCrossEntropy(weight=weight)

    # ------------------------------------------------------------------ how
    def optimizer(self, updates: int) -> optim.Optimizer:
        """For a training of so many updates."""
        kind, _, more = OPTIMIZERS[self.options.optimizer]
        rate: float | schedules.Schedule = self.rate
        if self.scheduled:
            warm_up = round(self.options.warm_up * updates)
            try:
                rate = SCHEDULES[self.options.schedule](self.rate, max(1, updates - warm_up))
            except ValueError:
                raise CommandError(f"--schedule {self.options.schedule} needs more than {updates} updates: more --epochs, or "
                                   "smaller batches") from None
            rate = schedules.Warmup(warm_up, rate) if warm_up else rate
        given = {name: value for name in ("weight_decay", "clip_norm") if (value := getattr(self.options, name)) is not None}
        optimizer: optim.Optimizer = kind(rate, **more, **given)
        return optimizer

    @property
    def scheduled(self) -> bool:
        """Whether the rate depends on how many updates there will be."""
        return bool(self.options.schedule != "constant" or self.options.warm_up)

    def evaluator(self) -> MetricsEvaluator | None:
        """What is measured on the rows that are set aside; None where there are none."""
        return MetricsEvaluator(self.metric) if self.validation else None

    def callbacks(self) -> list[Callback]:
        """What ends training, and puts the best epoch's parameters back. Without --patience all epochs are trained."""
        limit: list[Callback] = [TimeLimit(self.options.time)]
        if not self.validation:
            return limit
        return [EarlyStopping(self.metric, self.options.patience or self.options.epochs, highest=self.metric not in LOW,
                              restore_best=True), *limit]

    # ------------------------------------------------------------------ words
    def settings(self) -> dict[str, Any]:
        """What --resume must find as it was, by the options' names."""
        found = {f"--{name.replace('_', '-')}": getattr(self.options, name) for name in SAME}
        found |= {"--hidden": ",".join(map(str, self.options.hidden)), "--learning-rate": self.rate,
                  "--validation": self.validation, "--metric": self.metric}
        return found | ({"--epochs": self.options.epochs} if self.scheduled else {})

    def words(self) -> list[str]:
        """What differs from the plain recipe."""
        own = self.options
        return [text for text, there in (
            (f"{own.schedule} schedule", own.schedule != "constant"), (f"warm-up {own.warm_up:g}", own.warm_up),
            (f"dropout {own.dropout:g}", own.dropout), ("balanced class weights", own.class_weight == "balanced"),
            (f"weight decay {own.weight_decay or 0:g}", own.weight_decay is not None),
            (f"gradients clipped to norm {own.clip_norm or 0:g}", own.clip_norm is not None),
            (f"best epoch by {self.metric}", self.validation), (f"patience {own.patience}", own.patience),
            (f"at most {own.time or 0:g} s", own.time)) if there]


def mlp(sizes: tuple[int, ...], seed: int, dropout: float = 0.0) -> Model:
    """Linear layers of these sizes with ReLU (and dropout) between them."""
    return Model(nn.Sequential(*_layers(sizes, dropout)), seed=seed, name="MLP " + "-".join(map(str, sizes)))


def _layers(sizes: tuple[int, ...], dropout: float) -> list[nn.Layer]:
    layers: list[nn.Layer] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        if i:
            layers += [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
        layers.append(nn.Linear(inputs, outputs))
    return layers
