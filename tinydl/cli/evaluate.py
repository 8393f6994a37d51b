"""tinydl evaluate: how good a saved model is on a table with the target, beside what it was when it was trained."""
from __future__ import annotations

import argparse
from pathlib import Path

from tinydl.cli.common import check_sheet, plural, reading
from tinydl.cli.features import kinds
from tinydl.cli.figures import Outcome, simplest
from tinydl.cli.saved import load, outputs
from tinydl.cli.sheet import Sheet, figures, of_target, sections
from tinydl.cli.sources import name_of
from tinydl.cli.tables import read_table
from tinydl.cli.targets import known_classes, regression_target


def run(options: argparse.Namespace) -> int:
    """`tinydl evaluate`; its exit code."""
    path = Path(options.file)
    check_sheet(options.sheet, path, Path(options.model))
    model = load(Path(options.model))
    facts, training = model.metadata["table"], model.metadata.get("training", {})
    options.missing = [*(options.missing or ()), *facts.get("missing", ())]
    data = read_table(path, facts["target"], kinds(facts), reading(options))
    if facts["classes"] is None:
        y = regression_target(data, facts["target"], "the model predicts: correct it, or leave the row out by --missing")[:, 0]
    else:
        y = known_classes(data, facts["target"], facts["classes"])
    outcome = Outcome(facts["target"], facts["classes"], y, outputs(model, data))
    least = simplest(facts, training.get("shares"), y)
    now = {"model": outcome.figures()} | ({} if least is None else {"simplest": least.figures()})
    about = [("rows", f"{data.n:,}"), *(("note", note) for note in data.notes), ("target", of_target(facts)),
             ("model", f"{model.name}, {plural(model.num_parameters, 'parameter')}")]
    parts = [figures("Figures", now)]
    if "figures" in training:
        parts.append(figures(f"At training, {plural(training['rows']['test'], 'test row')}", training["figures"]))
    sheet = Sheet(f"{options.model} on {name_of(path)}", about, [*parts, *sections(outcome)])
    sheet.write("-")
    if options.sheet not in (None, "-"):
        sheet.write(options.sheet)
    return 0
