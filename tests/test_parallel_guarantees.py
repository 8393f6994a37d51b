"""The guarantees of tinydl/parallel/__init__.py: each test fails when its guarantee is broken."""
import hashlib
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from small import DRIVERS, Batched, classification, mlp, spoilt
from test_optim import ROWS

from tinydl import Model, Trainer, TrainingError, callbacks, data, losses, nn, optim, parallel
from tinydl.parallel.strategies import Local


def run(dataset, model, *, epochs=2, threads=0, k=None, mode="train", optimizer=None, loss=None, seed=7, shuffle=True):
    """(model, trainer) after training: threads 0 is serial."""
    with Trainer(epochs, enable_parallel=threads > 0, thread_count=threads, batches_per_update=k, seed=seed,
                 max_failed_fraction=1) as t:
        t.init(dataset, model, loss or losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(lr=0.01))
        getattr(t, mode)(shuffle)
    return model, t


def digest(model):
    return hashlib.sha256(model.params.tobytes() + model.statistics.tobytes()).hexdigest()


# ------------------------------------------------------------------ mathematics
def test_two_threads_of_4_equal_serial_of_8(driver):
    x, y = classification(64)
    a, _ = run(data.ArrayDataset(x, y, 8), mlp(6, 9, 3, dtype="float64"), optimizer=optim.SGD(0.5))
    b, _ = run(driver(x, y, 4), mlp(6, 9, 3, dtype="float64"), threads=2, optimizer=optim.SGD(0.5))
    # 16 updates, each a sum over 8 samples in another order
    np.testing.assert_allclose(a.params, b.params, rtol=0, atol=16 * 8 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("n", [62, 61, 57, 49])
def test_unequal_last_batches(driver, n):
    x, y = classification(n)
    a, ta = run(data.ArrayDataset(x, y, 8), mlp(6, 9, 3, dtype="float64"), optimizer=optim.SGD(0.5))
    b, tb = run(driver(x, y, 4), mlp(6, 9, 3, dtype="float64"), threads=2, optimizer=optim.SGD(0.5))
    np.testing.assert_allclose(a.params, b.params, rtol=0, atol=16 * 8 * np.finfo(np.float64).eps)
    np.testing.assert_allclose(ta.history["loss"], tb.history["loss"], rtol=1e-12)
    assert ta.history["samples"] == tb.history["samples"] == [n, n]


def test_one_thread_equals_serial_to_the_bit(driver):
    x, y = classification(50)
    assert digest(run(data.ArrayDataset(x, y, 8), mlp(6, 9, 3))[0]) == digest(run(driver(x, y, 8), mlp(6, 9, 3), threads=1)[0])


def deep(seed=3):
    return Model(nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.3), nn.Linear(40, 40), nn.Tanh(),
                               nn.Linear(40, 3)), seed=seed)


# ------------------------------------------------------------------ reproducible
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_same_bits_for_any_number_of_threads(k):
    x, y = classification(203)
    want = digest(run(data.ArrayDataset(x, y, 8), deep(), threads=1, k=k)[0])
    for threads in (2, 3, 5, 8):
        assert digest(run(data.ArrayDataset(x, y, 8), deep(), threads=threads, k=k)[0]) == want
    assert digest(run(Batched(x, y, 8), deep(), threads=3, k=k)[0]) == want
    for kind in DRIVERS.values():
        assert digest(run(kind(x, y, 8), deep(), k=k, threads=1, mode="simplified_parallel_train")[0]) == want


# the last: vectors that no cache holds
@pytest.mark.parametrize("sizes, rows", [((50, 60, 3), ROWS), ((1100, 1000, 3), ROWS[-3:])], ids=["small", "large"])
def test_both_drivers_move_parameters_by_the_same_mean_with_every_optimizer(sizes, rows):
    x, y = classification(44, sizes[0])
    for cls, options, _ in rows:
        for k in (2, 3):            # the rule itself takes the tree's root; the last batch is half as large
            digests = {digest(run(kind(x, y, 8), mlp(*sizes), epochs=1, threads=2, k=k, optimizer=cls(**options))[0])
                       for kind in DRIVERS.values()}
            assert len(digests) == 1, (cls, options, k)


