#!/usr/bin/env bash
# MNN 3.6.1: pooling and resizing of pictures in ONNX files, converted by its mnnconvert (ONNX Runtime 1.32.0 and onnx 1.23.2
# beside it, NumPy 2.4.6).
#
# Guess: attributes of AveragePool, MaxPool and Resize are computed, or the converter refuses the file.
# Seen: with count_include_pad=1 and padding behind a picture only, which is how ceil_mode of other libraries is written, windows
# at that side are divided by fewer numbers than the kernel has. MaxPool's dilations are ignored: neighbours are compared, and the
# picture is larger. antialias=1 of Resize is ignored, so that a smaller picture takes some points of the larger one. Cubic Resize
# of "half_pixel" is right where a picture becomes smaller, and far off at its border where it becomes larger: there other pixels
# are taken than the edge's. ArgMax with select_last_index=1 gives the first one. The converter says nothing.
# Whoever exports such a model compares outputs. AveragePool is right with the zeros put there by Pad.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import subprocess
import sys

import MNN.expr as expr
import MNN.nn as nn
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

#: what the command mnnconvert calls; the command beyond that has pip install a package where there is none, and sends a report
CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv[1:])"
rng = np.random.default_rng(0)


def both(kind, x, sizes=None, kind_of_y=TensorProto.FLOAT, before=(), **attributes):
    """What ONNX Runtime and MNN compute."""
    named = {} if sizes is None else {"sizes": np.array(sizes)}
    named.update({name: a for name, a in before})
    node = helper.make_node(kind, ["p" if before else "x", *(["", "", "sizes"] if sizes else [])], ["y"], **attributes)
    pads = [helper.make_node("Pad", ["x", *(name for name, _ in before)], ["p"])] if before else []
    graph = helper.make_graph(
        [*pads, node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", kind_of_y, [f"d{i}" for i in range(x.ndim)])],
        [numpy_helper.from_array(c, name) for name, c in named.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    with open("model.onnx", "wb") as f:
        f.write(model.SerializeToString())
    said = subprocess.run([sys.executable, "-c", CONVERT, "mnnconvert", "-f", "ONNX", "--modelFile", "model.onnx",
                           "--MNNModel", "model.mnn", "--bizCode", "x"], capture_output=True, check=True, text=True)
    assert "Converted Success" in said.stdout
    assert not any(word in (said.stdout + said.stderr).lower() for word in ("warn", "not support", "error", "ignore"))
    (y,) = nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([expr.const(x, list(x.shape), expr.NCHW, expr.float)])
    standard = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return standard, np.array(expr.convert(y, expr.NCHW).read() if x.ndim == 4 else y.read())


def far(standard, got):
    return np.abs(standard - got).max() if standard.shape == got.shape else np.inf


ones = np.ones((1, 1, 4, 4), np.float32)
pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
for pads, off in (([1, 1, 1, 1], False), ([0, 0, 1, 1], True)):
    standard, got = both("AveragePool", ones, pads=pads, count_include_pad=1, **pool)
    print(f"AveragePool of ones, pads {pads}: {got.ravel()}, ONNX Runtime {standard.ravel()}")
    assert (far(standard, got) > 0.3) == off, "that changed"
standard, got = both("AveragePool", ones, before=[("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1]))], count_include_pad=1, **pool)
assert far(standard, got) < 1e-6 and np.allclose(standard.ravel(), [1, 2 / 3, 2 / 3, 4 / 9])

line = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
standard, got = both("MaxPool", line, kernel_shape=[1, 2], strides=[1, 1], dilations=[1, 3])
print("MaxPool of 0 to 7, two that are three apart:", got.ravel(), ", ONNX Runtime", standard.ravel())
assert np.array_equal(standard.ravel(), np.arange(3, 8)) and np.array_equal(got.ravel(), np.arange(1, 8)), "that changed"

sharp = np.tile(np.float32([0, 0, 9]), 4).reshape(1, 1, 1, 12)
standard, got = both("Resize", sharp, sizes=[1, 1, 1, 4], mode="linear", antialias=1)
print("Resize of 0 0 9, four times, to four pixels, antialias=1:", got.ravel(), ", ONNX Runtime", standard.ravel().round(2))
assert standard.min() > 1.9 and np.array_equal(got.ravel(), np.zeros(4)), "that changed"

x = rng.normal(size=(1, 2, 5, 6)).astype(np.float32)
for sizes, off in (([1, 2, 3, 4], False), ([1, 2, 9, 11], True)):
    standard, got = both("Resize", x, sizes=sizes, mode="cubic")
    print(f"Resize, cubic, of {x.shape} to {sizes}: farthest from ONNX Runtime {far(standard, got):.1e}, "
          f"in the middle {far(standard[..., 3:-3, 3:-3], got[..., 3:-3, 3:-3]) if off else 0:.1e}")
    assert (far(standard, got) > 1) == off, "that changed"

standard, got = both("ArgMax", np.float32([[3, 1, 3]]), kind_of_y=TensorProto.INT64, axis=1, select_last_index=1)
print("ArgMax of 3 1 3, the last one:", got.ravel(), ", ONNX Runtime", standard.ravel())
assert standard == 2 and got == 0, "that changed"
PY
