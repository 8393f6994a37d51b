"""The data sets that come with the package, and MNIST's files in good and bad states."""
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

import tinydl.datasets
from tinydl.data import ArrayDataset, Normalize, WindowDataset
from tinydl.datasets import cifar10, cosine, digits, el_nino, idx, mnist, sine, spiral

HERE = Path(tinydl.datasets.__file__).parent


# ------------------------------------------------------------------ digits
def test_digits():
    data = digits(batch_size=50)
    assert type(data) is ArrayDataset and data.batch_size == 50 and data.n_batches == 36
    assert data.x.shape == (1797, 64) and data.x.dtype == np.float32 and data.x.flags.c_contiguous
    assert data.y.shape == (1797,) and data.y.dtype == np.int64 and data.output_shape == (10,)
    assert data.x.min() == 0.0 and data.x.max() == 1.0
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    pixels = (data.x * 16).astype(np.uint8)
    assert hashlib.sha256(pixels.tobytes()).hexdigest().startswith("8f26b2bd9d135c25")


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits
    theirs = load_digits()
    np.testing.assert_array_equal(digits().x * 16, theirs.data)
    np.testing.assert_array_equal(digits().y, theirs.target)


def test_the_file_is_small_and_says_where_it_comes_from():
    assert (HERE / "digits.npz").stat().st_size < 100_000
    text = (HERE / "digits.txt").read_text()
    assert all(word in text for word in ("Alpaydin", "Kaynak", "1998", "UCI", "CC BY 4.0", "Changes"))


def test_two_callers_do_not_share_arrays():
    digits().x[:] = 0
    assert digits().x.any()


# ------------------------------------------------------------------ a series
def test_el_nino():
    data = el_nino(window=12, horizon=2, batch_size=8)
    assert type(data) is WindowDataset and data.series.shape == (732, 1) and data.series.dtype == np.float64
    assert (data.window, data.horizon, data.batch_size) == (12, 2, 8) and len(data) == 719
    assert data.series[[0, 11, -1], 0].tolist() == [23.11, 21.8, 22.07]      # January and December 1950, December 2010
    assert (data.series.min(), data.series.max()) == (18.95, 29.24)
    text = (HERE / "el_nino.txt").read_text()
    assert all(word in text for word in ("NOAA", "ERSST.V3B", "public domain", "Changes"))


# ------------------------------------------------------------------ made data
def test_spiral():
    data = spiral(4, 402, noise=0.0, seed=1, batch_size=10)
    assert data.x.shape == (402, 2) and data.x.dtype == np.float32 and data.batch_size == 10
    assert np.bincount(data.y).tolist() == [101, 101, 100, 100]
    assert np.hypot(*data.x.T).max() < 1
    first, second = data.x[data.y == 2], data.x[data.y == 0]
    np.testing.assert_allclose(first, -second[:100], atol=0.06)     # arms half a turn apart


def test_seeds():
    for make in (spiral, lambda **k: sine(noise=0.1, **k), lambda **k: cosine(noise=0.1, **k)):
        a, b, c = make(seed=1), make(seed=1), make(seed=2)
        assert (a.x == b.x).all() and (a.y == b.y).all() and ((a.x != c.x).any() or (a.y != c.y).any())


@pytest.mark.parametrize("make, f", [(sine, np.sin), (cosine, np.cos)])
def test_waves(make, f):
    data = make(100, batch_size=7)
    assert data.x.shape == data.y.shape == (100, 1) and data.x.dtype == data.y.dtype == np.float32 and data.batch_size == 7
    assert data.x[0, 0] == 0 and data.x[-1, 0] == np.float32(2 * np.pi)
    np.testing.assert_allclose(data.y, f(data.x.astype(float)), atol=1e-6)
    noisy = make(10_000, noise=0.5)
    assert abs(np.std(noisy.y - f(noisy.x)) - 0.5) < 0.02


