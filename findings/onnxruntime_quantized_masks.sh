#!/usr/bin/env bash
# ONNX Runtime 1.32.0: quantization.quantize_static of attention with a causal mask (onnx 1.23.2 makes the models).
#
# Guess: with its defaults attention loses some hundredths, masked or not: a softmax takes -inf, or a number as far down, for a key
# that is not seen, and such constants are no part of the range that calibration finds for the scores.
# Seen: they are. The scores behind Where are 8-bit numbers over a range down to the mask's number. With -1e9, or float32's lowest,
# a step is millions wide, and all seen keys weigh the same, without a warning. With -inf, as PyTorch's masked_fill mostly has it,
# every output is 0, of the right shape; the one sign is NumPy's warning of an invalid value in the tool.
# Whoever quantizes attention passes op_types_to_quantize=["MatMul", "Gemm", "Conv"], which leaves masks in float32.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import logging
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)        # "Please consider to run pre-processing", of every file
warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)
T, E = 8, 16
rng = np.random.default_rng(0)
x, seen = 2 * rng.normal(size=(32, T, E)).astype(np.float32), np.tri(T, dtype=bool)
weights = {name: rng.normal(size=(E, E)).astype(np.float32) / E ** 0.5 for name in "qkv"}


class Reader(CalibrationDataReader):
    def __init__(self):
        self.given = iter([{"x": x}])

    def get_next(self):
        return next(self.given, None)


def write(mask):
    nodes = [helper.make_node("MatMul", ["x", name], [f"x{name}"]) for name in "qkv"]
    nodes += [helper.make_node("Transpose", ["xk"], ["turned"], perm=[0, 2, 1]),
              helper.make_node("MatMul", ["xq", "turned"], ["product"]), helper.make_node("Mul", ["product", "scale"], ["scores"]),
              *([] if mask is None else [helper.make_node("Where", ["seen", "scores", "mask"], ["masked"])]),
              helper.make_node("Softmax", ["scores" if mask is None else "masked"], ["weights"], axis=-1),
              helper.make_node("MatMul", ["weights", "xv"], ["y"])]
    constants = {**weights, "scale": np.float32(E ** -0.5), **({} if mask is None else {"seen": seen, "mask": np.float32(mask)})}
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", T, E])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", T, E])],
                              [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    onnx.save(model, "plain.onnx")


def run(path):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def by_hand(masked):
    """In float64."""
    q, k, v = (x.astype(np.float64) @ weights[name] for name in "qkv")
    scores = np.where(seen | (not masked), q @ k.transpose(0, 2, 1) * E ** -0.5, -np.inf)
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True) @ v, v


for mask in (None, -1e9, np.finfo(np.float32).min, -np.inf):
    write(mask)
    wanted, v = by_hand(mask is not None)
    even = np.cumsum(v, 1) / np.arange(1, T + 1)[:, None]        # the mean of the values seen

    def off(y, from_what):
        return np.sqrt(np.square(y - from_what).mean() / wanted.var())
    plain = run("plain.onnx")
    quantize_static("plain.onnx", "all.onnx", Reader())
    quantize_static("plain.onnx", "some.onnx", Reader(), op_types_to_quantize=["MatMul", "Gemm", "Conv"])
    y, some = run("all.onnx"), run("some.onnx")
    print(f"mask {mask}: off by {off(plain, wanted):.0e} in float32, {off(y, wanted):.3f} quantized ({off(y, even):.3f} from the "
          f"mean of all seen; {np.count_nonzero(y)} numbers are not 0), {off(some, wanted):.3f} with products alone")
    assert off(plain, wanted) < 1e-5 and off(some, wanted) < 0.1 and np.isfinite(y).all()
    if mask is None:
        assert off(y, wanted) < 0.1
    elif np.isfinite(mask):
        assert off(y, even) < 0.1 < 0.3 < off(y, wanted), "masks are no longer a part of the range"
    else:
        assert not y.any(), "a mask of -inf no longer makes zeros"
PY
