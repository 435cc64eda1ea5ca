"""What can go wrong, each kind with the exit code that it ends a run with.

Imports nothing of hms.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class StorageError(Exception):
    """A file could not be written or read back, or the machine failed otherwise (exit code 4).

    ``n_bytes`` and ``n_files`` say how much was being written when it happened.
    """

    def __init__(self, text: str, n_bytes: int = 0, n_files: int = 0) -> None:
        super().__init__(text, n_bytes, n_files)
        self.text, self.n_bytes, self.n_files = text, n_bytes, n_files

    def __str__(self) -> str:
        return self.text


class _Finding(Exception):
    """An error about what was read, never about the machine.

    Made while a fault of the machine is handled, it raises that fault again instead, so that no reader has to
    tell the two apart.
    """

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        if (handled := sys.exception()) is not None:
            reraise_fault(handled)
        return super().__new__(cls)


class Unusable(_Finding):
    """An item cannot be prepared; the text is the reason that the user reads.

    ``failure`` tells a recording that could not be read or computed (counted against
    ``max_failed_share``) from one that was read and has nothing to give. A ``permanent``
    reason follows from the bytes of the recording; any other is tried again.
    """

    def __init__(self, reason: str, *, failure: bool = True, permanent: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.failure, self.permanent = reason, failure, permanent


class EngineError(Exception):
    """The workers, or what leads to them, failed as a whole (exit code 4)."""


class TooManyFailures(Exception):
    """More recordings failed than ``max_failed_share`` allows, or no item can be used (exit code 3)."""


class ManifestError(_Finding):
    """A manifest is missing, damaged or not one."""


class ConfigError(_Finding, ValueError):
    """A configuration or an input table that cannot be worked with (exit code 2)."""

    def _render_traceback_(self) -> list[str]:
        """Show a notebook the message alone: the way to it through the library says nothing more."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Raise ConfigError for an import that fails: what needs it, and which extra installs it."""
    try:
        yield
    except ImportError:
        raise ConfigError(f"{what}, not installed here: pip install 'hms-eeg[{extra}]'") from None


# --- faults of the machine ------------------------------------------------------------------------

_OWN = (StorageError, EngineError, Unusable, TooManyFailures, ManifestError, ConfigError)
"""Errors whose texts are written here."""

MACHINE = frozenset(
    {
        errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOBUFS,
        errno.ENOLCK, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.EAGAIN,
    }
)  # fmt: skip
"""Error numbers that are about the machine, not about a file's content."""

_SAID = re.compile(
    r"[mc]alloc of size|realloc of size|bad_alloc|[Cc]annot allocate memory|[Uu]nable to allocate"
    r"|[Oo]ut of memory|[Tt]oo many open files|Input/output error|No space left on device"
    r"|can't start new thread|failed to map segment|Resource temporarily unavailable"
)
"""How libraries word such errors where they give no number."""

DEPTH = 10
"""How many causes of an error are looked at."""


def machine_fault(error: BaseException) -> str:
    """Return what failed in the machine according to an error or its causes, else an empty text.

    Memory, open files, the disk and its reading fail for reasons that no recording is to blame for.
    """
    found: BaseException | None = error
    for _ in range(DEPTH):
        if found is None:
            break
        if isinstance(found, MemoryError):
            return "memory ran out"
        if isinstance(found, OSError) and found.errno in MACHINE:
            return found.strerror or os.strerror(found.errno)
        if not isinstance(found, _OWN) and _SAID.search(str(found)):
            return " ".join(str(found).split())[:160]
        found = found.__cause__ or found.__context__
    return ""


def reraise_fault(error: BaseException) -> None:
    """Raise an error again if it is about the machine, not about what was read."""
    if machine_fault(error):
        raise error
