"""Tell glibc to keep freed memory: on a CPU, page faults otherwise cost more than the arithmetic."""

import ctypes
import ctypes.util

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Serve large blocks from the heap and never give the heap back; more than doubles the drafter's training speed.

    By default every block of more than 32 MB is mapped afresh, and each step touches hundreds of them.

    Returns:
        Whether the C library understood; others than glibc are left as they are.
    """
    library = ctypes.util.find_library("c")
    if library is None:
        return False
    set_option = getattr(ctypes.CDLL(library), "mallopt", None)
    if set_option is None:
        return False
    return bool(set_option(_M_MMAP_MAX, 0)) and bool(set_option(_M_TRIM_THRESHOLD, _LARGEST_INT))
