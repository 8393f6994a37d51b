#!/usr/bin/env bash
# Thinc 9.1.1 (PyTorch 2.14.1, NumPy 2.4.6): its RAdam beside the paper's formula and PyTorch's.
#
# What one would expect (no guess was written before the run): the formula of Liu et al. (2020): while the average is over few
# steps, t = 1 to 5 for beta2=0.999, a step is the bias-corrected momentum times the rate, m / (1 - beta1^t).
# Seen: an update is counted twice before it is used, by the optimizer and by the formula, so that the first is taken for step 2,
# and so on. The first step is beta1's correction short: 0.1 g / (1 - 0.9^2), 53 % of the rate times the gradient; ten steps with
# one gradient go 60 % as far. lr_scale, which the call has for a parameter's own rate, has no effect; of Adam it does.
# Weights moved from a training with Thinc to PyTorch's, or back, go on with other steps.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check thinc==9.1.1 torch==2.14.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import torch
from thinc.api import Adam, RAdam

B1, B2, EPS, RATE = 0.9, 0.999, 1e-8, 0.01


def paper(gradients, first=1):
    """Algorithm 2 in float64, whose step t is counted from `first`."""
    w, m, v, most, path = np.ones(3), np.zeros(3), np.zeros(3), 2 / (1 - B2) - 1, []
    for t, g in enumerate(gradients, first):
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        length = most - 2 * t * B2**t / (1 - B2**t)
        if length >= 5:
            scale = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
            scale = scale * np.sqrt(1 - B2**t) / (np.sqrt(v) + EPS)
        else:
            scale = 1.0
        w = w - RATE * scale * m / (1 - B1**t)
        path.append(w)
    return np.array(path)


def thinc(optimizer, gradients, **options):
    w, path = np.ones(3, np.float32), []
    for g in gradients:
        w, _ = optimizer((0, "W"), w, g.astype(np.float32), **options)
        optimizer.step_schedules()
        path.append(np.array(w, np.float64))
    return np.array(path)


def pytorch(gradients):
    w, path = torch.nn.Parameter(torch.ones(3, dtype=torch.float64)), []
    optimizer = torch.optim.RAdam([w], lr=RATE, betas=(B1, B2), eps=EPS)
    for g in gradients:
        w.grad = torch.tensor(g)
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def radam():
    return RAdam(RATE, beta1=B1, beta2=B2, eps=EPS, L2=0.0, grad_clip=0.0)


gradients = np.random.default_rng(0).normal(size=(20, 3))
seen = thinc(radam(), gradients)
off, shifted = np.abs(seen - paper(gradients)), np.abs(seen - paper(gradients, first=2))
print(f"20 steps: farthest from the formula {off.max():.1e}, from one whose first step is t = 2 {shifted.max():.1e}; "
      f"PyTorch from the formula {np.abs(pytorch(gradients) - paper(gradients)).max():.1e}")
assert shifted.max() < 1e-6 and off.max() > 1e-3, "that changed"
assert np.abs(pytorch(gradients)[:5] - paper(gradients)[:5]).max() < 1e-12
first = (1 - seen[0]) / RATE / gradients[0]
print("the first step, in rates times gradients:", first.round(4), ", PyTorch:",
      ((1 - pytorch(gradients)[0]) / RATE / gradients[0]).round(4))
assert np.allclose(first, 0.1 / (1 - B1**2), atol=1e-4)
same = np.ones((10, 3))
gone = (1 - thinc(radam(), same)[-1, 0]) / (1 - paper(same)[-1, 0])
print(f"ten steps with one gradient go {gone:.3f} as far")
for make, moved in ((radam, False), (lambda: Adam(RATE, L2=0.0, grad_clip=0.0), True)):
    ratio = (1 - thinc(make(), gradients[:1], lr_scale=0.1)[0]) / (1 - thinc(make(), gradients[:1])[0])
    print(f"lr_scale=0.1 of {'Adam' if moved else 'RAdam'}: a step {ratio[0]:.2f} as long")
    assert np.allclose(ratio, 0.1 if moved else 1.0, rtol=1e-2), "that changed"
PY
