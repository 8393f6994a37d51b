"""Loggers and TensorBoard: no epoch is missing, none is there twice, whatever training goes through."""
import csv
import json
import math
import struct

import numpy as np
import pytest
from small import classification, mlp

from tinydl import AccuracyEvaluator, Evaluator, Trainer, callbacks, data, losses, optim
from tinydl.callbacks import CSVLogger, JSONLLogger, TensorBoard
from tinydl.callbacks.tensorboard import _package, _records


class Odd(Evaluator):
    """A figure that is not a number, and one that is called as a field of the record."""

    def start(self):
        pass

    def update(self, outputs, targets):
        pass

    def result(self):
        return {"odd": math.nan, "seconds": 2.5}


def made(epochs, *extra, evaluator=None, **options):
    trainer = Trainer(epochs, evaluator=evaluator or AccuracyEvaluator(), seed=3, callbacks=list(extra))
    trainer.init(data.ArrayDataset(*classification(96), 8).split(0.75, 0.25, 0.0, seed=0), mlp(6, 5, 3),
                 losses.SoftmaxCrossEntropy(), optim.Adam(1e-2, **options))
    return trainer


def rows_of(path):
    text = path.read_text()
    if path.suffix == ".csv":
        return list(csv.DictReader(text.splitlines(), strict=True))
    return [json.loads(line) for line in text.splitlines()]


FILES = [(CSVLogger, "log.csv"), (JSONLLogger, "log.jsonl")]


