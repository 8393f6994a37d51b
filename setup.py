"""Builds the extension modules: Cython on top of C bodies compiled once per instruction set.

Everything else is in pyproject.toml. GCC or Clang is needed, for the vector extensions of their C. On Windows that is Clang for
MinGW, by default the one of the package ziglang. (GCC for MinGW aligns the stack to 16 bytes, where vectors of AVX take 32.)
Environment:
  CC                the compiler; on Windows with its -target, where it has one
  TINYDL_CFLAGS     extra flags for every C file (a sanitizer, say)
  TINYDL_BUILD_ISA  "all" (default) or a comma-separated choice of avx512,avx2: what to compile beside "generic"
"""
import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

sys.path.insert(0, str(Path("tinydl/_kernels").resolve()))
import headers as schema_headers  # tinydl/_kernels/headers.py, which needs nothing that is built

sys.path.pop(0)

CSRC, GENERATED = "tinydl/_kernels/csrc", "build/generated"
# No -ffast-math: contraction is written out with FMA(), so that every instruction set gives the same bits.
CFLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-g0"]
# What Cython makes calls Python's functions mostly, and the loops are in C: this is as fast and a sixth smaller. (-Os, which
# halves it, makes small models 3 percent slower.)
CYTHON_CFLAGS = [*CFLAGS, "-O2"]
# Loops begin at a cache line where the product's tile, 119 bytes long, lies in two of them or in three: in three, products with
# AVX2 on a Zen 3 took 4 to 6 percent longer beside a busy sibling core.
ISA_FLAGS = {
    "generic": [],
    "avx2": ["-mavx2", "-mfma", "-mprfchw", "-falign-loops=64"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprfchw",
               "-mprefer-vector-width=512"],
}
EXTRA = shlex.split(os.environ.get("TINYDL_CFLAGS", ""))
# what is built for, which need not be this machine: cross-compilers set _PYTHON_HOST_PLATFORM
X86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
WINDOWS = sys.platform == "win32"
if WINDOWS:
    CYTHON_CFLAGS.append("-DMS_WIN64=")     # which Python's headers define for Microsoft's compiler only


def compiler_for_windows():
    """The command that setuptools takes from CC, which is set here where it is not. SystemExit where there is no such program."""
    command = os.environ.get("CC")
    if not command and importlib.util.find_spec("ziglang"):
        machine = "x86_64" if X86 else "aarch64"
        command = f'"{sys.executable}" -m ziglang cc -target {machine}-windows-gnu'.replace("\\", "/")
    if not command or not shutil.which(shlex.split(command)[0]):
        lacks = f"CC={command} is not there" if command else "there is none"
        sys.exit(f"tinydl is built on Windows by Clang for MinGW (Microsoft's compiler cannot), and {lacks}: `pip install "
                 "ziglang` brings one, which is taken where CC is not set")
    os.environ["CC"] = command


class BuildExt(build_ext):
    """Compiles csrc/isa_*.c with the flags of their instruction set and links them into `_dispatch`. All modules, and these
    objects, are compiled side by side (`build_ext -j 1`: one after the other)."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count() or 1
        if WINDOWS and self.compiler is None:
            self.compiler = "mingw32"       # else it is Microsoft's

    def run(self):
        if WINDOWS:
            compiler_for_windows()
        super().run()

    def build_extensions(self):
        command = self.compiler.compiler_so[0]
        if not shutil.which(command):
            sys.exit(f"tinydl is built by a C compiler, GCC or Clang, and {command} is not there: install one (on Debian and "
                     "Ubuntu apt install gcc python3-dev), or name yours, as by CC=clang")
        super().build_extensions()

    def build_extension(self, ext):
        if ext.name.endswith("._dispatch"):
            chosen = [isa for isa, flags in ISA_FLAGS.items() if isa == "generic" or self.wanted(isa, flags)]
            ext.define_macros += [(f"TD_HAVE_{isa.upper()}", "1") for isa in chosen]
            with ThreadPoolExecutor(self.parallel) as pool:
                ext.extra_objects += pool.map(lambda isa: self.kernels(isa, ext.depends), chosen)
        super().build_extension(ext)

    def kernels(self, isa, depends):
        """The object of the kernels for that instruction set, compiled where it is missing or old: it takes the compiler up
        to 20 seconds."""
        source = f"{CSRC}/isa_{isa}.c"
        compiled, = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or newer_group([source, *depends], compiled):
            self.compiler.compile([source], output_dir=self.build_temp, include_dirs=[CSRC, GENERATED],
                                  extra_postargs=CFLAGS + ISA_FLAGS[isa] + EXTRA)
        return compiled

    def wanted(self, isa, flags):
        chosen = os.environ.get("TINYDL_BUILD_ISA", "all").split(",")
        if not X86 or not ("all" in chosen or isa in chosen):
            return False
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text("#include <immintrin.h>\nint main(void) { return 0; }\n")
            try:
                self.compiler.compile([str(probe)], output_dir=folder, extra_postargs=flags)
            except Exception:
                print(f"tinydl: this compiler cannot build for {isa}; the generic kernels serve instead")
                return False
        return True


headers = [*(str(p) for p in Path(CSRC).glob("*.[ch]")), *schema_headers.write(Path(GENERATED))]
modules = [p.with_suffix("") for p in sorted(Path("tinydl/_kernels").rglob("*.pyx"))]
extensions = [
    Extension(".".join(m.parts), [f"{m.as_posix()}.pyx", *([f"{CSRC}/cpu.c"] if m.name == "_dispatch" else [])],
              include_dirs=[CSRC, GENERATED], depends=[*headers, "setup.py"], extra_compile_args=[*CYTHON_CFLAGS, *EXTRA],
              extra_link_args=EXTRA, libraries=["api-ms-win-core-synch-l1-2-0"] if WINDOWS else [])     # WaitOnAddress
    for m in modules
]
setup(
    ext_modules=cythonize(extensions, build_dir="build/cython", annotate=False, show_all_warnings=False, compiler_directives={
        "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False, "cdivision": True,
        "freethreading_compatible": True, "embedsignature": True,
    }),
    cmdclass={"build_ext": BuildExt},
)
