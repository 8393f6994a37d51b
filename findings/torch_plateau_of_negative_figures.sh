#!/usr/bin/env bash
# PyTorch 2.13.0: lr_scheduler.ReduceLROnPlateau with its defaults, of a figure below zero: a log-likelihood of densities, an ELBO.
#
# Guess: ten epochs without a lower loss, and the rate is cut, whatever number the loss is; adding a constant to it changes nothing.
# Seen: of a loss of -10 that does not change at all, the rate is never cut, and neither where it gets worse with each epoch by less
# than a ten-thousandth. An epoch counts as better where it is below best * (1 - 1e-4), and of a negative best that is above it:
# -10 is below -9.999. What counts as best rises with the loss. mode="max" has the same: -10 is above -10.001. Of the loss plus 20
# the rate is cut as it should be, and so it is with threshold_mode="abs".
# Whoever trains on negative log-likelihoods of numbers says threshold_mode="abs".
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import torch


def cuts(losses, mode="min", **options):
    """How often the rate is cut by half."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=10, **options)
    for loss in losses:
        scheduler.step(loss)
    return round(-np.log2(optimizer.param_groups[0]["lr"]))


def by_hand(losses, mode="min"):
    """The same, where better is better by more than a ten-thousandth of the magnitude."""
    best, since, count = np.inf, 0, 0
    for loss in losses if mode == "min" else [-loss for loss in losses]:
        better = loss < best - 1e-4 * abs(best) if np.isfinite(best) else True
        best, since = (loss, 0) if better else (best, since + 1)
        if since > 10:
            count, since = count + 1, 0
    return count


still, worse = [-10.0] * 100, list(np.linspace(-10.0, -9.95, 100))
for name, losses, mode in (("-10, for 100 epochs", still, "min"), ("-10 rising to -9.95", worse, "min"),
                           ("-10, mode='max'", still, "max")):
    shifted = [loss + 20 for loss in losses]
    found = cuts(losses, mode), cuts(shifted, mode), cuts(losses, mode, threshold_mode="abs"), by_hand(losses, mode)
    print(f"{name:20s} cuts: {found[0]}; of the loss plus 20: {found[1]}; with threshold_mode='abs': {found[2]}; by hand: "
          f"{found[3]}")
    assert found[0] == 0 and found[1] == found[2] == found[3] == 9
PY
