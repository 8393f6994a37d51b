#!/usr/bin/env bash
# skrub 0.11.0 (scikit-learn 1.9.1, pandas 3.1.1, NumPy 2.4.6): TableVectorizer of times, as seconds since 1970 and as datetimes.
#
# Guess: a vectorizer for any learner keeps apart what the table keeps apart: 200 times a quarter of a minute from each other make
# 200 different rows.
# Seen: all numbers become float32 before they are scaled or looked at, and seconds of these years are 128 apart there: 200 times
# are 24 different numbers. Of datetimes the parts stop at the hour, and the column of total seconds, which has the rest, is
# float32, too, so 200 rows have 25 encodings. Whole numbers of nine digits and more, as order numbers are, are merged alike;
# nothing warns.
# So subtract a first time (or number) before such a step, or encode from float64.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check skrub==0.11.0 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pandas as pd
from skrub import TableVectorizer

seconds = 1_700_000_000 + 15 * np.arange(200)
tables = {"seconds": pd.DataFrame({"at": seconds}), "datetimes": pd.DataFrame({"at": pd.to_datetime(seconds, unit="s")}),
          "since the first": pd.DataFrame({"at": seconds - seconds[0]})}
for name, table in tables.items():
    found = TableVectorizer().fit_transform(table)
    print(f"{name:15} {table['at'].nunique()} different -> {len(found.drop_duplicates())} of columns {found.columns.tolist()}")
    assert set(found.dtypes.astype(str)) == {"float32"}
    assert len(found.drop_duplicates()) == 200 if name == "since the first" else len(found.drop_duplicates()) < 40
PY
