#!/usr/bin/env bash
# PyTorch 2.13.0, its default exporter to ONNX (torch.onnx.export, dynamo=True): functions that are there to keep logarithms of sums
# finite (onnxscript 0.7.2, onnx 1.23.2, ONNX Runtime 1.32.0).
#
# Guess: logaddexp, logsigmoid and binary_cross_entropy_with_logits are exported in a form that is as safe, as log_softmax,
# logsumexp and softplus are: they exist for that alone, and operators for it, Softplus and ReduceLogSumExp, are there.
# Seen: each is written as its bare formula. logaddexp is Log(Add(Exp, Exp)): inf from 89 on, and -inf where both are below -104;
# logsigmoid is Log(Sigmoid), -inf at -20 already, and the cross-entropy of it is inf there. Nothing warns; at moderate numbers,
# where one compares, they agree.
# Whoever exports a model that gives log-probabilities or losses writes them by softplus, log_softmax or logsumexp.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 \
    onnxruntime==1.32.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY' 2>"$dir/log" || { cat "$dir/log"; exit 1; }
import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch.nn import functional as F


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


x = torch.tensor([[-200.0, -110.0, -20.0, 1.0, 20.0, 90.0, 200.0]])
cases = {   # and at which of these numbers the file gives an infinity
    "logaddexp(x, x - 1)": (lambda x: torch.logaddexp(x, x - 1), [0, 1, 5, 6]),
    "logsigmoid": (F.logsigmoid, [0, 1, 2]),
    "binary_cross_entropy_with_logits": (
        lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="none"), [0, 1, 2]),
    "logsumexp of both": (lambda x: torch.logsumexp(torch.stack([x, x - 1]), 0), []),
    "-softplus(-x)": (lambda x: -F.softplus(-x), []),
    "log_softmax of two": (lambda x: F.log_softmax(torch.stack([x, -x]), 0), [])}
for name, (function, infinite) in cases.items():
    module = Function(function).eval()
    torch.onnx.export(module, (x,), "a.onnx", dynamo=True, verbose=False)
    model, session = onnx.load("a.onnx"), ort.InferenceSession("a.onnx", providers=["CPUExecutionProvider"])
    want, got = module(x).numpy(), session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    print(f"{name}: {[node.op_type for node in model.graph.node]}\n  PyTorch {want[0].tolist()}\n  the file {got[0].tolist()}")
    assert np.isfinite(want).all() and np.flatnonzero(np.isinf(got)).tolist() == infinite, name
    finite = np.isfinite(got)
    assert np.allclose(got[finite], want[finite], rtol=1e-3, atol=1e-6)
PY
