#!/usr/bin/env bash
# ONNX Runtime 1.32.0: GroupNormalization of float32 numbers far from zero (onnx 1.23.2 makes the models).
#
# Guess: it is as exact as the runtime's InstanceNormalization and LayerNormalization, which for one group are the same function:
# numbers of mean 1000 and deviation 1 come out with an error of some 1e-4, of mean 10000 with one of 1e-3.
# Seen: its error is about 0.2 for a mean of 1000, and from 3000 on outputs are hundreds or NaN, of valid numbers. It takes the
# variance as the mean of squares less the square of the mean, in float32, where the others subtract the mean first. Some 1e-3 is
# off where the mean is 100 deviations, as of temperatures in kelvin, pressures in hectopascal or years.
# Whoever exports a group norm writes InstanceNormalization of samples reshaped to (groups, rest), and scales behind it.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

B, G, C, n = 2, 2, 6, 64        # of each group C / G n numbers


def run(kind, x, size, opset, **attributes):
    constants = [numpy_helper.from_array(f(size, np.float32), name) for f, name in ((np.ones, "scale"), (np.zeros, "bias"))]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "scale", "bias"], ["y"], epsilon=1e-5, **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].reshape(B, G, -1)


noise = np.random.default_rng(0).standard_normal((B, C, n))
for mean in (1, 100, 1000, 3000, 10000):
    x = (noise + mean).astype(np.float32)
    exact = x.astype(np.float64).reshape(B, G, -1)
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    found = {"GroupNormalization": run("GroupNormalization", x, C, 21, num_groups=G),
             "InstanceNormalization": run("InstanceNormalization", x.reshape(B, G, -1), G, 21),
             "LayerNormalization": run("LayerNormalization", x.reshape(B, G, -1), x.size // B // G, 21)}
    error = {name: float(np.abs(y - exact).max()) for name, y in found.items()}
    print(f"mean {mean:5}:", *(f"{name} {e:.1e}" for name, e in error.items()))
    assert error["InstanceNormalization"] < 4e-6 * max(1, mean / 8) and error["LayerNormalization"] < 4e-6 * max(1, mean / 8)
    least = {1: 0, 100: 3e-4, 1000: 0.02, 3000: 0.5, 10000: 1}
    assert not error["GroupNormalization"] < least[mean]        # also where it is NaN
PY
