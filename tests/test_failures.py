"""A batch, a part of one or a whole run fails in every way, in every strategy: what is left out, and the books."""
import signal
import threading

import numpy as np
import pytest
from every_strategy import STEADY, TABLE, At13, Fails, check_books, deep, digest, left_out, marked, raising, run, with_layer
from small import Batched, classification, mlp

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl._kernels.engine import NonFiniteError
from tinydl.callbacks import Callback
from tinydl.parallel import TrainingError
from tinydl.parallel.execution.epoch import FailurePolicy
from tinydl.parallel.strategies import Group, Shard

pytestmark = pytest.mark.usefixtures("eager_auto")


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, SystemExit])
def test_a_failed_batch_is_left_out_and_accounted_to_the_sample(driver, name, error):
    x, y = marked(64)
    t = run(driver(x, y, 8), with_layer(Fails(13 / 64, error=error)), TABLE[name][0](), epochs=1, shuffle=False)
    (failure,) = t.history.failures
    assert failure.batch_index == 1 and type(failure.exception) is error and "in forward" in failure.traceback
    assert 13 in failure.indices and failure.n_samples == len(failure.indices) and set(failure.indices) <= set(range(8, 16))
    s = t.stats()
    assert s.skipped == 1 and s.failed == 0 and t.history["samples"] == [64 - failure.n_samples]
    assert t.history.skipped_indices().tolist() == failure.indices.tolist()


def too_deep(n=0):
    return too_deep(n + 1)


class PickyLoss(losses.PythonLoss):
    def forward(self, outputs, targets):
        if (targets == 13).any():
            raise ArithmeticError("at 13")
        return float(np.mean((outputs - targets) ** 2)), 2 * (outputs - targets) / outputs.size


class Items(data.ItemDataset):
    def __init__(self, error):
        super().__init__(8)
        self.error = error

    def __len__(self):
        return 64

    def __getitem__(self, i):
        if i == 13:
            raise self.error("at 13")
        return np.full(6, i / 64, np.float32), i % 3


#: source: (what fails at sample 13, the exception that the history has)
LAYERS = {
    "forward": (At13(raising(RuntimeError)), RuntimeError), "backward": (At13(raising(RuntimeError), True), RuntimeError),
    "BaseException": (At13(raising(BaseException)), BaseException),
    "GeneratorExit": (At13(raising(GeneratorExit)), GeneratorExit),
    "MemoryError, backward": (At13(raising(MemoryError), True), MemoryError),
    "recursion": (At13(lambda x: too_deep()), RecursionError),
    "recursion, backward": (At13(lambda x: too_deep(), True), RecursionError),
    "loss not finite": (At13(lambda x: x * np.inf), NonFiniteError),
    "gradient not finite": (At13(lambda dy: dy * np.inf, True), NonFiniteError),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("source", LAYERS)
def test_every_failure_of_a_layer_in_every_strategy(driver, name, source):
    layer, error = LAYERS[source]
    x, y = marked(64)
    net = nn.Sequential(nn.Linear(6, 6), layer, nn.Linear(6, 3))    # a layer before, whose gradient may be infinite
    model = Model(net, seed=0)
    model.load_state_dict({"0.weight": np.eye(6), "0.bias": np.zeros(6)}, strict=False)
    t = run(driver(x, y, 8), model, TABLE[name][0](), epochs=1, shuffle=False, optimizer=optim.SGD(0.0))
    left_out(t, error)


@pytest.mark.parametrize("name", TABLE)
def test_a_loss_that_raises_in_every_strategy(driver, name):
    x, _ = classification(64)
    t = run(driver(x, np.arange(64, dtype=np.float32)[:, None], 8), mlp(6, 1), TABLE[name][0](), epochs=1, shuffle=False,
            loss=PickyLoss(), optimizer=optim.SGD(1e-5))
    left_out(t, ArithmeticError)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("value, words", [(-np.inf, "x[13, 2] is -inf"), (1e300, "x[13, 2] is 1e+300, too large for float32")])
def test_a_value_of_a_memory_map_that_is_not_finite_is_named(driver, name, value, words, tmp_path):
    """A map is not read through beforehand. In the model's dtype, that is: float64's largest are infinite in float32."""
    x, y = marked(64)
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=x.shape)
    mapped[...] = x
    mapped[13, 2] = value
    t = run(driver(mapped, y, 8), mlp(6, 9, 3), TABLE[name][0](), epochs=1, shuffle=False)
    left_out(t, NonFiniteError)
    assert str(t.history.failures[0]).endswith(words)


