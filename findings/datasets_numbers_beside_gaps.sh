#!/usr/bin/env bash
# Hugging Face datasets 5.2.0 (NumPy 2.4.6, PyTorch 2.13.0, pyarrow 26.0.1): a column of whole numbers with a missing value,
# read with with_format("numpy") or with_format("torch").
#
# Guess: a row's number does not depend on the rows that are read with it; the column is int64, and a batch with a missing value
# is refused, or is float64 with NaN, as with pandas.
# Seen: a batch without a missing value is int64, one with a missing value float32 with NaN. float32 has 24 bits, so 16777217 is
# 16777216 in such a batch, a time in seconds is off by up to a minute, and a difference of two times by as much. A row that is
# read alone, or in another batch, has its right number; so what a model sees of a row depends on shuffling and on the size of a
# batch, and map(batched=True) writes the changed numbers into its result. With with_format("pandas") the same batch is float64.
# Whoever has such a column says with_format("numpy", dtype="float64"), or fills the gaps first.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6 pyarrow==26.0.1 \
    torch==2.13.0 pandas==3.1.1
HF_HOME="$dir" HF_HUB_OFFLINE=1 "$dir/venv/bin/python" - <<'PY'
import datasets
import numpy as np

datasets.disable_progress_bars()
seconds = [1_700_000_001, 1_700_000_050, 1_700_000_099, None]
table = datasets.Dataset.from_dict({"seconds": seconds, "id": [16777217, 16777219, 16777221, None]})
assert table.features["seconds"].dtype == "int64"
for kind in ("numpy", "torch", "pandas"):
    rows = table.with_format(kind)
    for name in table.column_names:
        whole, gap = (np.asarray(rows[part][name]) for part in (slice(0, 2), slice(1, 4)))
        shared = int(whole[1]), int(gap[0])
        print(f"{kind:6} {name:7}: {whole.dtype} without a gap, {gap.dtype} beside one; the same row: {shared}")
        assert whole.dtype == "int64" and gap.dtype == ("float64" if kind == "pandas" else "float32") and np.isnan(gap[-1])
        assert (shared[0] == shared[1]) == (kind == "pandas")
gap = np.asarray(table.with_format("numpy")[1:4]["seconds"])
print(f"seconds between two rows: {seconds[2] - seconds[1]}, read with a gap: {float(gap[1] - gap[0]):.0f}")
assert float(gap[1] - gap[0]) != seconds[2] - seconds[1]
copied = table.with_format("numpy").map(lambda batch: {"copy": batch["id"]}, batched=True).with_format(None)
print("copied by map:", copied["copy"][:])
assert copied["copy"][:3] == [16777216.0, 16777220.0, 16777220.0] and copied["id"][:3] == [16777217, 16777219, 16777221]
assert table.with_format("numpy", dtype="float64")[:]["id"][:3].tolist() == [16777217, 16777219, 16777221]
PY
