#!/usr/bin/env bash
# onnx2torch 1.5.15 (PyTorch 2.14.1, ONNX Runtime 1.32.0, onnx 1.23.2, NumPy 2.4.6): NonZero, ConvTranspose with output_shape,
# PRelu with a slope for each column, IsInf of one sign, in ONNX files made into PyTorch modules (eval mode).
#
# Guess: operators and attributes that it takes give what ONNX Runtime and the formulas of the standard give; the others are
# refused.
# Seen: NonZero is torch.nonzero, (n, axes), where ONNX has (axes, n), as numpy.nonzero: of a matrix with two entries the rows and
# columns of the entries change places, in the same shape, and Gathers behind it take others. output_shape of ConvTranspose is not
# looked at, the picture is as large as without it. A slope for each column, (W,), counts along the channels where there are as
# many of those. detect_negative=0 of IsInf is ignored. Nothing warns.
# Whoever converts a model compares outputs with ONNX Runtime's.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnx2torch==1.5.15 torch==2.14.1 \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, checker, helper, numpy_helper
from onnx2torch import convert

rng = np.random.default_rng(0)


def both(kind, x, kind_of_y=TensorProto.FLOAT, constant=None, **attributes):
    """What ONNX Runtime and the PyTorch module compute of a file with one operator."""
    constants = [] if constant is None else [numpy_helper.from_array(constant, "c")]
    rank = 2 if kind == "NonZero" else x.ndim
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *(c.name for c in constants)], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", kind_of_y, [f"d{i}" for i in range(rank)])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        seen = convert(model).eval()(torch.tensor(x)).numpy()
    return session.run(None, {"x": x})[0], seen


matrix = np.float32([[0, 5, 0], [0, 0, 0], [7, 0, 0]])
standard, seen = both("NonZero", matrix, TensorProto.INT64)
print("NonZero: ONNX Runtime", standard.tolist(), ", onnx2torch", seen.tolist())
assert np.array_equal(standard, np.nonzero(matrix))
assert np.array_equal(seen, standard.T) and seen.shape == standard.shape, "that changed"
standard, seen = both("NonZero", np.float32([[1, 0], [2, 3]]), TensorProto.INT64)
assert standard.shape == (2, 3) and seen.shape == (3, 2), "that changed"

picture, weight = rng.normal(size=(1, 2, 7, 8)).astype(np.float32), rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
plain = both("ConvTranspose", picture, constant=weight, strides=[2, 2])
standard, seen = both("ConvTranspose", picture, constant=weight, strides=[2, 2], output_shape=[14, 16])
print("ConvTranspose, output_shape (14, 16): ONNX Runtime", standard.shape, ", onnx2torch", seen.shape)
assert np.allclose(*plain, atol=1e-5) and standard.shape[2:] == (14, 16)
assert np.array_equal(seen, plain[1]) and seen.shape[2:] == (15, 17), "that changed"

x, slope = rng.normal(size=(1, 3, 3, 3)).astype(np.float32), np.float32([0.1, 0.2, 0.3])
standard, seen = both("PRelu", x, constant=slope)
print(f"PRelu, a slope for each column: farthest from ONNX Runtime {np.abs(seen - standard).max():.3f}")
assert np.allclose(standard, np.where(x < 0, x * slope, x))
assert np.allclose(seen, np.where(x < 0, x * slope[:, None, None], x)), "that changed"
standard, seen = both("PRelu", x, constant=slope[:, None, None].copy())
assert np.allclose(standard, seen)

standard, seen = both("IsInf", np.float32([np.inf, -np.inf, 1]), TensorProto.BOOL, detect_negative=0)
print("IsInf of inf, -inf, 1, detect_negative=0: ONNX Runtime", standard.tolist(), ", onnx2torch", seen.tolist())
assert standard.tolist() == [True, False, False] and seen.tolist() == [True, True, False], "that changed"
PY
