"""What a model's file says of the table that it was trained on, for `tinydl info MODEL`."""
from __future__ import annotations

import textwrap
from typing import Any

from tinydl.cli.cells import quoted
from tinydl.cli.common import plural
from tinydl.cli.figures import text
from tinydl.cli.progress import table
from tinydl.cli.sheet import figures, shortened
from tinydl.tables.dates import PARTS


def about_table(metadata: dict[str, Any], width: int) -> str:
    """The target, the columns and how each is encoded, how it was trained, and the figures of its test rows."""
    facts, training = metadata["table"], metadata.get("training")
    classes = facts["classes"]
    if classes is None:
        what = f"a number; mean {facts['target_mean']:.6g}, standard deviation {facts['target_scale']:.6g}"
        if "target_range" in facts:
            what += ", predicted from {:.6g} to {:.6g}".format(*facts["target_range"])
    else:
        what = f"{plural(len(classes), 'class')}: {quoted(classes)}"
    parts = [textwrap.fill(f"target: {facts['target']!r}, {what}", width, subsequent_indent="  "), "",
             table([["column", "encoded as"], *([shortened(name, 18), how] for name, how in columns(facts))], left=True)]
    if training:
        rows, best = training["rows"], training.get("best")
        said = f"trained on {plural(rows['train'], 'row')} for {plural(training['epochs'], 'epoch')}"
        if best:
            said += (f"; epoch {best['epoch']} was the best on {plural(rows['validation'], 'row')} set aside, with "
                     f"{best['metric']} {text(best['metric'], best['value'])}")
        recipe = ", ".join(f"{name} {value}" for name, value in training["recipe"].items() if value is not None)
        parts += ["", *(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in (said, recipe))]
        if "figures" in training:
            section = figures(f"{plural(rows['test'], 'test row')}", training["figures"])
            parts += ["", f"figures of {section.title}", table(section.rows), textwrap.fill(section.note, width)]
    return "\n".join(parts)


def columns(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Of each column its name and what becomes of it."""
    if "encoder" in facts:
        return [(column["label"], _how(column)) for column in facts["encoder"]["columns"]]
    return [(name, f"number: {_scaled(mean, factor)}" if factor else "left out: it is constant")
            for name, mean, factor in zip(facts["features"], facts["mean"], facts["factor"], strict=True)]


def _scaled(middle: float, factor: float) -> str:
    return f"(x {'+' if middle < 0 else '-'} {abs(middle):.4g}) / {1 / factor:.4g}"


def _how(column: dict[str, Any]) -> str:
    """From a TableEncoder's state."""
    kind = column.get("as")
    if kind is None:
        return "left out"
    marked = "; gaps marked" * column["marked"]
    if kind == "numbers":
        scaled = f"{_scaled(column['median'], column['factor'])}, clipped at 3" if column["factor"] else "nothing of its value"
        return f"number: {scaled}{marked}"
    if kind == "dates":
        parts = dict.fromkeys(name.removesuffix(" sin").removesuffix(" cos") for name in PARTS if name in column["parts"])
        return f"date: {', '.join(parts)}{marked}"
    if column["form"] == "binary":
        return f"1 where it is {shortened(str(column['values'][1]), 20)!r}, else 0{marked}"
    return f"{len(column['values']):,} categories, " + (
        "an embedding of each" if column["form"] == "codes" else f"a column of 0 and 1 of each{marked}")
