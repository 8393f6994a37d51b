#!/usr/bin/env bash
# onnxslim 0.1.98: a file simplified that has a convolution and behind it Mul by a number for each column or row of the picture
# (onnx 1.23.2 makes the models, ONNX Runtime 1.32.0 runs them).
#
# Guess: a factor for each channel, (C, 1, 1), is merged into the convolution's weights; one for each column, (W,), or row, (H, 1),
# cannot be, and stays a Mul.
# Seen: it is merged as well wherever there are as many columns, or rows, as channels: column k's factor becomes channel k's. The
# file has the same shapes, runs, and gives other numbers, without a warning. With one channel more it is right; so is Add of the
# same constant, where the tool looks at the axis.
# 64 bands of sound behind a convolution of 64 channels, scaled each, is such a model. Whoever simplifies a file compares its
# outputs with those before, and passes skip_fusion_patterns=["FusionConvMul"], which leaves each Mul.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxslim==0.1.98 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
import onnxslim
from onnx import TensorProto, checker, helper, numpy_helper

rng = np.random.default_rng(0)


def run(model, x):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def errors(kind, shape, channels, size, **options):
    """The greatest difference to NumPy in float64, of the file as it is and simplified, and the latter's operators."""
    weight, factor = rng.normal(size=(channels, 3, 1, 1)), np.arange(1, np.prod(shape) + 1).reshape(shape)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["c"]), helper.make_node(kind, ["c", "factor"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", channels, size, size])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in (("weight", weight), ("factor", factor))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    slim, x = onnxslim.slim(model, **options), rng.normal(size=(2, 3, size, size)).astype(np.float32)
    conv = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0].astype(np.float32).astype(np.float64), x)
    wanted = conv * factor if kind == "Mul" else conv + factor
    return np.abs(run(model, x) - wanted).max(), np.abs(run(slim, x) - wanted).max(), [n.op_type for n in slim.graph.node]


for what, kind, shape, channels, right in (
        ("channel", "Mul", (4, 1, 1), 4, True), ("column", "Mul", (4,), 4, False), ("row", "Mul", (4, 1), 4, False),
        ("column", "Mul", (4,), 5, True), ("column", "Add", (4,), 4, True)):
    before, after, left = errors(kind, shape, channels, 4)
    print(f"{kind} for each {what} {shape} behind {channels} channels: error {before:.1e}, simplified {after:.1e}; {left}")
    assert before < 1e-4 and (after < 1e-4 if right else after > 1), "that changed"
assert errors("Mul", (4,), 4, 4, skip_fusion_patterns=["FusionConvMul"])[1] < 1e-4
PY
