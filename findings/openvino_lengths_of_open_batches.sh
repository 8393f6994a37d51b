#!/usr/bin/env bash
# OpenVINO 2026.4.1, its CPU device: RNN, GRU and LSTM of ONNX with sequence_lens, in a file that leaves the batch's size open
# (onnx 1.23.2 makes the models).
#
# Guess: each sequence of a batch ends after its own length: Y is zero behind it, and Y_h is the state at its last step.
# Seen: with the batch's size in the file that is so. Where it is open, as exporters write it, the lengths are ignored: every
# sequence is read to the end of the batch, padding and all, forwards and backwards, without a warning. Full sequences, with which
# one tries a file, are right.
# Whoever has sequences of unequal lengths gives the batch a size first, model.reshape({"x": [4, 3, 5], "lengths": [3]}), and then
# compiles; it helps.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import openvino as ov
from onnx import TensorProto, checker, helper, numpy_helper

T, B, I, H = 4, 3, 5, 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
rng, core = np.random.default_rng(0), ov.Core()
x, lengths = rng.normal(size=(T, B, I)).astype(np.float32), np.array([1, 4, 2], np.int32)


def model(kind, batch):
    weights = {"W": rng.normal(size=(1, GATES[kind] * H, I)), "R": rng.normal(size=(1, GATES[kind] * H, H))}
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "W", "R", "", "lengths"], ["Y", "Y_h"], hidden_size=H)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [T, batch, I]),
         helper.make_tensor_value_info("lengths", TensorProto.INT32, [batch])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [T, 1, batch, H]),
         helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, [1, batch, H])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(made, full_check=True)
    return core.read_model(made.SerializeToString()), weights


def run(read, lengths):
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled({"x": x, "lengths": lengths})
    return [result[output] for output in compiled.outputs]


def by_hand(weights, lengths):
    """Of RNN, as its documentation has it, in float64: h = tanh(W x + R h)."""
    last = np.zeros((B, H))
    for b in range(B):
        for t in range(lengths[b]):
            last[b] = np.tanh(weights["W"][0] @ x[t, b] + weights["R"][0] @ last[b])
    return last


read, weights = model("RNN", "batch")
whole = np.full(B, T, np.int32)
print("RNN, Y_h of lengths 1, 4, 2, in NumPy:\n", by_hand(weights, lengths).round(4))
print("OpenVINO, size of the batch open:\n", run(read, lengths)[1][0].round(4))
assert np.abs(run(read, whole)[1][0] - by_hand(weights, whole)).max() < 1e-6
assert np.abs(run(read, lengths)[1][0] - by_hand(weights, whole)).max() < 1e-6, "lengths are no longer ignored"
assert np.abs(run(read, lengths)[1][0] - by_hand(weights, lengths)).max() > 0.1
read.reshape({"x": [T, B, I], "lengths": [B]})
print("OpenVINO, given a size:\n", run(read, lengths)[1][0].round(4))
assert np.abs(run(read, lengths)[1][0] - by_hand(weights, lengths)).max() < 1e-6
for kind in GATES:
    behind = {}
    for batch in ("batch", B):
        y = run(model(kind, batch)[0], lengths)[0][:, 0]
        behind[batch] = max(float(np.abs(y[n:, b]).max()) for b, n in enumerate(lengths) if n < T)
    print(f"{kind}: greatest number behind a sequence's end, size open: {behind['batch']:.3f}, size in the file: {behind[B]:.3f}")
    assert behind["batch"] > 0.01 and behind[B] == 0
PY
