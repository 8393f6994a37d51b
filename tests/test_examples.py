"""The scripts in examples/ run, say what they claim to say, and refuse what they cannot take. Small runs of each."""
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "examples"
if not FOLDER.is_dir():
    pytest.skip("examples/ is not beside these tests' folder", allow_module_level=True)


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    loaded = []

    def load(name):
        loaded.append(name)
        return importlib.import_module(name)
    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def test_every_example_is_run_here():
    assert {p.stem for p in FOLDER.glob("*.py")} == {"forecast", "unequal_lengths", "characters", "pictures", "many_machines"}


def test_forecast(example, capsys):
    errors = example("forecast").main(["--hours", "2000", "--epochs", "4"])
    assert list(errors)[-1] == "GRU" and errors["GRU"] < errors["the same hour a day before"]
    assert f"{errors['GRU']:.2f}" in capsys.readouterr().out


def test_many_machines(example, tmp_path, capsys):
    """On one rank, in parts; tests/test_mpi.py has more ranks."""
    digests = []
    for name, epochs in (("a", "3"), ("b", "2"), ("b", "3")):
        example("many_machines").main([str(tmp_path / name), "--alone", "--epochs", epochs])
        digests.append(capsys.readouterr().out.split()[-1])
    assert digests[0] == digests[2] != digests[1]


def test_unequal_lengths(example, capsys):
    figures = example("unequal_lengths").main(["--sequences", "300", "--epochs", "2"])
    assert 0 <= figures["accuracy"] <= 1 and figures["commonest"] < 0.6
    assert "right of 60 sequences" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--transformer"]], ids=["lstm", "transformer"])
def test_characters(example, tmp_path, capsys, options):
    path = tmp_path / "text.txt"
    words = np.random.default_rng(0).choice(["eins", "zwei", "drei", "vier", "fünf"], 5_000)
    path.write_text(" ".join(words), encoding="utf-8")
    figures = example("characters").main([str(path), "--units", "32", "--epochs", "8", "--length", "50", *options])
    assert figures["bits"] < figures["naive"]               # a word's letters follow from more than one before
    written = capsys.readouterr().out.rstrip("\n").splitlines()[-1]
    assert written.startswith(" ".join(words)[:20]) and len(written) >= 60 and set(written) <= set("".join(words)) | {" "}
    path.write_text("short", encoding="utf-8")
    with pytest.raises(SystemExit):
        example("characters").main([str(path)])
    assert "has 5 characters; 20,000 are the least" in capsys.readouterr().err


def test_pictures(example, tmp_path, capsys):
    from PIL import Image

    from tinydl import Model
    rng = np.random.default_rng(0)
    for name, colour in (("blue", 2), ("red", 0)):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 60, (9 + i, 20 - i, 3)).astype("uint8")        # of unequal sizes
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    Image.new("L", (8, 8)).save(tmp_path / "red" / "grey.gif")
    (tmp_path / "red" / "notes.txt").write_text("no picture")
    (tmp_path / "blue" / "cut.png").write_bytes((tmp_path / "blue" / "0.png").read_bytes()[:70])
    out = tmp_path / "colours.tinydl"
    figures = example("pictures").main([str(tmp_path), "--size", "8", "--epochs", "20", "--mirror", "--shift", "1",
                                        "--out", str(out)])
    said = capsys.readouterr().out
    assert figures["pictures"] == 25 and figures["accuracy"] >= 0.8
    assert "2 files are skipped" in said and "notes.txt: Unidentified" in said and "cut.png: OSError" in said
    about = Model.load(out).metadata
    assert about["classes"] == ["blue", "red"] and len(about["mean"]) == len(about["std"]) == 3 and 0 < about["mean"][1] < 1


def test_pictures_of_16_bits_and_transparent_ones(example, tmp_path):
    """What Pillow's convert("RGB") makes white of one, and black of the other."""
    from PIL import Image
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    logo = np.zeros((8, 8, 4), np.uint8)
    logo[2:4, :, 3] = 255                                       # black lines on nothing
    Image.fromarray(logo).save(tmp_path / "logo.png")
    palette = Image.fromarray(logo[..., 3] // 255).convert("P")
    palette.putpalette([0] * 6)
    palette.save(tmp_path / "palette.png", transparency=0)
    read = example("pictures").read
    assert (read(tmp_path / "grey.png", 8) == grey >> 8).all()
    for name in ("logo.png", "palette.png"):
        picture = read(tmp_path / name, 8)
        assert picture.shape == (3, 8, 8) and (picture[:, 2:4] == 0).all() and (np.delete(picture, [2, 3], 1) == 255).all()


def test_pictures_refused(example, tmp_path):
    (tmp_path / "one").mkdir()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SystemExit, match="must have a folder for each class"):
            example("pictures").main([str(folder)])
    (tmp_path / "two").mkdir()
    with pytest.raises(SystemExit, match="fewer in one, two"):
        example("pictures").main([str(tmp_path)])
