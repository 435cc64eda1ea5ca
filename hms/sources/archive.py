"""A data set's files by their names: in a folder, in the zip archive as it was downloaded, or in a bucket.

What is read is the same bytes wherever it lies, so that digests, keys and runs are the same too. Nothing
is unpacked or kept.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from hms.config.paths import Address
from hms.config.reading import is_folder, looked_at, regular_bytes
from hms.errors import ConfigError, Unusable
from hms.sources.base import RECORDING, Part, Place
from hms.sources.bucket import Bucket, bucket_at
from hms.sources.files import LARGEST_FILE, place_of, read_bytes
from hms.store.seen import known_files
from hms.terminal import listed, shortened

MOST_TIMES, MOST_SPARE = 100, 1 << 24
"""How many times its packed bytes a file may have, and how many bytes more; signals are far below."""


@dataclass(frozen=True)
class Folder:
    """Files in a folder."""

    root: str

    def has_folder(self, name: str) -> bool:
        """Tell whether there is a folder of that name."""
        return is_folder(os.path.join(self.root, name))

    def table(self, name: str) -> bytes | None:
        """Return the content of a table, None where there is none."""
        path = Path(self.root) / name
        try:
            return regular_bytes(path)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise ConfigError(f"{path}: is a folder, but the votes table must be a CSV file") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None

    def places(self, folder: str, recordings: Iterable[str]) -> list[Place]:
        """Return the place of each recording's file, with size and time where it is there."""
        base = os.path.join(self.root, folder)
        known, places = known_files(base), []
        for name in recordings:
            path, status = f"{base}/{name}.parquet", known.get(f"{name}.parquet")
            places.append(place_of(name, path) if status is None else Place(name, path, *status))
        return places

    def ahead(self, parts: Sequence[Part]) -> None:
        """Do nothing: the system reads ahead."""

    def read(self, place: Place, kind: str = RECORDING) -> bytes:
        """Return a file's bytes."""
        return read_bytes(place, kind)


class Archive:
    """Files in a zip archive, stored or deflated, in any one folder of it.

    Raises `ConfigError` if it is not an archive, an entry would be unpacked outside, is a link, encrypted or
    there twice, or there is no table of the name wanted.
    """

    def __init__(self, root: str, table: str) -> None:
        self.root = root
        try:
            self._zip = zipfile.ZipFile(root)
        except (OSError, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{root} is not a complete zip archive ({shortened(error)}); download it again"
            ) from None
        self._mtime_ns = os.stat(root).st_mtime_ns
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            self._check(entry)
            self._entries[entry.filename] = entry
        self._base = self._find(table)
        self._folders = {name.rpartition("/")[0] for name in self._entries}

    def _check(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            self._refuse(f"entry '{name}' would be unpacked outside its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            self._refuse(f"entry '{name}' is a link")
        if name in self._entries and not entry.is_dir():
            self._refuse(f"entry '{name}' appears twice")
        if entry.flag_bits & 0x1:
            self._refuse(f"entry '{name}' is encrypted")

    def _find(self, table: str) -> str:
        """Return the folder of the archive, with '/' at its end, that holds the table."""
        found = [name for name in self._entries if name == table or name.endswith(f"/{table}")]
        found = [name for name in found if not name.startswith("__MACOSX/")]
        if not found:
            names = sorted({name.partition("/")[0] for name in self._entries})
            self._refuse(f"it has no {table}, but {listed(names, 8) or 'nothing'}")
        return min(found, key=lambda name: (name.count("/"), name))[: -len(table)]

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"{self.root}: {problem}; data.root names the competition's download, or a folder")

    def has_folder(self, name: str) -> bool:
        """Tell whether there are files in a folder of that name."""
        return f"{self._base}{name}" in self._folders

    def table(self, name: str) -> bytes | None:
        """Return the content of a table, None where there is none."""
        entry = self._entries.get(f"{self._base}{name}")
        if entry is None:
            return None
        try:
            return self._bytes(entry, "table")
        except Unusable as reason:
            self._refuse(reason.reason)

    def places(self, folder: str, recordings: Iterable[str]) -> list[Place]:
        """Return where the file of each recording is; its time is the archive's."""
        return [self._place(name, f"{self._base}{folder}/{name}.parquet") for name in recordings]

    def _place(self, recording: str, entry_name: str) -> Place:
        entry = self._entries.get(entry_name)
        path = f"{self.root}/{entry_name}"
        return Place(recording, path, None if entry is None else entry.file_size, self._mtime_ns)

    def ahead(self, parts: Sequence[Part]) -> None:
        """Do nothing: the system reads ahead."""

    def read(self, place: Place, kind: str = RECORDING) -> bytes:
        """Return a file's bytes, checked by the archive's own sum."""
        entry = self._entries.get(place.path[len(self.root) + 1 :])
        if entry is None:
            raise Unusable(f"the {kind}'s file is missing", permanent=False)
        return self._bytes(entry, kind)

    def _bytes(self, entry: zipfile.ZipInfo, kind: str) -> bytes:
        most = min(LARGEST_FILE, MOST_TIMES * entry.compress_size + MOST_SPARE)
        if entry.file_size > most:
            problem = f"the {kind}'s file says it has {entry.file_size} bytes, packed {entry.compress_size}"
            raise Unusable(problem, permanent=False)
        try:
            return self._zip.read(entry)
        except (
            OSError,
            EOFError,
            zlib.error,
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:
            problem = f"the {kind}'s file cannot be read from the archive: {shortened(error)}"
            raise Unusable(problem, permanent=False) from None


Files = Folder | Archive | Bucket
"""Files below a root, by relative names with '/' between folders."""


def files_of(root: Path | Address, table: str) -> Files:
    """Return the files of a folder, of the archive that a path names, or below an address."""
    if isinstance(root, Address):
        return bucket_at(root)
    path = os.path.abspath(root)
    status = looked_at(path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return Folder(path)
    return _archive(path, table, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=4)
def _archive(path: str, table: str, state: tuple[int, ...]) -> Archive:
    """Return an archive whose table of contents was read once, as long as the file stays the same."""
    return Archive(path, table)
