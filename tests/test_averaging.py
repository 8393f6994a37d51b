"""Averages of parameters: over the last epochs, and what early stopping puts back where an average was validated."""
import os
import signal
from itertools import pairwise

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, digest
from small import DRIVERS, classification, mlp

from tinydl import Model, Trainer, callbacks, data, losses, nn, optim
from tinydl.callbacks import Callback, EarlyStopping, WeightAveraging


class Ends(Callback):
    """The parameters that each epoch ends with."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, trainer, record):
        self.seen.append(trainer.model.params.copy())


def normed(dtype="float32"):
    return Model(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)), dtype, seed=3)


def parts_of(kind=data.ArrayDataset, n=70):
    x, y = classification(n)
    return data.Split(kind(x[:50], y[:50], 8), kind(x[50:], y[50:], 9), None)


def made(parts, model, *more, epochs=4, threads=2, strategy=None, optimizer=None, **options):
    t = Trainer(epochs, enable_parallel=threads > 0, thread_count=threads, strategy=strategy, seed=7, callbacks=more, **options)
    t.init(parts, model, losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(0.02))
    return t


@pytest.mark.parametrize("strategy", STEADY)
def test_it_is_the_mean_of_the_epochs_ends_for_any_threads_and_driver(strategy):
    got = set()
    for kind in DRIVERS.values():
        for threads in (1, 3):
            ends = Ends()
            how = TABLE[strategy][0]()
            with made(parts_of(kind), normed(), ends, WeightAveraging(start=2), threads=threads, strategy=how) as t:
                t.train()
                model = t.averaged_model()
                assert (t.callbacks[1].n, t.history["validation_loss"][-1]) == (3, t.evaluate()["loss"])
            assert np.array_equal(model.params, (np.sum(np.float64(ends.seen[1:]), 0) / 3).astype(np.float32))
            assert digest(t.model) != digest(model)
            got.add((digest(model), digest(t.model), tuple(t.history["validation_loss"])))
    assert len(got) == 1


def test_validation_looks_at_the_average_that_has_the_epoch_in_it():
    ends, parts = Ends(), parts_of()
    with made(parts, mlp(6, 9, 3), ends, WeightAveraging(start=2)) as t:
        t.train()
    for n, figure in enumerate(t.history["validation_loss"], 1):
        model = mlp(6, 9, 3)
        model.params[...] = ends.seen[0] if n == 1 else np.float64(ends.seen[1:n]).sum(0) / (n - 1)
        scores, y = model.predict(parts.validation.x).astype(np.float64), parts.validation.y
        assert figure == pytest.approx((np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]).mean(), rel=1e-5)


def test_running_statistics_are_made_for_the_average():
    """The mean over an epoch's samples of the batches' mean and unbiased variance, before each BatchNorm."""
    parts = parts_of()
    with made(parts, normed("float64"), WeightAveraging()) as t:
        t.train()
        model = t.averaged_model()
    own = model.state_dict()
    weights, n = {k: v for k, v in own.items() if "running" not in k}, len(parts.train)
    want = {k: np.zeros_like(v) for k, v in own.items() if "running" in k}
    order, bounds = parts.train.order(7, 3)
    for lo, hi in pairwise(bounds):
        h = parts.train.x[order[lo:hi]].astype(np.float64)
        for norm, linear in (("0", "1"), ("2", None)):
            want[f"{norm}.running_mean"] += h.mean(0) * (hi - lo) / n
            want[f"{norm}.running_var"] += h.var(0, ddof=1) * (hi - lo) / n
            if linear is not None:
                h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5) * weights["0.weight"] + weights["0.bias"]
                w = weights["1.weight"]
                h = h @ (w if w.shape == (6, 8) else w.T) + weights["1.bias"]
    for name, value in want.items():
        np.testing.assert_allclose(own[name], value, rtol=1e-12, atol=1e-13, err_msg=name)
        assert np.abs(own[name] - t.model.state_dict()[name]).max() > 1e-3


def test_a_batch_that_fails_is_not_in_the_statistics():
    """An epoch's last batch of one sample, as in training."""
    x, y = classification(25)
    with made(data.ArrayDataset(x, y, 8), normed(), WeightAveraging(), epochs=1, threads=0) as t:
        t.train()
        assert t.history["failed_batches"] == [1] and np.isfinite(t.averaged_model().statistics).all()


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_resume_goes_on_to_the_same_average(driver, tmp_path, epochs):
    def trainer(n):
        return made(parts_of(driver), normed(), WeightAveraging(start=2), EarlyStopping(patience=9), epochs=n)
    with trainer(4) as whole, trainer(epochs) as first, trainer(4 - epochs) as again:
        whole.train()
        first.train()
        first.save_checkpoint(tmp_path / "c")
        again.load_checkpoint(tmp_path / "c")
        assert digest(again.averaged_model()) == digest(first.averaged_model())
        again.train()
        assert digest(again.averaged_model()) == digest(whole.averaged_model())
        assert again.history["validation_loss"] == whole.history["validation_loss"]


