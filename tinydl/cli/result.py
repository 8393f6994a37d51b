"""What came out of a training: what is said of it, what the model's file notes, and the report."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinydl import Model, Trainer
from tinydl.callbacks import EarlyStopping
from tinydl.cli import baselines
from tinydl.cli.common import plural
from tinydl.cli.errors import CommandError
from tinydl.cli.figures import Outcome, simplest, text
from tinydl.cli.members import Members
from tinydl.cli.prepare import Labelled, Prepared, Say
from tinydl.cli.reading import Array
from tinydl.cli.recipe import Recipe
from tinydl.cli.saved import in_units
from tinydl.cli.sheet import Sheet, figures, history, of_target, sections
from tinydl.cli.sources import name_of
from tinydl.cli.time_limit import TimeLimit
from tinydl.serialization import plain


@dataclass(frozen=True)
class Result:
    """A training of members that has ended."""

    trainer: Trainer
    members: Members
    data: Labelled
    ready: Prepared
    recipe: Recipe

    @cached_property
    def temperature(self) -> float:
        """By which the mean of the scores is divided: 1 of numbers, and where no rows were set aside."""
        rows = self.ready.validation
        if not self.recipe.n_classes or not len(rows):
            return 1.0
        return self.recipe.temperature(self.members.mean(self.trainer.model).predict(self._x(rows)), self.ready.y[rows],
                                       self.recipe.class_weights(self.ready.y[self.ready.train]))

    @cached_property
    def model(self) -> Model:
        """To be saved."""
        return self.members.mean(self.trainer.model, self.temperature)

    def note(self, say: Say) -> None:
        """Say what came out, and put into model.metadata what `info` and `evaluate` show of it, under "training": numbers of rows
        and epochs, the recipe, the classes' shares of the training rows, and figures of the test rows."""
        ready, recipe = self.ready, self.recipe
        training: dict[str, Any] = {"rows": {"train": len(ready.train), "validation": len(ready.validation),
                                             "test": len(ready.test)},
                                    "epochs": self.trainer.epoch, "recipe": recipe.settings() | {
                                        "--batch-size": self.trainer.data.train.batch_size}}
        if any(isinstance(c, TimeLimit) and c.reached for c in self.trainer.callbacks):
            reached = recipe.reached(self.trainer.optimizer)
            say(f"--time: training ended in epoch {self.trainer.epoch + 1} of {recipe.own.max_epochs}" + (
                f"; the rate had risen to {100 * reached:.2g} % of its highest, so little was learnt: say --epochs that the time "
                "allows, or --schedule constant" if reached < 0.5 else ""))
        best = next((c for c in self.trainer.callbacks if isinstance(c, EarlyStopping)), None)
        if best is not None and best.best is not None:
            value = best.best * unit_of(recipe.metric, ready.facts)
            training["best"] = {"epoch": best.best_epoch, "metric": recipe.metric, "value": value}
            say(f"best epoch: {best.best_epoch} of {self.trainer.epoch}, {recipe.metric} {text(recipe.metric, value)}")
        if recipe.n_classes and recipe.validation:
            training["temperature"] = self.temperature
            say(f"scores divided by {self.temperature:.3g}, so that probabilities fit the rows set aside")
        if self.data.classes:
            counts = np.bincount(self.data.y[ready.train], minlength=len(self.data.classes))
            training["shares"] = (counts / counts.sum()).tolist()
        if len(ready.test):
            outcome = self.outcome(self.model)
            least = simplest(ready.facts, training.get("shares"), outcome.y)
            assert least is not None
            training["figures"] = {"model": outcome.figures(), "simplest": least.figures()}
            say("test: " + _line(**training["figures"], n=len(ready.test)))
        self.model.metadata = {"table": ready.facts, "training": plain(training, null=True)}

    def outcome(self, model: Model) -> Outcome:
        """A model's on the test rows."""
        rows = self.ready.test
        y = self.data.y[rows] if self.data.classes else self.data.y[rows, 0]
        return Outcome(self.data.target, self.data.classes, y, in_units(self.ready.facts, model.predict(self._x(rows))))

    def _x(self, rows: Array) -> Any:
        """The features of these rows."""
        x = self.ready.x
        return {name: values[rows] for name, values in x.items()} if isinstance(x, dict) else x[rows]

    def sheet(self, out: Path) -> Sheet:
        """The report on the test rows. A linear model is trained to compare with; its figures are added to model.metadata."""
        outcome, ready, recipe = self.outcome(self.model), self.ready, self.recipe
        if not np.isfinite(outcome.outputs).all():
            raise CommandError(f"--sheet: the features of some test rows are too far from those of the training; {out} is saved")
        linear = baselines.linear(ready.x, ready.y, ready.train, recipe.loss(ready.y[ready.train], 0.0), recipe.n_outputs)
        training = self.model.metadata["training"]
        training["figures"]["linear"] = plain(self.outcome(linear).figures(), null=True)
        rows, best = training["rows"], training.get("best", {})
        validated = f"{rows['validation']:,} to validate, " * bool(recipe.validation)
        about = [("data", f"{name_of(Path(recipe.options.file))}: {rows['train']:,} rows to train on, {validated}"
                          f"{rows['test']:,} to test"),
                 ("target", of_target(ready.facts)),
                 ("model", f"{self.model.name}, {plural(self.model.num_parameters, 'parameter')}"),
                 ("training", ", ".join([f"{recipe.optimizer_name} with learning rate {recipe.rate:g}",
                                         plural(self.trainer.epoch, "epoch"), *recipe.words()]))]
        unit = unit_of(recipe.metric, ready.facts)
        return Sheet(f"{out}: {plural(rows['test'], 'test row')}", about, [
            figures("Figures", training["figures"]), *sections(outcome),
            *history(self.trainer.history, recipe.metric if recipe.validation else None, unit, best.get("epoch"))])


def unit_of(metric: str, facts: dict[str, Any]) -> float:
    """What a metric of the target as it is trained on, standardised, is to be multiplied by."""
    return float(facts.get("target_scale", 1.0) ** {"mse": 2, "rmse": 1, "mae": 1}.get(metric, 0))


def _line(model: dict[str, float], simplest: dict[str, float], n: int) -> str:
    """simplest: of naming the commonest class whatever the features are."""
    if "accuracy" in model:
        return (f"log-loss {model['log_loss']:.4f}, accuracy {100 * model['accuracy']:.1f} % "
                f"({round(model['accuracy'] * n):,} of {n:,}; commonest class: {100 * simplest['accuracy']:.1f} %)")
    return f"r2 {model['r2']:.4f}, rmse {model['rmse']:.6g}, mean absolute error {model['mae']:.6g}"
