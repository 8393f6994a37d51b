"""From a person's table to what a model trains on: its target, the rows for training, validation and test, and its features."""
from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinydl.cli.cells import quoted
from tinydl.cli.common import plural, reading
from tinydl.cli.errors import CommandError
from tinydl.cli.features import check_standardisation, described, encode, learn, standardisation, standardise
from tinydl.cli.sources import name_of
from tinydl.cli.tables import Array, Table, read_table
from tinydl.cli.targets import class_labels, regression_target, task_of, without_wild
from tinydl.data import ArrayDataset

Say = Callable[[str], None]


@dataclass(frozen=True)
class Labelled:
    """A table and its target. classes: their names, None where the target is a number. y: each row's class, int64 (n,), or its
    number, float64 (n, 1)."""

    table: Table
    target: str
    classes: list[str] | None
    y: Array

    @property
    def task(self) -> str:
        return "classification" if self.classes else "regression"


@dataclass(frozen=True)
class Prepared:
    """facts: what the model's file must know of the table. x: the features of all rows, y: their targets as they are trained on.
    train, validation, test: numbers of rows."""

    facts: dict[str, Any]
    x: Any
    y: Array
    train: Array
    validation: Array
    test: Array


def labelled(options: argparse.Namespace, say: Say) -> Labelled:
    """The table that `tinydl train` is given, with what is to be predicted."""
    path, target = Path(options.file), options.target or "y"
    table = read_table(path, options.target, reading=reading(options))
    for note in table.notes:
        say(f"note: {note}")
    if task_of(table, options.task) == "regression":
        classes = None
        y, wild = without_wild(table, target, regression_target(table, target, "--task regression needs"))
        if wild:
            say(f"note: {wild}")
    else:
        classes, y = class_labels(table, target, asked=options.task is not None)
    say(f"{name_of(path)}: {plural(table.n, 'row')}, {plural(len(table.names), 'feature')}{described(table)}, "
        + (f"{plural(len(classes), 'class')} of {target!r}" if classes else f"target {target!r}"))
    if classes is None and options.task is None:
        say(f"{target!r} holds numbers with decimals, or many: its value is predicted\n(--task classification takes classes)")
    return Labelled(table, target, classes, y)


def prepare(data: Labelled, test_fraction: float, validation: float, seed: int, say: Say) -> Prepared:
    """Everything that is learnt of the features, or of the target, is learnt of the rows to train on."""
    rest, test = held_out(data.table.n, data.y, test_fraction, seed, "--test-fraction")
    inner, outer = held_out(len(rest), data.y[rest], validation, seed, "--validation")
    train, y = rest[inner], data.y
    absent = np.setdiff1d(y, y[train]).tolist() if data.classes else []
    if data.classes and absent:
        say(f"note: no row to train on is of class {quoted([data.classes[i] for i in absent])}")
    learned, notes = learn(data.table, train)
    for note in notes:
        say(f"note: {note}")
    facts: dict[str, Any] = {"task": data.task, "target": data.target, "classes": data.classes, **learned}
    if data.classes is None:
        mean, factor = standardisation(y[train])
        check_standardisation(mean, factor, [data.target])
        if not factor[0]:
            raise CommandError(f"column {data.target!r} holds the same value in all rows: there is nothing to learn")
        facts.update(target_mean=float(mean[0]), target_scale=float(1 / factor[0]))
        y = standardise(y, mean, factor)
    return Prepared(facts, encode(facts, data.table), y, train, rest[outer], test)


def held_out(n: int, y: Array, fraction: float, seed: int, option: str) -> tuple[Array, Array]:
    """The rows that stay and those held out, classes in the same shares where there are classes."""
    if not fraction:
        return np.arange(n), np.arange(0)
    try:
        with warnings.catch_warnings():         # `prepare` names the classes that have no row to train on
            warnings.simplefilter("ignore", UserWarning)
            parts = ArrayDataset(np.zeros((n, 1)), y, n).split(1 - fraction, 0.0, fraction, seed=seed)
    except ValueError:
        raise CommandError(f"{plural(n, 'row')} are too few for {option} {fraction:g}") from None
    assert parts.test is not None and parts.train.rows is not None and parts.test.rows is not None
    return parts.train.rows, parts.test.rows
