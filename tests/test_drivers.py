"""Both drivers, with any number of threads, make the same of random runs: parameters and losses to the bit, and the books."""
import numpy as np
import pytest
from small import DRIVERS, Batched, classification, mlp, spoilt

from tinydl import Model, Trainer, TrainingError, data, losses, nn, optim
from tinydl.parallel.strategies import Group, Shard

OPTIMIZERS = [lambda: optim.SGD(0.05), lambda: optim.SGD(0.05, momentum=0.9), lambda: optim.Adam(0.01), lambda: optim.AdamW(0.01),
              lambda: optim.RMSprop(0.001, momentum=0.5, centered=True)]


@pytest.mark.filterwarnings("ignore::tinydl.parallel.ParallelFallbackWarning")
@pytest.mark.parametrize("seed", range(60))
def test_random_runs(seed):
    rng = np.random.default_rng(seed)
    large = seed % 10 == 0              # vectors that no cache holds
    inputs, width = (1100, 1000) if large else rng.integers(2, 200, 2).tolist()
    batch, n_batches, k = rng.integers([2, 1, 1], [12, 14, 10]).tolist()
    x, y = classification(batch * (n_batches - 1) + int(rng.integers(1, batch + 1)), inputs)
    bad = [min(len(x) - 1, i * batch + rng.integers(batch))
           for i in np.flatnonzero(rng.random(n_batches) < rng.choice([0, 0.1, 0.4, 0.7]))]
    normed, dropped, single = (rng.random(3) < 0.5).tolist()
    normed = normed and len(x) > 1      # batch norm trains on no single sample
    optimizer, cut, policy = OPTIMIZERS[rng.integers(5)], (Group, Shard)[rng.integers(2)], ("skip", "retry")[rng.integers(2)]

    def run(kind, threads):
        layers = [nn.Linear(inputs, width), *[nn.BatchNorm1d(width)] * normed, nn.ReLU(), *[nn.Dropout(0.3)] * dropped]
        model = Model(nn.Sequential(*layers, nn.Linear(width, 3)), seed=3, dtype="float32" if single else "float64")
        with Trainer(2, enable_parallel=True, thread_count=threads, strategy=cut(k), seed=5, max_failed_fraction=1,
                     on_batch_failure=policy) as t:
            t.init(spoilt(kind, x, y, batch, bad), model, losses.SoftmaxCrossEntropy(), optimizer())
            try:
                t.train()
            except TrainingError:
                pass
            s = t.stats()
            return (model.params.tobytes() + model.statistics.tobytes(), tuple(t.history["loss"]),
                    s.dispatched, s.done, s.retried, s.skipped, s.failed, s.samples, s.updates)
    want = run(data.ArrayDataset, 1)
    more = (2,) if large else (2, 3, 5)
    assert all(run(data.ArrayDataset, n) == want for n in more) and all(run(Batched, n) == want for n in (1, *more))


@pytest.mark.parametrize("optimizer", range(len(OPTIMIZERS)))
@pytest.mark.parametrize("strategy", [Group(1), Group(2), Group(3), Group(7), Shard(2)], ids=str)
def test_numbers_too_small_to_be_normal(strategy, optimizer):
    """They count as zero in updates (csrc/updates.h), whoever takes the mean of which gradients, and where."""
    x, y = classification(320, 20)
    x[:, :3] *= np.float32([1e-36, 1e-37, 1e-38])

    def run(kind, threads):
        model, o = mlp(20, 16, 3), OPTIMIZERS[optimizer]()
        with Trainer(1, enable_parallel=True, thread_count=threads, strategy=strategy, seed=5) as t:
            t.init(kind(x, y, 16), model, losses.SoftmaxCrossEntropy(), o)
            t.train()
        return [model.params.tobytes(), *(v.tobytes() for v in o.state.values())]
    want = run(data.ArrayDataset, 1)
    assert all(run(kind, n) == want for kind in DRIVERS.values() for n in (1, 2, 3) if (kind, n) != (data.ArrayDataset, 1))
