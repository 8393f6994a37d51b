"""Native kernels: arrays in and out, the GIL released, no threads of their own.

    ops/            the doors, a file for each family of kernels: check the arrays, run the C body
    reference.py    the same names and signatures in plain NumPy, the tests' oracle
    csrc/           C bodies, one object for each instruction set, each body once for float32 and once for float64
    engine/         runs plans of them, and training, without the GIL
    _dispatch.pyx   picks the instruction set at import (TINYDL_ISA overrides)

A call looks like `relu(x, out)`: the caller owns every array, the output comes back. No kernel allocates (the
matrix product has scratch memory for the time of the call), so several threads may be inside at once, as long
as no thread writes what another one reads.
"""
try:
    from tinydl._kernels._dispatch import isa, isa_available, isa_built
except ModuleNotFoundError as e:
    raise ImportError("tinydl's compiled modules are not in this folder, which looks like its source: install it (pip install .) "
                      "and start Python elsewhere, or build in place (pip install -e .)") from e
from tinydl._kernels import ops
from tinydl._kernels.ops import *  # noqa: F403 - its __all__ is a list by hand

__all__ = ["isa", "isa_available", "isa_built", *ops.__all__]
