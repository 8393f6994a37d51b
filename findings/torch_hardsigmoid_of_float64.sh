#!/usr/bin/env bash
# PyTorch 2.13.0, CPU: the gradient of torch.nn.functional.hardsigmoid in float64.
#
# Guess: between -3 and 3 it is 1/6 with the digits of float64, as relu6(x + 3) / 6 has it, which is the definition in its
# documentation.
# Seen: 0.1666666716337204, the 1/6 of float32: 3e-8 too large relative to what it should be, in scalar and vectorised code alike.
# The output has all digits of float64, and so has the gradient of hardswish. torch.autograd.gradcheck does not notice: its rtol is
# 1e-3.
# Whoever compares gradients in float64 to 1e-9 sees a network with one such activation off by 1e-8, and looks for it elsewhere.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import torch
from torch.nn import functional as F

for n in (1, 33):       # one by one, and by vectors
    x = torch.full((n,), 0.7, dtype=torch.float64, requires_grad=True)
    slopes = {}
    for name, f in (("hardsigmoid", F.hardsigmoid), ("relu6(x + 3) / 6", lambda x: F.relu6(x + 3) / 6)):
        y = f(x)
        assert abs(y[0].item() - 3.7 / 6) < 1e-15
        slopes[name] = torch.autograd.grad(y.sum(), x)[0]
        print(f"{n} elements, {name}: y {y[0].item()!r}, dy/dx {slopes[name][0].item()!r}")
    assert (slopes["hardsigmoid"] == float(np.float32(1) / np.float32(6))).all(), "the gradient has other digits now"
    assert (slopes["relu6(x + 3) / 6"] == 1 / 6).all()
slope = torch.autograd.grad(F.hardswish(x).sum(), x)[0][0].item()
print("hardswish:", slope)
assert abs(slope - (0.7 / 3 + 0.5)) < 1e-15
assert torch.autograd.gradcheck(F.hardsigmoid, x)
PY
