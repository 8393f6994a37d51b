#!/usr/bin/env bash
# ONNX Runtime 1.31.1: a product of float64 matrices, one of them multiplied by a number before (onnx 1.23.2 makes the model).
#
# Guess: in float64 a model's outputs agree with NumPy's to the rounding of float64, about 1e-16, with all optimizations, which
# are the default.
# Seen: 1.5e-9. The runtime merges Mul and MatMul into an operator of its own, whose factor is an attribute, and those are
# float32: 0.1 becomes 0.100000001490116. Without optimizations the result is right, and so it is where the factor is written as a
# vector of equal numbers. 1.25.1 and 1.32.0 leave float64 alone; 1.26.0 to 1.31.1 do not.
# Attention begins with such a product: whoever exports it in float64 scales by a vector.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

rng = np.random.default_rng(0)
a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))


def error(factor, optimized):
    graph = helper.make_graph(
        [helper.make_node("Mul", ["a", "factor"], ["scaled"]), helper.make_node("MatMul", ["scaled", "b"], ["y"])], "g",
        [helper.make_tensor_value_info(n, TensorProto.DOUBLE, v.shape) for n, v in (("a", a), ("b", b))],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, (2, 4))], [numpy_helper.from_array(factor, "factor")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return float(np.abs(session.run(None, {"a": a, "b": b})[0] - (a * 0.1) @ b).max())


number, plain, vector = (error(np.array(0.1), True), error(np.array(0.1), False), error(np.full(3, 0.1), True))
print(f"farthest from NumPy: {number:.1e}; without optimizations {plain:.1e}; with a vector {vector:.1e}")
assert plain < 1e-15 and vector < 1e-15, "float64 is float64 where nothing is merged"
assert 1e-10 < number < 1e-8, "the factor's float32 digits"
PY