@pytest.mark.parametrize("make", [lambda: spiral(0), lambda: spiral(5, 4), lambda: spiral(noise=-1), lambda: spiral(noise=np.nan),
                                  lambda: sine(0), lambda: cosine(noise=np.inf)])
def test_made_data_refused(make):
    with pytest.raises(ValueError, match=r"at least 1 .*noise from 0 up"):
        make()


# ------------------------------------------------------------------ mnist
CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def packed(values, dtype="uint8"):
    values = np.asarray(values, dtype)
    return (struct.pack(f">BBBB{values.ndim}I", 0, 0, CODES[dtype], values.ndim, *values.shape) +
            values.astype(values.dtype.newbyteorder(">")).tobytes())


IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4 + 19
LABELS = [3, 1, 0, 2, 9]


def write(folder, part="train", sep="-", gz=False, images=None, labels=None):
    for kind, axes, raw in (("images", 3, packed(IMAGES) if images is None else images), ("labels", 1, labels or packed(LABELS))):
        path = folder / f"{part}-{kind}{sep}idx{axes}-ubyte{'.gz' * gz}"
        path.write_bytes(gzip.compress(raw) if gz else raw)
    return folder


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize("sep", ["-", "."])
@pytest.mark.parametrize("gz", [False, True])
def test_mnist(tmp_path, part, sep, gz):
    data = mnist(str(write(tmp_path, part, sep, gz)), train=part == "train", batch_size=2)
    assert data.x.shape == (5, 12) and data.x.dtype == np.float32 and data.batch_size == 2
    np.testing.assert_array_equal(data.x, IMAGES.reshape(5, 12).astype(np.float32) / 255)
    assert data.y.dtype == np.int64 and data.y.tolist() == LABELS and data.x.max() == 1.0
    image = mnist(tmp_path, part == "train", flatten=False)
    assert image.x.shape == (5, 1, 4, 3) and (image.x.reshape(5, 12) == data.x).all()


def test_mnist_keeps_bytes(tmp_path):
    data = mnist(write(tmp_path), flatten=False, dtype="uint8")
    assert data.x.dtype == np.uint8 and (data.x[:, 0] == IMAGES).all()
    with pytest.raises(ValueError, match="dtype='float16': 'float32'"):
        mnist(tmp_path, dtype="float16")


def test_mnist_without_files(tmp_path):
    write(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"has none of t10k-images-idx3-ubyte, t10k-images-idx3-ubyte\.gz, "):
        mnist(tmp_path, train=False)
    with pytest.raises(FileNotFoundError, match="nowhere has none of train-images"):
        mnist(tmp_path / "nowhere")


@pytest.mark.parametrize("images, words", [
    (b"", "is not an IDX file: it begins with nothing"),
    (b"\x89PNG\r\n", "begins with 89 50 4e 47, not 00 00, a type"),
    (b"\0\0\x0a\x03" + bytes(12), "begins with 00 00 0a 03"),                       # no type's code
    (packed(IMAGES, "float32"), "train-images.* has values of float32; images and labels are bytes"),
    (b"\0\0\x08\x00", "begins with 00 00 08 00"),
    (packed(IMAGES)[:9], "is truncated: 9 bytes, less than its header"),
    (packed(IMAGES)[:-1], r"has 59 bytes of values where its header says \(5, 4, 3\), 60 values in all"),
    (packed(IMAGES) + b"\0", r"has 61 bytes of values where its header says \(5, 4, 3\), 60 values in all"),
    (struct.pack("<BBBBIII", 0, 0, 8, 3, 5, 4, 3) + bytes(60), r"header says \(83886080, 67108864, 50331648\)"),
    (struct.pack(">BBBBIIII", 0, 0, 8, 4, *[2**32 - 1] * 4), r"has 0 bytes of values where its header says \(4294967295"),
    (packed(LABELS), r"images \(5,\) and labels \(5,\) do not belong together"),
    (packed(IMAGES[:4]), r"images \(4, 4, 3\) and labels \(5,\) do not belong together"),
    (packed(IMAGES[:0]), r"images \(0, 4, 3\)")])
