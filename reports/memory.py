"""Memory for a report's arrays."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_MOST_OF_HEAP = 32 << 20  # bytes: glibc takes no more


def keep_freed() -> None:
    """From now on this process keeps the memory that it frees for what it needs next. A report of a million units
    frees and asks for hundreds of arrays of 8 MB; given back each time, they cost a second of clearing pages. For a
    process that ends with its report. Elsewhere than on glibc it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, _MOST_OF_HEAP)
