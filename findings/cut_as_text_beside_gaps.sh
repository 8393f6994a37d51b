#!/usr/bin/env bash
# pandas 3.1.1: the intervals of pandas.cut as text, in a column with a missing value and in one without.
#
# Guess: for the same edges a row's interval is the same text whatever other rows the column has, since both columns have the same
# categories, of integers.
# Seen: `astype(str)` gives "(0, 18]" in the column without a gap and "(0.0, 18.0]" in the one with a gap; numpy.asarray and a
# loop have intervals of floats there, too. `map(str)`, `to_csv`, `iloc` and the categories' own text stay "(0, 18]", and nothing
# warns.
# So categories of text that a model learned from a table without gaps are all unknown in one with a gap, and the other way round.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pandas as pd

whole = pd.cut(pd.Series([3, 20, 50]), [0, 18, 65])
gap = pd.cut(pd.Series([3, 20, 70]), [0, 18, 65])           # 70 is in no interval
assert whole.cat.categories.equals(gap.cat.categories)
ways = {"astype(str)": lambda s: s.astype(str).tolist(), "numpy.asarray": lambda s: [str(v) for v in np.asarray(s)],
        "map(str)": lambda s: s.map(str).tolist(), "iloc": lambda s: [str(s.iloc[i]) for i in (0, 1)],
        "to_csv": lambda s: [line.strip('"') for line in s.to_csv(index=False, header=False).splitlines()],
        "categories": lambda s: s.cat.categories.astype(str).tolist()}
for name, text in ways.items():
    a, b = text(whole)[:2], text(gap)[:2]
    print(f"{name:14} without a gap {a} beside a gap {b}")
    assert a == ["(0, 18]", "(18, 65]"]
    assert b == (["(0.0, 18.0]", "(18.0, 65.0]"] if name in ("astype(str)", "numpy.asarray") else a), b
PY
