#!/usr/bin/env bash
# skorch 1.4.0 (PyTorch 2.13.0, scikit-learn 1.9.1, NumPy 2.4.6): what NeuralNetRegressor and NeuralNetClassifier validate by.
#
# Guess: a fifth of the rows, drawn at random, or for a series the last, as with early stopping elsewhere.
# Seen: the first fifth. The split is the first of five folds that are not shuffled, which holds out rows 0 to 19 of 100; of classes, the
# first rows of each. A series in time is validated by its beginning, before all that was trained on, and of a table that is sorted the
# smallest values are held out. So the loss that early stopping and checkpoints go by says how a line is continued backwards: below,
# of a noisy parabola, the validation loss is that of the left end, where the net saw nothing. An epoch's order is not shuffled either.
# Whoever trains with it says train_split=ValidSplit(5, ...) of a shuffled KFold, or predefined_split of the last rows.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check skorch==1.4.0 torch==2.13.0 scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback


class Seen(Callback):
    """Which rows are trained on, in their order, and which are held out: x is the row's number."""

    def on_train_begin(self, net, X=None, y=None, **more):
        self.order, self.held = [], [int(x[0]) for x, _ in net.get_split_datasets(X, y)[1]]

    def on_batch_begin(self, net, batch=None, training=False, **more):
        if training:
            self.order += batch[0][:, 0].int().tolist()


x = np.arange(100, dtype="float32")[:, None]
linear = torch.nn.Linear(1, 1)
classes = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Softmax(-1))
for kind, module, y in ((NeuralNetRegressor, linear, x / 100), (NeuralNetClassifier, classes, np.arange(100) % 2),
                        (NeuralNetClassifier, classes, np.arange(100) // 50)):
    seen = Seen()
    kind(module, lr=1e-6, max_epochs=1, verbose=0, callbacks=[seen]).fit(x, y)
    expected = [*range(10), *range(50, 60)] if len(y) == 100 and y.ndim == 1 and y[1] == 0 else list(range(20))
    print(kind.__name__, "held out:", sorted(seen.held), "trained on, in this order:", *seen.order[:3], "...", *seen.order[-2:])
    assert sorted(seen.held) == expected and seen.order == [i for i in range(100) if i not in expected]

t = np.linspace(-1, 1, 200, dtype="float32")[:, None]
parabola = t ** 2 + 0.05 * np.random.default_rng(0).normal(size=t.shape).astype("float32")
torch.manual_seed(0)
net = NeuralNetRegressor(torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)), lr=0.02, max_epochs=150,
                         optimizer=torch.optim.Adam, iterator_train__shuffle=True, verbose=0).fit(t, parabola)
loss, first = net.history[-1, "valid_loss"], float(np.mean((net.predict(t[:40]) - parabola[:40]) ** 2))
rest = float(np.mean((net.predict(t[40:]) - parabola[40:]) ** 2))
print(f"validation loss {loss:.4f}: that of the first 40 rows {first:.4f}; of all others {rest:.4f}")
assert abs(loss - first) < 1e-3 * first + 1e-6 and first > 3 * rest
PY