@pytest.mark.parametrize("failed", [(0, 1), (2,), (0, 1, 2, 3), (0, 1, 4, 5), (1, 4, 5), (0, 1, 6, 7), (4, 5, 6, 7)], ids=str)
def test_both_drivers_leave_the_same_failed_batches_out_of_long_vectors(failed):
    x, y = classification(64, 1100)
    bad = [8 * batch for batch in failed]
    for k in (6, 7, 8):
        digests = {digest(run(spoilt(kind, x, y, 8, bad), mlp(1100, 1000, 3), epochs=1, threads=threads, k=k,
                              optimizer=optim.SGD(0.1), shuffle=False)[0]) for kind in DRIVERS.values() for threads in (1, 2)}
        assert len(digests) == 1, k


@pytest.mark.parametrize("strategy", ["serial", "group", "shard", "local"])
def test_the_loss_of_an_epoch_has_the_same_bits_however_it_was_run(strategy):
    x, y = classification(203)

    class Often(callbacks.Callback):
        every = 7                   # ends a native run

    seen = set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            for called in ([], [Often()]) if strategy != "local" else ([], ):
                fixed = {"group": {"batches_per_update": 2}, "shard": {"shards_per_batch": 2}}.get(strategy, {})
                how = Local(3, n_models=2) if strategy == "local" else strategy
                with Trainer(2, thread_count=threads, strategy=how, seed=7, callbacks=called, **fixed) as t:
                    t.init(kind(x, y, 4), mlp(6, 9, 3, dtype="float64"), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
                    seen.add(tuple(t.train()["loss"]))
    assert len(seen) == 1


def test_ten_recorded_losses():
    """A small run's losses, recorded: other values mean other arithmetic. float64, so that they hold to 1e-12."""
    x, y = classification(40)
    _, t = run(data.ArrayDataset(x, y, 8), mlp(6, 8, 3, dtype="float64"), epochs=10, optimizer=optim.Adam(lr=0.01), shuffle=False)
    np.testing.assert_allclose(t.history["loss"], RECORDED, rtol=1e-12)


RECORDED = [1.04195699037612, 0.9490177488538991, 0.8732230941798923, 0.8070840840699786,
            0.747271947378956, 0.6936123875070005, 0.6443282268564658, 0.595434836166928,
            0.5469564197207663, 0.4994467943359934]


def test_same_bits_on_avx2_and_avx512(tmp_path):
    """A whole training, every activation and optimizer state in it, in a process of each instruction set."""
    from tinydl import _kernels
    code = """
import hashlib, sys
import numpy as np
from tinydl import Model, Trainer, data, losses, nn, optim
layers = [nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.ELU(), nn.LayerNorm(33), nn.BatchNorm1d(33), nn.Dropout(0.2)]
net = [nn.Linear(7, 33)]
for layer in layers:
    net += [layer, nn.Linear(33, 33)]
rng = np.random.default_rng(0)
x, y = rng.standard_normal((203, 7)), rng.integers(0, 33, 203)
for dtype in ("float32", "float64"):
    m = Model(nn.Sequential(*net), dtype, seed=1)
    with Trainer(3, seed=2, enable_parallel=True, thread_count=2, batches_per_update=3) as t:
        t.init(data.ArrayDataset(x.astype(dtype), y, 16), m, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-3))
        t.train()
    print(hashlib.sha256(m.params.tobytes() + m.statistics.tobytes() + m.predict(x).tobytes()).hexdigest())
    del m
    net = [type(layer)(**layer.config()) for layer in net]
"""
    digests = {isa: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                   env=os.environ | {"TINYDL_ISA": isa}).stdout
               for isa in _kernels.isa_available if isa != "generic"}
    assert len(set(digests.values())) <= 1, digests
    assert all(len(d.split()) == 2 for d in digests.values())


