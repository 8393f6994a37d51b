"""What there is of processors. The instruction set is chosen at import: the widest that runs here, or TINYDL_ISA."""
import os

from tinydl._kernels.td cimport td_cpu, td_isa, td_kernels

cdef const td_kernels *_tables = NULL


cdef const td_kernels *table(bint single) noexcept nogil:
    return &_tables[0 if single else 1]


def _choose(wanted):
    global _tables
    cdef int i = 0, usable = 0
    cdef const td_kernels *t = td_isa(0, &usable)
    built, runs = [], []
    chosen = None
    while t != NULL:
        name = t.isa.decode()
        built.append(name)
        if usable:
            runs.append(name)
            if chosen is None and wanted in (None, "", name):
                chosen = name
                _tables = t
        i += 1
        t = td_isa(i, &usable)
    if chosen is None:
        raise ImportError(f"TINYDL_ISA={wanted!r}: this machine runs {', '.join(runs)} (built: {', '.join(built)}); "
                          "unset it or choose one of these")
    return chosen, tuple(runs), tuple(built)


#: in use; what this processor can run; what this build holds
isa, isa_available, isa_built = _choose(os.environ.get("TINYDL_ISA"))


def current_cpu():
    """Number of the CPU that the calling thread runs on, or -1 where the system does not say."""
    return td_cpu()
