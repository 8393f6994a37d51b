#!/usr/bin/env bash
# torchmetrics 1.9.0 (PyTorch 2.14.1, NumPy 2.4.6): MeanMetric(nan_strategy=0.0), which is to take a number for each NaN, of
# losses with weights.
#
# What one would expect (no guess about a number for NaN was written before the run): the metric reads its arguments, and a
# missing loss counts as 0 with the weight that it has: 1 and 6 with the weights 4 and 1, beside a NaN of weight 3, have the
# mean 10/8.
# Seen: the number is written into the caller's own tensors. The losses have no NaN afterwards, nor has a NumPy array that they
# share memory with, and a second metric, with "ignore", counts what was missing. The weight of each such row is overwritten as
# well, with 1, so that the mean is 10/6, and whatever uses the weights next uses those.
# Give it copies (losses.clone(), weights.clone()), and fill gaps yourself, with torch.nan_to_num, where weights matter.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import torch
from torchmetrics import MeanMetric

array = np.array([1.0, np.nan, 6.0], "float32")
losses, weights = torch.from_numpy(array), torch.tensor([4.0, 3.0, 1.0])
expected = float((torch.nan_to_num(losses) * weights).sum() / weights.sum())
ignored = MeanMetric(nan_strategy="ignore")
ignored.update(losses, weights)
before = float(ignored.compute())
filled = MeanMetric(nan_strategy=0.0)
filled.update(losses, weights)
print(f"filled with 0: mean {float(filled.compute()):.4f}, by hand {expected:.4f}")
print(f"  the losses are now {losses.tolist()}, the weights {weights.tolist()}")
again = MeanMetric(nan_strategy="ignore")
again.update(losses, weights)
print(f"NaN ignored: mean {before:.4f} before, {float(again.compute()):.4f} after; the array {array.tolist()}")
assert losses.tolist() == array.tolist() == [1.0, 0.0, 6.0] and weights.tolist() == [4.0, 1.0, 1.0]
assert expected == 1.25 and abs(float(filled.compute()) - 10 / 6) < 1e-6
assert before == 2.0 and abs(float(again.compute()) - 10 / 6) < 1e-6
PY
