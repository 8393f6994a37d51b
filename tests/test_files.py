"""What files hold, and how they are replaced: model files, checkpoints and logs alike."""
import errno
import json
import logging
import os
import stat

import numpy as np
import pytest
from small import classification

from tinydl import AccuracyEvaluator, Model, Monitor, Trainer, data, losses, nn, optim
from tinydl.callbacks import Checkpoint, LearningRate
from tinydl.checkpoint import read_settings, save_checkpoint
from tinydl.parallel.strategies import Local
from tinydl.serialization import plain


def trainer(optimizer=None, evaluator=None, monitor=None, **options):
    x, y = classification(64)
    parts = data.ArrayDataset(x, y, np.int64(8)).split(np.int64(40), np.float32(0.25), 0.0, seed=np.int64(0))
    t = Trainer(np.int64(1), monitor, evaluator, **{"seed": np.int64(3), **options})
    t.init(parts, Model(nn.Linear(6, 3), seed=0), losses.SoftmaxCrossEntropy(), optimizer or optim.SGD(0.1))
    return t


# ------------------------------------------------------------------ NumPy's numbers are saved as Python's
@pytest.mark.parametrize("value, want", [
    (np.float32(0.5), 0.5), (np.float16(0.5), 0.5), (np.longdouble(0.5), 0.5), (np.int8(3), 3), (np.uint64(2**63), 2**63),
    (np.True_, True), (np.str_("a"), "a"), (np.array(2.5), 2.5), (np.array([[1, 2]]), [[1, 2]]), (np.array(["a"]), ["a"]),
    ((1, np.int64(2)), [1, 2]), ({np.int64(1): [np.float32(2)]}, {"1": [2.0]}), ({np.str_("k"): np.array([])}, {"k": []}),
    (np.array([np.int8(1), "a", None], object), [1, "a", None])])
def test_metadata_of_numpy_is_saved_as_pythons(value, want, tmp_path):
    model = Model(nn.Linear(2, 1), seed=0)
    model.metadata["value"] = value
    model.save(tmp_path / "m")
    got = Model.load(tmp_path / "m").metadata["value"]
    assert got == want and type(got) is type(want)
    assert model.metadata["value"] is value


@pytest.mark.parametrize("bad", [object(), 1j, np.complex64(1), np.datetime64("2020-01-01"), {(1, 2): 3}, b"x"])
def test_metadata_that_json_cannot_hold(bad, tmp_path):
    model = Model(nn.Linear(2, 1), seed=0)
    model.metadata["value"] = {"inside": bad}
    with pytest.raises(TypeError, match=r"cannot be saved: numbers, text|keys must be"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [
    lambda n: nn.Linear(n[0], n[1], np.True_, init=np.str_("zeros")), lambda n: nn.LayerNorm(n[0]), lambda n: nn.LayerNorm(n[:1]),
    lambda n: nn.LayerNorm(tuple(n[:1])), lambda n: nn.BatchNorm1d(n[0], np.float32(1e-5), np.float32(0.1), np.True_),
    lambda n: nn.Dropout(np.float32(0.5)), lambda n: nn.ELU(np.float32(2)), lambda n: nn.GELU(np.str_("tanh"))])
def test_layers_whose_sizes_and_numbers_are_numpys_are_saved(make, tmp_path):
    model = Model(nn.Sequential(nn.Linear(4, 4), make(np.array([4, 2]))), seed=np.int64(0))
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.layer[1].config() == model.layer[1].config()
    assert np.array_equal(again.predict(np.ones((3, 4))), model.predict(np.ones((3, 4))))


OPTIMIZERS = [lambda: optim.SGD(np.float32(0.1), np.float32(0.9), np.True_, np.float64(0)), lambda: optim.SGD(np.int64(1)),
              lambda: optim.Adam(np.array(1e-3), np.array([0.9, 0.99]), np.float32(1e-8), np.float16(0)),
              lambda: optim.RMSprop(np.float32(1e-2), np.float32(0.9), momentum=np.float32(0.5), centered=np.True_)]
OPTIONS = [{"enable_parallel": np.True_, "thread_count": np.int64(2), "batches_per_update": np.int8(2),
            "max_failed_fraction": np.float32(0.1), "max_retries": np.int64(1), "shutdown_timeout": np.float32(9)},
           {"strategy": np.str_("shard"), "thread_count": np.int64(2), "shards_per_batch": np.int64(2)},
           {"strategy": Local(np.int64(2), np.int64(2), np.True_), "thread_count": 2, "batch_timeout": np.float32(60)},
           {"callbacks": [LearningRate(lambda epoch: np.float32(0.1))]}]


@pytest.mark.parametrize("optimizer, options", [*[(o, {}) for o in OPTIMIZERS], *[(OPTIMIZERS[0], o) for o in OPTIONS]])
def test_settings_of_numpy_go_into_a_checkpoint_and_come_back(optimizer, options, tmp_path):
    with trainer(optimizer(), **options) as first, trainer(optimizer(), **options) as second:
        first.train()
        first.optimizer.lr = np.float32(first.optimizer.lr)     # as a schedule of the user's may
        save_checkpoint(first, tmp_path / "c", {"a": np.int64(3), "b": np.array([1.5]), "c": {np.int64(1): np.float32("nan")}})
        second.load_checkpoint(tmp_path / "c")
        assert second.optimizer.lr == first.optimizer.lr and second.seed == 3
        first.train()
        second.train()
        assert first.model.params.tobytes() == second.model.params.tobytes()
        settings = read_settings(tmp_path / "c")
        assert settings["a"] == 3 and settings["b"] == [1.5] and settings["c"]["1"] != settings["c"]["1"]