@pytest.mark.parametrize("logger, name", FILES)
def test_a_line_an_epoch_with_the_history_s_figures(tmp_path, logger, name):
    path = tmp_path / "new folder" / name
    trainer = made(3, logger(path))
    history = trainer.train()
    rows = rows_of(path)
    for field in ("epoch", "loss", "validation_loss", "accuracy", "learning_rate"):
        assert [float(r[field]) for r in rows] == history[field]
    assert rows[0]["gradient_norm"] in (None, "")
    trainer.train()
    assert [int(r["epoch"]) for r in rows_of(path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("logger, name", FILES)
def test_a_resume_takes_out_the_lines_of_later_epochs(tmp_path, logger, name):
    whole, path, checkpoint = tmp_path / ("whole_" + name), tmp_path / name, tmp_path / "c"
    made(4, logger(whole)).train()
    first = made(2, logger(path))
    first.train()
    first.save_checkpoint(checkpoint)
    first.max_epochs = 1
    first.train()
    with open(path, "a") as f:
        f.write('{"epoch": 4, "lo' if path.suffix == ".jsonl" else "4,0.5")     # as a machine that lost its power leaves it
    again = made(2, logger(path))
    again.load_checkpoint(checkpoint)
    again.train()

    def timeless(rows):
        return [{k: v for k, v in r.items() if k != "seconds"} for r in rows]
    assert timeless(rows_of(path)) == timeless(rows_of(whole))
    made(1, logger(path)).train()
    assert [int(r["epoch"]) for r in rows_of(path)] == [1]


@pytest.mark.parametrize("logger, name", FILES)
def test_other_figures_than_before_are_columns_beside_them(tmp_path, logger, name):
    path, checkpoint = tmp_path / name, tmp_path / "c"
    first = made(1, logger(path))
    first.train()
    first.save_checkpoint(checkpoint)
    again = made(1, logger(path), evaluator=Odd())
    again.load_checkpoint(checkpoint)
    again.train()
    rows = rows_of(path)
    assert float(rows[0]["accuracy"]) == first.history["accuracy"][0] and not rows[1].get("accuracy")
    assert rows[1]["odd"] in ("nan", None) and float(rows[1]["validation_seconds"]) == 2.5
    assert float(rows[1]["seconds"]) == again.history.records[-1].seconds


@pytest.mark.parametrize("logger, name", FILES)
def test_an_epoch_s_end_that_ctrl_c_interrupts_has_one_line(tmp_path, logger, name):
    path = tmp_path / name

    class Interrupted(logger):
        left = 1

        def on_epoch_end(self, trainer, record):
            super().on_epoch_end(trainer, record)
            if self.left:
                self.left = 0
                raise KeyboardInterrupt
    trainer = made(3, Interrupted(path))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.max_epochs = 2
    trainer.train()
    assert [int(r["epoch"]) for r in rows_of(path)] == [1, 2, 3]


@pytest.mark.parametrize("logger, name, text", [(*FILES[0], "name,price\nchair,3\n"), (*FILES[1], "[1, 2]\n"),
                                                (*FILES[0], 'epoch,name\n1,"chair\n'), (*FILES[1], "not JSON\n"),
                                                (*FILES[1], '{"epoch": null}\n')])
def test_a_foreign_file_is_not_replaced_where_training_goes_on(tmp_path, logger, name, text):
    path = tmp_path / name
    trainer = made(1)
    trainer.train()
    trainer.callbacks.append(logger(path))
    path.write_text(text)
    with pytest.raises(ValueError, match=f"is no file of {logger.__name__}"):
        trainer.train()
    assert path.read_text() == text


@pytest.mark.parametrize("logger, name", FILES)
def test_a_log_that_cannot_be_written_is_given_up_with_one_warning(tmp_path, logger, name, caplog):
    path = tmp_path / name
    trainer = made(3, logger(path), callbacks.LearningRate(lambda epoch: path.unlink() or path.mkdir() or 0.1 if epoch == 2
                                                           else 0.1))
    assert len(trainer.train()) == 3
    assert len([r for r in caplog.records if str(path) in r.getMessage()]) == 1


def test_tensorboard_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"tinydl-parallel\[tensorboard\]"):
        _package()
    with pytest.raises(TypeError, match="hparams"):
        TensorBoard("folder", hparams={"layers": [1, 2]})


def test_records_end_where_a_file_was_cut_off():
    data = b"".join(struct.pack("<Q", n) + b"sums" + bytes(n) + b"sums" for n in (3, 0, 5))
    assert list(_records(data)) == [(0, 19), (19, 35), (35, 56)]
    assert list(_records(data[:-1])) == [(0, 19), (19, 35)] and list(_records(data[:38])) == [(0, 19), (19, 35)]


def events(folder):
    """What is in the folder's files, by tag: (step, value) of each point, in the order of the files."""
    from tensorboardX.proto.event_pb2 import Event
    out = {}
    for path in sorted(folder.glob("events*"), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        for start, end in _records(data):
            event = Event.FromString(data[start + 12:end - 4])
            for value in event.summary.value:
                out.setdefault(value.tag, []).append((event.step, value.simple_value))
    return out


def test_tensorboard_has_each_point_once_after_a_resume(tmp_path):
    pytest.importorskip("tensorboardX")

    def board(folder):
        return TensorBoard(folder, every=4, histograms=True, hparams={"width": 6, "note": "first"})
    whole = made(3, board(tmp_path / "whole"), clip_norm=1.0)
    history = whole.train()
    first = made(1, board(tmp_path / "cut"), clip_norm=1.0)
    first.train()

    class At7(callbacks.Callback):
        every = 7

        def on_update(self, trainer, updates):
            trainer.save_checkpoint(tmp_path / "c")
            self.every = None
    first.callbacks.append(At7())
    first.train()
    again = made(2, board(tmp_path / "cut"), clip_norm=1.0)
    again.load_checkpoint(tmp_path / "c")
    again.train()
    want, got = events(tmp_path / "whole"), events(tmp_path / "cut")
    assert want["loss/train"] == [(e, np.float32(v)) for e, v in enumerate(history["loss"], 1)]
    assert want["validation/accuracy"] == [(e, np.float32(v)) for e, v in enumerate(history["accuracy"], 1)]
    assert [s for s, _ in want["updates/loss"]] == [4, 8, 13, 17, 22, 26]
    assert [s for s, _ in want["updates/gradient_norm"]] == [4, 8, 13, 17, 22, 26]
    for tag in want.keys() - {"samples_per_second"}:
        at = 17 if tag.startswith("updates/") else None         # the mean since the update before, where the resume cut it
        assert [p for p in got[tag] if p[0] != at] == [p for p in want[tag] if p[0] != at], tag
        assert [s for s, _ in got[tag]] == [s for s, _ in want[tag]], tag
    assert "parameters/0.weight" in got and "_hparams_/session_start_info" in got
    assert got.keys() == want.keys()


def test_tensorboard_leaves_figures_out_that_are_no_numbers(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")

    class Matrix(Odd):
        def result(self):
            return {"matrix": np.eye(2), "name": "a", "none": None, "number": 3}
    assert made(1, TensorBoard(tmp_path), evaluator=Matrix()).train().records[0].figures["matrix"] == [[1, 0], [0, 1]]
    data = next(tmp_path.iterdir()).read_bytes()
    tags = {v.tag for start, end in _records(data) for v in event_pb2.Event.FromString(data[start + 12:end - 4]).summary.value}
    assert {tag for tag in tags if tag.startswith("validation/")} == {"validation/number"}


def test_tensorboard_removes_its_own_files_where_training_begins_anew(tmp_path):
    pytest.importorskip("tensorboardX")
    other = tmp_path / "events.out.tfevents.1.other"
    other.write_bytes(b"")
    for _ in range(2):
        made(2, TensorBoard(tmp_path)).train()
    assert other.exists() and [s for s, _ in events(tmp_path)["loss/train"]] == [1, 2]


def test_tensorboard_shows_the_graph(tmp_path):
    pytest.importorskip("tensorboardX")
    pytest.importorskip("onnx")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.graph_pb2 import GraphDef
    made(1, TensorBoard(tmp_path, graph=True)).train()
    path, = tmp_path.glob("events*")
    data = path.read_bytes()
    graphs = [Event.FromString(data[a + 12:b - 4]).graph_def for a, b in _records(data)]
    graph = GraphDef.FromString(next(filter(None, graphs)))
    assert {node.op for node in graph.node} >= {"Relu"}
