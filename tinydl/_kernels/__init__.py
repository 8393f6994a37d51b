"""Native kernels: the GIL released, no threads of their own.

    schema.py       every operation, declared once: its operands, sizes and numbers, and what it computes
    headers.py      makes C's structs and tables of the schema when the package is built
    csrc/           C bodies, one object for each instruction set, each body once for float32 and once for float64
    calls.pyx       `call`: one operation with arrays, checked; `weighted_mean`, the same of one, in less time
    engine/         runs plans of operations, and training, without the GIL
    reference.py    every operation in plain NumPy, the tests' oracle (those over sequences: reference_sequences.py)
    _dispatch.pyx   picks the instruction set at import (TINYDL_ISA overrides)

A new operation is its entry in schema.py, its KERNEL in a header of csrc/, its function in reference.py, and rows of the
tests' table (tests/kernel_cases.py). No kernel allocates, so several threads may be inside at once, as long as no thread
writes what another one reads.
"""
try:
    from tinydl._kernels._dispatch import isa, isa_available, isa_built
except ModuleNotFoundError as e:
    raise ImportError("tinydl's compiled modules are not in this folder, which looks like its source: install it (pip install .) "
                      "and start Python elsewhere, or build in place (pip install -e .)") from e
from tinydl._kernels.calls import call, weighted_mean

__all__ = ["call", "isa", "isa_available", "isa_built", "weighted_mean"]
