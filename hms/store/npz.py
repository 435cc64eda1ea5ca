"""The npz files that hms writes: uncompressed, without pickle, the same bytes on every day.

NumPy reads them and writes ones that are read the same way. What takes NumPy most of its
time, describing the same few shapes again and seeking in a stream, is done once here.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

_ZIP64, _UNIX, _UTF8 = 45, 3, 0x800
_DATE = 33
"""The first day of 1980, so that bytes do not depend on the day."""

_IN_EXTRA, _MODE = 0xFFFFFFFF, 0o600 << 16
_LOCAL, _CENTRAL, _END = "<4s2B4HL2L2H", "<4s4B4HL2L5H2L", "<4s4H2LH"
"""Records of the ZIP format: before a member, in the directory, and at the end."""

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

MOST_UNPACKED = 1 << 31
"""Bytes that the compressed arrays of one file may take; those of hms are not compressed."""

MOST_HEADER = 1 << 14
"""Bytes of the header of an array that are looked at."""


# --- writing -------------------------------------------------------------------------------------


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return an uncompressed npz file that is read with ``allow_pickle=False``.

    Byte for byte what `numpy.savez` writes, in a third of the time. Raises `ValueError` if an array holds
    objects.
    """
    return b"".join(_parts(arrays))


def npz_file(arrays: Mapping[str, Any]) -> Callable[[IO[bytes]], None]:
    """Return what writes the file of `npz_bytes` in pieces: arrays of millions of items are not copied."""

    def write(file: IO[bytes]) -> None:
        for part in _parts(arrays):
            file.write(part)

    return write


