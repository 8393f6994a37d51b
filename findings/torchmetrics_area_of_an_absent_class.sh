#!/usr/bin/env bash
# torchmetrics 1.9.0 (torch 2.13.0): areas under curves, averaged over classes, one of which no target is of.
#
# Guess: a class without a target has no area; all metrics of the family leave it out of the mean, or all return NaN.
# Seen: multiclass_auroc takes the area of that class for 0 and counts it, so a classifier whose classes have areas of 0.91 and 0.90
# scores 0.60; the warning speaks of a curve, not of the mean. multiclass_average_precision of the same arrays has NaN for that class
# and leaves it out. average="weighted" agrees with the guess in both, since the class weighs nothing.
# So of a rare class, or of a part of a data set, take "weighted", or average the areas of the classes that occur.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import math
import warnings

import torch
from torchmetrics.functional.classification import multiclass_auroc, multiclass_average_precision

warnings.simplefilter("ignore")
torch.manual_seed(0)
target = torch.arange(300) % 2                      # of the classes 0, 1 and 2
scores = torch.softmax(torch.randn(300, 3) + 1.5 * torch.nn.functional.one_hot(target, 3), 1)
for name, metric in (("AUROC", multiclass_auroc), ("average precision", multiclass_average_precision)):
    each, macro, weighted = (metric(scores, target, 3, average=how) for how in (None, "macro", "weighted"))
    print(f"{name:18} classes {[round(v, 3) for v in each.tolist()]}  macro {float(macro):.3f}  weighted {float(weighted):.3f}")
    two, three = float(each[:2].mean()), float(each.mean())
    if name == "AUROC":
        assert each[2] == 0 and abs(float(macro) - three) < 1e-6 and float(macro) < 0.7 * two
    else:
        assert math.isnan(each[2]) and abs(float(macro) - two) < 1e-6
    assert abs(float(weighted) - two) < 1e-3
PY
