"""Models as Python files with NumPy alone: they predict what the model does, in a Python that has nothing else."""
import ast
import runpy
import subprocess
import sys

import numpy as np
import pytest
from layer_cases import CASES, inputs_for, model_of

from tinydl import Model, nn
from tinydl.nn.layer import REGISTRY
from tinydl.numpy_export.layers import EXPRESSIONS


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """These files live for a moment, and there are hundreds."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


def compare(model, path, tolerance):
    model.export_numpy(path)
    x = inputs_for(model)
    got, wanted = runpy.run_path(str(path))["predict"](*x.values()), model.predict(x)
    assert type(got) is type(wanted)
    pairs = zip(got.values(), wanted.values(), strict=True) if isinstance(got, dict) else [(got, wanted)]
    for a, b in pairs:
        assert a.dtype == b.dtype == model.dtype and a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_layers(case, tmp_path):
    compare(model_of(case, "float32"), tmp_path / "net.py", 3e-6)


@pytest.mark.parametrize("case", CASES[::5], ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_layers_in_float64(case, tmp_path):
    compare(model_of(case, "float64"), tmp_path / "net.py", 1e-13)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_no_samples(case, tmp_path):
    model = model_of(case, "float32")
    model.export_numpy(tmp_path / "net.py")
    x = {name: a[:0] for name, a in inputs_for(model).items()}
    got, wanted = runpy.run_path(str(tmp_path / "net.py"))["predict"](*x.values()), model.predict(x)
    for a, b in zip(got.values(), wanted.values(), strict=True) if isinstance(got, dict) else [(got, wanted)]:
        assert a.shape == b.shape and a.dtype == b.dtype


@pytest.mark.parametrize("names", [("len", "relu"), ("a b", "input0"), ("input1", "relu"), ("math", "np"), ("input", "x")])
def test_names_of_inputs_that_mean_something_in_python(names, tmp_path):
    x, y = (nn.Input((2, 3), name=name) for name in names)
    model = Model(inputs=[x, y], outputs=nn.Flatten()(nn.Add()([nn.ReLU()(x), y])))
    compare(model, tmp_path / "net.py", 0)
    assert names != ("input", "x") or "def predict(input, x)" in (tmp_path / "net.py").read_text()


def test_every_layer_has_an_expression():
    theirs = {layer for layer in REGISTRY.values() if layer.__module__.startswith("tinydl.nn.")}
    assert theirs - {nn.Sequential, nn.Residual, nn.Graph} <= set(EXPRESSIONS)


def network():
    x, words = nn.Input((3, 8, 8), name="in"), nn.Input((4,), "int64", name="words")
    image = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Residual(nn.Linear(64, 64)), nn.Linear(64, 6))(x)
    text = nn.LSTM(5, 6, bidirectional=True)(nn.Embedding(9, 5)(words))
    text = nn.TransformerEncoderLayer(12, 3, 8)(text)
    return {"inputs": [x, words], "outputs": {"scores": nn.Concat()([image, nn.Mean(0)(text)]), "image": image}}


def test_alone(tmp_path):
    """Nothing of tinydl, nor of anything but NumPy, is imported."""
    model = Model(**network(), seed=0)
    model.name = 'a "name" \\ of\nlines'
    model.export_numpy(tmp_path / "net.py")
    x = inputs_for(model)
    np.savez(tmp_path / "x.npz", **{f"a{i}": a for i, a in enumerate(x.values())})
    code = ("import sys, numpy, runpy\n"
            "x = numpy.load('x.npz')\n"
            "y = runpy.run_path('net.py')['predict'](x['a0'], x['a1'])\n"
            "numpy.savez('y.npz', **y)\n"
            "print(*sorted({name.split('.')[0] for name in sys.modules} & {'tinydl', 'scipy', 'onnx', 'sklearn'}))")
    out = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "" and out.stderr == ""
    with np.load(tmp_path / "y.npz") as y:
        for name, wanted in model.predict(x).items():
            assert np.abs(y[name] - wanted).max() <= 3e-6 * max(1, np.abs(wanted).max())


def test_the_file_has_what_it_needs_and_no_more(tmp_path):
    Model(nn.Sequential(nn.Linear(3, 4), nn.Mish(), nn.Linear(4, 2)), seed=0).export_numpy(tmp_path / "net.py")
    text = (tmp_path / "net.py").read_text()
    named = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert named == ["linear", "softplus", "mish", "array", "predict"]
    imported = {a.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for a in node.names}
    assert imported == {"base64", "math", "numpy"} and "noqa" not in text
    before = text
    Model(nn.Sequential(nn.Linear(3, 4), nn.Mish(), nn.Linear(4, 2)), seed=0).export_numpy(tmp_path / "net.py")
    assert (tmp_path / "net.py").read_text() == before


class Twice(nn.PythonLayer):
    def forward(self, x):
        return 2 * x, None


class Other(nn.Linear):
    """It may compute anything."""


def test_layers_without_numpy_are_all_named(tmp_path):
    path = tmp_path / "net.py"
    model = Model(nn.Sequential(Other(3, 3), nn.Residual(nn.Sequential(nn.ReLU(), Twice()))), seed=0)
    with pytest.raises(ValueError, match=r"(?s)no NumPy for these layers:.*0: Other\(.*1\.layer\.1: Twice\(\)"):
        model.export_numpy(path)
    with pytest.raises(ValueError, match="pass input_shape"):
        Model(nn.ReLU()).export_numpy(path)
    assert not path.exists()
