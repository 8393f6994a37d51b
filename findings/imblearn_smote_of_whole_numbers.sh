#!/usr/bin/env bash
# imbalanced-learn 0.14.2 (scikit-learn 1.9.1, pandas 3.1.1, NumPy 2.4.6): SMOTE of a DataFrame with whole numbers and booleans.
#
# Guess: what is interpolated between two rows is a float, or is rounded to the nearest whole number, so the made rows of a class
# have about the means of its own rows.
# Seen: columns keep their dtypes, by astype: whole numbers are cut towards zero, so rooms from 1 to 5 lose 0.4 on average and a 5
# is made only between two 5s; a boolean is True wherever one of the two rows is, so a share of a third becomes one half. Nothing
# warns, and the columns look as they should. As floats the same columns keep their means.
# So turn such columns into floats first, or let rows count by weights of the classes.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check imbalanced-learn==0.14.2 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W error - <<'PY'
import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE

rng = np.random.default_rng(0)
n, few = 1000, 100
y = (np.arange(n) < few).astype(int)
table = pd.DataFrame({"rooms": rng.integers(1, 6, n), "garden": rng.random(n) < 0.3, "area": rng.normal(100, 30, n)})
made = SMOTE(random_state=0).fit_resample(table, y)[0][n:]
floats = SMOTE(random_state=0).fit_resample(table.astype(float), y)[0][n:]
for name, rows in (("rows of the class", table[:few]), ("made of them", made), ("made of floats", floats)):
    print(f"{name:18} rooms {rows['rooms'].mean():.2f} (5 in {np.mean(rows['rooms'] == 5):.0%})  garden {rows['garden'].mean():.2f}  "
          f"area {rows['area'].mean():.1f}")
assert made.dtypes.astype(str).tolist() == ["int64", "bool", "float64"]
assert np.array_equal(made["rooms"], np.trunc(floats["rooms"])) and np.array_equal(made["garden"], floats["garden"] > 0)
assert made["rooms"].mean() < table["rooms"][:few].mean() - 0.3 and made["garden"].mean() > table["garden"][:few].mean() + 0.1
assert abs(floats["rooms"].mean() - table["rooms"][:few].mean()) < 0.1
PY
