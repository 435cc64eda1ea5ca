"""Files in object storage, read only: S3, and what else Arrow's file systems open.

Credentials, region and server come from the storage library's own chain: environment, configuration files,
the machine's role. Nothing of them is kept or said.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hms.config.paths import Address
from hms.config.reading import MOST_BYTES
from hms.errors import ConfigError, Unusable
from hms.sources.base import RECORDING, Part, Place
from hms.sources.files import LARGEST_FILE

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

IN_FLIGHT = 32
"""Files of a worker that are read at a time."""

MOST_AHEAD = 1 << 28
"""Bytes of a worker's files that are read and not yet asked for."""

CHANGED = "changed after it was listed; the same command reads it as it is then"

_SAID = re.compile(r"AWS Error [A-Z_ ]+(?: \(HTTP status \d+\))?|curlCode: \d+, [^;:(]+|[A-Z_]{6,}(?=:)")
"""What of a library's text names the problem; the rest may quote headers and addresses."""

_NOT_REACHED = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTL|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|REQUEST_TIMEOUT|UNAVAILABLE:"
    r"|curlCode|HTTP status 5\d\d"
)
"""Problems of the network or the storage, not of a file."""


_CREDENTIALS = re.compile("AWS_|GOOGLE_|AZURE_")
"""Variables of the environment that the storage library's chain looks at."""

Listed = tuple[int, int]
"""Size, and time of the last change in ns, as a listing has them."""

Version = tuple[int, int, bytes]
"""Size, second of the last change, and the storage's own tag, of an object."""


class Bucket:
    """Files below an address."""

    def __init__(self, address: Address) -> None:
        from pyarrow.fs import FileSystem

        self.address = address
        try:
            self._storage, self._base = FileSystem.from_uri(str(address))
        except (OSError, ValueError, NotImplementedError) as error:
            self._refuse(error)
        self._ahead = Ahead()

    def check(self) -> None:
        """Raise `ConfigError` if nothing is at the address, or it must not be listed."""
        try:
            self._list("")
        except FileNotFoundError:
            raise ConfigError(
                f"{self.address}: nothing is there; name the prefix of train.csv and train_eegs/"
            ) from None

    def walked(self, folder: str) -> dict[str, Listed]:
        """Return the files below a folder, whatever is between, by their names relative to it."""
        try:
            found = self._list(folder, recursive=True)
        except FileNotFoundError:
            return {}
        start = len(f"{self._base}/{folder}".rstrip("/")) + 1
        return {info.path[start:]: (info.size, info.mtime_ns) for info in found if info.is_file}

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted."""
        try:
            return sorted(info.base_name for info in self._list(folder) if info.is_file)
        except FileNotFoundError:
            return []

    def listed(self, name: str) -> Listed | None:
        """Return size and time of a file, None where there is none of that name."""
        try:
            info = self._storage.get_file_info(f"{self._base}/{name}")
        except OSError as error:
            self._refuse(error)
        return (info.size, info.mtime_ns) if info.is_file else None

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
                if file.size() > MOST_BYTES:
                    raise ConfigError(f"{self.address}/{name} has {file.size()} bytes, too many for a table")
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)

    def places(self, folder: str, recordings: Iterable[str]) -> list[Place]:
        """Return where the file of each recording is, from one listing of the folder."""
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
        self._ahead.expect(parts, self._read)

    def read(self, place: Place, kind: str = RECORDING) -> bytes:
        """Return a file's content, as it was when it was listed.

        Raises `Unusable` if it is missing, must not be read, or is not what was listed; another time it may
        be. Raises `OSError` if the storage cannot be reached.
        """
        with self.reading(kind):
            return self._ahead.take(Part(place), self._read)

    @contextmanager
    def reading(self, kind: str = RECORDING) -> Iterator[None]:
        """Say of what keeps a file from being read whether it is the file, or the storage."""
        try:
            yield
        except NotRead as change:
            raise Unusable(f"the {kind}'s file {change}", permanent=False) from None
        except FileNotFoundError:
            raise Unusable(f"the {kind}'s file is missing", permanent=False) from None
        except OSError as error:
            self._reraise_if_not_reached(error)
            raise Unusable(f"the {kind}'s file cannot be read: {_said(error)}", permanent=False) from None

    def open(self, place: Place) -> tuple[pa.NativeFile, Version]:
        """Open a file where it is what was listed; to be used within `reading`."""
        file = self._storage.open_input_file(path := self._path(place))
        version = self._version(path, file)
        listed = None if place.mtime_ns is None else (place.size, place.mtime_ns // 10**9)
        if listed not in (None, version[:2]):
            raise NotRead(CHANGED)
        return file, version

    def check_unchanged(self, place: Place, version: Version) -> None:
        """Raise if a file that was opened is another one now; to be used within `reading`."""
        with self._storage.open_input_file(path := self._path(place)) as file:
            if self._version(path, file) != version:
                raise NotRead(CHANGED)

    def _list(self, folder: str, *, recursive: bool = False) -> Sequence[Any]:
        from pyarrow.fs import FileSelector

        try:
            found: Sequence[Any] = self._storage.get_file_info(
                FileSelector(f"{self._base}/{folder}".rstrip("/"), recursive=recursive)
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            self._refuse(error)
        return found

    def _path(self, place: Place) -> str:
        return f"{self._base}{place.path.removeprefix(str(self.address))}"

    def _read(self, part: Part) -> bytes:
        """Return a file's content; whether it is the one listed is asked before and after."""
        place = part.place
        if (place.size or 0) > LARGEST_FILE:
            raise NotRead(f"has {place.size} bytes, more than the {LARGEST_FILE} that are read whole")
        file, version = self.open(place)
        with file:
            data = file.read()
        self.check_unchanged(place, version)
        if len(data) != version[0]:
            raise NotRead(f"ended after {len(data)} of {version[0]} bytes")
        return bytes(data)

    def _version(self, path: str, file: pa.NativeFile) -> Version:
        """Return the version of an open file."""
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