class Unready(data.Dataset):
    """Batches of pictures that nothing has looked at."""

    batch_size, input_shape = 4, (2, 3)

    def epoch(self, seed, epoch, shuffle=True):
        x = np.zeros((4, 2, 3), np.float32)
        yield data.Batch(x, np.zeros(4, np.int64), None, 0, 0)
        x = x.copy()
        x[1, 1, 2] = np.nan
        yield data.Batch(x, np.zeros(4, np.int64), None, 4, 1)


def test_a_value_of_a_dataset_of_ones_own_that_is_not_finite_is_named():
    t = run(Unready(), Model(nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), seed=0), Group(1), epochs=1)
    assert str(t.history.failures[0]).endswith("x[5, 1, 2] is nan")


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("error", [OSError, MemoryError, SystemExit])
def test_an_item_that_raises_in_every_strategy(name, error):
    left_out(run(Items(error), mlp(6, 3), TABLE[name][0](), epochs=1, shuffle=False), error)


@pytest.mark.parametrize("name", TABLE)
def test_a_layer_that_raises_keyboard_interrupt_ends_training(driver, name):
    """It is never the batch's fault, in whatever thread; what was done before is booked, and training can go on."""
    x, y = marked(64)
    layer = Fails(13 / 64, error=KeyboardInterrupt, times=1)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(KeyboardInterrupt):
            t.train(shuffle=False)
        check_books(t)
        assert t.optimizer.t == t.stats().updates if name != "local" else t.optimizer.t == 0
        t.train(shuffle=False)
        lost = sum(f.n_samples for f in t.history.failures)
        assert t.history["samples"] == [64 - lost] and (lost == 0 or name == "hogwild")
    check_books(t)
    if name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), with_layer(Fails()), TABLE[name][0](), epochs=1, shuffle=False,
                                             optimizer=optim.SGD(0.1)).model)