def test_ctrl_c_while_an_epoch_is_told_of_counts_it_once():
    class Interrupts(Callback):
        left = 1

        def on_epoch_trained(self, trainer, record):
            if self.left and record.epoch == 2:
                self.left = 0
                os.kill(os.getpid(), signal.SIGINT)
    with made(parts_of(), normed(), WeightAveraging()) as whole:
        whole.train()
    with made(parts_of(), normed(), WeightAveraging(), Interrupts()) as t:
        with pytest.raises(KeyboardInterrupt):
            t.train()
        t.max_epochs = 2
        t.train()
    assert t.callbacks[0].n == 4 and digest(t.averaged_model()) == digest(whole.averaged_model())
    assert t.history["validation_loss"] == whole.history["validation_loss"]


@pytest.mark.parametrize("average", ["ema", "epochs"])
def test_early_stopping_puts_back_what_was_validated(average):
    parts = parts_of()
    early, more = EarlyStopping(patience=2, restore_best=True), [WeightAveraging()] if average == "epochs" else []
    optimizer = optim.SGD(0.9, momentum=0.9, ema=0.9 if average == "ema" else None)
    with made(parts, normed(), *more, early, epochs=30, optimizer=optimizer) as t:
        t.train()
        figures = t.history["validation_loss"]
        assert early.best_epoch < len(figures) and early.best == min(figures)
        assert t.evaluate()["loss"] == early.best
        assert digest(t.averaged_model()) == digest(t.model)
        plain = Trainer(1)
        plain.init(parts, t.model, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        assert plain.evaluate()["loss"] == early.best       # the model alone, as it would be saved


def test_a_figure_of_training_puts_the_trained_parameters_back():
    ends, early = Ends(), EarlyStopping("loss", patience=9, restore_best=True)
    with made(parts_of(), mlp(6, 9, 3), ends, early, optimizer=optim.Adam(0.01, ema=0.99)) as t:
        t.train()
    assert np.array_equal(t.model.params, ends.seen[early.best_epoch - 1])


def test_nothing_is_averaged_where_training_ends_before(caplog):
    with made(parts_of(), mlp(6, 3), WeightAveraging(start=9), epochs=2) as t:
        t.train()
        assert digest(t.averaged_model()) == digest(t.model)
    assert "WeightAveraging(start=9): training has ended with epoch 2, and nothing is averaged" in caplog.text


def test_door():
    for start in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"start={start}"):
            WeightAveraging(start)
    with pytest.raises(ValueError, match=r"WeightAveraging\(start=2\) and Adam\(ema=0.9\): validation looks at one average"):
        made(parts_of(), mlp(6, 3), WeightAveraging(2), optimizer=optim.Adam(ema=0.9))
    with pytest.raises(AttributeError, match=r"use callbacks.WeightAveraging\(start=epoch\)"):
        callbacks.SWA()
