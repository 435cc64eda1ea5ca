"""A file that is opened once: what is digested is what is decoded.

All bytes come from one open descriptor. A file that is replaced under its name stays the one that was opened;
one that is written to shows by its size or its times, and whoever reads is told instead of given a mixture.
"""

from __future__ import annotations

import os
import stat
import weakref
from abc import ABC, abstractmethod

import xxhash

from hms.errors import Unusable, machine_fault
from hms.sources.base import Place
from hms.sources.files import why_missing

PIECE_BYTES = 1 << 22


class Steady(ABC):
    """What is opened once and read in pieces; ``size`` is in bytes."""

    size: int

    @abstractmethod
    def read(self, start: int, size: int) -> bytes:
        """Return the bytes from a place on, fewer at the end; raises `Unusable` if they changed."""

    def digest(self) -> str:
        """Return the xxh3-128 of everything, read in pieces."""
        digest = xxhash.xxh3_128()
        for start in range(0, self.size, PIECE_BYTES):
            digest.update(self.read(start, PIECE_BYTES))
        return digest.hexdigest()

    def is_zero_from(self, start: int) -> bool:
        """Tell whether nothing but zeros stands from a place to the end."""
        pieces = (self.read(at, PIECE_BYTES) for at in range(start, self.size, PIECE_BYTES))
        return not any(any(piece) for piece in pieces)


class SteadyFile(Steady):
    """A regular file, open for reading until it is forgotten.

    Raises `Unusable` if it is missing, no regular file, cannot be read, or is not the file that its place
    says. Raises `OSError` if the machine fails, not the file.
    """

    def __init__(self, place: Place) -> None:
        try:
            # Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
            self._descriptor = os.open(place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Unusable(why_missing(place.path), permanent=False) from None
        except OSError as error:
            raise _unreadable(error, place) from None
        self._place = place
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("the recording is a folder, a pipe or a device, not a file")
        self.size = status.st_size
        self._known = _state(status)
        if place.size is not None and (place.size, place.mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise Unusable("the file changed since the run began", permanent=False)

    def read(self, start: int, size: int) -> bytes:
        """Return the bytes from a place on, fewer where the file ends; raises `Unusable` if it changed."""
        parts, left = [], min(size, max(0, self.size - start))
        try:
            while left > 0:
                part = os.pread(self._descriptor, left, start)
                if not part:
                    break
                parts.append(part)
                start, left = start + len(part), left - len(part)
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise _unreadable(error, self._place) from None
        if left > 0 or _state(status) != self._known:
            raise Unusable("the file changed while it was read", permanent=False)
        return b"".join(parts)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _unreadable(error: OSError, place: Place) -> Exception:
    if machine_fault(error):
        return OSError(error.errno, error.strerror, place.path)
    return Unusable(f"the recording's file cannot be read: {error.strerror}", permanent=False)
