"""Memory of a process with millions of small objects: given back, and not scanned for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

from hms.config.threads import Shared

MANY = 10_000
"""From so many items on, looking for what can be freed is worth its time."""


_HEAPS = -8
"""Number of M_ARENA_MAX in malloc.h."""


def one_heap() -> None:
    """Give all threads of this program one heap from now on, where the C library can.

    Otherwise each has its own, whose holes no other fills: 20 MB after a report was drawn. A library leaves
    that to the program that it is part of.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_HEAPS, 1)


def give_back() -> None:
    """Give memory that is no longer used back to the system, where the C library can.

    A freed column of a million rows stays with the process otherwise, for what it may need later.
    """
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def _lean() -> Iterator[None]:
    import pyarrow

    was_on, pool = gc.isenabled(), pyarrow.default_memory_pool()
    gc.disable()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        yield
    finally:
        pyarrow.set_memory_pool(pool)
        if was_on:
            gc.enable()


lean = Shared(_lean)
"""Plan or make tables of a million items with less time and memory, whose results live long.

The garbage collector does not look through their records again and again, and Arrow takes memory from the C
library, which gives it back; its own pool keeps some.
"""
