"""Files on their way to disk: whole or absent, and digested as they are written."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import xxhash

from hms.errors import StorageError

_TEMPORARY = ".tmp-"

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


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as it was when it was written: name, size in bytes, time and content digest."""

    name: str
    size: int
    mtime_ns: int
    digest: str


# --- writing -------------------------------------------------------------------------------------


class _DigestingFile:
    """A binary file that digests what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self.size = file, xxhash.xxh3_128(), 0

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

    Each is whole or absent under its name, whenever the process ends. `commit_files` does all
    in one go; a worker computes on while another thread syncs. They are sure to be found on
    disk once their folder is synced too.

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
                folder.mkdir(parents=True, exist_ok=True)
                start = f"{folder}/{_TEMPORARY}{uuid.uuid4().hex}"
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
            problem = storage_error(error, self.folder)
            raise StorageError(problem.text, self._n_bytes, self._n_files) from error

    def sync(self) -> None:
        """Bring what was written to disk; the one step that takes long and needs no processor."""
        with self._explained():
            for entry in self._pending:
                os.fsync(entry.descriptor)

    def name(self) -> list[Stored]:
        """Give the files their names; only after `sync`."""
        with self._explained():
            for entry, stored in zip(self._pending, self._stored, strict=True):
                os.replace(entry.temporary, f"{self.folder}/{stored.name}")
                entry.is_named = True
        return self._stored

    def close(self) -> None:
        """Close the files, and remove those without a name."""
        for entry in self._pending:
            os.close(entry.descriptor)
            if not entry.is_named:
                with contextlib.suppress(OSError):
                    os.unlink(entry.temporary)
        self._pending = []


def commit_files(folder: Path, contents: Mapping[str, Content]) -> list[Stored]:
    """Write files so that each is whole or absent, and on disk when this returns.

    All are written under temporary names, synced, renamed, and then their folder is
    synced. Every file of a run and of the store is written in these steps.

    Raises
    ------
    StorageError
        If the disk is full, a limit is reached or the folder cannot be written.
    """
    files = Files(folder, contents)
    try:
        files.sync()
        done = files.name()
    finally:
        files.close()
    sync_folder(folder)
    return done


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


def commit_links(folder: Path, targets: Mapping[str, str]) -> None:
    """Make ``folder`` hold exactly these relative symbolic links, and sync it.

    A link that already points to its target is left alone, and so are folders in the
    folder; any other entry is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        apart = {name: target.rpartition("/") for name, target in targets.items()}
        ways = {parent: os.path.relpath(parent, folder) for parent in {p for p, _, _ in apart.values()}}
        wanted = {name: f"{ways[parent]}/{last}" for name, (parent, _, last) in apart.items()}
        present = {entry.name: entry for entry in os.scandir(folder)}
        for name, entry in present.items():
            if name not in wanted and not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
        changed = {n: t for n, t in wanted.items() if n not in present or _link_target(present[n]) != t}
        for name, target in changed.items():
            _replace_link(f"{folder}/{name}", target, is_new=name not in present)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(error, folder) from error


def _link_target(entry: os.DirEntry[str]) -> str | None:
    return os.readlink(entry.path) if entry.is_symlink() else None


def _replace_link(path: str, target: str, *, is_new: bool) -> None:
    if is_new:
        os.symlink(target, path)
        return
    temporary = f"{os.path.dirname(path)}/{_TEMPORARY}{uuid.uuid4().hex}"
    os.symlink(target, temporary)
    os.replace(temporary, path)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk; raises StorageError if that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, folder) from error


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder; only under the folder's lock."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.startswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def storage_error(error: OSError, folder: Path) -> StorageError:
    """Return a StorageError that says what to do about an OSError."""
    advice = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "a limit on the size of files was reached",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "writing there is not permitted",
        errno.EPERM: "writing there is not permitted",
        errno.EMFILE: "too many files are open",
    }
    reason = advice.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"cannot write to {folder}: {reason}")


def folder_size(path: Path) -> tuple[int, int]:
    """Return number and total bytes of the regular files below a folder."""
    count = total = 0
    for base, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(base, name))
            count, total = count + 1, total + status.st_size
    return count, total
