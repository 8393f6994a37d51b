#!/usr/bin/env bash
# tract 0.23.9 (onnx 1.23.2 makes the models, NumPy 2.4.6): Celu, GlobalLpPool, ReduceLogSumExp and Softplus.
#
# Guess: they are the formulas of the standard in float64, to the rounding of float32; or what tract does not have is refused, as
# LpPool is.
# Seen: below zero Celu is exp(x / alpha) - 1 without the factor alpha: right for alpha=1, the default, and half of what it should
# be, or twice, for 2 or 0.5. GlobalLpPool takes the mean where the standard has the sum: with its default, p=2, the root of the
# mean of squares, a third of the norm over 3 by 3 pixels; with odd p it keeps the signs, so a sum may be negative and its root
# NaN. ReduceLogSumExp and Softplus are the bare logarithms: inf where a number is 89 or larger. Nothing warns.
# Whoever runs a file there compares each operator's numbers, large ones as well.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tract==0.23.9 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnx
import tract
from onnx import helper


def run(op, x, shape, **settings):
    info = helper.make_tensor_value_info
    node = helper.make_node(op, ["x"], ["y"], **settings)
    graph = helper.make_graph([node], "g", [info("x", 1, x.shape)], [info("y", 1, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    return tract.onnx().load("model.onnx").into_model().into_runnable().run([x])[0].to_numpy()


def close(found, expected):
    return np.allclose(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


x = np.linspace(-3, 3, 7).astype(np.float32)
for alpha in (0.5, 1.0, 2.0):
    bare = np.where(x > 0, x, np.expm1(x.astype(float) / alpha))
    expected, found = np.where(x > 0, x, alpha * bare), run("Celu", x, x.shape, alpha=alpha)
    print(f"Celu of -1, alpha={alpha}: {found[2]:.4f}, by the formula {expected[2]:.4f}")
    assert close(found, bare) and close(found, expected) == (alpha == 1)

picture = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)
for p in (1, 2, 3):
    z = picture.astype(float)
    expected = (abs(z)**p).sum((2, 3), keepdims=True)**(1 / p)
    with np.errstate(invalid="ignore"):
        mean = (z**p).mean((2, 3), keepdims=True)
        mean = mean**(1 / p)
    found = run("GlobalLpPool", picture, expected.shape, p=p)
    print(f"GlobalLpPool, p={p}: {found.ravel().round(4)}, by the formula {expected.ravel().round(4)}")
    assert close(found, mean) and not close(found, expected)

for largest in (88.0, 89.0, 200.0):
    scores = np.array([[0.0, largest]], np.float32)
    soft, total = run("Softplus", scores, scores.shape), run("ReduceLogSumExp", scores, (1, 1), axes=[1])
    print(f"of 0 and {largest}: Softplus {soft[0]}, ReduceLogSumExp {total[0]}")
    finite = largest < 89
    assert close(soft, np.logaddexp(0, scores.astype(float))) == close(total, largest) == finite
    assert finite or (np.isinf(soft[0, 1]) and np.isinf(total[0, 0]))
PY
