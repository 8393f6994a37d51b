#!/usr/bin/env bash
# DuckDB 2.0.1 (pandas 3.1.1, NumPy 2.4.6): SQL over a pandas DataFrame with a column of dtype object that holds Python's numbers,
# as tables made of rows, of JSON or of spreadsheets have them: whole ones beside others, or Decimals.
#
# What one would expect (no guess was written before the run): the column is DOUBLE, or DECIMAL with places enough. The
# documentation says that the type comes from a sample of 1000 rows, and that a wrong one ends in "Failed to cast value".
# Seen: there is no error. Where the sample, every so many rows, meets whole numbers alone, the column is INTEGER, and all others
# are rounded: 2000 prices that are 1 and 2.7 by turns have the sum 4000 instead of 3700; 1000 rows of the same are DOUBLE. Of
# Decimals the sampled rows' places count, and 2.25 becomes 2.3. How many rows there are decides which are sampled, so rows that
# are added or dropped change the others' numbers.
# So make it astype(float) first, or set pandas_analyze_sample above the number of rows.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 numpy==2.4.6 pandas==3.1.1
"$dir/venv/bin/python" - <<'PY'
from decimal import Decimal

import duckdb
import pandas as pd

con = duckdb.connect()


def read(values):
    prices = pd.DataFrame({"price": pd.Series(values, dtype=object)})     # noqa: F841, the query finds it by name
    return con.sql("SELECT any_value(typeof(price)), sum(price), max(price) FROM prices").fetchall()[0]


seen = {}
for rows in (1000, 2000, 3000):
    values = [1, 2.7] * (rows // 2)
    seen[rows] = read(values)
    print(f"{rows} rows, 1 and 2.7 by turns: {seen[rows][0]}, sum {seen[rows][1]:.1f} (Python {sum(values):.1f})")
assert seen[2000] == ("INTEGER", 4000, 3)
assert seen[1000][0] == seen[3000][0] == "DOUBLE" and abs(seen[3000][1] - 5550) < 1e-6
kind, _, greatest = read([Decimal("1.5")] * 3001 + [Decimal("2.25")])
print(f"Decimals 1.5 and one 2.25: {kind}, the greatest is {greatest}")
assert kind == "DECIMAL(2,1)" and greatest == Decimal("2.3")
con.execute("SET GLOBAL pandas_analyze_sample = 1000000")
kind, total, _ = read([1, 2.7] * 1000)
print(f"all rows in the sample: {kind}, sum {total:.1f}")
assert kind == "DOUBLE" and abs(total - 3700) < 1e-6
PY
