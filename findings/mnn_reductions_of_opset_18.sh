#!/usr/bin/env bash
# MNN 3.6.1: sums of squares, norms and other reductions of an ONNX file of opset 18 or newer, converted by its mnnconvert (onnx
# 1.23.2 makes the models, NumPy 2.4.6).
#
# Guess: a reduction goes along the axes that the file gives, wherever its opset has them (an attribute before 18, since then an
# input), or the converter refuses the file.
# Seen: ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum and ReduceLogSumExp of opset 18 are over all numbers, the batch's
# included: the axes are not read, as they are of opset 13. What comes out is one number without axes, whatever keepdims says; in
# a larger model it is broadcast: rows divided by their norm (ReduceL2, Div: a layer of unit vectors) are divided by the batch's.
# Their shape is right, and a row's numbers depend on the rows beside it. ReduceSum, ReduceMean, ReduceMax, ReduceMin and
# ReduceProd of the same files are right. Neither the converter nor the run says anything.
# Whoever has such a file writes it with opset 17, or the sums as Mul and ReduceSum.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import subprocess
import sys

import MNN.expr as expr
import MNN.nn as nn
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

#: what the command mnnconvert calls; the command beyond that has pip install a package where there is none, and sends a report
CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"
rng = np.random.default_rng(0)


def computed(nodes, opset, x, **constants):
    """What MNN computes of a file with these nodes, which make y of x."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{i}" for i in range(x.ndim)])],
        [numpy_helper.from_array(c, name) for name, c in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model, full_check=True)
    with open("model.onnx", "wb") as f:
        f.write(model.SerializeToString())
    said = subprocess.run([sys.executable, "-c", CONVERT, "mnnconvert", "-f", "ONNX", "--modelFile", "model.onnx",
                           "--MNNModel", "model.mnn", "--bizCode", "x"], check=True, capture_output=True, text=True)
    assert not any(word in (said.stdout + said.stderr).lower() for word in ("warn", "not support", "ignore", "axes"))
    (y,) = nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([expr.const(x, list(x.shape), expr.NCHW, expr.float)])
    return np.array(y.read())


FORMULAS = {"ReduceL1": lambda a, **o: np.abs(a).sum(**o), "ReduceL2": lambda a, **o: np.sqrt((a * a).sum(**o)),
            "ReduceSumSquare": lambda a, **o: (a * a).sum(**o), "ReduceLogSum": lambda a, **o: np.log(a.sum(**o)),
            "ReduceLogSumExp": lambda a, **o: np.log(np.exp(a).sum(**o)), "ReduceSum": np.sum, "ReduceMean": np.mean,
            "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod}
x = (rng.random((2, 3, 4)) + 0.5).astype(np.float32)
for kind, formula in FORMULAS.items():
    wanted = formula(x.astype(np.float64), axis=1, keepdims=True)
    before = 11 if kind == "ReduceSum" else 13         # its axes are an input since opset 13
    attribute = computed([helper.make_node(kind, ["x"], ["y"], axes=[1], keepdims=1)], before, x)
    assert attribute.shape == wanted.shape and np.allclose(attribute, wanted, rtol=1e-4)
    given = computed([helper.make_node(kind, ["x", "axes"], ["y"], keepdims=1)], 18, x, axes=np.array([1]))
    print(f"{kind} of (2, 3, 4) along axis 1: {given.shape}, NumPy: {wanted.shape}; {given.ravel()[0]:.4f}, "
          f"NumPy: {wanted.ravel()[0]:.4f}")
    if list(FORMULAS).index(kind) < 5:
        assert given.size == 1 and np.allclose(given, formula(x.astype(np.float64)), rtol=1e-4), "that changed"
    else:
        assert given.shape == wanted.shape and np.allclose(given, wanted, rtol=1e-4)

rows = rng.normal(size=(3, 4)).astype(np.float32)
unit = [helper.make_node("ReduceL2", ["x", "axes"], ["norm"], keepdims=1), helper.make_node("Div", ["x", "norm"], ["y"])]
got = computed(unit, 18, rows, axes=np.array([1]))
print("lengths of rows that are divided by their own:", np.linalg.norm(got, axis=1))
assert got.shape == rows.shape and np.allclose(got, rows / np.linalg.norm(rows), atol=1e-5), "that changed"
PY
