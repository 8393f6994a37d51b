"""Model files and checkpoints are safetensors files: what the format asks for, what a damaged or foreign file leads to, what a
kill leaves, and the zip files of before."""
import io
import json
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small import classification, mlp

from tinydl import Model, Trainer, data, losses, nn, optim, serialization
from tinydl.callbacks import Callback, EarlyStopping
from tinydl.checkpoint import read_settings, save_checkpoint
from tinydl.formats import safetensors
from tinydl.serialization import read_arrays, write_arrays

DATA = Path(__file__).parent / "data"
rng = np.random.default_rng(0)
F = np.asfortranarray(rng.standard_normal((3, 5)).astype("f4"))
ARRAYS = {
    "a.f32": rng.standard_normal((2, 3)).astype("f4"), "f64": rng.standard_normal((2, 1)), "f16": np.array([1.5, -np.inf], "f2"),
    "bool": np.array([[True, False, True]]), "count": np.array(7), "none": np.zeros((0, 4), "f4"),
    "c64": np.array([1 + 2j], "c8"), **{d: np.array([-1, 2]).astype(d) for d in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
    "fortran": F, "strided": np.arange(40.0)[::-3], "broadcast": np.broadcast_to(np.float32(3), (2, 2)),
    "big endian": np.arange(4, dtype=">f4"), "ünïcode \N{SNOWMAN}": np.ones(1), "": np.zeros(2), "nan": np.array([np.nan, -0.0])}


def written(arrays, metadata=None):
    f = io.BytesIO()
    safetensors.write(f, arrays, lambda checksums: metadata or {})
    return f.getvalue()


def same(got, want):
    assert got.keys() == want.keys()
    for name, a in want.items():
        assert got[name].shape == a.shape and got[name].dtype == a.dtype.newbyteorder("="), name
        assert got[name].tobytes() == np.ascontiguousarray(a).reshape(a.shape).astype(got[name].dtype).tobytes(), name


# ------------------------------------------------------------------ the format
def test_every_dtype_and_layout_comes_back():
    metadata, arrays = safetensors.read(io.BytesIO(written(ARRAYS, {"k": 'text "ü"'})))
    assert metadata == {"k": 'text "ü"'}
    same(arrays, ARRAYS)
    assert all(a.flags.writeable and a.flags.aligned and a.flags.c_contiguous for a in arrays.values())


def test_a_file_is_as_the_format_says():
    """Read by its description alone."""
    content = written(ARRAYS)
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + n])
    assert n % 8 == 0 and content[8:9] == b"{" and content[8 + n - 8:8 + n].rstrip(b" ")[-1:] in (b"}", b"")
    spans = []
    for name, a in ARRAYS.items():
        entry = header[name]
        begin, end = entry["data_offsets"]
        assert entry["shape"] == list(a.shape) and end - begin == a.nbytes and begin % a.dtype.itemsize == 0
        assert content[8 + n + begin:8 + n + end] == a.astype(a.dtype.newbyteorder("<")).tobytes(order="C")
        spans.append((begin, end))
    spans.sort()
    assert spans[0][0] == 0 and spans[-1][1] == len(content) - 8 - n
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_bfloat16_is_read_exactly():
    values = np.array([1.0, -2.5, 3.0e38, 1e-40, np.inf, -np.inf, np.nan, 0.0, -0.0], "f4")
    bits = (values.view("u4") >> 16).astype("<u2")
    header = json.dumps({"b": {"dtype": "BF16", "shape": [3, 3], "data_offsets": [0, 18]}}).encode()
    _, arrays = safetensors.read(io.BytesIO(struct.pack("<Q", len(header)) + header + bits.tobytes()))
    assert arrays["b"].dtype == np.float32 and arrays["b"].shape == (3, 3)
    assert arrays["b"].tobytes() == (bits.astype("<u4") << 16).tobytes()


