#!/usr/bin/env bash
# torchmetrics 1.9.0 (torch 2.13.0, SciPy 1.17.1): Spearman's correlation of ratings from 1 to 5, of more and more rows.
#
# Guess: a rank correlation of a large sample agrees with SciPy's to the digits of a float32, however many ties there are.
# Seen: it does up to 100,000 rows and is wrong beyond: 0.2 instead of 0.87 at 200,000, in float64 as well. The ranks of equal
# values are added up in 32-bit integers, which overflow where n times the size of a group of ties exceeds some 2^31; a mean rank
# is negative then. Nothing warns, and without ties there is no such end.
# So rank with SciPy, or correlate a sample of the rows, where a large table has columns of few values.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 scipy==1.17.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import torch
from scipy.stats import spearmanr
from torchmetrics.regression import SpearmanCorrCoef

rng = np.random.default_rng(0)
for n in (1_000, 100_000, 200_000):
    stars = rng.integers(1, 6, n).astype(float)
    guess = stars + rng.integers(-1, 2, n)
    known = spearmanr(guess, stars)[0]
    found = []
    for dtype in (torch.float32, torch.float64):
        metric = SpearmanCorrCoef()
        metric.update(torch.tensor(guess, dtype=dtype), torch.tensor(stars, dtype=dtype))
        found.append(float(metric.compute()))
    print(f"{n:7,} rows: SciPy {known:.4f}, torchmetrics {found[0]:.4f} (float64: {found[1]:.4f})")
    off = max(abs(value - known) for value in found)
    assert off < 1e-4 if n <= 100_000 else min(abs(value - known) for value in found) > 0.1, off
some = rng.normal(size=200_000)
noisy = some + rng.normal(size=200_000)
metric = SpearmanCorrCoef()
metric.update(torch.tensor(noisy), torch.tensor(some))
print(f"200,000 rows without ties: SciPy {spearmanr(noisy, some)[0]:.4f}, torchmetrics {float(metric.compute()):.4f}")
assert abs(float(metric.compute()) - spearmanr(noisy, some)[0]) < 1e-4
PY
