#!/usr/bin/env bash
# pyarrow 26.0.1 (NumPy 2.4.6): a column of a table made into an array, by `to_numpy()` and by `np.asarray`.
#
# Guess: np.asarray(column) is column.to_numpy(), so that either takes the same columns and refuses the same.
# Seen: of an Array, to_numpy() refuses booleans and columns with nulls (zero_copy_only is True there), np.asarray takes both; of
# a ChunkedArray, which is what a Table gives, to_numpy() takes both. A null of an integer column is NaN, and the integers are
# float64 by then: 2**53 + 1 is another number. A null of a boolean column makes an array of objects.
# Whoever reads tables has to ask for nulls before the conversion, and must not use to_numpy() of a single chunk.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pyarrow as pa

columns = {"bool": pa.array([True, False]), "int with null": pa.array([2**53 + 1, None]), "bool with null": pa.array([True, None])}
for name, column in columns.items():
    try:
        column.to_numpy()
        raise SystemExit(f"{name}: Array.to_numpy() takes it")
    except pa.ArrowInvalid:
        pass
    whole = pa.chunked_array([column])
    a, b = np.asarray(column), whole.to_numpy()
    assert a.dtype == b.dtype
    print(f"{name}: Array.to_numpy() raises ArrowInvalid; np.asarray and ChunkedArray.to_numpy() give {a.dtype} {a.tolist()}")
assert np.asarray(columns["bool"]).dtype == bool
assert np.asarray(columns["int with null"])[0] == 2**53
assert np.asarray(columns["bool with null"]).dtype == object
PY
