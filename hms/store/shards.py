"""Results of many items in one file: a NumPy file whose rows are records, one an item.

``np.load(path, mmap_mode="r")`` reads it. Which row an item has follows from the table of items alone, so
that workers write theirs in any order, and again after a kill. While rows are missing the file is *open*; it
is *sealed*, under the digest of the identities of its items, when all are there. A sealed file never changes.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from hms.errors import ConfigError, ManifestError, StorageError
from hms.store.files import (
    Damaged,
    Stored,
    digest_bytes,
    make_folder,
    storage_error,
    sync_folder,
    write_error,
)
from hms.store.inside import open_own
from hms.store.npz import parsed_header, read_npz

SHARD_BYTES = 128 << 20
"""Bytes of a shard's records, about: a data set of less is one shard."""

OPEN, SEALED = "open-", "shard-"
INDEX = "index.npz"
"""In a folder of a run: which row of which shard each item has."""

PATIENT = "patient_id"
MOST_HEADER = 1 << 16


def is_shard(name: str) -> bool:
    """Tell whether a file of the store holds records of many items."""
    return name.startswith((OPEN, SEALED))


def is_sealed(name: str) -> bool:
    """Tell whether a file of the store is a shard that never changes."""
    return name.startswith(SEALED)


def sealed_name(keys: Sequence[str | None]) -> str:
    """Return the name of the shard that holds these items in this order, None where a row is empty."""
    return f"{SEALED}{digest_bytes(chr(10).join(key or '' for key in keys).encode())[:24]}.npy"


# --- records -------------------------------------------------------------------------------------


def record_type(arrays: Mapping[str, Any], text_ids: int) -> np.dtype[Any]:
    """Return the type of an item's record: its arrays one after the other, in their order.

    ``text_ids`` are the characters of the longest patient_id, where one is not a number; else 0.
    """
    fields = []
    for name, value in arrays.items():
        array = np.asanyarray(value)
        if array.dtype.hasobject:
            raise ValueError(f"array '{name}' holds objects")
        fields.append((name, f"<U{text_ids}" if name == PATIENT and text_ids else array.dtype, array.shape))
    return np.dtype(fields)


def record_of(arrays: Mapping[str, Any], kind: np.dtype[Any]) -> bytes:
    """Return an item's record; raises `ConfigError` if its arrays differ in shape from the others'."""
    own = {name: np.asanyarray(value) for name, value in arrays.items()}
    shapes = {name: array.shape for name, array in own.items()}
    if shapes != {name: kind[name].shape for name in kind.names or ()}:
        raise ConfigError(
            f"an item has arrays of the shapes {shapes}, others in the same shard have {kind}; "
            "results of many shapes need package.format=files"
        )
    return b"".join([_field(name, array, kind[name].base) for name, array in own.items()])


def _field(name: str, array: NDArray[Any], base: np.dtype[Any]) -> bytes | memoryview:
    """Return an array as it is in a record, not copied where that can be."""
    if name == PATIENT and base.kind == "U":
        array = np.array(str(array))
    array = np.ascontiguousarray(array, base)
    return array.reshape(-1).view(np.uint8).data if array.nbytes else b""


