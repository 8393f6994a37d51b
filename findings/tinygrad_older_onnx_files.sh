#!/usr/bin/env bash
# tinygrad 0.14.0, its reader of ONNX files (tinygrad.nn.onnx.OnnxRunner, device PYTHON): files of operators' older versions,
# opsets 9 to 12, which PyTorch and Keras wrote for years (ONNX Runtime 1.32.0 and the formulas of the standard in NumPy beside
# it, onnx 1.23.2).
#
# Guess: each operator is computed as its version in the file says, or the version is refused.
# Seen: before opset 13 Softmax, LogSoftmax and Hardmax are over all columns from `axis` on, 1 by default. Here LogSoftmax and
# Hardmax of any version are over the axis alone, by default the last; Softmax of an older file is over axis 1 alone, so that a
# sample's numbers (3, 4) add up to 4. Upsample "linear" is placed as Resize's "half_pixel" is, where the operator's positions are
# x / scale; and ConvTranspose with auto_pad="VALID", of any version, gives size * stride, as for "SAME_UPPER", instead of (size -
# 1) * stride + kernel. Nothing warns.
# Whoever has an older file converts it first (onnx.version_converter), and compares outputs with ONNX Runtime's.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tinygrad==0.14.0 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$dir"
DEV=PYTHON CACHEDB="$dir/cache.db" "$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner

rng = np.random.default_rng(0)
ort.set_default_logger_severity(4)


def both(kind, opset, x, constants=(), **attributes):
    """What ONNX Runtime and tinygrad compute of a file with one operator."""
    named = {f"c{i}": c for i, c in enumerate(constants)}
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *named], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{i}" for i in range(x.ndim)])],
        [numpy_helper.from_array(c, name) for name, c in named.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    checker.check_model(model, full_check=True)
    with open("model.onnx", "wb") as f:
        f.write(model.SerializeToString())
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0], OnnxRunner("model.onnx")({"x": Tensor(x)})["y"].numpy()


x = rng.normal(size=(2, 3, 4)).astype(np.float32)


def formula(kind, a, axis):
    """Of float64 numbers, along an axis."""
    e = np.exp(a.astype(np.float64))
    p = e / e.sum(axis, keepdims=True)
    return {"Softmax": p, "LogSoftmax": np.log(p), "Hardmax": (a == a.max(axis, keepdims=True)).astype(float)}[kind]


for kind, options, alone in (("Softmax", {}, 1), ("Softmax", {"axis": 1}, 1), ("LogSoftmax", {}, -1),
                             ("LogSoftmax", {"axis": 1}, 1),
                             ("Hardmax", {}, -1), ("Hardmax", {"axis": 1}, 1)):
    standard, seen = both(kind, 11, x, **options)
    assert np.allclose(standard, formula(kind, x.reshape(2, 12), 1).reshape(x.shape), atol=1e-5)
    print(f"{kind} of opset 11, {options or 'default axis'}: farthest from ONNX Runtime {np.abs(seen - standard).max():.3f}, "
          f"from axis {alone} alone {np.abs(seen - formula(kind, x, alone)).max():.1e}")
    assert np.allclose(seen, formula(kind, x, alone), atol=1e-5) and np.abs(seen - standard).max() > 0.3, "that changed"
    standard, seen = both(kind, 13, x, axis=1)
    assert np.allclose(standard, formula(kind, x, 1), atol=1e-5) and np.allclose(seen, standard, atol=1e-5)
print("a sample's numbers of Softmax add up to", both("Softmax", 11, x)[1].sum((1, 2)))

line = np.array([[[[0, 4, 8]]]], np.float32)
standard, seen = both("Upsample", 9, line, [np.array([1, 1, 1, 2], np.float32)], mode="linear")
print("Upsample, linear, of 0 4 8 to twice the size:", *seen.ravel(), "| ONNX Runtime:", *standard.ravel())
assert np.array_equal(standard.ravel(), [0, 2, 4, 6, 8, 8]) and np.allclose(seen.ravel(), [0, 1, 3, 5, 7, 8]), "that changed"

weight = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
picture = rng.normal(size=(1, 2, 7, 8)).astype(np.float32)
standard, seen = both("ConvTranspose", 11, picture, [weight], strides=[2, 2], auto_pad="VALID")
plain = both("ConvTranspose", 11, picture, [weight], strides=[2, 2])
print("ConvTranspose, auto_pad VALID:", seen.shape, "| ONNX Runtime:", standard.shape)
assert standard.shape == (1, 3, 15, 17) and seen.shape == (1, 3, 14, 16) and np.allclose(*plain, atol=1e-5), "that changed"
PY
