"""Files on their way to disk: whole or absent, and digested as they are written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import xxhash

from hms.config.reading import walked
from hms.errors import ConfigError, StorageError
from hms.store.linking import TEMPORARY as TEMPORARY

SYNCERS = 4
"""Threads that wait for the disk together."""

Content = bytes | Callable[[IO[bytes]], None]
"""What a file will hold: its bytes, or a function that writes a large file piece by piece."""


# --- digests -------------------------------------------------------------------------------------


def digest_bytes(data: bytes | memoryview) -> str:
    """Return the xxh3-128 digest of bytes in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(data)


def digest_file(path: Path, block: int = 1 << 22) -> str:
    """Return the xxh3-128 digest of a file, read in blocks."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while data := file.read(block):
            digest.update(data)
    return digest.hexdigest()


class Damaged(StorageError):
    """A file has its size and time and not its content; its `path` says which."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged; the same command computes again what is lost")
        self.path = path


class Stored(NamedTuple):
    """A file as it was when it was written: name, size in bytes, time and content digest."""

    name: str
    size: int
    mtime_ns: int
    digest: str


# --- writing -------------------------------------------------------------------------------------


class _DigestingFile(io.RawIOBase):
    """A binary file that digests what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self._digest, self.size = file, xxhash.xxh3_128(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._digest.update(view)
        self._file.write(view)
        self.size += view.nbytes
        return view.nbytes

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


@dataclass(slots=True)
class _Pending:
    """A file without its name: its temporary path and its open descriptor."""

    temporary: str
    descriptor: int
    is_named: bool = False


class Files:
    """Files of one folder on their way to disk: written, then synced, then named.

    Each is whole or absent under its name, whenever the process ends. `commit_files` does all in one go; a
    worker computes on while another thread syncs. They survive a power cut once their folder is synced too.

    Raises
    ------
    StorageError
        From any step, if the disk is full, a limit is reached or the folder cannot be written.
    """

    def __init__(self, folder: Path, contents: Mapping[str, Content]) -> None:
        """Write the files under temporary names."""
        self.folder = folder
        self._n_bytes = sum(len(content) for content in contents.values() if isinstance(content, bytes))
        self._n_files = len(contents)
        self._pending: list[_Pending] = []
        self._stored: list[Stored] = []
        try:
            with self._explained():
                make_folder(folder)
                start = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
                for number, (name, content) in enumerate(contents.items()):
                    self._write(f"{start}-{number}", name, content)
        except BaseException:
            self.close()
            raise

    def _write(self, temporary: str, name: str, content: Content) -> None:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._pending.append(_Pending(temporary, descriptor))
        size, digest = write_content(descriptor, content)
        self._stored.append(Stored(name, size, os.fstat(descriptor).st_mtime_ns, digest))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(error, self.folder, self._n_bytes, self._n_files) from error

    def sync(self) -> None:
        """Bring what was written to disk; the one slow step, and it needs no processor."""
        with self._explained():
            for entry in self._pending:
                os.fsync(entry.descriptor)

    def name(self) -> list[Stored]:
        """Give the files their names; what must last, only after `sync`."""
        with self._explained():
            for entry, stored in zip(self._pending, self._stored, strict=True):
                os.replace(entry.temporary, f"{self.folder}/{stored.name}")
                entry.is_named = True
        return self._stored

    def close(self) -> None:
        """Close the files, and remove those without a name."""
        for entry in self._pending:
            with contextlib.suppress(OSError):  # what must last was synced before
                os.close(entry.descriptor)
            if not entry.is_named:
                with contextlib.suppress(OSError):
                    os.unlink(entry.temporary)
        self._pending = []


def commit_files(folder: Path, contents: Mapping[str, Content]) -> list[Stored]:
    """Write files so that each is whole or absent, and on disk when this returns.

    All are written under temporary names, synced, renamed, and then their folder is synced. Every file of a
    run and of the store is written in these steps, but for what `note_files` writes. Raises `StorageError`
    if the disk is full, a limit is reached or the folder cannot be written.
    """
    files = Files(folder, contents)
    try:
        files.sync()
        done = files.name()
    finally:
        files.close()
    sync_folder(folder)
    return done


def note_files(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write files that a power cut may take or empty: what reads them sees whether they are whole.

    Otherwise as `commit_files`, without the time that a disk takes for each.
    """
    files = Files(folder, contents)
    try:
        files.name()
    finally:
        files.close()


def write_content(descriptor: int, content: Content) -> tuple[int, str]:
    """Write a content to an open file; return its size in bytes and its digest."""
    if isinstance(content, bytes):
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        return len(content), digest_bytes(content)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        sink = _DigestingFile(file)
        content(sink)  # type: ignore[arg-type]
    return sink.size, sink.digest


_UNSYNCABLE = frozenset(
    {errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS, errno.EISDIR, errno.EACCES}
)
"""Answers of file systems that cannot sync folders, and of folders that may be written but not listed."""


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk; raises StorageError if that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise storage_error(error, folder) from error


def sync_files(folder: Path) -> None:
    """Bring everything below a folder to disk, for what a library wrote without syncing."""
    paths = [Path(base, name) for base, _, names in walked(folder) for name in names]
    folders = [Path(base) for base, _, _ in walked(folder)]
    with ThreadPoolExecutor(SYNCERS) as pool:
        list(pool.map(sync_folder, [*paths, *folders]))


def make_folder(folder: Path) -> None:
    """Make a folder and any missing above it, each synced.

    Raises `ConfigError` if a link is in its place: files would be written, and removed, somewhere else.
    """
    try:
        os.mkdir(folder)
    except FileExistsError:
        if folder.is_symlink():
            raise ConfigError(
                f"{folder} is a link, and hms writes only into its own folders: remove the link (its target "
                "stays), or name its target"
            ) from None
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        return
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder; only under the folder's lock."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.startswith(TEMPORARY):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def write_error(error: OSError, folder: Path, n_bytes: int, n_files: int) -> StorageError:
    """Return `storage_error` of a write; where there was no room, with how much was being written."""
    text = storage_error(error, folder).text
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(text, n_bytes, n_files) if is_full else StorageError(text)


def storage_error(error: OSError, folder: Path, doing: str = "write to") -> StorageError:
    """Return a StorageError that says what to do about an OSError."""
    advice = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is exhausted",
        errno.EFBIG: "a limit on file size was reached",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "no permission to write there",
        errno.EPERM: "no permission to write there",
        errno.EMFILE: "too many files are open",
    }
    reason = advice.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"cannot {doing} {folder}: {reason}")


def folder_size(path: Path) -> tuple[int, int]:
    """Return number and total bytes of the files and links below a folder."""
    count = total = 0
    left = [os.fspath(path)]
    while left:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
                    count += 1
    return count, total