class NotRead(Exception):
    """A file is not what was listed, or too large."""


def _said(error: Exception) -> str:
    """Return what a library says is wrong, without what it was asked with."""
    found = dict.fromkeys(text.strip() for text in _SAID.findall(str(error)))
    return ", ".join(found) or type(error).__name__


class Ahead:
    """Files that are read before they are asked for, in the order in which they will be."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Part, int, Callable[[Part], Any]]] = deque()
        self._coming: dict[str, deque[tuple[int, Future[Any]]]] = {}
        self._pool = ThreadPoolExecutor(IN_FLIGHT, "read ahead")
        self._lock = threading.Lock()  # threads of one process may share it

    def expect(self, parts: Iterable[Part], read: Callable[[Part], Any], most: int = LARGEST_FILE) -> None:
        """Begin to read parts, and forget what was expected before.

        ``read`` returns what is in a part, and is called in other threads; ``most`` bytes are held of a file.
        """
        with self._lock:
            for _, coming in self._in_flight():
                coming.cancel()
            self._coming.clear()
            self._waiting = deque((part, min(part.place.size or 0, most), read) for part in parts)
            self._begin()

    def take(self, part: Part, read: Callable[[Part], T]) -> T:
        """Return what is in a part, read already or now; of a file expected twice, what comes first."""
        with self._lock:
            coming = self._coming.get(part.place.path)
            future = coming.popleft()[1] if coming else None
            self._begin()
        if future is None:
            return read(part)
        found: T = future.result()
        return found

    def _in_flight(self) -> list[tuple[int, Future[Any]]]:
        return [one for coming in self._coming.values() for one in coming]

    def _begin(self) -> None:
        """Begin to read what is next, as far as there is room."""
        in_flight = self._in_flight()
        count, held = len(in_flight), sum(size for size, _ in in_flight)
        while self._waiting and count < IN_FLIGHT:
            part, size, read = self._waiting[0]
            if count and held + size > MOST_AHEAD:
                return
            self._waiting.popleft()
            future = self._pool.submit(read, part)
            self._coming.setdefault(part.place.path, deque()).append((size, future))
            count, held = count + 1, held + size


def bucket_at(address: Address) -> Bucket:
    """Return the files below an address; a process opens it once, until its credentials change."""
    credentials = sorted(pair for pair in os.environ.items() if _CREDENTIALS.match(pair[0]))
    return _bucket_at(address, tuple(credentials))


@lru_cache(maxsize=8)
def _bucket_at(address: Address, _credentials: tuple[tuple[str, str], ...]) -> Bucket:
    return Bucket(address)


def bucket_of(path: str | Address) -> Bucket:
    """Return the bucket that an object is in."""
    return bucket_at(Address(*Address(path).parts[:2]))