@pytest.mark.parametrize("name", TABLE)
def test_a_callback_that_raises_in_every_strategy(driver, name):
    class Raises(Callback):
        every = 1

        def on_update(self, trainer, updates):
            self.every = None
            raise RuntimeError("callback")
    x, y = classification(203)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, callbacks=[Raises()]) as t:
        t.init(driver(x, y, 8), deep(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(RuntimeError, match="callback"):
            t.train()
        assert 0 < t.stats().updates < 26 and t.epoch == 0
        t.train()
    check_books(t)
    assert t.history["samples"] == [203] and not t.history.failures
    if name in STEADY:
        assert digest(t.model) == digest(run(driver(x, y, 8), deep(), TABLE[name][0](), epochs=1).model)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("policy", ["skip", "retry"])
def test_the_books_add_up_after_every_update(driver, name, policy):
    seen = []

    class Look(Callback):
        every = 1

        def on_update(self, trainer, updates):
            check_books(trainer)
            s = trainer.stats()
            assert s.updates == updates and s.under_way == s.failed == 0
            seen.append(s.dispatched)
    x, y = marked(128)
    t = run(driver(x, y, 8), with_layer(Fails(13 / 64, 77 / 64, times=2)), TABLE[name][0](), epochs=1, shuffle=False,
            callbacks=[Look()], on_batch_failure=policy, max_failed_fraction=1)
    s = t.stats()
    assert len(seen) > 1 and sorted(seen) == seen and seen[-1] == s.dispatched and len(set(seen)) == len(seen)
    assert (s.skipped, s.retried) == ((0, 2) if policy == "retry" else (2, 0))


@pytest.mark.parametrize("name", STEADY)
def test_both_drivers_count_alike(name):
    """By the same ledger: batches that failed, that were retried, samples, updates, and who ran how many."""
    x, y = marked(128)

    def counts(driver):
        layers = nn.Sequential(Fails(13 / 64, times=1), Fails(77 / 64))
        t = run(driver(x, y, 8), with_layer(layers), TABLE[name][0](), 1, epochs=1, shuffle=False, on_batch_failure="retry")
        s = t.stats()
        assert (s.retried, s.skipped) == (1, 1) and sum(s.batches_by_worker.values()) == s.dispatched and s.busy > 0
        return (s.dispatched, s.done, s.retried, s.skipped, s.failed, s.samples, s.updates, s.batches_by_worker,
                t.history["loss"], [(f.batch_index, f.n_samples, f.thread_id, *f.indices) for f in t.history.failures])
    assert counts(data.ArrayDataset) == counts(Batched)


def test_a_training_error_lists_ten_failures_and_the_count():
    x, y = marked(104)
    with pytest.raises(TrainingError, match="none of 13 batches") as e:
        run(data.ArrayDataset(x, y, 8), with_layer(Fails(*(np.arange(104) / 64))), Group(2), epochs=1, max_failed_fraction=1)
    lines = str(e.value).splitlines()
    assert len(lines) == 12 and lines[-1].strip() == "and 3 more" and len(e.value.failures) == 13


@pytest.mark.parametrize("name", STEADY)
def test_retry_gives_the_bits_of_a_run_without_failures(driver, name):
    x, y = marked(64)
    make = TABLE[name][0]
    t = run(driver(x, y, 8), with_layer(Fails(13 / 64, 40 / 64, times=2)), make(), epochs=1, shuffle=False,
            on_batch_failure="retry")
    whole = run(driver(x, y, 8), with_layer(Fails()), make(), epochs=1, shuffle=False)
    assert digest(t.model) == digest(whole.model) and not t.history.failures
    assert t.stats().retried == 2 and t.stats().dispatched == whole.stats().dispatched
    tried = Fails(13 / 64)
    t = run(driver(x, y, 8), with_layer(tried), make(), epochs=1, shuffle=False, on_batch_failure="retry", max_retries=1)
    assert t.stats().skipped == 1 and t.stats().retried == 0 and tried.seen == {13 / 64: 2}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("policy", [{"on_batch_failure": "raise"}, {"max_failed_fraction": 0.0}])
def test_raise_leaves_the_parameters_of_the_last_good_update(driver, name, policy, caplog):
    x, y = marked(96)
    make = TABLE[name][0]
    with Trainer(1, strategy=make(), enable_parallel=True, thread_count=2, seed=7, **policy) as t:
        t.init(driver(x, y, 8), with_layer(Fails(77 / 64)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"mark 1\.2") as e:
            t.train(shuffle=False)
        assert type(e.value.__cause__) is RuntimeError and e.value.failures[0].batch_index == 9
        check_books(t)
        assert t.stats().failed == 1
        (failure,) = t.history.failures
        assert failure.exception is e.value.failures[0].exception
        assert [r.exc_info[1] for r in caplog.records if r.exc_info] == [failure.exception]
        if name != "hogwild":       # whose other updates cannot be taken back, so this batch is not run again
            assert failure.fatal and not len(t.history.skipped_indices())
        # batch 9 fails: of groups of 3 the first three are good, of rounds of 6 the first one
        good = {"group": 9, "auto": 9, "local": 6}.get(name, 9)
        part = run(driver(x[:8 * good], y[:8 * good], 8), with_layer(Fails()), make(), epochs=1, optimizer=optim.SGD(0.1),
                   shuffle=False)
        assert digest(t.model) == digest(part.model)


def test_hogwild_books_what_it_did_before_it_raises(driver):
    """Its updates cannot be taken back: what was made counts, and is not made again."""
    x, y = marked(96)
    with Trainer(1, strategy="hogwild", thread_count=2, seed=7, on_batch_failure="raise") as t:
        t.init(driver(x, y, 8), with_layer(Fails(77 / 64)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"1 of its batches failed (?s:.*)mark 1\.2") as e:
            t.train(shuffle=False)
        assert e.value.failures[0].batch_index == 9 and len(e.value.failures) == 1
        check_books(t)
        s = t.stats()
        assert (s.skipped, s.failed, s.updates, s.done) == (0, 1, t.optimizer.t, t.optimizer.t)
        assert sum(s.batches_by_worker.values()) == s.dispatched >= 10
        t.train(shuffle=False)
        assert t.history["samples"] == [88] and t.optimizer.t == 11 and len(t.history.failures) == 1
    check_books(t)


def test_hogwild_books_what_it_did_before_ctrl_c(driver):
    x, y = marked(64)

    class Presses(nn.PythonLayer):
        """Presses Ctrl-C in the batch of sample 3 when another batch has made its update, then waits."""

        pressed, release = threading.Event(), threading.Event()

        def __deepcopy__(self, memo):
            return self

        def forward(self, x):
            if (x[:, 0] == np.float32(3 / 64)).any() and not self.pressed.is_set():
                while not t.optimizer.t and not t.stats().under_way:
                    threading.Event().wait(0.001)
                self.pressed.set()
                signal.raise_signal(signal.SIGINT)
                assert self.release.wait(60)
            return x, None

        def backward(self, dy, saved):
            return dy
    with Trainer(1, strategy="hogwild", thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(Presses()), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        workers = list(t.runtime.pool.threads)
        with pytest.raises(KeyboardInterrupt):
            t.train(shuffle=False)
        check_books(t)
        s, before = t.stats(), digest(t.model)
        assert s.updates == s.done == t.optimizer.t >= 1 and s.skipped == 1
        Presses.release.set()
        for worker in workers:
            worker.join(10)
        assert digest(t.model) == before        # what comes late changes nothing
        t.max_epochs = 1 - t.epoch
        t.train(shuffle=False)
        assert t.history["samples"] == [56] and t.optimizer.t == t.stats().updates == 7
    (failure,) = t.history.failures
    assert failure.batch_index == 0
    check_books(t)


def test_more_failures_than_the_fraction_end_training(driver):
    x, y = marked(320)
    marks = [m / 64 for m in (3, 83, 163, 243, 303)]        # 5 of 40 batches; 4 may fail
    with Trainer(1, strategy="group", batches_per_update=2, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), with_layer(Fails(*marks)), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"5 of its batches failed .more than max_failed_fraction=0\.1") as e:
            t.train(shuffle=False)
    assert len(e.value.failures) == 5 and t.optimizer.t == 18        # batch 37 is of the 19th group
    check_books(t)
    assert (t.stats().skipped, t.stats().failed) == (4, 1)


@pytest.mark.parametrize("fraction", [i / 100 for i in range(1, 101)])
def test_exactly_the_fraction_may_fail(fraction):
    """0.29 * 100 is 28.999999999999996."""
    policy = FailurePolicy(max_failed_fraction=fraction)
    assert [policy.most_failures(n) for n in (100, 10**8)] == [round(100 * fraction), round(100 * fraction) * 10**6]


def test_a_batch_of_fewer_rows_than_parts_is_as_many_pieces(driver):
    """Of 64 batches of one row in 8 parts, there are 64 pieces, and 6 may fail: not 51."""
    x, y = marked(64)
    with Trainer(1, strategy=Shard(8), thread_count=2, seed=7) as t:
        t.init(driver(x, y, 1), with_layer(Fails(*(np.arange(0, 64, 2) / 64))), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"7 of its batches failed .more than max_failed_fraction=0\.1"):
            t.train(shuffle=False)
    check_books(t)
    assert (t.stats().skipped, t.stats().failed) == (6, 1)


class Unnumbered(data.Dataset):
    """8 batches of 8 rows, one of them empty, of which none says which it is."""

    batch_size, input_shape, n_samples, n_batches = 8, (6,), 64, 8

    def epoch(self, seed, epoch, shuffle=True):
        x, y = classification(64)
        for b in range(8):
            yield data.Batch(x, y, np.arange(8 * b, 8 * b + 8 * (b != 1)))


@pytest.mark.parametrize("name", TABLE)
def test_an_empty_batch_in_every_strategy(name):
    t = run(Unnumbered(), mlp(6, 3), TABLE[name][0](), epochs=1)
    (failure,) = t.history.failures
    assert (failure.batch_index, failure.n_samples, len(failure.indices)) == (1, 0, 0)
    assert t.stats().skipped == 1 and t.history["samples"] == [56]


# ------------------------------------------------------------------ what gives the batches breaks
class Breaks:
    """Samples that carry marks 0 / 64, 1 / 64, ...; then OSError, each time."""

    def __init__(self, *lengths):
        self.lengths = list(lengths)        # of one epoch after the other; the last one stays

    def __call__(self):
        x, y = marked(128)
        n = self.lengths.pop(0) if len(self.lengths) > 1 else self.lengths[0]
        yield from zip(x[:n], y[:n], strict=True)
        raise OSError("gone")


def breaking(*lengths, n_batches=None):
    """A stream of batches of 8 that breaks."""
    return data.StreamDataset(Breaks(*lengths), 8, n_batches=n_batches, input_shape=(6,))


def said(failures):
    return [(f.batch_index, type(f.exception)) for f in failures]


@pytest.mark.parametrize("name", TABLE)
def test_batches_that_a_broken_source_does_not_give_count_against_the_fraction(name):
    """Where 2 of 20 may fail, 15 that are missing are too many. 2 of 7 are not, where 2 may fail, nor is the last of 6."""
    with Trainer(2, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, max_failed_fraction=0.1) as t:
        t.init(breaking(40, n_batches=20), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match=r"1 of its batches failed, and 14 more did not come (?s:.*)OSError: gone") as e:
            t.train()
        assert said(e.value.failures) == [(5, OSError)] and t.epoch == 0 and t.stats().samples == 40
        check_books(t)
        with pytest.raises(TrainingError, match="14 more did not come"):
            t.train()
        assert t.stats().samples == 40 and t.stats().failed == 2
    check_books(t)
    for n_batches, fraction in ((7, 0.3), (6, 0.1), (None, 0.1)):
        t = run(breaking(40, n_batches=n_batches), mlp(6, 3), TABLE[name][0](), max_failed_fraction=fraction)
        assert said(t.history.failures) == [(5, OSError)] * 2 and t.history["samples"] == [40] * 2


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("n_batches, policy", [(None, {"on_batch_failure": "raise"}), (6, {"max_failed_fraction": 0.0})])
def test_a_broken_source_may_end_training(name, n_batches, policy):
    """The batches before are trained on."""
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, **policy) as t:
        t.init(breaking(40, n_batches=n_batches), deep(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError, match="1 of its batches failed") as e:
            t.train()
    assert type(e.value.__cause__) is OSError and t.stats().samples == 40 and t.stats().failed == 1
    check_books(t)


@pytest.mark.parametrize("name", TABLE)
def test_failures_of_the_last_group_before_a_source_breaks_have_their_numbers(name):
    t = run(breaking(40), with_layer(Fails(25 / 64, 35 / 64)), TABLE[name][0](), epochs=1)
    assert said(t.history.failures) == [(3, RuntimeError), (4, RuntimeError), (5, OSError)]
    assert all(25 in f.indices for f in t.history.failures[:1]) and 35 in t.history.failures[1].indices


@pytest.mark.parametrize("name", TABLE)
def test_an_interrupt_in_the_last_group_before_a_source_breaks(name):
    """The group is run again, and the break is one failure."""
    layer = Fails(35 / 64, error=KeyboardInterrupt, times=1)
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(breaking(40), with_layer(layer), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(KeyboardInterrupt):
            t.train()
        check_books(t)
        t.train()
    check_books(t)
    if name in STEADY:
        assert said(t.history.failures) == [(5, OSError)] and t.history["samples"] == [40]
        assert digest(t.model) == digest(run(breaking(40), with_layer(Fails()), TABLE[name][0](), epochs=1,
                                             optimizer=optim.SGD(0.1)).model)


@pytest.mark.parametrize("name", ["group", "local"])
@pytest.mark.parametrize("by", ["train", "checkpoint"])
def test_training_goes_on_behind_a_source_that_broke(name, by, tmp_path):
    """A callback ends training behind the last update of the epoch, when the break is booked: nothing more is read."""
    class Ends(Callback):
        every = 1

        def on_update(self, trainer, updates):
            if trainer.stats().skipped:
                trainer.save_checkpoint(tmp_path / "there")
                raise RuntimeError("callback")

    def trainer(*callbacks):
        t = Trainer(1, strategy=TABLE[name][0](), thread_count=2, seed=7, callbacks=callbacks)
        t.init(breaking(40), deep(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        return t
    with trainer(Ends()) as first, trainer() as second:
        with pytest.raises(RuntimeError, match="callback"):
            first.train()
        if by == "checkpoint":
            second.load_checkpoint(tmp_path / "there")
        t = first if by == "train" else second
        updates = t.optimizer.t
        t.train()
    assert t.history["samples"] == [40] and [f.batch_index for f in t.history.failures] == [5]
    assert t.epoch == 1 and t.optimizer.t == updates


@pytest.mark.parametrize("name", STEADY)
def test_a_source_that_breaks_sooner_when_training_goes_on_ends_the_epoch_there(name):
    """As in the batch that would have come next."""
    class Stops(Callback):
        every = 1

        def on_update(self, trainer, updates):
            trainer.stop()
    with Trainer(1, strategy=TABLE[name][0](), enable_parallel=True, thread_count=2, seed=7, callbacks=[Stops()]) as t:
        t.init(breaking(64, 3), deep(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        assert t.train().interrupted
        done = t.stats().samples
        assert not t.train().interrupted
    assert t.history["samples"] == [done] and said(t.history.failures) == [(done // 8, OSError)]
    check_books(t)
