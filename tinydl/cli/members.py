"""The networks that `tinydl train` trains side by side, in one plan and on the same batches, and the model that they become.

While N > 1 networks are trained the outputs are (N, K): a row for each, which has a loss of its own. What is validated, and
saved, is the mean of the rows.
"""
# n rows, N members, K outputs: scores of classes, or one number
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import Model, tabular
from tinydl.cli.reading import Array
from tinydl.metrics import MetricsEvaluator
from tinydl.tables import TableEncoder


class Scores(tabular.Classes):
    """Classes whose scores are averaged, not their probabilities: `predict` and `evaluate` make these of scores."""

    link = None


class MeanEvaluator(MetricsEvaluator):
    """What MetricsEvaluator measures, of the mean of the members: outputs (n, N, K), and targets that each of them has, (n, N) or
    (n, N, 1)."""

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        super().check_targets(targets[:, 0], output_shape[1:])

    def update(self, outputs: Array, targets: Array) -> None:
        super().update(outputs.mean(1), targets[:, 0])


class Members:
    """recipe.n_members networks for the columns of x, which `features.encode` made by these facts. rows: those to train on."""

    def __init__(self, facts: dict[str, Any], x: Any, rows: Array, n_classes: int, recipe: tabular.Recipe) -> None:
        every = x if isinstance(x, dict) else {"numbers" if x.dtype.kind == "f" else "categories": x}
        self.x = {name: values[rows] for name, values in every.items()}
        self.n_codes = sum(TableEncoder.from_dict(facts["encoder"]).cardinalities)
        self.task: tabular.Task = Scores(n_classes) if n_classes else tabular.Values(1)
        self.recipe, self.n = recipe, recipe.n_members

    def targets(self, y: Array) -> Array:
        """y (n,) or (n, 1) as `apart` is trained on it: once for each of several members."""
        return np.repeat(y[:, None], self.n, 1) if self.n > 1 else y

    def apart(self, seed: int) -> Model:
        """To train: the outputs are (N, K); of one member (K,)."""
        model = tabular.network(self.x, self.n_codes, self.task, self.recipe, seed=seed, members=self.n, apart=self.n > 1)
        if "categories" in self.x:
            # A code without a row to train on keeps the embedding it begins with: let that be 0, the mean of all, and not chance.
            unseen = np.bincount(self.x["categories"].ravel(), minlength=self.n_codes) == 0
            values = model.state_dict()
            for names in self._names(values):
                name = next(n for n in names if values[n].shape == (self.n_codes, tabular.EMBEDDING))
                values[name] = np.where(unseen[:, None], 0, values[name])
            model.load_state_dict(values)
        model.name = self.name
        return model

    def mean(self, trained: Model, temperature: float = 1.0) -> Model:
        """What such a model becomes: the outputs are (K,). temperature: by which they are divided."""
        model = tabular.network(self.x, self.n_codes, self.task, self.recipe, members=self.n)
        model.params[...] = trained.params
        if temperature != 1:
            tabular.divide(model, self.n, temperature)
        model.name = self.name
        return model

    def _names(self, values: dict[str, Array]) -> list[list[str]]:
        """Of each member's parameters, which stand one member behind the other."""
        names, each = list(values), len(values) // self.n
        return [names[i * each:(i + 1) * each] for i in range(self.n)]

    @property
    def name(self) -> str:
        sizes = "-".join(map(str, (*self.recipe.hidden_sizes, self.task.n_outputs)))
        return f"{self.n} networks {sizes}" if self.n > 1 else f"network {sizes}"
