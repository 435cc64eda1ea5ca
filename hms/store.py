"""The store: where stage results live once, and how they are written so that a kill costs work, never truth.

Every stage key has a folder with its files and a journal. A file counts only when a
line of the journal names its size, time and digest, and a line is appended only after
the files it names, and their folder, are on disk. Lines carry a checksum each: a line
cut short by a kill, or damaged later, is no line.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, Any

import xxhash

from hms.config import canonical_json
from hms.stage import Content, Stage

__all__ = [
    "Files",
    "Reason",
    "Record",
    "StageFolder",
    "StorageError",
    "Stored",
    "commit_files",
    "commit_links",
    "digest_bytes",
    "digest_file",
    "folder_size",
    "lock",
    "read_journal",
]

JOURNAL = "records.log"
KEY_FILE = "key.json"
_TEMPORARY = ".tmp-"


class StorageError(Exception):
    """A file could not be written or read back (exit code 4).

    ``n_bytes`` and ``n_files`` say how much was being written when it happened.
    """

    def __init__(self, text: str, n_bytes: int = 0, n_files: int = 0) -> None:
        super().__init__(text, n_bytes, n_files)
        self.text, self.n_bytes, self.n_files = text, n_bytes, n_files

    def __str__(self) -> str:
        return self.text


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
        size, digest = _write(descriptor, content)
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


def _write(descriptor: int, content: Content) -> tuple[int, str]:
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


# --- journals ------------------------------------------------------------------------------------


def journal_line(content: Mapping[str, Any]) -> bytes:
    """Return one line of a journal: checksum, length and canonical JSON."""
    text = canonical_json(content).encode()
    return b"%s %d %s\n" % (xxhash.xxh3_64_hexdigest(text).encode(), len(text), text)


def append_journal(path: Path, content: Mapping[str, Any]) -> None:
    """Append one checksummed line to a journal and sync it."""
    data = journal_line(content)
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            _write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path.parent) from error


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the valid lines of a journal and the number of damaged ones.

    A line shorter than it states was cut by a kill, which is no damage: what it would
    have recorded is computed again.

    Raises
    ------
    StorageError
        If the journal is there and cannot be read, or a file stands where its folder should.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    good, damaged = [], 0
    for line in data.split(b"\n"):
        header = _HEADER.match(line)
        text = line[header.end() :] if header else b""
        is_true = header is not None and header[1] == xxhash.xxh3_64_hexdigest(text).encode()
        if header is not None and is_true and int(header[2]) == len(text):
            good.append(json.loads(text))
        elif is_true or not _is_cut(line, header, text):
            damaged += 1
    return good, damaged


_HEADER = re.compile(rb"([0-9a-f]{16}) ([0-9]+) ")
_HEADER_CUT = re.compile(rb"[0-9a-f]{0,16}|[0-9a-f]{16} [0-9]{0,12}")


def _is_cut(line: bytes, header: re.Match[bytes] | None, text: bytes) -> bool:
    """Tell whether a line ends before the length it states, or inside its header."""
    if header is None:
        return _HEADER_CUT.fullmatch(line) is not None
    return len(text) < int(header[2])


# --- stage folders -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item has no result: the stage that found it, the text, and whether it counts as a failure."""

    stage: str
    text: str
    failure: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What the store knows of one item of a stage: its file and row, or why there is none."""

    item: str
    file: str | None = None
    row: int = 0
    reason: Reason | None = None


def key_note(note: Mapping[str, Any]) -> bytes:
    """Return the text of the note of what is in a key."""
    return json.dumps(note, indent=1, sort_keys=True).encode()


@dataclass
class StageFolder:
    """The folder of one stage key."""

    path: Path
    files: dict[str, Stored] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    seconds: float = 0.0
    computed: int = 0
    damaged_lines: int = 0

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.path / JOURNAL

    def load(self) -> StageFolder:
        """Read the journal; later lines replace earlier ones."""
        self.files, self.records, self.seconds, self.computed = {}, {}, 0.0, 0
        lines, self.damaged_lines = read_journal(self.journal)
        for line in lines:
            self._apply(line)
        return self

    def _apply(self, line: Mapping[str, Any]) -> None:
        for name, size, mtime_ns, digest in line.get("files", ()):
            self.files[name] = Stored(name, size, mtime_ns, digest)
        for item, file, row, reason in line.get("items", ()):
            self.records[item] = Record(item, file, row, Reason(*reason) if reason else None)
        self.seconds += line.get("seconds", 0.0)
        self.computed += line.get("computed", 0)

    def prepare(self, stage: Stage) -> None:
        """Make the folder and note beside it what went into its key; only under its lock."""
        remove_temporaries(self.path)
        if note := self.note(stage):
            commit_files(self.path, note)

    def note(self, stage: Stage) -> dict[str, bytes]:
        """Return the file that notes what went into the key, nothing if it is there."""
        if (self.path / KEY_FILE).exists():
            return {}
        note = {"key": stage.key, "fingerprint": stage.fingerprint, **stage.key_content}
        return {KEY_FILE: key_note(note)}

    def append(
        self, files: Iterable[Stored], records: Iterable[Record], seconds: float, computed: int
    ) -> None:
        """Record files that are on disk, and the items they hold."""
        line = _line(files, records, seconds, computed)
        append_journal(self.journal, line)
        self._apply(line)

    def compact(self) -> None:
        """Write the journal anew from what is known, in one line; only under its lock."""
        records = [r for r in self.records.values() if r.file is None or r.file in self.files]
        content = _line(self.files.values(), records, self.seconds, self.computed)
        commit_files(self.path, {JOURNAL: journal_line(content)})
        self.load()

    def holds(self, item: str) -> bool:
        """Whether an item is recorded and, unless it was excluded, its file too."""
        record = self.records.get(item)
        return record is not None and (record.file is None or record.file in self.files)

    def drop(self, names: Iterable[str]) -> None:
        """Forget files in memory, so that their items count as missing."""
        for name in names:
            self.files.pop(name, None)

    def check(self, names: Iterable[str], *, reread: bool = False) -> tuple[dict[str, str], list[Stored]]:
        """Compare files with their records.

        A file whose size and time are as recorded is taken for whole unless ``reread``;
        any other is read and digested.

        Returns
        -------
        bad : what is wrong with each file that is missing or differs from its record
        moved : files that are whole under another time, as after a copy of the folder
        """
        present = _scan(self.path)
        bad: dict[str, str] = {}
        moved: list[Stored] = []
        for name in names:
            stored, seen = self.files.get(name), present.get(name)
            if stored is None:
                bad[name] = "not recorded"
            elif seen is None:
                bad[name] = "missing"
            elif reread or seen != (stored.size, stored.mtime_ns):
                if seen[0] != stored.size or digest_file(self.path / name) != stored.digest:
                    bad[name] = "content differs from its record"
                elif seen[1] != stored.mtime_ns:
                    moved.append(Stored(name, stored.size, seen[1], stored.digest))
        return bad, moved

    def settle(self, names: Iterable[str]) -> dict[str, str]:
        """Check files, forget the bad ones, record the moved ones anew; return the bad ones."""
        bad, moved = self.check(names)
        self.drop(bad)
        if moved:
            self.append(moved, (), 0.0, 0)
        return bad


def _line(
    files: Iterable[Stored], records: Iterable[Record], seconds: float, computed: int
) -> dict[str, Any]:
    return {
        "files": [[f.name, f.size, f.mtime_ns, f.digest] for f in files],
        "items": [[r.item, r.file, r.row, astuple(r.reason) if r.reason else None] for r in records],
        "seconds": round(seconds, 6),
        "computed": computed,
    }


def _scan(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file in a folder."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                found[entry.name] = (status.st_size, status.st_mtime_ns)
    return found


def folder_size(path: Path) -> tuple[int, int]:
    """Return number and total bytes of the regular files below a folder."""
    count = total = 0
    for base, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(base, name))
            count, total = count + 1, total + status.st_size
    return count, total


# --- locks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(path: Path, *, waiting: str = "", say: Any = None, timeout: float = -1) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process, however it ends.

    Raises
    ------
    TimeoutError
        If ``timeout`` seconds pass first.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            if timeout == 0:
                raise TimeoutError(str(path)) from None
            if say is not None and waiting:
                say(waiting)
            try:
                guard.acquire(timeout=timeout)
            except Timeout:
                raise TimeoutError(str(path)) from None
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise storage_error(error, path.parent) from error
    try:
        yield
    finally:
        guard.release()
