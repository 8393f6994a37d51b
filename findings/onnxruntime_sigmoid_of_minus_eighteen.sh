#!/usr/bin/env bash
# ONNX Runtime 1.32.0: Sigmoid of float32 and float64 numbers well below zero (onnx 1.23.2 makes the models).
#
# Guess: it is 1 / (1 + exp(-x)) to some roundings: 2.06e-9 at -20, and above zero down to -87, where float32 has no smaller number.
# Seen: at -18 and below it is exactly 0, of float64 too where that is below -30; the numbers above are multiples of 2.98e-8, so
# at -17 it is more than twice too large. The runtime's Softmax of (0, x) and its Softplus are exact there.
# So a probability may be 0, its logarithm -inf and a log-loss infinite, where training's framework has 2e-9 and 20. PyTorch's
# exporters write LogSigmoid as Log(Sigmoid): -inf from -18 on. Whoever needs the tail takes the scores out of the model, or writes
# -Softplus(-x), or Softmax of two columns.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import checker, helper


def run(x, *kinds):
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    names = [chr(ord("a") + i) for i in range(len(kinds) + 1)]
    graph = helper.make_graph([helper.make_node(op, [a], [b]) for op, a, b in zip(kinds, names[:-1], names[1:], strict=True)], "g",
                              [helper.make_tensor_value_info("a", kind, x.shape)],
                              [helper.make_tensor_value_info(names[-1], kind, x.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"a": x})[0]


x = np.array([-10, -17, -18, -20, -50, -80], np.float32)
exact = 1 / (1 + np.exp(-x.astype(np.float64)))
y = run(x, "Sigmoid")
for row in zip(x, exact, y, strict=True):
    print("x = %3.0f: %.3g, and %.3g by Sigmoid" % row)
assert abs(y[0] / exact[0] - 1) < 1e-3 and y[1] > 2 * exact[1] and (y[2:] == 0).all()
assert run(x.astype(np.float64), "Sigmoid")[-1] == 0
with_zero = np.stack([np.zeros_like(x), x], 1)
assert np.allclose(run(with_zero, "Softmax")[:, 1], exact, rtol=1e-5, atol=0)
assert np.allclose(run(x, "Softplus"), np.log1p(np.exp(x.astype(np.float64))), rtol=1e-5, atol=0)
log = run(x, "Sigmoid", "Log")
assert np.isneginf(log[2:]).all() and np.allclose(run(-x, "Softplus", "Neg"), np.log(exact), rtol=1e-5)
print("Log(Sigmoid):", log.tolist(), "-Softplus(-x):", run(-x, "Softplus", "Neg").tolist())
PY
