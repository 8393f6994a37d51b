#!/usr/bin/env bash
# PyTorch 2.14.1, its default exporter to ONNX (torch.onnx.export, dynamo=True): x.squeeze(1) where axis 1 has another size than 1
# (onnxscript 0.7.2, onnx 1.23.2, ONNX Runtime 1.32.0).
#
# Guess: the file computes what the module does, which is nothing: squeeze of an axis that is not of size 1 returns x, as its
# documentation says.
# Seen: the export succeeds, and the file has a Squeeze of that axis, which ONNX allows for axes of size 1 alone: ONNX Runtime
# makes no session of it. The older exporter (dynamo=False) writes a file without a Squeeze, which runs.
# Whoever has a squeeze that is sometimes without effect, of the output of a network with one output or several, exports it behind
# an `if` of the size, or uses reshape.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnxscript==0.7.2 onnx==1.23.2 \
    onnxruntime==1.32.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY' 2>"$dir/log" || { cat "$dir/log"; exit 1; }
import onnx
import onnxruntime as ort
import torch


class Squeezed(torch.nn.Module):
    def forward(self, x):
        return x.squeeze(1)


x = torch.randn(4, 7)
print("PyTorch:", tuple(x.shape), "->", tuple(Squeezed()(x).shape))
assert Squeezed()(x).shape == (4, 7)
for dynamo in (False, True):
    torch.onnx.export(Squeezed(), (x,), "a.onnx", dynamo=dynamo, verbose=False)
    model = onnx.load("a.onnx")
    written = [node.op_type for node in model.graph.node]
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = ort.InferenceSession("a.onnx", settings, providers=["CPUExecutionProvider"])
        y = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        print(f"dynamo={dynamo}: {written}, {y.shape}")
        if dynamo:
            raise SystemExit("the default exporter's file runs now")
        assert y.shape == (4, 7) and "Squeeze" not in written
    except Exception as e:
        print(f"dynamo={dynamo}: {written}, {str(e)[-90:]}")
        assert dynamo and written == ["Squeeze"] and "Dimension of input 1 must be 1 instead of 7" in str(e)
PY