def test_the_package_reads_ours_and_we_read_the_packages():
    package = pytest.importorskip("safetensors.numpy")
    wanted = {name: a for name, a in ARRAYS.items() if name != "big endian"}
    for arrays, metadata in ((wanted, {"a": "b"}), (wanted, None), ({}, None), ({}, {"a": "b"})):
        same(package.load(written(arrays, metadata)), arrays)
        content = package.save({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}, metadata)
        got, back = safetensors.read(io.BytesIO(content))
        assert got == (metadata or {})
        same(back, arrays)


def test_the_package_reads_models_and_checkpoints(tmp_path):
    package = pytest.importorskip("safetensors")
    model = mlp(3, 4, 2)
    model.save(tmp_path / "m.safetensors")
    with package.safe_open(tmp_path / "m.safetensors", "numpy") as f:
        same({name: f.get_tensor(name) for name in f.keys()}, model.state_dict())
        assert json.loads(f.metadata()["tinydl"])["format"] == "tinydl-model"
        arrays, metadata = {name: f.get_tensor(name) for name in f.keys()}, f.metadata()
    from safetensors.numpy import save_file
    save_file(arrays, tmp_path / "again", metadata)         # in its own order
    assert Model.load(tmp_path / "again").params.tobytes() == model.params.tobytes()
    t = trained()
    t.save_checkpoint(tmp_path / "c")
    with package.safe_open(tmp_path / "c", "numpy") as f:
        assert np.array_equal(f.get_tensor("model/0.weight"), t.model.state_dict()["0.weight"])
        assert "optimizer/exp_avg" in f.keys()


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([1j]), np.array([object()]), np.zeros(2, np.longdouble),
                                   np.array("2020-01-01", "M8[D]")])
def test_what_the_format_has_no_dtype_for_is_named(value):
    with pytest.raises(TypeError, match=r"array 'b' is of dtype .*, which cannot be saved: bool, integers"):
        written({"a": np.zeros(3), "b": value})
    with pytest.raises(ValueError, match="__metadata__"):
        written({"__metadata__": np.zeros(3)})


