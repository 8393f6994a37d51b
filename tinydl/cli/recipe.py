"""The recipe of `tinydl train`: which networks are trained on a table, on what loss, by which optimizer, and when that ends.

It is that of tabular.py, of which each option changes a part. train.py asks a Recipe for each of these, and for what --resume
must find unchanged.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from tinydl import losses, optim, tabular
from tinydl.callbacks import Callback, EarlyStopping
from tinydl.cli.errors import CommandError
from tinydl.cli.members import MeanEvaluator
from tinydl.cli.options import FEWEST, default_rate
from tinydl.cli.reading import Array
from tinydl.cli.time_limit import TimeLimit
from tinydl.metrics import MetricsEvaluator
from tinydl.metrics.named import OF_CLASSES, OF_NUMBERS, OF_PROBABILITIES, OF_SCORES
from tinydl.optim import schedules

#: their classes, and what else they are given
CLASSES_OF_OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adamw": (optim.AdamW, {"betas": tabular.BETAS}), "adam": (optim.Adam, {"betas": tabular.BETAS}),
    "sgd": (optim.SGD, {"momentum": 0.9}), "rmsprop": (optim.RMSprop, {})}
#: from the rate and the number of updates
SCHEDULES: dict[str, Callable[[float, int], schedules.Schedule]] = {
    "cos-log": schedules.CosLog, "constant": lambda rate, updates: schedules.Constant(rate), "linear": schedules.Linear,
    "cosine": schedules.Cosine, "one-cycle": schedules.OneCycle}
RISING = ("one-cycle", "cos-log")
#: metrics that are better where they are lower
LOW = ("log_loss", "brier", "calibration_error", "mse", "rmse", "mae")
#: rows of a thread's batch at least, where its size is not said
FEWEST_OF_BATCH = 16
#: fields of tabular.Recipe, by the options that change them
FIELDS = {"hidden": "hidden_sizes", "members": "n_members", "dropout": "dropout", "weight_decay": "weight_decay",
          "epochs": "max_epochs", "patience": "patience"}


class Recipe:
    """As the options say. n_classes: of the target; 0 where it is a number. n_rows: of the table. CommandError where options do
    not go together."""

    def __init__(self, options: argparse.Namespace, n_classes: int, n_rows: int) -> None:
        self.options, self.n_classes, self.n_outputs = options, n_classes, n_classes or 1
        self.optimizer_name: str = options.optimizer or "adamw"
        self.schedule: str = options.schedule or "cos-log"
        #: what picks the best epoch
        self.metric: str = options.metric or ("log_loss" if n_classes else "rmse")
        wanted = next((f"--{name}" for name in ("metric", "patience") if getattr(options, name) is not None), None)
        fitting = {**OF_CLASSES, **OF_SCORES, **OF_PROBABILITIES} if n_classes else OF_NUMBERS
        if self.metric not in fitting:
            raise CommandError(f"--metric {self.metric} does not measure {'classes' if n_classes else 'numbers'}: take one of "
                               f"{', '.join(fitting)}")
        if self.metric == "top_k_accuracy" and n_classes < 3:
            raise CommandError("--metric top_k_accuracy asks whether a class is among the first two, and there are but two")
        if options.class_weight == "balanced" and not n_classes:
            raise CommandError("--class-weight balanced is for classes; here a number is predicted")
        if options.warm_up and self.schedule in RISING:
            raise CommandError(f"--schedule {self.schedule} begins with a rate that rises: leave --warm-up out, or say another")
        base = tabular.CLASSES if n_classes else tabular.NUMBERS
        #: share of the training rows that is set aside
        self.validation: float = options.validation if options.validation is not None else (
            base.validation_fraction if wanted or options.time or n_rows >= FEWEST else 0.0)
        if wanted and not self.validation:
            raise CommandError(f"{wanted} looks at rows that are set aside: let --validation be more than 0, or leave it out "
                               f"(it is {base.validation_fraction:g} then)")
        said = {field: value for name, field in FIELDS.items() if (value := getattr(options, name)) is not None}
        if self.optimizer_name != "adamw":          # others make a penalty of it, which is another thing
            said = {"weight_decay": 0.0, **said}
        self.own = replace(base, **said)
        self.rate: float = options.learning_rate or default_rate(not n_classes, self.optimizer_name, self.schedule)

    # ------------------------------------------------------------------ what is trained, and on what
    def loss(self, y: Array, label_smoothing: float | None = None) -> losses.Loss:
        """Of the targets y of the rows to train on: classes (n,), or numbers (n, 1). label_smoothing: None is the recipe's."""
        if not self.n_classes:
            return losses.MeanSquaredError()
        smoothing = self.own.label_smoothing if label_smoothing is None else label_smoothing
        return losses.SoftmaxCrossEntropy(weight=self.class_weights(y), label_smoothing=smoothing)

    def class_weights(self, y: Array) -> Array | None:
        if self.options.class_weight != "balanced":
            return None
        counts = np.bincount(y, minlength=self.n_classes)       # of a class that is in other rows alone: 0
        return np.asarray(len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1)) * (counts > 0))

    # ------------------------------------------------------------------ how
    def optimizer(self, updates: int) -> optim.Optimizer:
        """For a training of so many updates. The loss is the mean over N members, so that each has an N-th of its own gradient:
        what depends on the length of that is taken for N members, so that they are trained as one would be."""
        kind, more = CLASSES_OF_OPTIMIZERS[self.optimizer_name]
        n = self.own.n_members
        decay, peak = self.own.weight_decay, self._peak
        if self.optimizer_name != "adamw":
            decay /= n
        rate: float | schedules.Schedule = peak
        if self.scheduled:
            warm_up = round(self.options.warm_up * updates)
            try:
                rate = SCHEDULES[self.schedule](peak, max(1, updates - warm_up))
            except ValueError:
                raise CommandError(f"--schedule {self.schedule} needs more than {updates} updates: more --epochs, or "
                                   "smaller batches") from None
            rate = schedules.Warmup(warm_up, rate) if warm_up else rate
        clip = self.options.clip_norm
        optimizer: optim.Optimizer = kind(rate, **more, weight_decay=decay, clip_norm=clip and clip / sqrt(n))
        return optimizer

    def reached(self, optimizer: optim.Optimizer) -> float:
        """The highest rate of the updates so far, as a share of the highest that there is to be."""
        if not isinstance(optimizer.lr, schedules.Schedule):
            return 1.0
        return float(optimizer.lr.rates(0, optimizer.t + 1).max()) / self._peak

    @property
    def _peak(self) -> float:
        return self.rate * self.own.n_members if self.optimizer_name == "sgd" else self.rate

    @property
    def scheduled(self) -> bool:
        """Whether the rate depends on how many updates there will be."""
        return bool(self.schedule != "constant" or self.options.warm_up)

    def evaluator(self) -> MetricsEvaluator | None:
        """What is measured on the rows that are set aside; None where there are none."""
        kind = MeanEvaluator if self.own.n_members > 1 else MetricsEvaluator
        return kind(self.metric) if self.validation else None

    def callbacks(self) -> list[Callback]:
        """What ends training, and puts the best epoch's parameters back."""
        limit: list[Callback] = [TimeLimit(self.options.time)]
        if not self.validation:
            return limit
        return [EarlyStopping(self.metric, self.own.patience, highest=self.metric not in LOW, restore_best=True), *limit]

    def temperature(self, scores: Array, y: Array, weights: Array | None) -> float:
        """By which the scores (n, K) of the rows set aside are to be divided, whose classes are y. weights (K,): of classes."""
        each = None if weights is None or not weights[y].any() else weights[y]
        # As if there were one row more, of all classes alike (Platt 1999 does likewise): where a few rows are all right that says
        # little of how sure it is. On a fifth of breast cancer's rows the mean log-loss of tests fell from 0.22 to 0.09.
        return tabular.temperature(scores.astype(np.float64), y, each, 1 / (len(y) + 1))

    # ------------------------------------------------------------------ words
    def settings(self) -> dict[str, Any]:
        """What --resume must find as it was, by the options' names."""
        own = self.own
        found = {f"--{name.replace('_', '-')}": getattr(self.options, name) for name in (
            "batch_size", "warm_up", "clip_norm", "class_weight")}
        found |= {"--hidden": ",".join(map(str, own.hidden_sizes)), "--members": own.n_members, "--dropout": own.dropout,
                  "--optimizer": self.optimizer_name, "--learning-rate": self.rate, "--schedule": self.schedule,
                  "--weight-decay": own.weight_decay, "--validation": self.validation, "--metric": self.metric,
                  "--patience": own.patience if self.validation else None}
        return found | ({"--epochs": own.max_epochs} if self.scheduled else {})

    def words(self) -> list[str]:
        """How it is trained, beside the optimizer and its rate."""
        own, options = self.own, self.options
        return [text for text, there in (
            (f"{self.schedule} schedule", True), (f"warm-up {options.warm_up:g}", options.warm_up),
            (f"dropout {own.dropout:g}", own.dropout), ("balanced class weights", options.class_weight == "balanced"),
            (f"weight decay {own.weight_decay:g}", own.weight_decay),
            (f"labels smoothed by {own.label_smoothing:g}", own.label_smoothing),
            (f"gradients clipped to norm {options.clip_norm or 0:g}", options.clip_norm is not None),
            (f"best epoch by {self.metric}, patience {own.patience}", self.validation),
            (f"at most {options.time or 0:g} s", options.time)) if there]
