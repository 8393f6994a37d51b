"""The matrix product beside NumPy's, one thread each (set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1)."""
import numpy as np
import pytest

from tinydl import _kernels as K

SHAPES = [(64, 64, 64), (32, 128, 64), (64, 128, 784), (128, 512, 784), (128, 10, 256), (512, 512, 512)]


@pytest.mark.parametrize("library", ["numpy", "tinydl"])
@pytest.mark.parametrize("m, n, k", SHAPES)
def test_matmul(benchmark, library, m, n, k):
    benchmark.group = f"matmul {m}x{n}x{k}"
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    out = np.empty((m, n), np.float32)
    if library == "numpy":
        benchmark(np.matmul, a, b, out=out)
    else:
        benchmark(K.call, "matmul", a=a, b=b, out=out)
    np.testing.assert_allclose(out, a @ b, atol=1e-3)
