#!/usr/bin/env bash
# onnx 1.23.2, its version_converter: Softmax and LogSoftmax to an opset below 13, Hardmax to 13 (ONNX Runtime 1.32.0 runs the
# models, NumPy 2.4.6).
#
# Guess: opset 13 changed what `axis` means, from "this axis and all behind it together" to "this axis alone"; the converter
# writes what keeps the numbers, as it does for Softmax from 12 to 13 (Flatten, Softmax, Reshape), or refuses, as it does where
# it has no rule.
# Seen: Softmax and LogSoftmax from 13 to 12 keep their axis and become another function wherever it is not the last one: of
# (samples, classes, rows, columns) probabilities add up to 1 over a whole picture instead of in each pixel. Hardmax from 12 to
# 13 keeps its axis, too, and has a 1 in each row where it had one in each sample. Nothing warns, and onnx.checker is content.
# Along the last axis, which most models have it along, all are right.
# Whoever has to go below 13 moves the classes to the end before (Transpose), and compares numbers.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import helper, version_converter

x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def by_hand(op, axes):
    """In float64, over these axes together."""
    z = x.astype(float)
    if op == "Hardmax":
        return (z == z.max(axes, keepdims=True)).astype(float)
    p = np.exp(z) / np.exp(z).sum(axes, keepdims=True)
    return p if op == "Softmax" else np.log(p)


def run(model):
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def convert(op, axis, before, after):
    info = helper.make_tensor_value_info
    node = helper.make_node(op, ["x"], ["y"], axis=axis)
    graph = helper.make_graph([node], "g", [info("x", 1, x.shape)], [info("y", 1, x.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", before)], ir_version=7)
    return run(model), run(version_converter.convert_version(model, after))


cases = [("Softmax", 12, 13), ("LogSoftmax", 12, 13), ("Softmax", 13, 12), ("LogSoftmax", 13, 12), ("Hardmax", 12, 13)]
for op, before, after in cases:
    for axis in range(4):
        alone, together = by_hand(op, axis), by_hand(op, tuple(range(axis, 4)))
        meant, other = (alone, together) if before == 13 else (together, alone)
        old, new = convert(op, axis, before, after)
        assert abs(old - meant).max() < 1e-5
        print(f"{op:10} axis {axis} from opset {before} to {after}: off by up to {abs(new - meant).max():.2g}")
        kept = axis == 3 or (before, op) in ((12, "Softmax"), (12, "LogSoftmax"))
        assert abs(new - (meant if kept else other)).max() < 1e-5
        assert kept or abs(new - meant).max() > 0.5
PY
