"""The networks: what comes in, what one member is, and how several are one model."""
# n rows, F numbers and C codes of a row, K outputs
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.model import Model
from tinydl.nn.layer import Symbol
from tinydl.tables import Encoded, TableEncoder
from tinydl.tabular.recipe import ACTIVATIONS, EMBEDDING, Recipe
from tinydl.tabular.tasks import Task

Array = np.ndarray[Any, Any]

__all__ = ["divide", "given", "inputs", "network", "parts"]


def inputs(encoder: TableEncoder, encoded: Encoded) -> dict[str, Array]:
    """{"numbers": (n, F), "categories": (n, C)} as `network` has them; what there is none of is left out. Codes count on
    from column to column, since all categories are rows of one embedding."""
    first = np.cumsum([0, *encoder.cardinalities[:-1]]) if encoder.cardinalities else np.zeros(0, np.int64)
    every = {"numbers": encoded.numbers, "categories": encoded.categories + first.astype(np.int64)}
    return {name: values for name, values in every.items() if values.shape[1]}


def given(x: dict[str, Array]) -> Any:
    """As a model and a dataset take it: of one input its array alone."""
    return x if len(x) > 1 else next(iter(x.values()))


def network(x: dict[str, Array], n_codes: int, task: Task, recipe: Recipe, *, seed: int | None = None, members: int = 1,
            apart: bool = False, like: Model | None = None) -> Model:
    """Numbers (embedded too, as the recipe says) and embeddings of categories, scaled, then hidden layers. x: the rows to train
    on, by which numbers are embedded. members: so many of these, and the outputs are the mean of their predictions; 0: one, and
    its outputs as they are. apart: the outputs of all as they are, (members, K), each for a loss of its own, as `Task.apart`
    has them. like: one whose
    numbers are embedded likewise, whatever x is."""
    edges = None
    if recipe.embedding == "piecewise" and "numbers" in x:
        edges = _edges(like) if like is not None else nn.PiecewiseLinearEmbedding.from_data(x["numbers"]).edges
    symbols = [nn.Input((values.shape[1],), "float32" if name == "numbers" else "int64", name=name) for name, values in x.items()]
    outputs = [_member(symbols, edges, n_codes, task, recipe) for _ in range(members or 1)]
    if members and task.link is not None and not apart:
        outputs = [task.link()(y) for y in outputs]
    y = outputs[0] if len(outputs) == 1 else nn.Concat()(outputs)
    if members > 1 or apart:
        y = nn.Reshape((members, task.n_outputs))(y)
    if apart:
        y = task.apart(y)
    if members > 1 and not apart:
        y = nn.Mean(axis=0)(y)
    return Model(inputs=symbols, outputs=y, seed=seed, name="tabular")


def _member(symbols: Sequence[Symbol], edges: Any, n_codes: int, task: Task, recipe: Recipe) -> Symbol:
    parts = []
    for symbol in symbols:
        if symbol.dtype == "int64":
            parts.append(nn.Flatten()(nn.Embedding(n_codes, EMBEDDING)(symbol)))
        elif recipe.embedding is None:
            parts.append(symbol)
        else:
            embedding = (nn.PeriodicEmbedding(symbol.shape[0]) if recipe.embedding == "periodic" else
                         nn.PiecewiseLinearEmbedding(edges))
            parts.append(nn.Flatten()(embedding(symbol)))
    h = nn.Concat()(parts) if len(parts) > 1 else parts[0]
    h = nn.Scale(h.shape[0])(h)
    for size in recipe.hidden_sizes:
        h = ACTIVATIONS[recipe.activation]()(nn.Linear(h.shape[0], size)(h))
        if recipe.dropout:
            h = nn.Dropout(recipe.dropout)(h)
    return nn.Linear(h.shape[0], task.n_outputs)(h)


def _edges(model: Model) -> Any:
    return next(layer.edges for _, layer in model.layer.walk() if isinstance(layer, nn.PiecewiseLinearEmbedding))


def parts(model: Model, members: int) -> list[Array]:
    """The parameters of each member of a model of several, as views: they stand one member behind the other."""
    return np.split(model.params, members)


def divide(model: Model, members: int, by: float) -> None:
    """What comes out of each of its members is divided by that from now on: the weight and bias of their last layers are."""
    if by == 1:
        return
    values = model.state_dict()
    names = list(values)
    each = len(names) // members
    for last in range(each, len(names) + 1, each):
        for name in names[last - 2:last]:
            values[name] = values[name] / np.float32(by)
    model.load_state_dict(values)