def entry(begin=0, end=8, shape=(2,), dtype="F32", **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def raw(header, size=8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


#: a file, and what its error says
WRONG = {
    "no JSON": (raw(b"{nonsense}"), "cannot be read"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "cannot be read"),
    "deep": (raw(b'{"a":' + b"[" * 100_000), "cannot be read"),
    "a list": (raw(b"[]"), "no JSON object"),
    "a space first": (raw(b" {}", 0), "no JSON object"),
    "axes without end": (raw({"a": entry(shape=[10 ** 9] * 3000)}), "3,000 axes"),
    "a name twice": (raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],'
                         b'"data_offsets":[0,8]}}'), "'a' comes twice"),
    "a gap": (raw({"a": entry(0, 8), "b": entry(12, 20)}, 20), "'b' begins at byte 12, where the one before it ends at 8"),
    "a gap first": (raw({"a": entry(8, 16)}, 16), "begins at byte 8"),
    "overlap": (raw({"a": entry(0, 8), "b": entry(4, 12)}, 12), "'b' begins at byte 4"),
    "the same place": (raw({"a": entry(0, 8), "b": entry(0, 8)}), "'b' begins at byte 0"),
    "data missing": (raw({"a": entry()}, 7), "truncated"),
    "too much data": (raw({"a": entry()}, 9), "1 bytes behind its arrays"),
    "a shape that does not fit": (raw({"a": entry(shape=(3,))}), "cannot have 8 bytes"),
    "a dtype that does not fit": (raw({"a": entry(dtype="F64")}), "cannot have 8 bytes"),
    "end before begin": (raw({"a": entry(0, -8)}), "whole numbers"),
    "a huge shape": (raw({"a": entry(shape=(2**40, 2**40))}), "cannot have 8 bytes"),
    "a negative shape": (raw({"a": entry(shape=(-1, -2))}), "whole numbers"),
    "no whole number": (raw({"a": entry(shape=(2.0,))}), "whole numbers"),
    "an unknown dtype": (raw({"a": entry(dtype="F5")}), "'F5', which NumPy has not"),
    "no dtype": (raw({"a": {"shape": [2], "data_offsets": [0, 8]}}), "must have dtype"),
    "no entry": (raw({"a": 3}), "must have dtype"),
    "three offsets": (raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}), "whole numbers"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}, "a": entry()}), "must be texts"),
    "metadata of lists": (raw({"__metadata__": [], "a": entry()}), "must be texts"),
    "a header beyond the file": (struct.pack("<Q", 1000) + b"{}", "truncated"),
    "a header beyond the limit": (struct.pack("<Q", 2**63) + b"{}" + bytes(100), "truncated"),
    "seven bytes": (b"1234567", "truncated"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(name):
    content, says = WRONG[name]
    with pytest.raises(ValueError, match=says):
        safetensors.read(io.BytesIO(content))


@pytest.mark.parametrize("name", sorted(WRONG.keys() - {"a space first", "a name twice"}))     # which it lets pass
def test_the_package_refuses_wrong_files_too(name):
    package = pytest.importorskip("safetensors")
    with pytest.raises((package.SafetensorError, ValueError, TypeError, UnicodeDecodeError)):
        package.deserialize(WRONG[name][0])


def test_a_header_that_is_too_long_for_the_format(monkeypatch):
    monkeypatch.setattr(safetensors, "LARGEST_HEADER", 100)
    longer = json.dumps({f"{i}": entry(8 * i, 8 * i + 8) for i in range(3)}).encode()
    with pytest.raises(ValueError, match="its header alone would be"):
        safetensors.read(io.BytesIO(raw(longer, 24)))
    with pytest.raises(ValueError, match=r"of 3 arrays, .* the format ends at 100"):
        written({f"{i}": np.zeros(1) for i in range(3)})


# ------------------------------------------------------------------ models and checkpoints
def trained(epochs=2, **options):
    x, y = classification(64)
    t = Trainer(epochs, seed=3, **options)
    t.init(data.ArrayDataset(x, y, 8), Model(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), seed=0),
           losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    t.train()
    return t


def test_the_same_model_has_the_same_bytes(tmp_path):
    for name in "ab":
        mlp(3, 4, 2).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Keeps(Callback):
    def state_dict(self):
        return {"flags": np.array([True, False]), "fortran": F, "n": np.int64(3), "big": np.arange(3, dtype=">i2")}

    def load_state_dict(self, state):
        self.got = state


def test_a_checkpoint_holds_arrays_of_every_kind(tmp_path):
    t = trained(callbacks=[Keeps()])
    t.save_checkpoint(tmp_path / "c")
    t.load_checkpoint(tmp_path / "c")
    got = t.callbacks[0].got
    assert got["flags"].tolist() == [True, False] and got["flags"].dtype == bool and got["n"] == 3
    assert np.array_equal(got["fortran"], F) and got["big"].tolist() == [0, 1, 2]
    t.shutdown()


@pytest.mark.parametrize("what", ["model", "checkpoint"])
def test_every_altered_byte_and_every_shortening_is_found(what, tmp_path):
    path = tmp_path / "m"
    t = trained()
    (t.model.save if what == "model" else t.save_checkpoint)(path)
    load = Model.load if what == "model" else read_settings
    whole = path.read_bytes()
    load(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    changes = [*range(9), *np.random.default_rng(0).permutation(len(whole))[:150].tolist()]
    for at in changes:
        if whole[at:at + 1] == b" " and at < header:      # what pads the header
            continue
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 7)]) + whole[at + 1:])
        with pytest.raises(ValueError, match=re.escape(f"{path} is not a")):
            load(path)
    for n in (0, 1, 7, 8, 9, header - 1, header, header + 1, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=r"an empty file|truncated|or a damaged one|a text file"):
            load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="belong to none"):
        load(path)


def test_an_altered_array_is_named(tmp_path):
    mlp(3, 4, 2).save(tmp_path / "m")
    content = bytearray((tmp_path / "m").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match=r"altered since tinydl wrote it \(2\.bias\)"):
        Model.load(tmp_path / "m")


