#!/usr/bin/env bash
# Captum 0.9.0 (PyTorch 2.13.0): DeepLift through max pooling whose windows overlap, kernel_size=3 with stride 2.
#
# Guess: attributions add up to the difference of the outputs, f(x) - f(baseline), as DeepLift defines them and as its
# documentation says of the convergence delta; nn.MaxPool2d is in the list of what it has a rule for, whatever its windows are.
# Seen: so it is of windows that do not overlap. A number that is the greatest of two windows should get both windows' parts, and
# gets that of one: the rule puts parts back with max_unpool, which writes where it should add. In the line of numbers below 9 is
# passed on by two windows and adds 18 to the output, and is attributed 9; of pictures more than half of the difference
# is missing. Only return_convergence_delta=True shows it; nothing warns.
# Whoever explains a network with such pooling looks at the delta, and takes IntegratedGradients, which has none of it.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check captum==0.9.0 torch==2.13.0
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch
from captum.attr import DeepLift, IntegratedGradients
from torch import nn

torch.set_default_dtype(torch.float64)
line = torch.tensor([[[0.0, 0, 9, 0, 0, 0, 1, 0]]])
model = nn.Sequential(nn.MaxPool1d(4, 2), nn.Flatten(), nn.Linear(3, 1, bias=False))
nn.init.ones_(model[2].weight)                                  # the sum of the three windows' greatest numbers: 9 + 9 + 1
found = DeepLift(model).attribute(line, torch.zeros_like(line)).detach().flatten().tolist()
print(f"a line of numbers: output {model(line).item()}, attributions {found}, their sum {sum(found)}")
assert model(line).item() == 19 and sum(found) == 10

torch.manual_seed(0)
pictures = torch.randn(4, 3, 12, 12)
zeros = torch.zeros_like(pictures)
for kernel, stride in ((2, 2), (3, 3), (3, 2), (3, 1)):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(kernel, stride), nn.Flatten(), nn.LazyLinear(1)).eval()
    with torch.no_grad():
        change = (model(pictures) - model(zeros))[:, 0]
    missing = {}
    for name, method, settings in (("DeepLift", DeepLift, {}), ("IntegratedGradients", IntegratedGradients, {"n_steps": 2000})):
        parts = method(model).attribute(pictures, zeros, **settings).detach().sum((1, 2, 3))
        missing[name] = ((parts - change).abs().max() / change.abs().max()).item()
    print(f"windows of {kernel}, stride {stride}: share of the difference that is missing:",
          ", ".join(f"{name} {share:.1e}" for name, share in missing.items()))
    assert missing["IntegratedGradients"] < 0.01
    assert missing["DeepLift"] > 0.1 if stride < kernel else missing["DeepLift"] < 1e-9
PY
