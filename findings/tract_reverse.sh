#!/usr/bin/env bash
# tract 0.23.9 (onnx 1.23.2 makes the models, NumPy 2.4.6): RNN, GRU and LSTM with direction="reverse".
#
# Guess: each reads its sequence from the last step to the first, as the second half of direction="bidirectional" does, and gives
# what the equations of the standard give in float64, to the rounding of float32; or the model is refused.
# Seen: the attribute is ignored. All three give, bit by bit, what direction="forward" gives: the outputs of all steps and the
# last state, which is that behind step 4 instead of step 0. Shapes are right, and nothing warns. "bidirectional" is right.
# Whoever has a layer that reads backwards alone turns the steps around before and after a forward one (Slice with a step of -1),
# or takes the second half of a bidirectional one.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tract==0.23.9 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnx
import tract
from onnx import helper, numpy_helper

rng = np.random.default_rng(0)
T, B, I, H = 5, 2, 3, 4                                 # steps, sequences, inputs, hidden units
x = rng.standard_normal((T, B, I)).astype(np.float32)
gates = {"RNN": 1, "GRU": 3, "LSTM": 4}


def weights(op, directions):
    n, r = gates[op], np.random.default_rng(1)
    shapes = {"w": (directions, n * H, I), "r": (directions, n * H, H), "b": (directions, 2 * n * H)}
    return {name: r.standard_normal(shape).astype(np.float32) / 2 for name, shape in shapes.items()}


def by_tract(op, direction, given):
    """Y, the outputs of all steps, (directions, steps, sequences, units)."""
    node = helper.make_node(op, ["x", "w", "r", "b"], ["y", "last"], hidden_size=H, direction=direction)
    info = helper.make_tensor_value_info
    d = given["w"].shape[0]
    graph = helper.make_graph([node], "g", [info("x", 1, [T, B, I])],
                              [info("y", 1, [T, d, B, H]), info("last", 1, [d, B, H])],
                              [numpy_helper.from_array(array, name) for name, array in given.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    y, last = tract.onnx().load("model.onnx").into_model().into_runnable().run([x])
    return y.to_numpy().transpose(1, 0, 2, 3), last.to_numpy()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(op, w, r, b, steps):
    """One direction in float64, by the equations of the standard, its steps taken in the order of `steps`."""
    n, y = gates[op], np.zeros((T, B, H))
    w, r, (wb, rb) = np.split(w.astype(float), n), np.split(r.astype(float), n), np.split(b.astype(float), 2)
    wb, rb = np.split(wb, n), np.split(rb, n)
    h = c = np.zeros((B, H))
    for t in steps:
        a = [x[t] @ w[k].T + wb[k] for k in range(n)]
        u = [h @ r[k].T + rb[k] for k in range(n)]
        if op == "RNN":
            h = np.tanh(a[0] + u[0])
        elif op == "GRU":                               # gates in the order z, r, h
            z, reset = sigmoid(a[0] + u[0]), sigmoid(a[1] + u[1])
            h = (1 - z) * np.tanh(a[2] + (reset * h) @ r[2].T + rb[2]) + z * h
        else:                                           # i, o, f, c
            c = sigmoid(a[2] + u[2]) * c + sigmoid(a[0] + u[0]) * np.tanh(a[3] + u[3])
            h = sigmoid(a[1] + u[1]) * np.tanh(c)
        y[t] = h
    return y


for op in gates:
    one, two = weights(op, 1), weights(op, 2)
    forward, backward = (by_hand(op, *(v[0] for v in one.values()), steps) for steps in (range(T), range(T)[::-1]))
    second = by_hand(op, *(v[1] for v in two.values()), range(T)[::-1])
    assert abs(by_tract(op, "bidirectional", two)[0][1] - second).max() < 1e-5
    plain, reverse = by_tract(op, "forward", one), by_tract(op, "reverse", one)
    assert abs(plain[0][0] - forward).max() < 1e-5
    same = all(np.array_equal(a, b) for a, b in zip(plain, reverse, strict=True))
    print(f"{op:4} reverse: off by up to {abs(reverse[0][0] - backward).max():.2f}; the same bits as forward: {same}")
    assert same and abs(reverse[0][0] - backward).max() > 0.1 and abs(reverse[1][0] - backward[0]).max() > 0.01
PY