# ------------------------------------------------------------------ failures
class FailsOn(nn.PythonLayer):
    """Passes x on; raises where a sample's first feature is one of `marks`."""

    def __init__(self, *marks, error=RuntimeError, backward=False):
        self.marks, self.error, self.in_backward = marks, error, backward

    def _check(self, x):
        hit = [m for m in self.marks if (x[:, 0] == np.float32(m)).any()]
        if hit:
            raise self.error(f"mark {hit[0]}")

    def forward(self, x):
        if not self.in_backward:
            self._check(x)
        return x, x.copy()

    def backward(self, dy, saved):
        self._check(saved)
        return dy


def failing(*marks, **options):
    return Model(nn.Sequential(nn.Sequential(), FailsOn(*marks, **options), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)


def marked(n=32):
    x, y = classification(n)
    x[:, 0] = np.arange(n)      # sample i carries mark i
    x[:, 0] /= 64
    return x, y


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, RecursionError, SystemExit, GeneratorExit])
def test_a_failed_batch_is_left_out_and_accounted(driver, threads, error, caplog):
    x, y = marked()
    with caplog.at_level(logging.WARNING, "tinydl"):
        _, t = run(driver(x, y, 4), failing(9 / 64, error=error), epochs=1, threads=threads, shuffle=False,
                   optimizer=optim.SGD(0.1))
    s = t.parallel_stats()
    assert (s.dispatched, s.done, s.skipped, s.failed, s.samples) == (8, 7, 1, 0, 28)
    (failure,) = t.history.failures
    assert (failure.batch_index, failure.n_samples, type(failure.exception)) == (2, 4, error)
    assert failure.indices.tolist() == [8, 9, 10, 11]
    assert "in forward" in failure.traceback
    record = next(r for r in caplog.records if "left out" in r.message)
    assert "batch 2" in record.message and record.exc_info[1] is failure.exception and "in forward" in caplog.text
    assert t.history["failed_batches"] == [1]


def test_with_one_of_two_failed_the_update_is_serial_training_on_the_other(driver):
    x, y = marked(8)
    a, _ = run(driver(x, y, 4), failing(5 / 64), epochs=1, threads=2, shuffle=False)       # batch 1 fails
    b, _ = run(data.ArrayDataset(x[:4], y[:4], 4), failing(), epochs=1, shuffle=False)
    assert digest(a) == digest(b)


def test_same_bits_with_failures():
    x, y = marked(62)
    marks = (9 / 64, 30 / 64, 61 / 64)
    want = digest(run(data.ArrayDataset(x, y, 4), failing(*marks), threads=1, k=3)[0])
    for threads in (2, 3, 8):
        assert digest(run(data.ArrayDataset(x, y, 4), failing(*marks), threads=threads, k=3)[0]) == want
    assert digest(run(Batched(x, y, 4), failing(*marks), threads=2, k=3)[0]) == want


def test_a_group_of_which_nothing_arrived_makes_no_update(driver):
    x, y = marked(16)
    _, t = run(driver(x, y, 4), failing(1 / 64, 5 / 64), epochs=1, threads=2, shuffle=False)
    assert t.optimizer.t == 1 and t.history["updates"] == [1]


def test_an_epoch_of_which_nothing_arrived_raises(driver):
    x, y = marked(16)
    m = failing(*(np.arange(16) / 64))
    before = digest(m)
    with pytest.raises(TrainingError, match="none of 4 batches") as e:
        run(driver(x, y, 4), m, threads=2)
    assert isinstance(e.value.__cause__, RuntimeError) and len(e.value.failures) == 4
    assert digest(m) == before


