"""Runs tests with the extension modules built under a sanitizer of gcc: `python tests/tools/sanitize.py KIND [OPTIONS]`.

KIND   address (outside arrays, after free), undefined (overflow, shifts, alignment): kernels, engine, layers, trainer
       thread (two threads at one place in memory without an order): the guarantees of parallel training, every strategy

The modules are built in a temporary copy of the source, so the tree and its build stay as they are. CPython and NumPy are
not instrumented: an access made by them is not seen, but what they allocate, lock and start is. Ends with 1 where a test
failed or the sanitizer reported anything; the reports are printed.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = shutil.ignore_patterns(".*", "build", "dist", "bench", "*.so", "__pycache__", "*.egg-info")
ENGINE = ["tests/test_parallel_guarantees.py", "tests/test_strategies.py", "tests/test_failures.py",
          "tests/test_hung_workers.py", "tests/test_late_products.py", "tests/test_shutdown.py", "tests/test_reconfigured.py",
          "tests/test_threads.py", "tests/test_fleet.py"]
ALL = ["tests/test_kernels.py", "tests/test_kernels_concurrency.py", "tests/test_long_sums.py", "tests/test_vmath.py",
       "tests/test_layers.py", "tests/test_conv.py", "tests/test_pool.py", "tests/test_recurrent.py", "tests/test_attention.py",
       "tests/test_steps.py", "tests/test_graph.py", "tests/test_joint.py", "tests/test_model.py", "tests/test_drivers.py",
       "tests/test_trainer.py", "tests/test_augment.py", "tests/test_normalize.py",
       "tests/test_augmented_training.py", "tests/test_padded_batches.py", "tests/test_dropout_schedule.py",
       "tests/test_stepper.py", *ENGINE]
# hogwild's updates meet in the parameters without an order by design, in the same functions that must be in order for
# every other strategy: its tests are left out rather than those functions suppressed
TESTS = {"address": ALL, "undefined": ALL, "thread": [*ENGINE, "-k", "not hogwild and not Hogwild"]}
FLAGS = {kind: f"-O1 -g -fno-omit-frame-pointer -fsanitize={kind}" for kind in ("address", "undefined", "thread")}
#: libstdc++ too: the address sanitizer looks for its throw when the program starts, and python itself does not load it
PRELOAD = {"address": ["libasan.so", "libstdc++.so.6"], "undefined": ["libubsan.so"], "thread": ["libtsan.so"]}


def options(kind: str, reports: Path) -> dict[str, str]:
    """Environment of the tests. Reports go to files, since pytest keeps what is written to stderr."""
    common = f"log_path={reports / 'report'}"
    if kind == "address":
        # leaks: CPython never frees what lives to its end, so every run would end with a list of it.
        # null: a test asks for more memory than there is, and wants MemoryError, not the end of the program.
        return {"ASAN_OPTIONS": f"{common}:detect_leaks=0:allocator_may_return_null=1", "PYTHONMALLOC": "malloc"}
    if kind == "undefined":
        return {"UBSAN_OPTIONS": f"{common}:print_stacktrace=1:halt_on_error=1"}
    # noninstrumented: memcpy and the like called by NumPy and CPython, whose own order (the GIL) is seen only in part.
    # signals: a handler of CPython only sets a flag and writes to a pipe, but may be called inside any of our functions.
    suppressions = ROOT / "tests/tools/tsan.supp"
    return {"TSAN_OPTIONS": f"{common}:suppressions={suppressions}:ignore_noninstrumented_modules=1:report_signal_unsafe=0:"
                            "exitcode=0:history_size=4"}


def library(name: str) -> str:
    """The full name of one of gcc's libraries."""
    path = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute():
        raise SystemExit(f"gcc has no {name}; install its sanitizer libraries")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests under a sanitizer of gcc.")
    parser.add_argument("kind", choices=list(FLAGS))
    known, more = parser.parse_known_args()
    kind = known.kind
    with tempfile.TemporaryDirectory(prefix="tinydl-sanitize-") as folder:
        copy, reports = Path(folder, "tinydl"), Path(folder, "reports")
        shutil.copytree(ROOT, copy, ignore=SKIPPED)
        reports.mkdir()
        print(f"building with {FLAGS[kind]}", flush=True)
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j", str(os.cpu_count() or 1)]
        built = subprocess.run(build, cwd=copy, env=os.environ | {"TINYDL_CFLAGS": FLAGS[kind], "CC": "gcc"},
                               stdout=subprocess.DEVNULL)
        if built.returncode:
            return built.returncode
        env = os.environ | options(kind, reports) | {"PYTHONPATH": str(copy)}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *TESTS[kind], *more]
        if PRELOAD[kind]:
            # setarch -R: the thread sanitizer of older gcc stops at the random layouts of memory that newer kernels choose
            command = ["setarch", "-R", "env", "LD_PRELOAD=" + ":".join(map(library, PRELOAD[kind])), *command]
        tested = subprocess.run(command, cwd=copy, env=env)
        found = sorted(reports.glob("report*"))
        for path in found:
            print(path.read_text(errors="replace"))
        print(f"{kind}: pytest ended with {tested.returncode}; {len(found)} report file{'s' * (len(found) != 1)}")
        return 1 if tested.returncode or found else 0


if __name__ == "__main__":
    sys.exit(main())
