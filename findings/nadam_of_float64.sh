#!/usr/bin/env bash
# PyTorch 2.13.0: torch.optim.NAdam on float64 parameters.
#
# Guess: an optimizer whose parameters are float64 agrees with Dozat's formulas to the rounding of float64, about 1e-15.
# Seen: it is off by some 4e-11 after 20 steps, as if a third of the digits were lost. The running product of the momentum
# schedule is kept in a tensor of its own, which is float32 whatever the parameters are. Keeping that one number in float32 in the
# formulas below gives PyTorch's values.
# Whoever checks a NAdam against PyTorch needs a tolerance of float32, or that detail.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import torch


def formulas(start, gradients, product_type, lr=0.002, b1=0.9, b2=0.999, eps=1e-8, decay=0.004):
    p, m, v, product = start.copy(), 0.0, 0.0, product_type(1)
    for t, g in enumerate(gradients, 1):
        mu, after = (b1 * (1 - 0.5 * 0.96 ** (k * decay)) for k in (t, t + 1))
        product = product_type(product * product_type(mu))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        scale = np.sqrt(v / (1 - b2 ** t)) + eps
        p -= lr * ((1 - mu) / (1 - float(product)) * g + after / (1 - float(product) * after) * m) / scale
    return p


rng = np.random.default_rng(0)
start, gradients = rng.normal(size=50), rng.normal(size=(20, 50))
p = torch.tensor(start, requires_grad=True)
optimizer = torch.optim.NAdam([p])
for g in gradients:
    p.grad = torch.tensor(g)
    optimizer.step()
got = p.detach().numpy()
print("parameters:", p.dtype, "momentum product:", optimizer.state[p]["mu_product"].dtype)
errors = {t.__name__: float(np.abs(got - formulas(start, gradients, t)).max()) for t in (np.float64, np.float32)}
print("farthest from the formulas, with the product in float64 and in float32:", errors)
assert optimizer.state[p]["mu_product"].dtype == torch.float32
assert errors["float64"] > 1e-11 and errors["float32"] < errors["float64"] / 10
PY
