"""A report on predictions: sections of tables and pictures, as text or as one HTML page."""
# n rows, K classes
from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinydl import metrics
from tinydl.cli import pictures
from tinydl.cli.common import plural
from tinydl.cli.figures import Outcome, text
from tinydl.cli.figures import table as table_of_figures
from tinydl.cli.page import page
from tinydl.cli.progress import table
from tinydl.cli.reading import Array
from tinydl.cli.saved import softmax
from tinydl.history import History
from tinydl.serialization import write_atomically

WIDTH = 80
#: classes, and confusions, that are listed at most
MOST = 40
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@dataclass(frozen=True)
class Section:
    """rows: a table, the first row its header. note: sentences below it. draw: a picture of it, on axes of matplotlib; size: its
    inches; caption: what is said of it, where it is shown."""

    title: str
    rows: list[list[str]]
    note: str = ""
    draw: Callable[[Any], None] | None = None
    size: tuple[float, float] = (4.8, 3.3)
    caption: str = ""


@dataclass(frozen=True)
class Sheet:
    """title, what it is about (lines of a name and its value), and the sections."""

    title: str
    about: list[tuple[str, str]]
    sections: list[Section]

    def text(self) -> str:
        """In WIDTH columns."""
        width = max((len(name) for name, _ in self.about), default=0)
        parts = ["\n".join([self.title, *(textwrap.fill(value, WIDTH, initial_indent=f"{name:<{width}}  ",
                                                        subsequent_indent=" " * (width + 2)) for name, value in self.about)])]
        for s in self.sections:
            parts.append("\n".join([s.title.upper(), table(s.rows), *([textwrap.fill(s.note, WIDTH)] if s.note else [])]))
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """One page that needs no other file. ImportError names the extra where matplotlib is missing."""
        return page(self.title, self.about, [
            (s.title, s.rows, f"{s.note} {s.caption}".strip(), None if s.draw is None else pictures.svg(s.draw, s.size))
            for s in self.sections])

    def write(self, given: str) -> None:
        """To the file that `--sheet` names; - is standard output."""
        if given == "-":
            print(self.text(), end="")
        else:
            content = self.html() if Path(given).suffix.lower() == ".html" else self.text()
            write_atomically(given, lambda f: f.write(content.encode()))


def of_target(facts: dict[str, Any]) -> str:
    classes = facts["classes"]
    return f"{facts['target']!r}, " + ("a number" if classes is None else plural(len(classes), "class"))


def figures(title: str, found: dict[str, dict[str, float]]) -> Section:
    """A column for each of "model", "linear" and "simplest" that there is."""
    least = "majority" if "accuracy" in found["model"] else "mean"
    words = {
        "linear": "linear: a linear model with an L2 penalty, trained on the same rows and columns.",
        "majority": "majority: the commonest class of the training rows, the classes' shares among them as probabilities.",
        "mean": "mean: the mean of the training rows."}
    columns = {least if name == "simplest" else name: found[name] for name in ("model", "linear", "simplest") if name in found}
    return Section(title, table_of_figures(columns), " ".join(words[name] for name in columns if name in words))


def sections(outcome: Outcome) -> list[Section]:
    """What there is to say of an outcome beside its figures."""
    return errors(outcome) if outcome.classes is None else classes(outcome, outcome.classes)


# ---------------------------------------------------------------------- of classes
def classes(outcome: Outcome, names: list[str]) -> list[Section]:
    K, y, p = len(names), outcome.y, softmax(outcome.outputs)
    said = p.argmax(1)
    each = [f(y, said, average=None, labels=range(K)) for f in (metrics.precision, metrics.recall, metrics.f1)]
    rows_of = np.bincount(y, minlength=K)
    shown = sorted(np.argsort(-rows_of, kind="stable")[:MOST].tolist())
    own = [["class", "precision", "recall", "F1", "rows"],
           *([shortened(names[k], 30), *(f"{values[k]:.3f}" for values in each), f"{rows_of[k]:,}"] for k in shown)]
    counts = metrics.confusion_matrix(y, said, labels=range(K))
    matrix, how = confusion(counts, names)
    share, mean, n = metrics.calibration_curve(y, p, labels=range(K))
    of = f"of {shortened(names[1], 30)!r}" if K == 2 else "of the class that is predicted"
    return [
        Section("Classes", own, "" if K <= MOST else f"The {MOST} of {K} classes with the most rows."),
        Section("Confusion", matrix, how, partial(pictures.confusion, counts=counts, names=names), pictures.square(K)),
        Section("Calibration", [["mean probability", "share that is so", "rows"],
                                *([f"{a:.3f}", f"{b:.3f}", f"{c:,.0f}"] for a, b, c in zip(mean, share, n, strict=True))],
                f"The probability {of}, in tenths, and how often it is so. The calibration error is the mean distance between "
                "the two, by rows.", partial(pictures.calibration, share=share, mean=mean, n=n), (4.4, 4.4))]


