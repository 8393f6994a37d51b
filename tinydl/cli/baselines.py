"""The linear model that a report compares with: a linear or softmax regression on the same encoded columns.

It has an L2 penalty, |W|^2 / 2 beside the sum of the cross-entropies, or |W|^2 beside the sum of the squared errors, and none on
biases: scikit-learn's LogisticRegression() and Ridge() on the columns as they are encoded, categories as columns of 0 and 1.
"""
# n rows, F numbers, C columns of codes, O outputs
from __future__ import annotations

from typing import Any

from tinydl import Model, Trainer, losses, nn, optim
from tinydl.cli.reading import Array
from tinydl.data import ArrayDataset

#: Updates at least, epochs at least, rows of a batch, and the rate of the first update.
UPDATES, EPOCHS, BATCH, RATE = 1000, 10, 512, 0.1


def linear(x: Any, y: Array, rows: Array, loss: losses.Loss, outputs: int) -> Model:
    """Trained on those rows of x, (n, F) numbers, (n, C) codes or a dict of both, and y. One thread, whatever there are: the
    same data give the same model."""
    numbers, codes = (x["numbers"], x["categories"]) if isinstance(x, dict) else (x, None) if x.dtype.kind == "f" else (None, x)
    parts, inputs = [], []
    if numbers is not None:
        inputs.append(nn.Input((numbers.shape[1],), name="numbers"))
        parts.append(nn.Linear(numbers.shape[1], outputs)(inputs[-1]))
    if codes is not None:       # the sum of a row of weights for each category is a product with columns of 0 and 1
        inputs.append(nn.Input((codes.shape[1],), "int64", name="categories"))
        parts.append(nn.Sum(0)(nn.Embedding(int(codes.max()) + 1, outputs)(inputs[-1])))
    model = Model(inputs=inputs, outputs=nn.Add()(parts) if len(parts) == 2 else parts[0], seed=0)
    model.params[...] = 0
    data = ArrayDataset(x, y, min(BATCH, len(rows))).subset(rows)
    epochs = max(EPOCHS, -(-UPDATES // data.n_batches))
    decay = (1 if outputs > 2 else 2) / len(rows)      # two classes have one weight, as the difference of two
    bias = [{"params": name, "weight_decay": 0.0} for name in model.state_dict() if name.endswith("bias")]
    rate = optim.schedules.Cosine(RATE, epochs * data.n_batches)
    with Trainer(epochs, seed=0) as trainer:
        trainer.init(data, model, loss, optim.Adam(rate, weight_decay=decay, groups=bias or None))
        trainer.train()
    return model
