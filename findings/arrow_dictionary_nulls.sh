#!/usr/bin/env bash
# pyarrow 26.0.1 (NumPy 2.4.6): a missing value in a dictionary column (a pandas category, a categorical of Parquet) of a table.
#
# Guess: np.asarray(table["column"]) and table["column"].to_numpy() give None or NaN for a null, as they do for a plain column.
# Seen: of a single Array they do. Of a ChunkedArray, which is what a Table's column is, each null is the last category of its
# dictionary, without a word: of text another text, of numbers another number. to_pylist() and a cast to the dictionary's own
# type keep the nulls.
# Whoever reads categories from an Arrow table has to cast the column (or to ask for is_null()) before NumPy sees it; else rows
# with gaps are counted as the last category.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pyarrow as pa

for values in (["b", None, "a", None, "b"], [10, None, 3]):
    table = pa.table({"column": pa.array(values).dictionary_encode()})
    column = table["column"]
    last = column.chunk(0).dictionary[-1].as_py()
    wrong = [last if v is None else v for v in values]
    assert column.null_count == values.count(None) and column.to_pylist() == values
    assert np.asarray(column).tolist() == wrong and column.to_numpy().tolist() == wrong
    single = np.asarray(column.chunk(0))
    missing = [v is None or v != v for v in single.tolist()]
    assert missing == [v is None for v in values]
    cast = column.cast(column.type.value_type)
    assert [v is None or v != v for v in np.asarray(cast).tolist()] == missing
    print(f"{values}: np.asarray of the table's column {np.asarray(column).tolist()}, of its only chunk {single.tolist()}")
PY
