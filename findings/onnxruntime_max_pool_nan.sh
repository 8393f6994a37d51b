#!/usr/bin/env bash
# ONNX Runtime 1.32.0: the greatest of float32 numbers one of which is NaN, by its operators for that (onnx 1.23.2 makes the
# models).
#
# Guess: NaN is the greatest, as in NumPy, PyTorch and the runtime's own Max and Relu; or, of the pools, it never is.
# Seen: it is by place. In MaxPool NaN is the result where it is the last pixel of its window, and lost where another follows; a
# window in which there is nothing but NaN (and padding) gives -3.4028235e+38, a finite number, if padding follows. ReduceMax
# keeps NaN where it is the first number alone, GlobalMaxPool never does.
# So a net with max pools that has NaN for an answer in training's framework may have a class and a probability for one in the
# runtime: whoever exports a net looks for NaN in its inputs, before the runtime has them.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

nan = np.nan


def run(kind, row, zero=False, **attributes):
    x = np.array(row, np.float32).reshape(1, 1, 1, -1)
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "zero"] if zero else ["x"], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "zero")] if zero else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].ravel()


def shown(what, got, wanted):
    print(f"{what:44}", got)
    assert np.array_equal(got, np.array(wanted, np.float32), equal_nan=True), wanted


shown("Max(x, 0) of 1, NaN, 3", run("Max", [1, nan, 3], zero=True), [1, nan, 3])
shown("Relu of 1, NaN, 3", run("Relu", [1, nan, 3]), [1, nan, 3])
pairs = dict(kernel_shape=[1, 2], strides=[1, 2])
shown("MaxPool of the pairs 1, NaN and NaN, 1", run("MaxPool", [1, nan, nan, 1], **pairs), [nan, 1])
around = dict(kernel_shape=[1, 3], pads=[0, 1, 0, 1], strides=[1, 1])
shown("MaxPool of three, padded, of 1, 3, NaN", run("MaxPool", [1, 3, nan], **around), [3, nan, np.finfo(np.float32).min])
shown("ReduceMax of NaN, 1, 3", run("ReduceMax", [nan, 1, 3]), [nan])
shown("ReduceMax of 1, NaN, 3", run("ReduceMax", [1, nan, 3]), [3])
shown("GlobalMaxPool of NaN, 1, 3", run("GlobalMaxPool", [nan, 1, 3]), [3])
PY
