#!/usr/bin/env bash
# npyjs 1.2.0 (Node 20, NumPy 2.4.6): .npy files that it writes of a plain array of numbers.
#
# What one would expect (no guess was written before the run): dump([...]), whose "dtype is inferred", writes JavaScript's
# numbers, which are float64, as float64, as np.save does of a list.
# Seen: numbers of which one has a fraction are written as float32 unless they are larger than 3.4e38. Seconds since 1970 with a
# fraction come back up to a minute off, 0.1 is 0.10000000149, and what is whole in [16777217, 0.5] is another number. Nothing warns.
# Numbers are to be given as Float64Array, or with {dtype: "f8"}.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init --yes > /dev/null
npm install --silent --no-audit --no-fund npyjs@1.2.0
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numpy==2.4.6
cat > run.mjs <<'JS'
import {writeFileSync} from "fs";
import {dump} from "npyjs";

const times = [1764600000.25, 1764600000.5, 1764600000.75];
writeFileSync("times.npy", Buffer.from(dump(times)));
writeFileSync("mixed.npy", Buffer.from(dump([16777217, 0.5])));
writeFileSync("typed.npy", Buffer.from(dump(new Float64Array(times))));
writeFileSync("asked.npy", Buffer.from(dump(times, undefined, {dtype: "f8"})));
JS
node run.mjs
venv/bin/python - <<'PY'
import numpy as np

times = [1764600000.25, 1764600000.5, 1764600000.75]
written = np.load("times.npy")
print("times written:", times, "\nthe file has: ", written.dtype, written.astype(np.float64).tolist(), "and of [16777217, 0.5]",
      np.load("mixed.npy").astype(np.float64).tolist())
assert written.dtype == np.float32 and 1 < np.abs(written.astype(np.float64) - times).max() <= 64, "that changed"
assert np.load("mixed.npy")[0] == 16777216
for name in ("typed", "asked"):
    assert np.array_equal(np.load(f"{name}.npy"), times)
PY
