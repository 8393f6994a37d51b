#!/usr/bin/env bash
# SciPy 1.17.1 (pandas 3.1.1, NumPy 2.4.6): scipy.io.arff.loadarff of missing values, "?" in the file.
#
# Guess: a missing value is missing in each column: NaN of numbers, NaT of dates and, of the categories that the header lists,
# something that pandas and encoders know as missing, since the documentation says that missing data are read as NaNs.
# Seen: numbers and dates are so, but a missing category is the text b"?", none of the categories that the header (and `meta`)
# has. pandas counts no gap there, an imputer imputes nothing, and an encoder makes one more category of it, beside the real ones.
# So replace b"?" by None after reading, by the columns of type "nominal" in `meta`.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W error - <<'PY'
import io

import numpy as np
import pandas as pd
from scipy.io import arff

text = """@relation people
@attribute age numeric
@attribute since date 'yyyy-MM-dd'
@attribute town {Bonn,Ulm}
@data
30,'2026-01-01',Bonn
?,?,?
41,'2026-03-01',Ulm
"""
data, meta = arff.loadarff(io.StringIO(text))
table = pd.DataFrame(data)
print("the header's towns:", meta["town"][1])
print("read:", [row.tolist() for row in data])
print("missing for pandas:", table.isna().sum().to_dict())
assert np.isnan(data["age"][1]) and np.isnat(data["since"][1])
assert data["town"][1] == b"?" and meta["town"] == ("nominal", ("Bonn", "Ulm"))
assert table.isna().sum().tolist() == [1, 1, 0] and table["town"].nunique() == 3
PY
