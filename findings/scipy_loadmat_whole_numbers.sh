#!/usr/bin/env bash
# SciPy 1.17.1 (NumPy 2.4.6): scipy.io.loadmat of a file by MATLAB with a matrix of doubles that happen to be whole numbers.
#
# Guess: float64. They are doubles in MATLAB, the file says so (class double), and savemat writes a NumPy float64 in the same way.
# Seen: MATLAB stores whole numbers in the smallest type that holds them, and loadmat gives that type: uint8, where all are from 0 to
# 255, then uint16, int16 and so on. What is computed from them wraps around: heart rates 70, 68 have the difference 254, and 200
# squared is 64. Which type it is depends on the numbers: a recording with one half beat in it is float64 and all right, and so are
# all files that savemat wrote, as those of a test mostly are. loadmat(path, mat_dtype=True) gives the class that the file says.
# Whoever takes differences, squares or products of what was recorded with MATLAB asks for mat_dtype=True, or for astype(float).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import io
import pathlib
import struct

import numpy as np
import scipy
from scipy.io import loadmat, savemat

STORED = {"u1": 2, "i2": 3, "u2": 4, "f8": 9}       # codes of the format's data types, level 5


def mat(values, stored):
    """A file of level 5 with `x`, a column of class double, whose numbers are stored as `stored`."""
    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
    body = (element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", len(values), 1)) + element(1, b"x")
            + element(STORED[stored], np.asarray(values, "<" + stored).tobytes()))
    return io.BytesIO(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + element(14, body))


# as MATLAB itself does it: a file that it wrote, among SciPy's own tests, of doubles 1, 2, ..., 24
written = pathlib.Path(scipy.__file__).parent / "io/matlab/tests/data/test3dmatrix_7.4_GLNX86.mat"
kinds = {asked: loadmat(written, mat_dtype=asked)["test3dmatrix"].dtype.name for asked in (False, True)}
print("MATLAB's own file:", kinds[False], "; with mat_dtype=True:", kinds[True])
assert kinds == {False: "uint8", True: "float64"}

for stored, values in (("u1", [70, 68, 75, 200]), ("u2", [70, 68, 75, 300]), ("i2", [70, 68, 75, -200]),
                       ("f8", [70.5, 68, 75, 200])):
    x = loadmat(mat(values, stored))["x"].ravel()
    right = loadmat(mat(values, stored), mat_dtype=True)["x"].ravel()
    print(values, "is", x.dtype, "differences", np.diff(x).tolist(), "squares", (x * x).tolist())
    assert right.dtype == np.float64 and right.tolist() == values and x.tolist() == values
    assert x.dtype == np.dtype(stored) and (stored in ("i2", "f8")) == (np.diff(x) == np.diff(values)).all()
    assert (stored == "f8") == (x * x == np.square(values)).all()
    if stored == "u1":
        assert np.diff(x).tolist() == [254, 7, 125] and (x * x).tolist()[-1] == 64
file = io.BytesIO()
savemat(file, {"x": np.array([70.0, 68, 75, 200])})
file.seek(0)
again = loadmat(file)["x"]
print("written by savemat:", again.dtype, "differences", np.diff(again).ravel().tolist())
assert again.dtype == np.float64
PY
