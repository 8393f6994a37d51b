"""What Windows tells about this process (kernel32). Each function returns None on other systems."""
from __future__ import annotations

import sys

__all__ = ["affinity_cpus", "free_memory"]


def affinity_cpus() -> int | None:
    """CPUs that this process is restricted to (`start /affinity`), or None where it may use all. Of more than 64 CPUs, a mask
    has those of one group, and Windows gives 0 for a process that may use several."""
    if sys.platform != "win32":
        return None
    import ctypes
    own, group = ctypes.c_size_t(), ctypes.c_size_t()
    this = ctypes.c_void_p(-1)      # GetCurrentProcess()
    told = ctypes.windll.kernel32.GetProcessAffinityMask(this, ctypes.byref(own), ctypes.byref(group))
    return own.value.bit_count() if told and own.value not in (0, group.value) else None


def free_memory() -> int | None:
    """Bytes that this process may still allocate: the lesser of the free memory and of what may still be committed."""
    if sys.platform != "win32":
        return None
    import ctypes
    status = (ctypes.c_uint64 * 8)(64)      # MEMORYSTATUSEX: its length, total and free memory, total and free commit, ...
    told = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return min(status[2], status[4]) if told else None
