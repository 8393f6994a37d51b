#!/usr/bin/env bash
# PyTorch 2.13.0: a batch all of whose labels are ignored (ignore_index), and what is left of the weights after it.
#
# Guess: nn.LinearCrossEntropyLoss, new in 2.13, is nn.CrossEntropyLoss behind a linear layer without a bias, computed in pieces;
# their losses and gradients agree to rounding for whatever labels. Of a batch of nothing but ignored labels both give NaN, loss
# and gradients alike, as 0 / 0 does.
# Seen: the loss is NaN in both. But CrossEntropyLoss's gradients are zeros, so that a step of SGD leaves every weight as it was:
# such a batch shows in the log, and does no harm. So it is with the new loss as long as options=None. With
# LinearCrossEntropyOptions(), for which it is there, that is computed in pieces, the gradients are NaN, and after one step each
# weight is NaN. For other labels all agree.
# Whoever replaces the one by the other, where a batch may be all padding, loses a training by it.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn

torch.manual_seed(0)
x, weight = torch.randn(6, 4), torch.randn(3, 4)
partly, none = torch.tensor([0, -1, 2, 1, -1, 0]), torch.full((6,), -1)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.loss = nn.Linear(4, 3, bias=False), nn.CrossEntropyLoss(ignore_index=-1)

    def forward(self, x, labels):
        return self.loss(self.linear(x), labels)


def step(loss, labels):
    with torch.no_grad():
        loss.linear.weight.copy_(weight)
    optimizer = torch.optim.SGD(loss.parameters(), 0.1)
    rows = x.clone().requires_grad_()
    value = loss(rows, labels)
    value.backward()
    optimizer.step()
    return value.item(), rows.grad, loss.linear.weight.detach()


for name, make in (("CrossEntropyLoss", Plain),
                   ("LinearCrossEntropyLoss, options=None", lambda: nn.LinearCrossEntropyLoss(4, 3, ignore_index=-1, options=None)),
                   ("LinearCrossEntropyLoss", lambda: nn.LinearCrossEntropyLoss(4, 3, ignore_index=-1,
                                                                                options=nn.LinearCrossEntropyOptions()))):
    value, by_rows, after = step(make(), partly)
    wanted = step(Plain(), partly)
    assert abs(value - wanted[0]) < 1e-6 and torch.allclose(by_rows, wanted[1], atol=1e-6)
    assert torch.allclose(after, wanted[2], atol=1e-6)
    value, by_rows, after = step(make(), none)
    print(f"{name}: all ignored: loss {value}, gradient by x all zeros: {bool((by_rows == 0).all())}, "
          f"weights as before: {torch.equal(after, weight)}, weights NaN: {bool(after.isnan().all())}")
    assert value != value
    if "=None" in name or name == "CrossEntropyLoss":
        assert (by_rows == 0).all() and torch.equal(after, weight)
    else:
        assert by_rows.isnan().all() and after.isnan().all()
PY
