#!/usr/bin/env bash
# fastparquet 2026.9.0 (pandas 2.3.3, pyarrow 26.0.1 beside it, NumPy 2.4.6): write(..., append=True) of a frame whose column has
# the name of one in the file and other numbers.
#
# What one would expect (no guess was written before the run): numbers that the file's column cannot hold are refused, as a frame
# with other column names, or with text, is.
# Seen: they are made to fit. 1.5 and -2.5 appended to whole numbers are stored as 1 and -2; 300 in a column of int8 as 44, -1 in
# one of uint8 as 255, 8589934597 in one of int32 as 5. pyarrow reads the same, the numbers are gone. A second day of measurements
# whose first was of whole numbers is enough. Nothing warns.
# Whoever appends compares the frame's dtypes with the file's, ParquetFile(path).dtypes, first.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check fastparquet==2026.9.0 pandas==2.3.3 pyarrow==26.0.1 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W error -W ignore::ResourceWarning - <<'PY'
import fastparquet
import numpy as np
import pandas as pd
import pyarrow.parquet


def appended(first, second):
    """What is behind the first rows of a file to which the second ones are appended, as fastparquet and as pyarrow read it."""
    fastparquet.write("rows.parquet", first)
    fastparquet.write("rows.parquet", second, append=True)
    ours, theirs = fastparquet.ParquetFile("rows.parquet").to_pandas(), pyarrow.parquet.read_table("rows.parquet").to_pandas()
    assert ours.equals(theirs) and ours[:len(first)].equals(first)
    return ours["x"].tolist()[len(first):]


for dtype, numbers, stored in (("int64", [1.5, -2.5], [1, -2]), ("int32", [8589934597, 7], [5, 7]), ("int8", [300, 7], [44, 7]),
                               ("uint8", [-1, 7], [255, 7]), ("int64", [3, 4], [3, 4]), ("float64", [3, 4], [3, 4])):
    seen = appended(pd.DataFrame({"x": np.array([1, 2], dtype)}), pd.DataFrame({"x": np.array(numbers)}))
    print(f"{numbers} appended to {dtype}: the file has {seen}")
    assert seen == stored, "that changed"
for what, frame in (("another name", pd.DataFrame({"z": [3]})), ("text", pd.DataFrame({"x": ["a"]}))):
    try:
        appended(pd.DataFrame({"x": [1, 2]}), frame)
    except ValueError as e:
        print(f"{what} is refused: {str(e)[:60]}")
    else:
        raise SystemExit(f"{what} is taken now")
PY
