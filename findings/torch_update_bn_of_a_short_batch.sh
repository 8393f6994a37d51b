#!/usr/bin/env bash
# PyTorch 2.13.0: torch.optim.swa_utils.update_bn, which makes batch norms' running statistics anew, of 130 rows in batches of 64.
#
# Guess: it computes the statistics of the data it is given: the mean and the variance of 130 rows, each of which counts once;
# layers other than batch norms are at rest, so that a Dropout before one passes everything through.
# Seen: it takes the plain mean over batches, so each of the two rows of the last batch counts as 32 rows of the others: one
# outlier there moves the mean 22 times as far. The variance is the mean of the batches' own, to which what lies between their
# means adds nothing: sorted rows have far too small a one. And the whole model is in training mode meanwhile, so dropout is at
# work, and two runs differ unless they have one seed.
# Whoever averages weights gives it a loader with drop_last=True and shuffle=True.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

torch.manual_seed(0)
x = torch.randn(130, 1, dtype=torch.float64)
x[-1] = 100.0                     # an outlier, in the last batch of two rows


def statistics(rows, *before):
    model = nn.Sequential(*before, nn.BatchNorm1d(1, dtype=torch.float64)).eval()
    update_bn(rows.split(64), model)
    return model[-1].running_mean.item(), model[-1].running_var.item()


mean, _ = statistics(x)
own = torch.stack([batch.mean() for batch in x.split(64)])
print(f"mean of the rows {x.mean().item():.3f}, update_bn {mean:.3f}, plain mean of the batches' means {own.mean().item():.3f}")
assert abs(mean - own.mean().item()) < 1e-9 and mean > 20 * x.mean().item()

ordered = torch.sort(torch.randn(128, 1, dtype=torch.float64), 0).values
_, variance = statistics(ordered)
print(f"variance of sorted rows {ordered.var().item():.3f}, update_bn {variance:.3f}")
assert variance < 0.5 * ordered.var().item()
assert abs(variance - torch.stack([batch.var() for batch in ordered.split(64)]).mean().item()) < 1e-9

rows = torch.ones(128, 1, dtype=torch.float64)
torch.manual_seed(1)
_, variance = statistics(rows, nn.Dropout(0.5))
print(f"variance of rows that are all 1, behind Dropout(0.5): {variance:.3f}")
assert variance > 0.8
PY