@pytest.mark.parametrize("backward", [False, True])
def test_nothing_half_made_is_added(driver, backward):
    """Batch 1 fails in the middle of its forward or backward pass, with gradients behind it already written."""
    x, y = marked(8)

    def model(*marks):
        m = Model(nn.Sequential(nn.Linear(6, 6), FailsOn(*marks, backward=backward), nn.Linear(6, 3)), seed=0)
        m.load_state_dict({"0.weight": np.eye(6), "0.bias": np.zeros(6)}, strict=False)
        return m
    m, t = run(driver(x, y, 4), model(5 / 64), epochs=1, threads=2, shuffle=False)
    assert len(t.history.failures) == 1
    b, _ = run(data.ArrayDataset(x[:4], y[:4], 4), model(), epochs=1, shuffle=False)
    assert digest(m) == digest(b)


@pytest.mark.parametrize("threads", [0, 2])
def test_non_finite_loss_and_gradient(driver, threads):
    x, y = classification(32)
    m, t = run(spoilt(driver, x, y, 4, [9]), mlp(6, 9, 3), epochs=1, threads=threads, shuffle=False)
    assert np.isfinite(m.params).all()
    (failure,) = t.history.failures
    assert failure.batch_index == 2 and "loss is nan" in str(failure.exception)

    class Inf(nn.PythonLayer):
        def forward(self, x):
            return x, x.copy()

        def backward(self, dy, saved):
            return dy * np.where(saved[:, :1] == np.float32(9 / 64), np.inf, 1)
    x, y = marked()
    m = Model(nn.Sequential(nn.Linear(6, 6), Inf(), nn.Linear(6, 3)), seed=0)
    m.load_state_dict({"0.weight": np.eye(6), "0.bias": np.zeros(6)}, strict=False)
    m, t = run(driver(x, y, 4), m, epochs=1, threads=threads, shuffle=False, optimizer=optim.SGD(0.0))
    (failure,) = t.history.failures
    assert failure.batch_index == 2 and "gradient is not finite" in str(failure.exception)


@pytest.mark.parametrize("inputs, outputs, rows", [(1, 1, 1), (6, 3, 2), (40, 10, 9), (33, 17, 5), (64, 128, 32), (500, 40, 3),
                                                   (900, 33, 4), (3, 33, 900)])
