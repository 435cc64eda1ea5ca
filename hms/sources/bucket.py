"""Files in object storage, read only: S3, and what else Arrow's file systems open.

Credentials, region and server come from the storage library's own chain: environment, configuration files,
the machine's role. Nothing of them is kept or said.
"""

from __future__ import annotations

import errno
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from hms.config.paths import Address
from hms.errors import ConfigError, Unusable
from hms.sources.base import RECORDING, Part, Place
from hms.sources.files import LARGEST_FILE

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Ahead", "Bucket", "bucket_at"]

IN_FLIGHT = 32
"""Files of a worker that are read at a time."""

MOST_AHEAD = 1 << 28
"""Bytes of a worker's files that are read and not yet asked for."""

_SAID = re.compile(r"AWS Error [A-Z_ ]+(?: \(HTTP status \d+\))?|curlCode: \d+, [^;:(]+|[A-Z_]{6,}(?=:)")
"""What of a library's text names the problem; the rest may quote headers and addresses."""

_NOT_REACHED = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|REQUEST_TIMEOUT|UNAVAILABLE:"
    r"|curlCode|HTTP status 5\d\d"
)
"""Problems of the way to the storage or of the storage itself, which say nothing of a file."""


class Bucket:
    """Files below an address."""

    def __init__(self, address: Address) -> None:
        from pyarrow.fs import FileSystem

        self.address = address
        try:
            self._storage, self._base = FileSystem.from_uri(str(address))
        except (OSError, ValueError, NotImplementedError) as error:
            self._refuse(error)
        self._ahead = Ahead(self._read)

    def check(self) -> None:
        """Raise `ConfigError` if nothing is at the address, or it must not be listed."""
        try:
            self._list("")
        except FileNotFoundError:
            raise ConfigError(
                f"{self.address}: nothing is there; name what holds train.csv and train_eegs/"
            ) from None

    def has_folder(self, name: str) -> bool:
        """Tell whether there are files below a name."""
        from pyarrow.fs import FileType

        try:
            found = self._storage.get_file_info(f"{self._base}/{name}").type
        except OSError as error:
            self._refuse(error)
        return bool(found == FileType.Directory)

    def table(self, name: str) -> bytes | None:
        """Return the content of a table, None where there is none."""
        try:
            with self._storage.open_input_file(f"{self._base}/{name}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)

    def places(self, folder: str, recordings: Iterable[str]) -> list[Place]:
        """Return where the file of each recording lies, from one listing of the folder."""
        try:
            listed = {info.base_name: info for info in self._list(folder) if info.is_file}
        except FileNotFoundError:
            listed = {}
        found = []
        for recording in recordings:
            path, info = f"{self.address}/{folder}/{recording}.parquet", listed.get(f"{recording}.parquet")
            size, mtime_ns = (None, None) if info is None else (info.size, info.mtime_ns)
            found.append(Place(recording, path, size, mtime_ns))
        return found

    def ahead(self, parts: Sequence[Part]) -> None:
        """Begin to read what is asked for next."""
        self._ahead.expect([part.place for part in parts])

    def read(self, place: Place, kind: str = RECORDING) -> bytes:
        """Return a file's content, as it was when it was listed.

        Raises
        ------
        Unusable
            If it is missing, must not be read, or is not what was listed; another time it may be.
        OSError
            If the storage cannot be reached.
        """
        try:
            return self._ahead.take(place)
        except _NotRead as change:
            raise Unusable(f"the {kind}'s file {change}", permanent=False) from None
        except FileNotFoundError:
            raise Unusable(f"the {kind}'s file is missing", permanent=False) from None
        except OSError as error:
            self._reraise_if_not_reached(error)
            raise Unusable(f"the {kind}'s file cannot be read: {_said(error)}", permanent=False) from None

    def _list(self, folder: str) -> Sequence[Any]:
        from pyarrow.fs import FileSelector

        try:
            found: Sequence[Any] = self._storage.get_file_info(
                FileSelector(f"{self._base}/{folder}".rstrip("/"))
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            self._refuse(error)
        return found

    def _read(self, place: Place) -> bytes:
        """Return a file's content; whether it is the one listed is asked before and after."""
        path = self._base + place.path.removeprefix(str(self.address))
        expected = place.size, None if place.mtime_ns is None else place.mtime_ns // 10**9
        if (place.size or 0) > LARGEST_FILE:
            raise _NotRead(f"has {place.size} bytes, more than the {LARGEST_FILE} that are read whole")
        with self._storage.open_input_file(path) as file:
            before, data = self._version(path, file), file.read()
        with self._storage.open_input_file(path) as file:
            after = self._version(path, file)
        if before[:2] != expected or before != after:
            raise _NotRead("changed after it was listed; the same command reads it as it is then")
        if len(data) != place.size:
            raise _NotRead(f"ended after {len(data)} of {place.size} bytes")
        return bytes(data)

    def _version(self, path: str, file: pa.NativeFile) -> tuple[int, int, bytes]:
        """Return size, second of the last change, and the storage's own tag, of an open file."""
        told = file.metadata() or {}
        if not told.get("ETag"):
            info = self._storage.get_file_info(path)
            return info.size, info.mtime_ns // 10**9, b""
        changed = datetime.fromisoformat(told["Last-Modified"].decode())
        return file.size(), int(changed.timestamp()), told["ETag"]

    def _refuse(self, error: Exception) -> NoReturn:
        self._reraise_if_not_reached(error)
        raise ConfigError(
            f"{self.address} cannot be read: {_said(error)}; the bucket must be there, and list and give its "
            "objects to the credentials that the environment, ~/.aws or the machine's role name"
        ) from None

    def _reraise_if_not_reached(self, error: Exception) -> None:
        if _NOT_REACHED.search(str(error)):
            raise OSError(
                errno.ETIMEDOUT, f"the storage cannot be reached ({_said(error)})", str(self.address)
            ) from None


class _NotRead(Exception):
    """A file is not what was listed, or too large."""


def _said(error: Exception) -> str:
    """Return what a library says is wrong, without what it was asked with."""
    found = dict.fromkeys(text.strip() for text in _SAID.findall(str(error)))
    return ", ".join(found) or type(error).__name__


class Ahead:
    """Files that are read before they are asked for, in the order in which they will be.

    Parameters
    ----------
    read : returns a file's content; called in other threads
    """

    def __init__(self, read: Callable[[Place], bytes]) -> None:
        self._read = read
        self._waiting: deque[Place] = deque()
        self._coming: dict[str, tuple[int, Future[bytes]]] = {}
        self._pool = ThreadPoolExecutor(IN_FLIGHT, "read ahead")
        self._lock = threading.Lock()  # threads of one process may share it

    def expect(self, places: Iterable[Place]) -> None:
        """Begin to read places, and forget what was expected before."""
        with self._lock:
            for _, coming in self._coming.values():
                coming.cancel()
            self._coming.clear()
            self._waiting = deque(places)
            self._begin()

    def take(self, place: Place) -> bytes:
        """Return the content of a place, read already or now."""
        with self._lock:
            _, coming = self._coming.pop(place.path, (0, None))
            self._begin()
        return self._read(place) if coming is None else coming.result()

    def _begin(self) -> None:
        """Begin to read what is next, as far as there is room; a file asked for twice is read twice."""
        held = sum(size for size, _ in self._coming.values())
        while self._waiting and len(self._coming) < IN_FLIGHT:
            place = self._waiting[0]
            size = place.size or 0
            if place.path in self._coming or (self._coming and held + size > MOST_AHEAD):
                return
            self._waiting.popleft()
            self._coming[place.path] = size, self._pool.submit(self._read, place)
            held += size


@lru_cache(maxsize=4)
def bucket_at(address: Address) -> Bucket:
    """Return the files below an address; a process opens it once."""
    return Bucket(address)
