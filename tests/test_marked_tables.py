"""Large tables: only rows that occur are cleared and updated, where that has the bits of updating all of them."""
import numpy as np
import pytest
from sequence_gradients import hashed

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.plan import gradients

rng = np.random.default_rng(0)
N, A, B = 60, 97, 403           # samples; rows of tables
WORDS, Y = rng.integers(0, A // 2, (N, 5)), rng.integers(0, 2, N)
WORDS[:, 1] = WORDS[::-1, 0]    # rows that several batches have, and parts of one
BAGS = np.concatenate([rng.integers(1, B, (N, 2)), np.zeros((N, 1), int)], 1)
RULES = {
    "sgd": lambda: optim.SGD(0.1), "adagrad": lambda: optim.Adagrad(0.1, initial_accumulator_value=0.1),
    "momentum": lambda: optim.SGD(0.1, momentum=0.9), "decay": lambda: optim.SGD(0.1, weight_decay=0.1),
    "ema": lambda: optim.SGD(0.1, ema=0.9), "clipped": lambda: optim.SGD(0.1, clip_norm=0.01), "adam": lambda: optim.Adam(0.01),
    "some": lambda: optim.SGD(0.1, groups=[{"params": "4.*", "weight_decay": 0.1}]),
}


def network(dtype):
    """Two tables, one of them used twice; and one that is tied to a layer, which writes all of its gradient."""
    words, bags = nn.Input((5,), "int64", name="words"), nn.Input((3,), "int64", name="bags")
    table, again, tied = nn.Embedding(A, 40), nn.Embedding(A, 40), nn.Embedding(A, 9)
    again.weight = table.weight
    h = nn.Mean(0)(table(words))
    scores = nn.TiedLinear(tied)(nn.Linear(40, 9)(h))       # whose gradient comes behind the embedding's
    h = nn.Concat()([h, nn.Mean(0)(again(words)), nn.EmbeddingBag(B, 7, padding_idx=0)(bags), scores, nn.Mean(0)(tied(words))])
    model = Model(inputs=[words, bags], outputs=nn.Linear(96 + A, 2)(h), dtype=dtype, seed=0)
    absent = np.setdiff1d(np.arange(A), WORDS)
    with np.errstate(under="ignore"):
        for i, value in enumerate((np.finfo(dtype).tiny / 16, -0.0, np.inf, np.nan, -1.0)):     # an update by 0 changes the first
            table.weight.data[absent[i::5]] = value
    return model


def trained(rule, dtype="float32", strategy="serial", threads=1, **options):
    model = network(dtype)
    with Trainer(2, seed=1, strategy=strategy, thread_count=threads, enable_parallel=strategy != "serial", **options) as t:
        t.init(data.ArrayDataset({"words": WORDS, "bags": BAGS}, Y, 12), model, losses.SoftmaxCrossEntropy(), rule())
        t.train()
    return hashed(model.params)


RUNS = [{}, {"dtype": "float64"}, *({"strategy": "group", "threads": threads, "batches_per_update": k}
                                    for threads, k in ((1, 2), (2, 2), (2, 3), (3, 4))),
        {"strategy": "shard", "threads": 2, "shards_per_batch": 4}]


@pytest.mark.parametrize("rule, runs", [*((name, RUNS) for name in ("sgd", "adagrad")),
                                        *((name, RUNS[:1] + RUNS[4:5]) for name in RULES if name not in ("sgd", "adagrad"))])
def test_the_bits_of_updating_whole_tables(rule, runs, monkeypatch):
    for run in runs:
        found = []
        for most in (1 << 60, 256):
            monkeypatch.setattr(gradients, "MARKED_BYTES", most)
            found.append(trained(RULES[rule], **run))
        assert found[0] == found[1], run


class Writes(nn.PythonLayer):
    """x; and from the second batch on row 90 of a table, which no batch has, is a number that an update by 0 makes 0."""

    calls, table, by = 0, None, 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 1:
            self.table[90] = 1e-40
        return x, None

    def backward(self, dy, saved):
        return np.full_like(dy, self.by) if self.by else dy


def watched(rule, by=0):
    """What becomes of that number."""
    layer, table = Writes(), nn.Embedding(A, 40)
    model = Model(nn.Sequential(table, layer, nn.Mean(0), nn.Linear(40, 2)), seed=0)
    layer.table, layer.by = table.weight.data, by
    with Trainer(1, seed=1, strategy="serial") as t:
        t.init(data.ArrayDataset(WORDS, Y, 12), model, losses.SoftmaxCrossEntropy(), rule())
        t.train()
    return table.weight.data[90, 0]


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "momentum", "decay", "adam", "ema"])
def test_rows_that_do_not_occur_are_passed_over_where_an_update_by_0_changes_nothing(rule, monkeypatch):
    assert watched(RULES[rule]) == 0 or rule == "adam"      # a small table's rows are all updated
    monkeypatch.setattr(gradients, "MARKED_BYTES", 256)
    assert (watched(RULES[rule]) != 0) == (rule in ("sgd", "adagrad")) or rule == "adam"


@pytest.mark.parametrize("most", [1 << 60, 256])
def test_a_gradient_that_is_not_finite_is_found(most, monkeypatch):
    monkeypatch.setattr(gradients, "MARKED_BYTES", most)
    with pytest.raises(Exception, match="not finite"):
        watched(RULES["sgd"], by=2e38)          # each is finite, and the sums of rows that occur twice are not