def arrays_of(record: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an item, as its own file would hold them; they may be written to."""
    found = {name: np.array(record[name]) for name in record.dtype.names or ()}
    patient = found.get(PATIENT)
    if patient is not None and patient.dtype.kind == "U":
        found[PATIENT] = np.asanyarray(npz_id(str(patient)))
    return found


def npz_id(text: str) -> int | str:
    """Return an id as it is written into npz files: a number where the text is one."""
    return int(text) if text.isdecimal() and str(int(text)) == text and int(text) < 2**63 else text


@dataclass(frozen=True)
class Layout:
    """Which row of which shard an item of a table has.

    Attributes
    ----------
    table : digest of the items, in their order, and of their windows' starts
    n_items : items of the table
    text_ids : see `record_type`
    shard_bytes : of a whole shard, about
    """

    table: str
    n_items: int
    text_ids: int
    shard_bytes: int = field(default_factory=lambda: SHARD_BYTES)

    def rows(self, kind: np.dtype[Any]) -> int:
        """Return how many records a whole shard holds."""
        return max(1, self.shard_bytes // max(1, kind.itemsize))

    def place(self, row: int, kind: np.dtype[Any]) -> tuple[str, int]:
        """Return the name of an item's open shard, and its row there."""
        number, slot = divmod(row, self.rows(kind))
        return f"{OPEN}{self.table}-{number:05d}.npy", slot

    def count(self, row: int, kind: np.dtype[Any]) -> int:
        """Return how many rows an item's shard has."""
        n_rows = self.rows(kind)
        return min(n_rows, self.n_items - row // n_rows * n_rows)


@lru_cache(maxsize=64)
def shard_header(kind: np.dtype[Any], count: int) -> bytes:
    """Return what is before the records."""
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_2_0(buffer, described)
    return buffer.getvalue()


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where an item's arrays are: a file of its own, or a row of a shard.

    Attributes
    ----------
    digest : of the file or the record, which `read` compares; empty if it is not known
    """

    path: Path
    row: int | None = None
    digest: str = ""

    @property
    def name(self) -> str:
        """What an error calls it."""
        return self.path.name if self.row is None else f"row {self.row} of {self.path.name}"

    def read(self, *names: str) -> dict[str, NDArray[Any]]:
        """Return the item's arrays, all of them or those named.

        Raises `StorageError` if they are not what the digest is of, and `ValueError` if they are none.
        """
        if self.row is None:
            data = self.path.read_bytes()
            self._compare(data)
            return read_npz(data, *names)
        try:
            record = read_record(self.path, self.row)
        except ValueError as error:
            if not self.digest:
                raise
            raise Damaged(self.path) from error
        self._compare(record.tobytes())
        found = arrays_of(record)
        return {name: found[name] for name in names} if names else found

    def _compare(self, data: bytes) -> None:
        if self.digest and digest_bytes(data) != self.digest:
            raise Damaged(self.path)


def read_record(path: Path, row: int) -> NDArray[Any]:
    """Return one record of a shard, which may be open or cut behind it.

    Raises `ValueError` if it is not a shard, or ends before.
    """
    with open(path, "rb") as file:
        start, kind, count = _read_header(file)
        if not 0 <= row < count:
            raise ValueError(f"{path.name} has {count} rows, not row {row}")
        file.seek(start + row * kind.itemsize)
        data = file.read(kind.itemsize)
    if len(data) != kind.itemsize:
        raise ValueError(f"{path.name} is cut before the end of row {row}")
    record: NDArray[Any] = np.frombuffer(data, kind)[0]
    return record


def rows_in(path: Path) -> NDArray[Any]:
    """Return the rows of a sealed shard, or of a file by `write_rows`, read from disk when used.

    Raises `ValueError` if it is another kind of file, or shorter than it says.
    """
    found = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=MOST_HEADER)
    rows: NDArray[Any] = found.view(np.ndarray)  # NumPy's memmap class costs microseconds per index
    return rows


def whole_rows(path: Path, wanted: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return, of rows with their digests, those that a shard, damaged or open, holds whole."""
    whole = set()
    try:
        with open_own(path) as file:
            start, kind, _ = _read_header(file)
            for row, digest in sorted(wanted):
                file.seek(start + row * kind.itemsize)
                if digest_bytes(file.read(kind.itemsize)) == digest:
                    whole.add((row, digest))
    except (FileNotFoundError, ManifestError, ValueError):
        return set()
    except OSError as error:
        if error.errno != errno.ELOOP:  # what a link answers
            raise
        return set()
    return whole


def _read_header(file: IO[bytes]) -> tuple[int, np.dtype[Any], int]:
    """Return where the records of an open file begin, their type and their number."""
    if np.lib.format.read_magic(file) != (2, 0):
        raise ValueError("no shard")
    shape, _, kind = parsed_header(np.lib.format.read_array_header_2_0, file, max_header_size=MOST_HEADER)
    if len(shape) != 1 or kind.names is None or kind.hasobject:
        raise ValueError("no shard")
    return file.tell(), kind, shape[0]


# --- writing -------------------------------------------------------------------------------------


class Records:
    """Records on their way into open shards of a folder: written, then synced; see `hms.store.files.Files`.

    Raises
    ------
    StorageError
        From any step, if the disk is full, a limit is reached or the folder cannot be written.
    """

    def __init__(
        self, folder: Path, layout: Layout, kind: np.dtype[Any], records: Mapping[int, bytes]
    ) -> None:
        """Write records by the rows of their items in the table."""
        self.folder, self._n_bytes, self._n = folder, sum(map(len, records.values())), len(records)
        self._open: dict[str, tuple[int, int]] = {}
        try:
            with self._explained():
                make_folder(folder)
                for row, record in records.items():
                    name, slot = layout.place(row, kind)
                    descriptor, start = self._open.get(name) or self._opened(
                        name, kind, layout.count(row, kind)
                    )
                    _write_at(descriptor, record, start + slot * kind.itemsize)
        except BaseException:
            self.close()
            raise

    def _opened(self, name: str, kind: np.dtype[Any], count: int) -> tuple[int, int]:
        """Return the descriptor of a shard, of its full length from the start, and where its rows begin."""
        header = shard_header(kind, count)
        n_bytes = len(header) + count * kind.itemsize
        descriptor = os.open(f"{self.folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        self._open[name] = descriptor, len(header)
        if os.pread(descriptor, len(header), 0) != header:
            os.ftruncate(descriptor, n_bytes)
            _write_at(descriptor, header, 0)
        elif os.fstat(descriptor).st_size != n_bytes:
            os.ftruncate(descriptor, n_bytes)
        return self._open[name]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(error, self.folder, self._n_bytes, self._n) from error

    def sync(self) -> None:
        """Bring what was written to disk."""
        with self._explained():
            for descriptor, _ in self._open.values():
                os.fsync(descriptor)

    def name(self) -> list[Stored]:
        """Return the shards, which have no digest until they are sealed; only after `sync`."""
        with self._explained():
            found = [(name, os.fstat(descriptor)) for name, (descriptor, _) in self._open.items()]
        return [Stored(name, status.st_size, status.st_mtime_ns, "") for name, status in found]

    def close(self) -> None:
        """Close the files."""
        for descriptor, _ in self._open.values():
            os.close(descriptor)
        self._open = {}


def write_rows(file: IO[bytes], kind: np.dtype[Any], count: int, rows: Iterable[NDArray[Any]]) -> None:
    """Write a NumPy file of one array a row, row after row; `rows_in` reads it as it reads a shard."""
    described = {"descr": kind.base.str, "fortran_order": False, "shape": (count, *kind.shape)}
    np.lib.format.write_array_header_1_0(file, described)
    for row in rows:
        file.write(np.ascontiguousarray(row).data)


def seal(folder: Path, name: str, keys: Sequence[str | None], digests: Mapping[int, str]) -> Stored:
    """Give an open shard its last name, and return it with its digest; every record is read back.

    Rows without an item become zeros, whatever was written there before. Raises `StorageError` if a record is
    not what was written.

    Parameters
    ----------
    keys : identity of the item of each row, None where the row is empty
    digests : of the records, by row
    """
    whole = xxhash.xxh3_128()
    try:
        with open(folder / name, "r+b") as file:
            start, kind, _ = _read_header(file)
            for row, key in enumerate(keys):
                if key is None:  # through the file, whose buffer has the first rows by now
                    file.seek(start + row * kind.itemsize)
                    file.write(bytes(kind.itemsize))
            file.flush()
            file.seek(0)
            whole.update(file.read(start))
            for row, key in enumerate(keys):
                record = file.read(kind.itemsize)
                whole.update(record)
                if key is not None and digest_bytes(record) != digests[row]:
                    raise StorageError(
                        f"{folder / name}: row {row} is not what was written; run the same command again"
                    )
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        final = sealed_name(keys)
        os.replace(folder / name, folder / final)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(error, folder) from error
    return Stored(final, status.st_size, status.st_mtime_ns, whole.hexdigest())


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        n = os.pwrite(descriptor, view, offset)
        view, offset = view[n:], offset + n
