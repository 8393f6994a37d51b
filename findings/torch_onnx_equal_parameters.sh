#!/usr/bin/env bash
# PyTorch 2.13.0, both of its exporters to ONNX (torch.onnx.export), and parameters that hold equal values (onnx 1.23.2,
# onnxscript 0.7.2).
#
# Guess: each parameter of a module is an initializer of the file, under its name in the state_dict.
# Seen: parameters of equal values are one initializer, which every node reads that had one of them: of two LayerNorms that nobody
# trained, the second has the first one's weight and bias, and "2.weight" is not in the file (the older exporter makes it an
# Identity of "0.weight"). The file computes what the module does, but whoever reads initializers by name misses some, and whoever
# trains the file's parameters trains layers as one that are two in PyTorch. With optimize=False the newer exporter writes all.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY' 2>"$dir/log" || { cat "$dir/log"; exit 1; }
import onnx
import torch
from torch import nn

net = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)).eval()
names = set(net.state_dict())
for dynamo, options in ((False, {}), (True, {}), (True, {"optimize": False})):
    torch.onnx.export(net, (torch.randn(2, 8),), "a.onnx", dynamo=dynamo, verbose=False, **options)
    graph = onnx.load("a.onnx").graph
    missing = sorted(names - {i.name for i in graph.initializer})
    copies = sorted(tuple((*n.input, *n.output)) for n in graph.node if n.op_type == "Identity")
    print(f"dynamo={dynamo}, {options}: not in the file {missing}; Identity {copies}")
    assert missing == ([] if options else ["2.bias", "2.weight"]), "the file has other initializers now"
    assert copies == ([] if dynamo else [("0.bias", "2.bias"), ("0.weight", "2.weight")])
with torch.no_grad():
    net[2].weight[0] += 1       # once they differ, both are there
torch.onnx.export(net, (torch.randn(2, 8),), "a.onnx", dynamo=True, verbose=False)
assert "2.weight" in {i.name for i in onnx.load("a.onnx").graph.initializer}
PY