class Figures(AccuracyEvaluator):
    def __init__(self, **figures):
        super().__init__()
        self.figures = figures

    def result(self):
        return self.figures


def test_figures_of_numpy_are_kept_and_logged_as_pythons(tmp_path):
    figures = Figures(a=np.float32(0.5), b=np.int64(3), c=np.array(0.25), d=np.float32("nan"), e=-np.inf, f=np.True_)
    with trainer(evaluator=figures, monitor=Monitor(tmp_path / "log", quiet=True)) as t:
        t.optimizer.lr = np.float32(0.5)
        t.train()
        t.save_checkpoint(tmp_path / "c")
        got = t.history.records[0].figures
        assert [type(v) for v in got.values()] == [float, int, float, float, float, bool]
        assert [type(v) for v in t.evaluate().values()] == [float, float, int, float, float, float, bool]
        t.load_checkpoint(tmp_path / "c")
        assert np.isnan(t.history["d"][0]) and t.history["e"] == [-np.inf]

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")
    (line,) = (tmp_path / "log").read_text().splitlines()
    record = json.loads(line, parse_constant=refuse)
    assert record["figures"] == {"a": 0.5, "b": 3, "c": 0.25, "d": None, "e": None, "f": True}
    assert record["learning_rate"] == 0.5 and record["samples"] == 40


def test_a_figure_that_no_log_can_hold_does_not_stop_training(tmp_path, caplog):
    with trainer(evaluator=Figures(a=object()), monitor=Monitor(tmp_path / "log", quiet=True)) as t, \
            caplog.at_level(logging.WARNING, "tinydl"):
        assert len(t.train()) == len(t.train()) - 1 == 1
    assert sum("cannot write" in r.message for r in caplog.records) == 1


def test_plain_leaves_what_is_python_as_it_is():
    value = {"a": [1, 2.5, None, True, "x", {"b": []}], 1: (1, 2)}
    assert plain(value) == {**value, 1: [1, 2]} and json.dumps(plain(value)) == json.dumps(value)


# ------------------------------------------------------------------ how a file is replaced
def model(seed=0):
    return Model(nn.Linear(2, 1), seed=seed)


def save_checkpoint_of_one_epoch(path):
    with trainer() as t:
        t.train()
        t.save_checkpoint(path)


posix = pytest.mark.skipif(os.name != "posix", reason="links, permissions and pipes of POSIX")
SAVES = {"model": lambda path: model().save(path), "checkpoint": save_checkpoint_of_one_epoch}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_a_save_through_a_link_keeps_it_and_replaces_its_target(save, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "m").write_bytes(b"before")
    (tmp_path / "latest").symlink_to("run/m")
    (tmp_path / "link").symlink_to(tmp_path / "latest")
    (tmp_path / "dangling").symlink_to("new/n")
    for link, target in [("link", "run/m"), ("dangling", "new/n")]:
        save(tmp_path / link)
        assert (tmp_path / link).is_symlink() and (tmp_path / "latest").is_symlink()
        assert (tmp_path / target).read_bytes()[8:9] == b"{"
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "dangling", "latest", "link", "new", "new/n", "run", "run/m"]


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@posix
@pytest.mark.parametrize("was", [0o600, 0o644, 0o666, 0o440, None])
def test_the_permissions_of_a_file_that_is_replaced_stay(was, umask, tmp_path, monkeypatch):
    path = tmp_path / "m"
    if was is not None:
        path.write_bytes(b"")
        path.chmod(was)
    real, while_written = os.fsync, []

    def look(fd):
        while_written.append(stat.S_IMODE(os.fstat(fd).st_mode))
        real(fd)
    monkeypatch.setattr(os, "fsync", look)
    model().save(path)
    assert mode(path) == (0o666 & ~umask if was is None else was)
    assert while_written[0] & ~mode(path) == 0          # what is secret is so from the beginning


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_chmod_loses_nothing(there, tmp_path, monkeypatch):
    if there:
        model(1).save(tmp_path / "m")

    def refuse(*args, **options):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    model(2).save(tmp_path / "m")
    assert np.array_equal(Model.load(tmp_path / "m").params, model(2).params) and os.listdir(tmp_path) == ["m"]


def test_a_folder_that_cannot_be_written_is_told_with_the_name_that_was_given(tmp_path, monkeypatch):
    def refuse(path, flags, *args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(PermissionError, match=r"its folder must be writable.*/m'$"):
            model(1).save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


@posix
@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_a_save_makes_the_folder_and_replaces_plain_files_only(save, tmp_path):
    save(tmp_path / "a" / "b" / "m")
    assert (tmp_path / "a" / "b" / "m").is_file()
    os.mkfifo(tmp_path / "pipe")
    for path, error in [(tmp_path, IsADirectoryError), (tmp_path / "pipe", OSError), (tmp_path / "a/b/m/n", OSError)]:
        with pytest.raises(error) as e:
            save(path)
        assert e.value.filename is not None
    assert (tmp_path / "pipe").is_fifo() and sorted(os.listdir(tmp_path)) == ["a", "pipe"]


def test_the_folder_of_checkpoints_is_made_or_refused_as_training_begins(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    seen = []

    class Look(Monitor):
        def start_epoch(self, epoch):
            seen.append((tmp_path / "a" / "b").is_dir())
    for path in ("file/c", "."):
        with trainer(monitor=Look(quiet=True), callbacks=[Checkpoint(tmp_path / path)]) as t:
            with pytest.raises(OSError):
                t.train()
            assert t.epoch == 0 and not seen
    with trainer(monitor=Look(quiet=True), callbacks=[Checkpoint(tmp_path / "a" / "b" / "c")]) as t:
        t.train()
    assert seen == [True] and (tmp_path / "a" / "b" / "c").is_file()
