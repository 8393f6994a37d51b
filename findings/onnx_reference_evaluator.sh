#!/usr/bin/env bash
# onnx 1.23.2: three operators in onnx.reference.ReferenceEvaluator, which the package has to show what its standard says (beside
# ONNX Runtime 1.32.0, and the formulas of the operators' documentation in NumPy).
#
# Guess: where it and a runtime differ by more than roundings, the runtime is wrong; so an exporter is tested against it.
# Seen: here it is the reference. LpNormalization with p=1 divides by the sum of the numbers and not of their magnitudes, so that
# it may divide by nearly nothing; LRN normalizes as many channels as the batch has samples, and leaves the others as they are;
# AveragePool with ceil_mode=1 puts half of what the last window lacks before the first one, so that windows begin a pixel early.
# ONNX Runtime has what the formulas give.
# Whoever tests an exporter against the reference evaluator needs a second opinion before changing the exporter.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper
from onnx.reference import ReferenceEvaluator

random = np.random.default_rng(0)


def both(kind, x, **attributes):
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], **attributes)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * x.ndim)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, {"x": x})[0], session.run(None, {"x": x})[0]


def compare(kind, formula, reference, runtime, wrong):
    errors = [np.abs(y - formula) for y in (runtime, reference)]
    print(f"{kind}: ONNX Runtime is off by {errors[0].max():.1e}, the reference by {errors[1].max():.2g}")
    assert runtime.shape == reference.shape == formula.shape and errors[0].max() < 1e-5
    assert ((errors[1] > 1e-4) == wrong).all(), errors[1]


x = np.array([[1, -2, 3, -1]], np.float32)
compare("LpNormalization, p=1", x / np.abs(x).sum(1, keepdims=True), *both("LpNormalization", x, axis=1, p=1), True)

x = 10 * random.uniform(1, 2, (2, 5, 3, 3)).astype(np.float32)          # two samples, five channels
squares = np.stack([(x[:, max(0, c - 1):c + 2] ** 2).sum(1) for c in range(5)], 1)
pair = both("LRN", x, size=3, alpha=1e-2, beta=0.75, bias=1.0)
compare("LRN, size=3", x / (1 + 1e-2 / 3 * squares) ** 0.75, *pair, (np.arange(5) >= 2)[None, :, None, None])
assert np.allclose(pair[0][:, 2:], x[:, 2:])

x = random.uniform(1, 2, (1, 1, 7, 1)).astype(np.float32)               # windows of three pixels at 0, 3 and 6, the last with one
pair = both("AveragePool", x, kernel_shape=[3, 1], strides=[3, 1], ceil_mode=1)
compare("AveragePool, ceil_mode=1", np.stack([x[:, :, i:i + 3].mean(2) for i in (0, 3, 6)], 2), *pair, True)
assert np.allclose(pair[0][:, :, :2], np.stack([x[:, :, 0:2].mean(2), x[:, :, 2:5].mean(2)], 2))
PY
