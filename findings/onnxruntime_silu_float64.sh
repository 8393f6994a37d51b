#!/usr/bin/env bash
# ONNX Runtime 1.30.0: x * Sigmoid(x), which is SiLU or swish, of float64 numbers (onnx 1.23.2 makes the model).
#
# Guess: a model of operators that have float64 kernels, each of which runs alone, runs as a whole.
# Seen: no session is made: NOT_IMPLEMENTED, no kernel for QuickGelu, an operator that the model does not have.
# Optimizations, which are on by default, take the pair for one of the runtime's own, which computes in float32 alone. Without
# them, or written as x / (1 + exp(-x)), it runs. 1.31.1 leaves float64 alone.
# Whoever exports SiLU in float64 writes the quotient; that a file's operators have kernels does not say that it runs.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.30.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

x = np.linspace(-3, 3, 8).reshape(2, 4)
product = [("Sigmoid", ["x"], "s"), ("Mul", ["x", "s"], "y")]
quotient = [("Neg", ["x"], "n"), ("Exp", ["n"], "e"), ("Add", ["e", "one"], "d"), ("Div", ["x", "d"], "y")]


def run(nodes, optimized=True):
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes], "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, x.shape)], [numpy_helper.from_array(np.array(1.0), "one")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


wanted = x / (1 + np.exp(-x))
for name, got in (("product, not optimized", run(product, False)), ("quotient", run(quotient))):
    print(f"{name}: farthest from NumPy {np.abs(got - wanted).max():.1e}")
    assert np.abs(got - wanted).max() < 1e-15
try:
    run(product)
except Exception as e:
    print("product, optimized:", str(e)[:110])
    assert "NOT_IMPLEMENTED" in str(e) and "QuickGelu" in str(e)
else:
    raise SystemExit("the product runs in float64 now")
PY