def _parts(arrays: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """Yield the pieces of an npz file."""
    directory: list[bytes] = []
    offset = 0
    for key, value in arrays.items():
        name = f"{key}.npy".encode()
        header, data = _npy_parts(np.asanyarray(value))
        crc, size = zlib.crc32(data, zlib.crc32(header)), len(header) + len(data)
        member = (_ZIP64, 0, 0 if key.isascii() else _UTF8, 0, 0, _DATE)
        sizes = struct.pack("<HHQQ", 1, 16, size, size)
        local = struct.pack(_LOCAL, b"PK\3\4", *member, crc, _IN_EXTRA, _IN_EXTRA, len(name), len(sizes))
        yield b"".join((local, name, sizes, header))
        yield data
        entry = (b"PK\1\2", _ZIP64, _UNIX, *member, crc, size, size, len(name), 0, 0, 0, 0, _MODE, offset)
        directory.append(struct.pack(_CENTRAL, *entry) + name)
        offset += len(local) + len(name) + len(sizes) + size
    length, count = sum(map(len, directory)), len(arrays)
    yield b"".join((*directory, struct.pack(_END, b"PK\5\6", 0, 0, count, count, length, offset, 0)))


def _npy_parts(array: np.ndarray[Any, Any]) -> tuple[bytes, bytes | memoryview]:
    """Return the header of an array's npy file and what follows it, not copied where that can be."""
    if array.dtype.hasobject:
        raise ValueError("an array of objects is not written: reading it back would need pickle")
    if array.flags.c_contiguous and array.dtype.names is None:
        viewed = array.dtype.kind in "fiubU" and array.nbytes
        values = array.reshape(-1).view(np.uint8).data if viewed else array.tobytes()
        return _npy_header(array.dtype.str, array.shape), values
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return b"", buffer.getvalue()


@lru_cache(maxsize=256)
def _npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


# --- reading -------------------------------------------------------------------------------------


def read_npz(data: bytes, *names: str, which: Callable[[str], bool] | None = None) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file, all of them or those named; nothing is unpickled.

    Sizes are looked at before content: an array that is not as large as its header says, and members that
    unpack to more than `MOST_UNPACKED` bytes, are not read. Raises `KeyError` if there is no array of a name,
    and `ValueError` or `zipfile.BadZipFile` if the file is damaged, cut, too large, or holds objects.

    Parameters
    ----------
    data : the whole file; it may be one that was written by others, or compressed
    which : of all that are there, takes those whose names are wanted

    Returns
    -------
    dict
        Arrays by name; each has its own memory and may be written to.
    """
    found = {name: (start, stop, crc) for name, start, stop, crc in _members(data) or ()}
    if not found:
        every = _unpacked(data, names)
        return every if which is None else {name: v for name, v in every.items() if which(name)}
    wanted = names or (found if which is None else filter(which, found))
    return {name: _array(name, data, *found[name]) for name in wanted}


def _unpacked(data: bytes, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that is laid out or compressed otherwise than here."""
    with ZipFile(io.BytesIO(data)) as file:
        sizes = {i.filename.removesuffix(".npy"): i.file_size for i in file.infolist()}
        wanted = names or tuple(sizes)
        if absent := [name for name in wanted if name not in sizes]:
            raise KeyError(absent[0])
        total = sum(sizes[name] for name in wanted)
        if total > MOST_UNPACKED:
            raise ValueError(
                f"the arrays unpack to {total} bytes, more than the {MOST_UNPACKED} that are read"
            )
        return {name: _parsed_array(memoryview(_member(file, f"{name}.npy"))) for name in wanted}


def _member(file: ZipFile, name: str) -> bytes:
    try:
        return file.read(name)
    except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadZipFile(f"member '{name}' cannot be unpacked: {error}") from None


def _members(data: bytes) -> list[tuple[str, int, int, int]] | None:
    """Return name, place and checksum of the members; None for a file that is laid out otherwise."""
    end = len(data) - struct.calcsize(_END)
    if end < 0 or data[end : end + 4] != b"PK\5\6":
        return None
    _, _, _, count, _, length, offset, comment = struct.unpack_from(_END, data, end)
    if comment or offset + length != end:
        return None
    members = list(_entries(data, offset, end))
    if len(members) != count or None in members:
        return None
    whole = [member for member in members if member is not None]
    if sum(stop - start for _, start, stop, _ in whole) > len(data):
        raise BadZipFile("the arrays of the file lie over each other")
    return whole


def _entries(data: bytes, place: int, end: int) -> Iterator[tuple[str, int, int, int] | None]:
    """Yield the entries of the directory; None for a member that is compressed or out of place."""
    size_of_entry, size_of_local = struct.calcsize(_CENTRAL), struct.calcsize(_LOCAL)
    while place + size_of_entry <= end:
        entry = struct.unpack_from(_CENTRAL, data, place)
        (method, crc, packed, size, n_name, n_extra, n_comment) = (
            entry[6], entry[9], entry[10], entry[11], entry[12], entry[13], entry[14],
        )  # fmt: skip
        local = entry[18]
        name = data[place + size_of_entry : place + size_of_entry + n_name]
        place += size_of_entry + n_name + n_extra + n_comment
        if method or packed != size or size == _IN_EXTRA or local + size_of_local > len(data):
            yield None
            continue
        head = struct.unpack_from(_LOCAL, data, local)
        start = local + size_of_local + head[-2] + head[-1]
        is_whole = head[0] == b"PK\3\4" and start + size <= len(data) and name.endswith(b".npy")
        yield (name[:-4].decode(), start, start + size, crc) if is_whole else None


def _array(name: str, data: bytes, start: int, stop: int, crc: int) -> NDArray[Any]:
    view = memoryview(data)[start:stop]
    if zlib.crc32(view) != crc:
        raise BadZipFile(f"array '{name}' does not have its checksum")
    return _parsed_array(view)


def _parsed_array(view: memoryview) -> NDArray[Any]:
    """Return the array of an npy file; raises ValueError if it is not as large as its header says."""
    n_bytes_of_length = 2 if bytes(view[6:7]) == b"\1" else 4
    start = 8 + n_bytes_of_length
    length = start + int.from_bytes(view[8:start], "little")
    dtype, shape, is_fortran = _parsed(bytes(view[: min(length, MOST_HEADER)]))
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != view.nbytes - length:
        raise ValueError(
            f"an array of shape {shape} and type {dtype} is not {view.nbytes - length} bytes long"
        )
    values = np.frombuffer(view[length:], dtype) if math.prod(shape) else np.empty(0, dtype)
    return values.reshape(shape, order="F" if is_fortran else "C").copy(order="K")


def parsed_header(
    reader: Callable[..., Any], file: IO[bytes], **options: Any
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type that the header of an array says, by one of NumPy's readers of headers.

    Raises `ValueError` if it is not one.
    """
    why = ""
    try:
        found: tuple[tuple[int, ...], bool, np.dtype[Any]] = reader(file, **options)
    except OSError:
        raise
    except Exception as error:  # Python's parser raises whatever nested or endless text leads to
        why = type(error).__name__
    if why:  # not where it is handled: its MemoryError says nothing of the machine
        raise ValueError(f"the header of an array is none: {why}")
    return found


@lru_cache(maxsize=256)
def _parsed(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Return what the header of an npy file says; raises ValueError for what it must not."""
    stream = io.BytesIO(header)
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"an npy file of version {version}")
    shape, is_fortran, dtype = parsed_header(_READERS[version], stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"an array of shape {shape}")
    if dtype.hasobject:
        raise ValueError("an array of objects is not read: that would need pickle")
    return dtype, shape, is_fortran