def test_an_altered_shape_is_found(tmp_path):
    """Its bytes are the same."""
    mlp(3, 4, 2).save(tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(content.replace(b'"shape":[3,4]', b'"shape":[4,3]'))
    with pytest.raises(ValueError, match=r"altered since tinydl wrote it \(its header\)"):
        Model.load(tmp_path / "m")


def test_checksums_are_of_what_is_written(tmp_path):
    mlp(3, 4, 2).save(tmp_path / "m")
    metadata, arrays = safetensors.read(io.BytesIO((tmp_path / "m").read_bytes()))
    checks = json.loads(metadata["tinydl.crc32"])["arrays"]
    assert checks == {name: f"{zlib.crc32(a.tobytes()):08x}" for name, a in arrays.items()}


def test_parameters_that_change_while_they_are_saved_leave_a_file_that_can_be_read(monkeypatch):
    model = mlp(300, 400, 2)
    monkeypatch.setattr(safetensors, "PIECE", 4096)

    class Changing(io.BytesIO):
        def write(self, content):
            model.params[...] += 1
            return super().write(content)
    f = Changing()
    model.save(f)
    assert Model.load(f).num_parameters == model.num_parameters


def foreign(folder):
    """(path, what its error says)"""
    def file(name, content):
        (folder / name).write_bytes(content)
        return folder / name
    np.savez(folder / "a.npz", a=np.zeros(3))
    np.save(folder / "a.npy", np.zeros(3))
    for name, members in (("m.pt", ["archive/data.pkl", "archive/data/0"]), ("m.keras", ["config.json", "model.weights.h5"]),
                          ("m.zip", ["x.txt"])):
        with zipfile.ZipFile(folder / name, "w") as z:
            for member in members:
                z.writestr(member, "x")
    yield folder / "a.npz", "load_state_dict"
    yield folder / "a.npy", "an array of NumPy"
    yield folder / "m.pt", r"pickle of PyTorch(.|\n)*safetensors.torch import save_file\n.*save_file\(.*m\.pt.*weights_only=True"
    yield folder / "m.keras", "keras_weights.load"
    yield folder / "m.zip", "a zip file of something else"
    yield file("old.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80"), "pickle of PyTorch"
    yield file("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5"
    yield file("m.onnx", b"\x08\x0a\x12\x06tinydl\x1a\x000:"), r"an ONNX model: Model\.from_onnx\(.*\) reads it"
    yield file("m.gz", b"\x1f\x8b" + bytes(100)), "unpack"
    yield file("m.csv", "a,b\n1,ü\n".encode() * 100), "a text file"
    yield file("m.bin", bytes(range(255, 0, -1)) * 4), "unknown content"
    yield file("m.empty", b""), "an empty file"
    yield file("m.safetensors", written({"a": np.zeros(3)})), "a safetensors file without a model"


def test_foreign_files_are_named(tmp_path):
    t = trained()
    for path, says in foreign(tmp_path):
        for load, what in ((Model.load, "model file"), (t.load_checkpoint, "checkpoint"), (read_settings, "checkpoint")):
            with pytest.raises(ValueError, match=says) as e:
                load(path)
            assert str(e.value).startswith(f"{path} is not a {what} of tinydl: ")
    t.save_checkpoint(tmp_path / "c")
    with pytest.raises(ValueError, match=r"c is not a model file of tinydl, but a checkpoint: Trainer\.load_checkpoint reads it"):
        Model.load(tmp_path / "c")
    t.model.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"m is not a checkpoint of tinydl, but a model file: Model\.load reads it"):
        t.load_checkpoint(tmp_path / "m")
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "nowhere")
    t.shutdown()


