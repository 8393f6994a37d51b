#!/usr/bin/env bash
# OpenVINO 2026.4.1, its CPU device: MatMul, and behind it Add of a number for each channel, in a file that leaves the batch's size
# open (onnx 1.23.2 makes the models).
#
# Guess: x (batch, C, H, K) times a matrix (K, N), plus a constant (C, 1, 1), is what the broadcasting of ONNX and NumPy says: a
# number is added to all of a channel.
# Seen: the numbers are added along the last axis, one to each column. Where N is another size than C, the file is not compiled
# ("data size: 3 OC: 2"); where both are the same, it runs, and the results are wrong, without a warning. Mul of such a constant is
# right, and so is all with the batch's size in the file.
# Whoever has products of images, or of heads with a bias each, gives the batch a size first, model.reshape([2, 3, 4, 5]), and then
# compiles.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import openvino as ov
from onnx import TensorProto, checker, helper, numpy_helper

B, C, H, K = 2, 3, 4, 5
rng, core = np.random.default_rng(0), ov.Core()
x, channels = rng.normal(size=(B, C, H, K)).astype(np.float32), np.array([0, 10, 20], np.float32).reshape(C, 1, 1)


def error(N, kind, batch):
    """The greatest difference to NumPy in float64, and that to a sum along the columns."""
    weight = rng.normal(size=(K, N)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["product"]), helper.make_node(kind, ["product", "channels"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, C, H, K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, C, H, N])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(channels, "channels")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    y, product = compiled([x])[compiled.outputs[0]], x.astype(np.float64) @ weight
    wanted = product + channels if kind == "Add" else product * channels
    return np.abs(y - wanted).max(), np.abs(y - product - channels.ravel()).max() if N == C else np.nan


for kind, N, batch in (("Add", C, "batch"), ("Add", C, B), ("Add", 2, B), ("Mul", C, "batch"), ("Mul", 2, "batch")):
    off, by_columns = error(N, kind, batch)
    print(f"{kind}, {C} channels of {N} columns, batch {batch}: farthest from NumPy {off:.1e}, "
          f"from a sum along the columns {by_columns:.1e}")
    if (kind, N, batch) == ("Add", C, "batch"):
        assert off > 19 and by_columns < 1e-5, "the sum is right now"
    else:
        assert off < 1e-4
try:
    error(2, "Add", "batch")
except RuntimeError as e:
    print(f"Add, {C} channels of 2 columns, batch open:", " ".join(str(e).split())[-70:])
    assert "data size: 3 OC: 2" in str(e)
else:
    raise SystemExit("it is compiled now")
PY
