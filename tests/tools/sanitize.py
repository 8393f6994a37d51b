"""Runs the tests with a sanitizer in the C and Cython code: python tests/tools/sanitize.py address|undefined|thread

Builds the extension modules anew in a copy of the tree, with the sanitizer's runtime put before Python's own libraries
(GCC or Clang on Linux). Further arguments go to pytest in place of the tests chosen here. CPython and NumPy are not
instrumented: `thread` sees only what our modules do, and tsan.supp says what is left out and why.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RUNTIMES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
RUNTIME_TESTS = ["tests/test_parallel_guarantees.py", "tests/test_strategies.py", "tests/test_checkpoint.py"]
MEMORY_TESTS = ["tests/test_kernels.py", "tests/test_kernels_concurrency.py", "tests/test_vmath.py", "tests/test_layers.py",
                "tests/test_model.py", "tests/test_optim.py", "tests/test_trainer.py", *RUNTIME_TESTS]
#: tests that fork or start Python, whose child has no sanitizer, or that build by themselves
LEFT_OUT = "not avx2_and_avx512 and not generic_build and not forgets and not isa"
OPTIONS = {
    # CPython does not free all at exit; a failing allocation is to raise MemoryError, not to end the process
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:halt_on_error=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": f"suppressions={ROOT / 'tests/tools/tsan.supp'}:halt_on_error=0:exitcode=66:ignore_noninstrumented_modules=1",
}


def main(kind: str, *arguments: str) -> int:
    compiler = os.environ.get("CC", "cc")
    runtime = subprocess.run([compiler, f"-print-file-name={RUNTIMES[kind]}"], capture_output=True, text=True, check=True).stdout
    flags = f"-fsanitize={kind} -fno-omit-frame-pointer -g"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "tinydl")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "build", "*.so", ".venv", "__pycache__", "*.pyc"))
        environment = {**os.environ, "TINYDL_CFLAGS": flags, "CFLAGS": flags, "LDFLAGS": f"-fsanitize={kind}"}
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j2"], cwd=copy, env=environment, check=True)
        tests = list(arguments) or ["-k", LEFT_OUT, *(RUNTIME_TESTS if kind == "thread" else MEMORY_TESTS)]
        environment = {**os.environ, **OPTIONS, "LD_PRELOAD": runtime.strip(), "PYTHONMALLOC": "malloc", "PYTHONPATH": str(copy),
                       "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests], cwd=copy,
                              env=environment).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in RUNTIMES:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(RUNTIMES)} [pytest arguments]")
    sys.exit(main(*sys.argv[1:]))