def test_layers_larger_than_the_file_take_no_memory():
    """The sizes that a stranger's file says are compared with its arrays before there is memory for them."""
    f, g = io.BytesIO(), io.BytesIO()
    Model(nn.Linear(3, 2), seed=0).save(f)
    about, arrays = read_arrays(f, "model file")
    about["layer"]["config"]["out_features"] = 10 ** 12
    write_arrays(g, "model file", about, arrays)
    with pytest.raises(ValueError, match=r"does not fit Linear: misshapen: weight \(3, 2\) for \(3, 1000000000000\)"):
        Model.load(g)


@pytest.mark.parametrize("text", ["[]", "null", '{"format": "tinydl-model", "version": "3"}', "[" * 100_000])
def test_what_a_file_says_of_itself_may_be_anything(text, monkeypatch):
    f = io.BytesIO()
    monkeypatch.setattr(json, "dumps", lambda value, dumps=json.dumps, **how: text if "format" in value else dumps(value, **how))
    write_arrays(f, "model file", {}, {})
    with pytest.raises(ValueError, match="is not a model file of tinydl"):
        Model.load(f)


def test_a_later_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(serialization.FORMATS, "model file", ("tinydl-model", 4))
    mlp(3, 2).save(tmp_path / "m")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 4 of the format; this tinydl reads up to 3: upgrade"):
        Model.load(tmp_path / "m")


def test_a_model_with_more_to_say_than_a_header_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "LONGEST", 10_000)
    monkeypatch.setattr(safetensors, "LARGEST_HEADER", 10_000)
    model = mlp(3, 2)
    model.metadata["notes"] = ["ü" * 100] * 1000
    model.save(tmp_path / "m")
    assert Model.load(tmp_path / "m").metadata == model.metadata
    content = bytearray((tmp_path / "m").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match="altered"):
        Model.load(tmp_path / "m")


def test_an_open_file_is_read_from_its_beginning_and_written_where_it_stands():
    f = io.BytesIO()
    model = mlp(3, 2)
    model.save(f)
    assert Model.load(f).params.tobytes() == model.params.tobytes()

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation("seek")
    pipe = Pipe()
    model.save(pipe)
    assert pipe.getvalue() == f.getvalue()
    f.write(b"more")
    with pytest.raises(ValueError, match="belong to none"):
        Model.load(f)


