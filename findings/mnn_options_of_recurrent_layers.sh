#!/usr/bin/env bash
# MNN 3.6.1: RNN, GRU and LSTM of ONNX files, converted by its mnnconvert (ONNX Runtime 1.32.0 and onnx 1.23.2 beside it, NumPy
# 2.4.6).
#
# Guess: what the operators have as options is computed, or the converter refuses the file.
# Seen: it takes the files and computes the plain layer. direction="reverse" runs forward, while both halves of "bidirectional"
# are right; clip, and input_forget of LSTM, are ignored. GRU with linear_before_reset=0, which is the default (and Keras'
# reset_after=False), multiplies with the reset gate behind the product, r * (h R) instead of (r * h) R. Neither the converter nor
# the run says anything of these. It does of sequence_lens and of other activations, and ends with "Converted Success!" there too.
# Whoever has such a model compares outputs; a reversed layer can be written as the second half of one in both directions.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import subprocess
import sys

import MNN.expr as expr
import MNN.nn as nn
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

#: what the command mnnconvert calls; the command beyond that has pip install a package where there is none, and sends a report
CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"
T, B, I, H = 5, 2, 3, 4
rng = np.random.default_rng(0)
x = rng.normal(size=(T, B, I)).astype(np.float32)


def numbers(*shape):
    return rng.normal(size=shape).astype(np.float32)


WEIGHTS = {(kind, d): [numbers(d, g * H, I), numbers(d, g * H, H), numbers(d, 2 * g * H)]
           for kind, g in (("RNN", 1), ("GRU", 3), ("LSTM", 4)) for d in (1, 2)}


def both(kind, directions=1, **options):
    """Y (T, directions, B, H) as ONNX Runtime and MNN compute it."""
    named = dict(zip("WRB", WEIGHTS[kind, directions], strict=True))
    outputs = ["y", "h", "c"][:3 if kind == "LSTM" else 2]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *named], outputs, hidden_size=H, **options)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [T, directions, B, H]),
         *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [directions, B, H]) for name in outputs[1:])],
        [numpy_helper.from_array(c, name) for name, c in named.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model, full_check=True)
    with open("model.onnx", "wb") as f:
        f.write(model.SerializeToString())
    said = subprocess.run([sys.executable, "-c", CONVERT, "mnnconvert", "-f", "ONNX", "--modelFile", "model.onnx",
                           "--MNNModel", "model.mnn", "--bizCode", "x"], capture_output=True, check=True, text=True)
    standard = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert "Converted Success" in said.stdout
    assert not any(word in (said.stdout + said.stderr).lower() for word in ("warn", "not support", "error", "ignore"))
    module = nn.load_module_from_file("model.mnn", ["x"], outputs)
    return standard, np.array(module.forward([expr.const(x, list(x.shape), expr.NCHW, expr.float)])[0].read())


def far(a, b):
    return float(np.abs(a - b).max())


after = {"GRU": {"linear_before_reset": 1}}
plain = {}
for kind in ("RNN", "GRU", "LSTM"):
    standard, plain[kind] = both(kind, **after.get(kind, {}))
    two = both(kind, directions=2, direction="bidirectional", **after.get(kind, {}))
    assert far(standard, plain[kind]) < 1e-3 and far(*two) < 1e-3, "plain layers are right"
for kind, what, options in (
        ("LSTM", "input_forget=1", {"input_forget": 1}),
        *((k, "direction='reverse'", {"direction": "reverse"}) for k in plain),
        *((k, "clip=0.3", {"clip": 0.3}) for k in plain)):
    standard, got = both(kind, **({**after.get(kind, {}), **options}))
    print(f"{kind:4} {what:21}: farthest from ONNX Runtime {far(got, standard):.2f}, "
          f"from the plain layer {far(got, plain[kind]):.1e}")
    assert far(got, standard) > 0.05 and far(got, plain[kind]) < 1e-4, "that changed"


def gru(reset_first):
    """In float64: the new state's product is of (r * h), or it is multiplied by r afterwards, its bias beside it."""
    weight, recurrent, bias = (a[0].astype(np.float64) for a in WEIGHTS["GRU", 1])
    (z_w, r_w, n_w), (z_h, r_h, n_h), (z_b, r_b, n_b) = (np.split(a, 3) for a in (weight, recurrent, bias[:3 * H] + bias[3 * H:]))
    h, states = np.zeros((B, H)), []
    for step in x.astype(np.float64):
        z, r = (1 / (1 + np.exp(-(step @ w.T + h @ u.T + b))) for w, u, b in ((z_w, z_h, z_b), (r_w, r_h, r_b)))
        n = np.tanh(step @ n_w.T + ((r * h) @ n_h.T if reset_first else r * (h @ n_h.T)) + n_b)
        h = (1 - z) * n + z * h
        states.append(h)
    return np.stack(states)[:, None]


standard, got = both("GRU", linear_before_reset=0)
print(f"GRU  linear_before_reset=0: farthest from ONNX Runtime {far(got, standard):.2f}, "
      f"from r * (h R) {far(got, gru(False)):.1e}")
assert far(standard, gru(True)) < 1e-5 and far(got, gru(False)) < 1e-4 and far(got, standard) > 0.1, "that changed"
PY
