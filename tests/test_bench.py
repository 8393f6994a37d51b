"""The benchmarks measure what they say: the same training by every contender, tables and charts from runs."""
import json

import numpy as np
import pytest

from tinydl.benchmarks import by_numpy, charts, compare, machine, ours, small
from tinydl.benchmarks.workloads import ALL, Order
from tinydl.cli import main


@pytest.mark.parametrize("workload", ["W1", "W2"])
def test_numpy_and_tinydl_train_the_same(workload):
    w = ALL[workload]
    a, b, order = ours.make(w, "serial", 1), by_numpy.make(w, "", 1), Order(w)
    for _ in range(10):
        batch = order.take(1)
        assert a.step(batch) == pytest.approx(b.step(batch), abs=5e-6)


@pytest.mark.parametrize("threads", [2, 9, 40])      # also more than divide a batch of 32, or than it has rows
def test_shard_makes_the_same_updates_as_serial(threads):
    w = ALL["W1"]
    a, b = ours.make(w, "serial", 1), ours.make(w, "shard", threads)
    batches = Order(w).take(20)
    a.step(batches)
    b.step(batches)
    b.close()
    assert b.resources.state.t == a.resources.state.t == 20
    np.testing.assert_allclose(a.resources.model.params, b.resources.model.params, atol=1e-5)


def test_order_takes_every_sample_once_an_epoch():
    w = ALL["W4"]
    order = Order(w)
    epoch = np.concatenate([order.take(7).ravel(), order.take(25).ravel()])
    assert np.array_equal(np.sort(epoch), np.arange(w.samples))


RUNS = [{"contender": c, "mode": m, "workload": w, "threads": n, "rate": r, "round": "0"} for c, m, w, n, r in [
    ("tinydl", "serial", "W1", 1, 200.0), ("tinydl", "group", "W1", 2, 300.0), ("tinydl", "shard", "W1", 2, 250.0),
    ("torch", "eager", "W1", 1, 50.0), ("torch", "whole", "W1", 1, 100.0), ("torch", "eager", "W1", 2, 60.0)]]


def test_a_ratio_is_the_median_over_rounds():
    drifting = [{**RUNS[0], "contender": c, "mode": m, "rate": r * slow, "round": str(i)}
                for i, slow in enumerate([1, 1, 0.1, 0.2, 0.1]) for c, m, r in [("tinydl", "serial", 30), ("jax", "scan", 10)]]
    drifting[0]["rate"] = 1.0       # one of our turns was disturbed, and the machine was slower in most rounds
    assert compare.times(drifting, "W1", ("tinydl serial", 1), ("jax scan", 1)) == pytest.approx(3)
    assert np.isnan(compare.times(drifting, "W1", ("tinydl serial", 1), ("torch eager", 1)))


def test_a_contender_that_fails_says_why():
    with compare.Contender("tinydl", "serial", "W9", 1) as c, pytest.raises(RuntimeError, match=r"tinydl serial W9 .*KeyError"):
        c.ask(1)
    with compare.Contender("tinydl", "serial", "W1", 1, timeout=0) as c, pytest.raises(RuntimeError, match="no answer in 0 s"):
        c.ask(1)


def test_check_compares_losses():
    assert "numpy" in compare.check_all(["tinydl", "numpy"], ["W1"]) and "in 20 steps" in compare.check_all(["numpy"], ["W1"])


def test_turns_without_a_cpu_a_thread_do_not_count():
    def turns(cpus):
        return [{**RUNS[1], "cpus": c, "rate": 100 * c, "round": str(i)} for i, c in enumerate(cpus)]
    counted = compare.count_turns(turns([2.0, 1.1, 1.9, 1.05, 1.95]))
    assert [r["counted"] for r in counted] == [True, False, True, False, True]
    assert compare.medians(counted) == {("W1", 2): {"tinydl group": 195}}
    assert "shared a core in 2 of 5 turns; 2 were not" in compare.disturbed(counted)
    assert all(r["counted"] for r in compare.count_turns(turns([1.1, 2.0, 1.0, 2.0])))      # too few without them
    assert machine.cpus_at_once(1) == 1 and 0 < machine.cpus_at_once(2, 0.01)


def test_tables_and_charts(tmp_path):
    assert "2.00 x" in compare.tables(RUNS) and "| torch, 1 thread | 2.00 |" in compare.ratios(RUNS)
    assert "| torch, 2 threads, group | 5.00 |" in compare.ratios(RUNS)
    assert "| torch, 2 threads, shard | 4.17 |" in compare.ratios(RUNS)
    assert "1.50" in compare.scaling(RUNS) and "75%" in compare.scaling(RUNS)
    assert not compare.disturbed(RUNS) and "1 of 1" in compare.disturbed([{**RUNS[0], "foreign_cpus": 0.5}])
    assert all(len(line) <= 80 for line in (compare.tables(RUNS) + compare.scaling(RUNS)).splitlines())
    for draw in (charts.draw, charts.draw_scaling):
        assert draw(RUNS, tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "CPUs" in machine.line(machine.describe())


def test_digits_and_matmul(monkeypatch):
    monkeypatch.setattr(small, "EPOCHS", 3)
    monkeypatch.setattr(small, "SHAPES", [(4, 4, 4), (32, 10, 64)])
    result = small.digits(1)
    assert all(r["accuracy"][0] > 0.8 for r in result.values()) and "accuracy" in small.digits_table(result)
    rows = small.matmul(1e-4, 1)
    assert len(rows) == 6 and "geometric mean" in small.matmul_table(rows)


def test_command(tmp_path, capsys):
    out = tmp_path / "new" / "r.json"
    assert main(["bench", "--workloads", "W1", "--threads", "1", "--runs", "2", "--seconds", "0.02", "--out", str(out)]) == 0
    assert "speed-up" in capsys.readouterr().out
    assert json.loads(out.read_text())["runs"][0]["rate"] > 0


@pytest.mark.parametrize("arguments, message", [(["--against", "x"], "'x'"), (["--workloads", "W9"], "'W9'"),
                                                (["--threads", "0"], "'0'"), (["--threads", "256"], "usable"),
                                                (["--out", "."], "--out . is a folder"), (["--plot", "a.x"], ".png, .svg"),
                                                (["--out", "file/r.json"], "file")])
def test_bad_input(arguments, message, capsys, tmp_path, monkeypatch):
    """All of it is said before anything is measured."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(compare, "measure_all", None)
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