def test_one_gradient_that_is_not_finite_is_seen_wherever_it_is(inputs, outputs, rows):
    huge = np.float32(3e38)         # its square is not finite; nor is the sum of two, which is no gradient's fault

    class Given(losses.PythonLoss):
        def forward(self, outputs, targets):
            return float(outputs.sum()), targets.copy()
    for i, j in {(0, 0), (inputs // 2, outputs // 2), (inputs - 1, outputs - 1)}:
        x, dy = np.zeros((rows, inputs), np.float32), np.zeros((rows, outputs), np.float32)
        x[rows // 2, i] = dy[rows // 2, j] = huge
        fine_x, fine_dy = np.zeros_like(x), np.zeros_like(dy)
        fine_x[-1], fine_dy[-1] = 1, huge
        m = Model(nn.Linear(inputs, outputs), seed=0)
        m.params[:] = 0
        both = data.ArrayDataset(np.concatenate([fine_x, x]), np.concatenate([fine_dy, dy]), rows)
        _, t = run(both, m, epochs=1, loss=Given(), optimizer=optim.SGD(0.0), shuffle=False)
        (failure,) = t.history.failures
        assert failure.batch_index == 1 and str(failure.exception) == "a gradient is not finite"


@pytest.mark.parametrize("threads", [0, 2])
def test_a_loss_that_raises(driver, threads):
    class Picky(losses.PythonLoss):
        def forward(self, outputs, targets):
            if (targets == 9).any():
                raise ArithmeticError("nine")
            return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets) / outputs.size
    x, _ = classification(32)
    t = np.arange(32, dtype=np.float32)[:, None]
    _, trainer = run(driver(x, t, 4), mlp(6, 1), epochs=1, threads=threads, shuffle=False, loss=Picky(),
                     optimizer=optim.SGD(1e-4))
    (failure,) = trainer.history.failures
    assert failure.batch_index == 2 and "nine" in str(failure.exception)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_item_that_raises(threads):
    class Items(data.ItemDataset):
        def __len__(self):
            return 32

        def __getitem__(self, i):
            if i == 9:
                raise OSError("unreadable")
            return np.full(6, i / 32, np.float32), i % 3
    _, t = run(Items(4), mlp(6, 3), epochs=1, threads=threads, shuffle=False)
    (failure,) = t.history.failures
    assert failure.batch_index == 2 and isinstance(failure.exception, OSError)
    assert t.parallel_stats().done == 7


@pytest.mark.parametrize("threads", [0, 2])
def test_a_stream_that_breaks(threads):
    def source():
        for i in range(14):
            yield np.full(6, i / 32, np.float32), i % 3
        raise OSError("gone")
    _, t = run(data.StreamDataset(source, 4), mlp(6, 3), epochs=1, threads=threads)
    (failure,) = t.history.failures
    assert isinstance(failure.exception, OSError)
    assert t.history["samples"][0] in (12, 14)


def test_bad_labels_do_not_touch_memory():
    x, _ = classification(8)
    with pytest.raises(ValueError, match="0 to 7"):
        run(data.ArrayDataset(x, np.arange(8), 4), mlp(6, 3))


# ------------------------------------------------------------------ no surprise
class Unpicklable(nn.PythonLayer):
    def __init__(self):
        self.lock = threading.Lock()

    def forward(self, x):
        return x, None

    def backward(self, dy, saved):
        return dy


def test_fallback_warns_once_and_gives_the_same_bits():
    x, y = classification(40)
    m = Model(nn.Sequential(Unpicklable(), nn.Linear(6, 3)), seed=0)
    assert not parallel.is_model_parallelizable(m)
    with pytest.warns(parallel.ParallelFallbackWarning, match="cannot pickle") as caught:
        _, t = run(data.ArrayDataset(x, y, 4), m, threads=2)
    assert len(caught) == 1
    assert t.parallel_stats().mode == "simplified"
    k = Model(nn.Sequential(nn.Sequential(), nn.Linear(6, 3)), seed=0)
    assert digest(m) == digest(run(data.ArrayDataset(x, y, 4), k, threads=2)[0])
    with pytest.raises(TypeError, match="layer 0"):
        parallel.deep_copy_model(m)


# ------------------------------------------------------------------ the pieces
def test_aggregator_means_over_samples():
    a = parallel.GradientAggregator(2)
    a.submit_gradients({"w": np.array([[2.0]]), "b": np.array([1.0])}, 8, 0)
    assert not a.is_ready and a.submission_count == 1
    with pytest.raises(parallel.AggregationTimeoutError, match="slots 1 of 2") as e:
        a.get_average_gradients(timeout=0.01)
    assert e.value.missing == [1] and isinstance(e.value, TimeoutError)
    a.submit_gradients({"w": np.array([[5.0]]), "b": np.array([1.0])}, 2, 1)
    out = a.get_average_gradients(timeout=1)
    assert out["w"][0, 0] == pytest.approx(2.6) and out["b"] == 1 and a.is_ready and a.total_samples == 10
    with pytest.raises(ValueError, match="already"):
        a.submit_gradients({"w": np.zeros((1, 1)), "b": np.zeros(1)}, 2, 1)
    a.reset()
    assert a.submission_count == 0


def test_aggregator_failures_and_door():
    a = parallel.GradientAggregator(3)
    g = np.array([1.5, -2.0], np.float32)
    a.submit_failure(0, RuntimeError("x"))
    a.submit_gradients(g, 5, 2)
    with pytest.raises(ValueError, match="outside"):
        a.submit_gradients(g, 5, 3)
    with pytest.raises(ValueError, match="3 gradients"):
        a.submit_gradients(np.zeros(3, np.float32), 5, 1)
    with pytest.raises(ValueError, match="n_samples=0"):
        a.submit_gradients(g, 0, 1)
    a.submit_failure(1)
    assert a.get_average_gradients().tobytes() == g.tobytes()
    b = parallel.GradientAggregator(1)
    b.submit_failure(0, RuntimeError("cause"))
    with pytest.raises(parallel.NothingArrivedError) as e:
        b.get_average_gradients()
    assert "cause" in str(e.value.__cause__)
    for bad in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            parallel.GradientAggregator(bad)
    with pytest.raises(TypeError):
        parallel.GradientAggregator(1.5)


def test_aggregator_gives_the_same_bits_in_any_order_of_arrival():
    rng = np.random.default_rng(0)
    g = rng.standard_normal((7, 101)).astype(np.float32)
    n = rng.integers(1, 9, 7)
    seen = set()
    for trial in range(10):
        a = parallel.GradientAggregator(7)
        threads = [threading.Thread(target=a.submit_gradients, args=(g[s], int(n[s]), int(s)))
                   for s in np.random.default_rng(trial).permutation(7)]
        for t in threads:
            t.start()
        out = a.get_average_gradients(timeout=10)
        seen.add(out.tobytes())
        for t in threads:
            t.join()
    assert len(seen) == 1
    # a tree of 3 levels: each rounds the values (of a few units) twice
    np.testing.assert_allclose(out, (g.astype(float) * n[:, None]).sum(0) / n.sum(), rtol=0,
                               atol=3 * 2 * 4 * np.finfo(np.float32).eps)


def test_processor_by_hand():
    x, y = classification(8)
    m = mlp(6, 3, dtype="float64")
    batch = data.Batch(x, y, np.arange(4, dtype=np.int64), 0, 5)
    a = parallel.GradientAggregator(1)
    r = parallel.ParallelBatchProcessor(batch, m, losses.SoftmaxCrossEntropy(), a)()
    assert (r.thread_id, r.batch_index, r.n_samples, r.success, r.exception) == (0, 5, 4, True, None)
    before = m.params.copy()
    g = a.get_average_gradients()
    parallel.apply_aggregated_gradients(m, g, optim.SGD(lr=0.5))
    np.testing.assert_allclose(m.params, before - 0.5 * g, atol=1e-15)
    bad = data.Batch(x, y, np.array([99], np.int64), 0, 6)
    a = parallel.GradientAggregator(1)
    r = parallel.ParallelBatchProcessor(bad, m, losses.SoftmaxCrossEntropy(), a)()
    assert not r.success and isinstance(r.exception, IndexError) and r.loss != r.loss


def test_an_interrupt_just_behind_the_gradient_is_in_the_result():
    class Late(parallel.GradientAggregator):
        def submit_gradients(self, *args, **kw):
            super().submit_gradients(*args, **kw)
            raise KeyboardInterrupt
    model, (x, y) = mlp(6, 3), classification(4)
    aggregator = Late(1)
    result = parallel.ParallelBatchProcessor(data.Batch(x, y, None), model, losses.SoftmaxCrossEntropy(), aggregator)()
    assert not result.success and type(result.exception) is KeyboardInterrupt and aggregator.submission_count == 1


def test_a_gradient_whose_batch_fails_just_behind_it_is_taken_back():
    class Late(parallel.GradientAggregator):
        def submit_gradients(self, gradients, n, slot, **kw):
            super().submit_gradients(gradients, n, slot, **kw)
            if slot == 1:
                raise SystemExit
    model, (x, y) = mlp(6, 3), classification(8)
    aggregator, only = Late(2), parallel.GradientAggregator(1)
    batches = [data.Batch(x, y, np.arange(i, i + 4)) for i in (0, 4)]
    results = [parallel.ParallelBatchProcessor(b, model, losses.SoftmaxCrossEntropy(), aggregator, slot=i)()
               for i, b in enumerate(batches)]
    parallel.ParallelBatchProcessor(batches[0], model, losses.SoftmaxCrossEntropy(), only)()
    assert [r.success for r in results] == [True, False] and type(results[1].exception) is SystemExit
    assert aggregator.get_average_gradients(0).tobytes() == only.get_average_gradients(0).tobytes()


def test_deep_copy_model():
    m = deep()
    k = parallel.deep_copy_model(m)
    assert digest(m) == digest(k)
    k.params[...] = 0
    assert m.params.any()