def confusion(counts: Array, names: list[str]) -> tuple[list[list[str]], str]:
    """Of counts (K, K) the matrix where it fits in WIDTH, else the most frequent confusions; and how to read it."""
    head = [shortened(name, 10) for name in names]
    rows = [["true \\ predicted", *head], *([shortened(name, 20), *(f"{c:,}" for c in row)]
                                            for name, row in zip(names, counts.tolist(), strict=True))]
    if sum(max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]))) - 2 <= WIDTH:
        return rows, "A row for each true class, a column for each predicted one."
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    found = [(int(at) // len(names), int(at) % len(names)) for at in order if wrong.ravel()[at]]
    return [["true", "predicted", "rows"], *([shortened(names[i], 30), shortened(names[j], 30), f"{wrong[i, j]:,}"]
                                             for i, j in found)], f"The most frequent confusions, {MOST} at most."


# ---------------------------------------------------------------------- of numbers
def errors(outcome: Outcome) -> list[Section]:
    error = outcome.outputs - outcome.y
    names = ["least", *(f"{100 * q:g} %" for q in QUANTILES[1:-1]), "greatest"]
    rows = [["quantile", "predicted - actual", "absolute error"],
            *([name, f"{a:.6g}", f"{b:.6g}"] for name, a, b in zip(names, np.quantile(error, QUANTILES).tolist(),
                                                                   np.quantile(np.abs(error), QUANTILES).tolist(), strict=True))]
    return [Section("Errors", rows, "So many percent of the rows have an error of that or less.",
                    partial(pictures.errors, error=error, target=outcome.target)),
            Section("Predicted and actual", quarters(outcome), "The means of four parts of the rows, by their actual values.",
                    partial(pictures.scatter, actual=outcome.y, predicted=outcome.outputs, target=outcome.target), (4.4, 4.4))]


def quarters(outcome: Outcome) -> list[list[str]]:
    """Mean prediction and error in each quarter of the rows, by the actual value."""
    parts = [part for part in np.array_split(np.argsort(outcome.y, kind="stable"), 4) if len(part)]
    rows = [["actual", "predicted", "absolute error", "rows"]]
    for part in parts:
        y, predicted = outcome.y[part], outcome.outputs[part]
        rows.append([f"{y.mean():.6g}", f"{predicted.mean():.6g}", f"{np.abs(predicted - y).mean():.6g}", f"{len(part):,}"])
    return rows


# ---------------------------------------------------------------------- of the training
def history(epochs: History, metric: str | None, scale: float, best: int | None) -> list[Section]:
    """Ten epochs, and a picture of all. metric: of the validation rows; scale: to its own unit. best: whose parameters it has."""
    records = list(epochs)
    if not records:
        return []
    values = None if metric is None else [r.figures.get(metric, float("nan")) * scale for r in records]
    last = len(records) - 1
    shown = sorted({round(i * last / min(9, last or 1)) for i in range(min(10, len(records)))} | ({best - 1} if best else set()))
    rows = [["epoch", "training loss", *([] if metric is None else [f"validation {metric}"])],
            *([f"{records[i].epoch}{' (best)' if records[i].epoch == best else ''}", f"{records[i].loss:.4f}",
               *([] if values is None else [text(str(metric), values[i])])] for i in shown)]
    note = "The best epoch is the one whose weights are saved." if best else ""
    return [Section("Training", rows, note, partial(pictures.training, epochs=[r.epoch for r in records],
                                                  loss=[r.loss for r in records], metric=values, name=metric or "", best=best),
                    caption="In the picture it is dotted." if best else "")]


def shortened(name: str, width: int) -> str:
    return name if len(name) <= width else name[:width - 3] + "..."