def test_saving_copies_no_array_as_a_whole_and_loading_only_once(tmp_path):
    """Memory beside the model itself (16 MB)."""
    model = mlp(2000, 2000, 2, seed=0)
    tracemalloc.start()
    try:
        model.save(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < 4 * safetensors.PIECE
        tracemalloc.reset_peak()
        read_arrays(tmp_path / "m", "model file")
        assert tracemalloc.get_traced_memory()[1] < 1.1 * model.params.nbytes
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------ kills
KILLS = """
import os, random, signal, sys, time
import numpy as np
from tinydl.serialization import read_arrays, write_arrays, write_atomically

path, n = sys.argv[1], int(sys.argv[2])
random.seed(5)


def save_on(out):
    arrays = {"a": np.zeros(3000, "f4"), "n": np.zeros(1)}
    i = 0
    while True:
        i += 1
        arrays["a"][:], arrays["n"][0] = i, i
        write_atomically(path, lambda f: write_arrays(f, "model file", {"n": i}, arrays))
        os.write(out, b"%d " % i)


for _ in range(n):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        save_on(theirs)
    os.close(theirs)
    said = os.read(ours, 100)                   # the file is there
    time.sleep(random.random() * 3e-3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open(ours, "rb") as f:
        said = int((said + f.read()).split()[-1])
    about, arrays = read_arrays(path, "model file")
    assert about["n"] in (said, said + 1), (about, said)
    assert (arrays["a"] == about["n"]).all() and arrays["n"] == about["n"]
print("left", len(os.listdir(os.path.dirname(path))) - 1)
"""


@pytest.mark.parametrize("n", [20])
def test_a_kill_at_any_instant_leaves_a_whole_file(n, tmp_path):
    """That which was saved last, or the one behind it. A process that saves one file after the other is killed n times (2,000
    have been tried, of which 1,714 left a half-written file beside it)."""
    program = [sys.executable, "-c", KILLS, str(tmp_path / "m"), str(n)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60 + n)
    assert done.returncode == 0, done.stderr
    assert 0 <= int(done.stdout.split()[-1]) <= n


# ------------------------------------------------------------------ the zip files of before
def zipped(path, header):
    """As NumPy and json read it."""
    with zipfile.ZipFile(path) as z:
        arrays = {n[7:-4]: np.load(io.BytesIO(z.read(n))) for n in z.namelist() if n != header}
        return json.loads(z.read(header)), arrays


def test_a_model_of_the_zip_format(tmp_path):
    path = DATA / "model_of_zip_format.tinydl"
    about, arrays = zipped(path, "architecture.json")
    model = Model.load(path)
    same(model.state_dict(), arrays)
    assert (model.name, model.dtype, model.metadata) == ("mine", np.float64, {"classes": ["a", "b"]})
    assert model.feature_names == [*"pqrs"]
    assert model.frozen == about["frozen"] == ["0.weight", "0.bias"] and about["version"] == 2
    assert model.layer[2].layer[1].weight is model.layer[0].weight
    x = rng.standard_normal((5, 4))
    h = x @ arrays["0.weight"] + arrays["0.bias"]
    h = np.where(h > 0, h, 0.5 * np.expm1(h))
    h = h + np.tanh(h) @ arrays["0.weight"] + arrays["2.layer.1.bias"]
    h = (h - arrays["3.running_mean"]) / np.sqrt(arrays["3.running_var"] + 1e-5)
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(model.predict(x), h @ arrays["5.weight"], rtol=1e-12, atol=1e-14)
    with open(path, "rb") as f:
        assert Model.load(f).params.tobytes() == model.params.tobytes()
    model.save(tmp_path / "m")
    assert read_arrays(tmp_path / "m", "model file")[0]["version"] == 3
    again = Model.load(tmp_path / "m")
    assert again.predict(x).tobytes() == model.predict(x).tobytes() and again.frozen == model.frozen
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match="not a model file of tinydl: it is truncated, damaged"):
        Model.load(tmp_path / "m")
    (tmp_path / "m").write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a model file of tinydl: it is a zip file that is truncated"):
        Model.load(tmp_path / "m")


def test_a_checkpoint_of_the_zip_format(tmp_path):
    path = DATA / "checkpoint_of_zip_format"
    about, arrays = zipped(path, "checkpoint.json")
    x = np.random.default_rng(0).standard_normal((64, 3)).astype("f4")

    def begun():
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        t = Trainer(1, seed=0, callbacks=[EarlyStopping(restore_best=True)])
        t.init(data.ArrayDataset(x, np.arange(64) % 2, 8).split(0.75, 0.25, 0.0, seed=0), Model(network, seed=1),
               losses.SoftmaxCrossEntropy(), optim.Adam(0.5))
        return t
    first, second = begun(), begun()
    first.load_checkpoint(path)
    same(first.model.state_dict(), {name[6:]: a for name, a in arrays.items() if name.startswith("model/")})
    same(dict(first.optimizer.state), {name[10:]: a for name, a in arrays.items() if name.startswith("optimizer/")})
    assert (first.epoch, first.seed, first.optimizer.lr, first.optimizer.t) == (2, 3, 0.01, about["optimizer"]["t"])
    assert first.history["loss"] == [r["loss"] for r in about["history"]]
    save_checkpoint(first, tmp_path / "c", read_settings(path))
    second.load_checkpoint(tmp_path / "c")
    for t in (first, second):
        t.train()
        t.shutdown()
    assert first.model.params.tobytes() == second.model.params.tobytes()


def test_writing_is_for_formats_that_are_read():
    f = io.BytesIO()
    write_arrays(f, "checkpoint", {"x": 1}, {})
    assert read_arrays(f, "checkpoint") == ({"format": "tinydl checkpoint", "version": 3, "x": 1}, {})
