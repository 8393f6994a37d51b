#!/usr/bin/env bash
# scikit-learn 1.9.1 (pandas 3.1.1, pyarrow 26.0.1): classifiers fitted on labels in a column of pandas' nullable or Arrow types.
#
# Guess: labels of "Int64", "boolean" or Arrow's integers and booleans without a missing value are the integers and booleans that
# they say they are, as those of int64 and bool columns are, and predictions are of the same kind.
# Seen: they become float64. classes_ is [1.0, 2.0], or [0.0, 1.0] for False and True, and so are the predictions; nothing warns.
# Text stays text. Whoever looks up a prediction by an integer or tests it with `is True` finds nothing.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 pandas==3.1.1 pyarrow==26.0.1
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

X = np.arange(20.0).reshape(-1, 1)
for dtype, labels in (("int64", [1, 2]), ("Int64", [1, 2]), ("int64[pyarrow]", [1, 2]), ("bool", [False, True]),
                      ("boolean", [False, True]), ("bool[pyarrow]", [False, True])):
    y = pd.Series(labels * 10, dtype=dtype)
    for kind in (LogisticRegression, DecisionTreeClassifier):
        found = kind().fit(X, y)
        print(f"{dtype:15} {kind.__name__:23} classes_ {found.classes_.tolist()} predictions {found.predict(X).dtype}")
        assert (found.classes_.dtype == np.float64) == (dtype not in ("int64", "bool"))
        assert found.predict(X).dtype == found.classes_.dtype
PY
