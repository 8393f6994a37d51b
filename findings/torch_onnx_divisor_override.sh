#!/usr/bin/env bash
# PyTorch 2.13.0, its exporters to ONNX (torch.onnx.export, dynamo=True, which is the default, and False): average pooling with
# divisor_override (onnxscript 0.7.2, onnx 1.23.2, ONNX Runtime 1.32.0).
#
# Guess: what an operator has no attribute for is refused by the exporter, or written with other operators: here a Mul behind.
# Seen: AvgPool2d(2, divisor_override=1), which is the sum of each window, is exported as AveragePool alone, by both exporters:
# the mean, a quarter of PyTorch's numbers, of the right shape and without a warning.
# Whoever pools by sums writes AvgPool2d without it, times the number of pixels, which is exported as it is.
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

x = torch.arange(16.0).reshape(1, 1, 4, 4)
pools = {f"divisor_override={divisor}": torch.nn.AvgPool2d(2, divisor_override=divisor) for divisor in (None, 1, 8)}


class Sums(torch.nn.Module):
    def forward(self, x):
        return 4 * torch.nn.functional.avg_pool2d(x, 2)


for name, pool in {**pools, "4 times the mean": Sums()}.items():
    for dynamo in (True, False):
        torch.onnx.export(pool.eval(), (x,), "a.onnx", dynamo=dynamo, verbose=False)
        written = [node.op_type for node in onnx.load("a.onnx").graph.node if node.op_type != "Constant"]
        session = ort.InferenceSession("a.onnx", providers=["CPUExecutionProvider"])
        want, got = pool(x).numpy(), session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        print(f"{name}, dynamo={dynamo}: {written}, PyTorch {want.ravel().tolist()}, the file {got.ravel().tolist()}")
        assert np.allclose(got, want * (getattr(pool, "divisor_override", 4) or 4) / 4)
        assert written == (["AveragePool", "Mul"] if isinstance(pool, Sums) else ["AveragePool"])
PY
