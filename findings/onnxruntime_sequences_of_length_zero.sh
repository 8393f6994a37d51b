#!/usr/bin/env bash
# ONNX Runtime 1.32.0: LSTM, GRU and RNN with sequence_lens, of which one is 0, and initial states (onnx 1.23.2 makes the models).
#
# Guess: a sequence without steps leaves its state as it was: Y_h is initial_h, Y_c initial_c, as a loop over no steps does.
# Seen: both are zeros, whatever the initial states are; the other sequences of the batch do begin with theirs. A model that
# carries its state from call to call loses that of each stream which has nothing new.
# Whoever exports such a model chooses the initial state for length 0 with an operator (Where) after the recurrent one.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

steps, batch, size, hidden = 3, 2, 2, 4
random = np.random.default_rng(0)
x = random.standard_normal((steps, batch, size)).astype(np.float32)
lengths = np.array([3, 0], np.int32)
start = np.full((1, batch, hidden), 0.25, np.float32)

for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    weights = {"W": random.standard_normal((1, gates * hidden, size)), "R": random.standard_normal((1, gates * hidden, hidden)),
               "b": np.zeros((1, 2 * gates * hidden))}
    given = {"x": x, "lengths": lengths, "h0": start, **({"c0": start} if kind == "LSTM" else {})}
    results = ["", "Y_h", *(["Y_c"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, ["x", "W", "R", "b", "lengths", *list(given)[2:]], results, hidden_size=hidden)
    types = {"x": TensorProto.FLOAT, "lengths": TensorProto.INT32}
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), a.shape) for n, a in given.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, batch, hidden)) for n in results[1:]],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got = dict(zip(results[1:], session.run(None, given), strict=True))
    begun_with_zeros = session.run(["Y_h"], {**given, "h0": start * 0})[0]
    assert not np.array_equal(got["Y_h"][0, 0], begun_with_zeros[0, 0])       # three steps: the initial state counts
    for name, state in got.items():
        print(kind, name, "of the sequence of no steps, begun with 0.25:", state[0, 1])
        assert not state[0, 1].any()
PY
