#!/usr/bin/env bash
# OpenVINO 2026.4.1, its CPU device: attention of several heads whose queries are multiplied by a vector, a number for each of their
# columns, as norms of queries and learned scales are written (onnx 1.23.2 makes the models).
#
# Guess: softmax(q k') v comes out to rounding for every number of steps and heads, as each is tried on its own.
# Seen: where there are as many steps as heads, 8 and 8, the result is some other numbers of the right shape, off by as much as they
# are large, if the file says the sizes; nothing warns. With one head less, with the batch's size left open, with the same number
# for all columns written as a scalar, or without the Transpose that puts heads beside one another again, it is right.
# So a model that was tested with other lengths is wrong for one of them. Whoever scales queries by a vector multiplies the keys
# instead, or leaves the batch's size open, and tries the number of steps that equals that of heads.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import openvino as ov
from onnx import TensorProto, checker, helper, numpy_helper

B, D = 2, 16
rng, core = np.random.default_rng(0), ov.Core()


def error(T, H, scale, batch=B, last=True, keys=False):
    """The greatest difference to NumPy in float64, of T steps of H heads; scale: of the queries, or of the keys."""
    x = {name: rng.normal(size=(B, T, H, D)).astype(np.float32) for name in "qkv"}
    nodes = [helper.make_node("Transpose", [name], [f"{name} heads"], perm=[0, 2, 1, 3]) for name in "qkv"]
    nodes += [helper.make_node("Mul", ["k heads" if keys else "q heads", "scale"], ["scaled"]),
              helper.make_node("Transpose", ["scaled" if keys else "k heads"], ["turned"], perm=[0, 1, 3, 2]),
              helper.make_node("MatMul", ["q heads" if keys else "scaled", "turned"], ["scores"]),
              helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
              helper.make_node("MatMul", ["weights", "v heads"], ["seen"]),
              helper.make_node("Transpose", ["seen"], ["y"], perm=[0, 2, 1, 3]) if last else
              helper.make_node("Identity", ["seen"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, T, H, D]) for name in "qkv"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, *((T, H) if last else (H, T)), D])],
        [numpy_helper.from_array(np.asarray(scale, np.float32), "scale")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    q, k, v = (x[name].astype(np.float64).transpose(0, 2, 1, 3) for name in "qkv")
    scores = np.float32(scale) * q @ k.transpose(0, 1, 3, 2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    wanted = weights / weights.sum(-1, keepdims=True) @ v
    wanted = wanted.transpose(0, 2, 1, 3) if last else wanted
    y = compiled(x)[compiled.outputs[0]]
    assert y.shape == wanted.shape
    return np.abs(y - wanted).max()


vector = np.full(D, D ** -0.5)
for what, wrong, case in (
        ("8 steps, 8 heads", True, (8, 8, vector)), ("3 steps, 3 heads", True, (3, 3, vector)),
        ("a vector of several numbers", True, (8, 8, np.linspace(0.1, 0.5, D))), ("8 steps, 7 heads", False, (8, 7, vector)),
        ("7 steps, 8 heads", False, (7, 8, vector)), ("a scalar", False, (8, 8, D ** -0.5)),
        ("size of the batch open", False, (8, 8, vector, "batch")), ("without the last Transpose", False, (8, 8, vector, B, False)),
        ("the vector at the keys", False, (8, 8, vector, B, True, True))):
    off = error(*case)
    print(f"{what}: farthest from NumPy {off:.1e}")
    assert (off > 0.5) == wrong and (wrong or off < 1e-5), "that changed"
PY