@pytest.mark.parametrize("gz", [False, True])
def test_files_refused(tmp_path, images, words, gz):
    with pytest.raises(ValueError, match=words) as caught:
        mnist(write(tmp_path, gz=gz, images=images))
    assert str(tmp_path) in str(caught.value)
    assert "together" in words or "0, 4" in words or "train-images" in str(caught.value)


def test_gzip_refused(tmp_path):
    path = write(tmp_path, gz=True) / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    broken = bytearray(good)
    broken[20] ^= 0xff
    for raw in (good[:-9], good[:12], bytes(broken), b"no gzip at all", packed(IMAGES)):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is truncated or not gzip: "):
            mnist(tmp_path)


# ------------------------------------------------------------------ idx
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("gz", [False, True])
def test_idx_of_every_type(tmp_path, dtype, gz):
    values = (np.arange(24).reshape(2, 3, 2, 2) * 5 - (dtype != "uint8") * 60).astype(dtype)
    path = tmp_path / f"values-idx4{'.gz' * gz}"
    path.write_bytes(gzip.compress(packed(values, dtype)) if gz else packed(values, dtype))
    read = idx(str(path))
    assert read.dtype == np.dtype(dtype) and read.dtype.isnative and read.flags.writeable
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("raw, words", [
    (packed([1, 2], "float64")[:-1], r"has 15 bytes of values where its header says \(2,\), 2 values in all, of 8 bytes each"),
    (b"\0\1" + packed([1])[2:], "begins with 00 01 08 01"),
    (b"\0\0\x08\x40" + bytes(256), "begins with 00 00 08 40")])
def test_idx_refused(tmp_path, raw, words):
    (tmp_path / "values").write_bytes(raw)
    with pytest.raises(ValueError, match=words):
        idx(tmp_path / "values")


# ------------------------------------------------------------------ cifar10
def write_cifar(folder, n=2):
    """n records a file; file k's first label is k, and each pixel says its channel, row and column."""
    folder.mkdir(exist_ok=True)
    picture = (np.arange(3)[:, None, None] * 64 + np.arange(32)[:, None] + np.arange(32)).astype(np.uint8)
    for k, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        (folder / name).write_bytes(b"".join(bytes([(k + 4 * i) % 10]) + (picture + k + i).tobytes() for i in range(n)))
    return picture


def test_cifar10(tmp_path):
    picture = write_cifar(tmp_path / "cifar-10-batches-bin")
    data = cifar10(str(tmp_path), batch_size=3)
    assert data.x.shape == (10, 3, 32, 32) and data.x.dtype == np.float32 and data.batch_size == 3
    assert data.y.tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 4, 8]
    np.testing.assert_array_equal(data.x[7], (picture + 3 + 1).astype(np.float32) / 255)
    whole = cifar10(tmp_path / "cifar-10-batches-bin", train=False, dtype="uint8")
    assert whole.x.dtype == np.uint8 and whole.y.tolist() == [5, 9] and whole.x.flags.c_contiguous
    scaled = whole.with_transforms(Normalize.of(whole))
    (batch,) = scaled.epoch(0, 0)
    assert batch.arrays()[0].dtype == np.float32 and abs(batch.arrays()[0].mean()) < 1e-6 and scaled.x is whole.x
    np.testing.assert_array_equal(whole.x[0], picture + 5)


def test_cifar10_refused(tmp_path):
    write_cifar(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    good = path.read_bytes()
    for raw, words in ((good[:-1], "data_batch_3.bin has 6,145 bytes; records of 3,073"), (b"", "has 0 bytes"),
                       (good[:3073] + b"\x0a" + good[3074:], "the label of record 1 is 10; there are 0 to 9")):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=words):
            cifar10(tmp_path)
    path.unlink()
    (tmp_path / "data_batch_5.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no data_batch_3.bin, data_batch_5.bin \(the binary version"):
        cifar10(tmp_path)
    with pytest.raises(ValueError, match="dtype='int8'"):
        cifar10(tmp_path, dtype="int8")
