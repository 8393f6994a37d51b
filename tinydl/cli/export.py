"""tinydl export: a model that `tinydl train` saved as an ONNX file that predicts from a table's columns as they are."""
from __future__ import annotations

import argparse
from pathlib import Path

from tinydl.cli.common import check_format, check_replaces_nothing, check_writable
from tinydl.cli.errors import CommandError
from tinydl.cli.saved import load
from tinydl.tables import TableEncoder


def run(options: argparse.Namespace) -> int:
    """`tinydl export`; its exit code."""
    path, out = Path(options.model), Path(options.out)
    model = load(path)
    facts = model.metadata["table"]
    check_replaces_nothing(out, "OUT", path)
    check_format(out, "OUT", "ONNX")
    check_writable(out, "OUT")
    if "encoder" not in facts:
        raise CommandError(f"{path} is of an earlier version of tinydl, whose tables were of numbers alone: train it again")
    try:
        from tinydl.onnx import write_table
        from tinydl.onnx.columns import column_inputs
        from tinydl.onnx.predictions import labels, values
        encoder = TableEncoder.from_dict(facts["encoder"])
        if facts["classes"]:
            finish, names = labels(facts["classes"], scores=True), "label, probabilities"
        else:
            low, high = facts.get("target_range", (None, None))
            finish, names = values(facts["target_mean"], facts["target_scale"], low=low, high=high), "value"
        write_table(out, model.layer, model.dtype, encoder, finish=finish, name=model.name)
    except (ImportError, ValueError) as e:
        raise CommandError(str(e)) from None
    if not options.quiet:
        kinds = {"O": "text", "f": "numbers"}
        given = ", ".join(f"{name} ({kinds[dtype.kind]})" for name, dtype in column_inputs(encoder))
        print(f"{out}: inputs {given}; outputs {names}")
    return 0
