"""The features of a table as a model takes them, and what its file must know to do the same again.

A table goes through a TableEncoder: numbers beside columns of 0 and 1, and codes of categories, each with an embedding. All
embeddings are rows of one table, one column's after another's. Files of earlier versions may hold a mean and a factor for each
column instead, of a table of numbers without gaps.
"""
# n rows, F numbers, C columns of codes
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import Model, tabular
from tinydl.cli.cells import quoted
from tinydl.cli.errors import CommandError
from tinydl.cli.tables import Array, Table
from tinydl.tables import TableEncoder

#: Of RealMLP (Holzmueller et al. 2024): a column of more categories is embedded.
ONE_HOT_UP_TO = 8
MIN_COUNT = 2


# ---------------------------------------------------------------------- standardised: targets, and features in older files
def standardisation(x: Array) -> tuple[Array, Array]:
    """Mean and factor of each column, so that (x - mean) factor has variance 1; the factor of a constant is 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = x.mean(0), x.std(0)
    varies = deviation > 1e-12 * np.abs(x).max(0)
    return mean, np.where(varies, 1 / np.where(varies, deviation, 1), 0)


def standardise(x: Array, mean: Array, factor: Array) -> Array:
    """(x - mean) factor, as float32."""
    largest = float(np.finfo(np.float32).max)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.clip((x - mean) * factor, -largest, largest), np.float32)


def check_standardisation(mean: Array, factor: Array, names: list[str]) -> None:
    for name, a, b in zip(names, mean, factor, strict=True):
        if not np.isfinite(a) or not np.isfinite(b):
            raise CommandError(f"column {name!r} holds numbers too large or too small to standardise")


# ---------------------------------------------------------------------- any table
def learn(table: Table, rows: Array) -> tuple[dict[str, Any], list[str]]:
    """What the rows to train on say, for the model's metadata, and notes for people. A column that says nothing need not be there
    to predict, but where columns go by their places."""
    columns, notes = dict(table.columns), list[str]()
    while True:
        encoder = TableEncoder(dates=True, binary=True, one_hot_up_to=ONE_HOT_UP_TO, max_categories=tabular.MAX_CATEGORIES,
                               min_count=MIN_COUNT).fit({name: values[rows] for name, values in columns.items()})
        for why in dict.fromkeys(encoder.left_out.values()):
            names = [name for name, reason in encoder.left_out.items() if reason == why]
            notes.append(f"column{'s' * (len(names) > 1)} {quoted(names)}: {why}: left out")
        if len(encoder.left_out) == len(columns):
            raise CommandError(f"there is nothing to learn from: {'; '.join(notes)}")
        if not encoder.left_out or table.by_place:
            break
        columns = {name: values for name, values in columns.items() if name not in encoder.left_out}
    kinds = {"f": "numbers", "M": "dates", "O": "categories"}
    return {"features": list(columns), "kinds": [kinds[values.dtype.kind] for values in columns.values()],
            "missing": sorted(table.format.missing), "encoder": encoder.to_dict()}, notes


def encode(facts: dict[str, Any], table: Table) -> Any:
    """The features of all rows: numbers float32 (n, F), codes int64 (n, C), or a dict of both, as the model has inputs."""
    if "encoder" not in facts:
        return standardise(table.x, np.array(facts["mean"]), np.array(facts["factor"]))
    encoder = TableEncoder.from_dict(facts["encoder"])
    try:
        encoded = encoder.transform({name: table.columns[name] for name in facts["features"]})
    except ValueError as e:
        raise CommandError(str(e)) from None
    return tabular.given(tabular.inputs(encoder, encoded))


def fits(model: Model, facts: dict[str, Any], outputs: int) -> bool:
    """Whether a model takes what `encode` makes by these facts."""
    n = len(facts["features"])
    if "encoder" not in facts:
        return model.output_shape((n,)) == (outputs,) and len(facts["mean"]) == len(facts["factor"]) == n
    encoder = TableEncoder.from_dict(facts["encoder"])
    F, C = len(encoder.number_names), len(encoder.cardinalities)
    shape: Any = {"numbers": (F,), "categories": (C,)} if F and C else (F,) if F else (C,)
    return (model.output_shape(shape) == (outputs,) and encoder.feature_names == facts["features"]
            and len(facts["kinds"]) == n)


def kinds(facts: dict[str, Any]) -> dict[str, str]:
    """Of the columns that a file must have to predict."""
    return dict(zip(facts["features"], facts.get("kinds") or ["full"] * len(facts["features"]), strict=True))


def described(table: Table) -> str:
    """How many columns of which kind."""
    found = {"f": 0, "O": 0, "M": 0}
    for values in table.columns.values():
        found[values.dtype.kind] += 1
    if found["f"] == len(table.columns):
        return ""
    words = {"f": "of numbers", "O": "of categories", "M": "of dates"}
    return " (" + ", ".join(f"{n} {words[kind]}" for kind, n in found.items() if n) + ")"

