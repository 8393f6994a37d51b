#!/usr/bin/env bash
# pandas 3.1.1 (NumPy 2.4.6): a frame with a column that is no number, asked for as float32 features.
#
# Guess: DataFrame.to_numpy("float32") raises where a column is no number: a date, a duration, a category.
# Seen: it raises for text alone. Dates are microseconds since 1970, rounded to the 24 bits of a float32 (the first of January
# 2026 comes out 31 seconds late), and durations are counts of microseconds; a category of integers is those integers, as if
# they were amounts. None of them warns, also where warnings are errors.
# Whoever takes frames as features has to look at each column's dtype first.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W error - <<'PY'
import pandas as pd

columns = {"date": pd.to_datetime(["2026-01-01", "2026-01-02"]), "duration": pd.to_timedelta([1, 2], unit="s"),
           "category of integers": pd.Categorical([10, 20]), "category of text": pd.Categorical(["a", "b"]), "text": ["a", "b"]}
for name, column in columns.items():
    frame = pd.DataFrame({"amount": [0.5, 1.5], name: column})
    try:
        seen = frame.to_numpy("float32")[:, 1].tolist()
    except (TypeError, ValueError) as e:
        seen = type(e).__name__
    print(f"{name} ({frame[name].dtype}): {seen}")
    assert isinstance(seen, str) == ("text" in name)
PY
