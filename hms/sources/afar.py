"""Files of a folder that may be in object storage: opened, and read in ranges, as those of this machine.

An object is read in few requests, whatever asks for many small pieces of it, and what was opened is what
is read: the storage's tag is asked for again after each request but that for the object's beginning.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hms.config.paths import Address
from hms.config.reading import names_in, regular_bytes
from hms.sources.base import Place
from hms.sources.bucket import IN_FLIGHT, NotRead, bucket_of
from hms.sources.steady import PIECE_BYTES, Steady, SteadyFile

HEAD_BYTES = 1 << 15
"""Bytes that are read first: an EDF header of 127 signals."""

S = TypeVar("S")
T = TypeVar("T")


def is_afar(path: str) -> bool:
    """Tell whether a place's path is an address."""
    return "://" in path


def steady(place: Place) -> SteadyFile | SteadyObject:
    """Open a file, wherever it lies."""
    return SteadyObject(place) if is_afar(place.path) else SteadyFile(place)


def content_of(path: Path | Address) -> bytes:
    """Return the bytes of a small file, wherever it lies.

    Raises `OSError` if it is not there or cannot be read.
    """
    if isinstance(path, Path):
        return regular_bytes(path)
    data = bucket_of(path).table(path.key)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return data


def names_beside(path: Path | Address) -> list[str]:
    """Return the names in the folder of a file, sorted."""
    if isinstance(path, Path):
        return names_in(path.parent)
    return bucket_of(path).names(path.parent.key)


def all_of(function: Callable[[S], T], things: Iterable[S], root: Path | Address) -> list[T]:
    """Return a function of each thing; where they are in object storage, many at a time."""
    if isinstance(root, Path):
        return [function(thing) for thing in things]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        return list(pool.map(function, things))


class SteadyObject(Steady):
    """An object, read in ranges; see `SteadyFile`, which it stands for.

    Raises `Unusable` if it is missing, cannot be read, or is not what its place says. Raises `OSError` if the
    storage cannot be reached.
    """

    def __init__(self, place: Place) -> None:
        self._place, self._bucket = place, bucket_of(place.path)
        with self._bucket.reading():
            self._file, self._version = self._bucket.open(place)
        self.size = self._version[0]
        self._first, self._piece = 0, b""

    def read(self, start: int, size: int) -> bytes:
        """Return the bytes from a place on, fewer where the object ends; raises `Unusable` if it changed."""
        stop = min(start + size, self.size)
        if stop <= start:
            return b""
        if start < self._first or stop > self._first + len(self._piece):
            piece = self._fetch(start, min(max(stop, start + self._further(start)), self.size))
            if len(piece) > PIECE_BYTES:
                return piece[: stop - start]
            self._first, self._piece = start, piece
        return self._piece[start - self._first : stop - self._first]

    def _further(self, start: int) -> int:
        """Return how much to read on: more each time where one piece is asked for after another."""
        apart = start - self._first - len(self._piece)
        if start and self._piece and 0 <= apart < PIECE_BYTES:
            return min(2 * len(self._piece), PIECE_BYTES)
        return HEAD_BYTES

    def _fetch(self, start: int, stop: int) -> bytes:
        with self._bucket.reading():
            data = bytes(self._file.read_at(stop - start, start))
            if start or stop == self.size:
                self._bucket.check_unchanged(self._place, self._version)
            if len(data) != stop - start:
                raise NotRead(f"ended after {start + len(data)} of {self.size} bytes")
        return data
