"""Samples of a parquet file whose pages hold plain numbers, taken without Arrow's decoder.

Of a file without dictionaries (`pyarrow.parquet.write_table(..., use_dictionary=False)`), a page of float32
without missing values is one Snappy block of samples. Arrow unpacks it, reads a level for each sample, copies
all into a column and from there into an array, all of it from the first row on. Here pages with samples that
are asked for are unpacked, and these copied. Whatever is otherwise is left to Arrow, damage included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.sources.files import MOST_DECODED

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Array = NDArray[np.float32]

_NUMBER = rb"([\x80-\xff]{0,5}[\x00-\x7f])"
_STATISTICS = rb"\x1c(?:[\x18\x28]\x04.{4}|[\x16\x26][\x80-\xff]{0,9}[\x00-\x7f]|[\x11\x12])*\x00"
_HEADER = re.compile(
    rb"\x15\x00\x15" + _NUMBER + rb"\x15" + _NUMBER + rb"\x2c\x15" + _NUMBER
    + rb"\x15\x00\x15\x06\x15\x06(?:" + _STATISTICS + rb")?\x00\x00",
    re.DOTALL,
)  # fmt: skip
"""Header of a page: a data page (0), its sizes unpacked and packed, its number of values, that they are plain
(0), and twice that levels are in runs (3). It is the PageHeader of parquet.thrift in Thrift's compact
protocol, where 0x15 begins a number and 0x1c the statistics."""

_SIZE = 4
"""Bytes of a sample, and of the length of the levels."""


_Page = tuple[int, int, slice]
"""Rows of a page, from the first to the one after the last, and where its packed bytes are."""


class PlainColumns:
    """Columns of a file, in pages of plain numbers."""

    def __init__(self, data: bytes, columns: Sequence[Sequence[_Page]]) -> None:
        self._data, self._columns = memoryview(data), columns
        self._unpacked: dict[int, Array | None] = {}

    def read(self, first: int, stop: int) -> Array | None:
        """Return some rows, shape (n_columns, stop - first), read-only; None where a page is no such page."""
        rows = np.empty((len(self._columns), stop - first), np.float32)
        known = self._unpacked
        for row, pages in zip(rows, self._columns, strict=True):
            for begin, end, place in pages:
                if end <= first or begin >= stop:
                    continue
                if place.start not in known:
                    known[place.start] = _unpacked(self._data[place], end - begin)
                samples = known[place.start]
                if samples is None:
                    return None
                low, high = max(first, begin), min(stop, end)
                row[low - first : high - first] = samples[low - begin : high - begin]
        rows.flags.writeable = False
        return rows


def plain_columns(data: bytes, metadata: pq.FileMetaData, places: Sequence[int]) -> PlainColumns | None:
    """Return columns of a file.

    Parameters
    ----------
    data : the file's bytes
    metadata : the file's; its columns are float32, none of them nested
    places : which columns

    Returns
    -------
    PlainColumns or None
        None where the file has several groups of rows, or a column has pages that do not look like plain
        numbers packed by Snappy; and where the samples would take more than `MOST_DECODED`.

    References
    ----------
    https://parquet.apache.org/docs/file-format/ : data pages of version 1, encodings PLAIN and RLE.
    """
    n_rows = metadata.num_rows
    if metadata.num_row_groups != 1 or _SIZE * n_rows * len(places) > MOST_DECODED:
        return None
    group = metadata.row_group(0)
    columns = []
    for place in places:
        pages = _pages(data, group.column(place), n_rows)
        if pages is None:
            return None
        columns.append(pages)
    return PlainColumns(data, columns)


def _pages(data: bytes, chunk: Any, n_rows: int) -> list[_Page] | None:
    """Return the pages of a column; None where a header is otherwise, or they do not fill the chunk."""
    if chunk.compression != "SNAPPY":
        return None
    pages: list[_Page] = []
    at = begin = chunk.data_page_offset
    done = 0
    while done < n_rows:
        header = _HEADER.match(data, at)
        if header is None:
            return None
        n_unpacked, n_packed, n_values = (_number(text) for text in header.groups())
        if min(n_packed, n_values) < 1 or n_unpacked != _expected(n_values)[1]:
            return None
        at = header.end() + n_packed
        pages.append((done, done + n_values, slice(header.end(), at)))
        done += n_values
    return pages if done == n_rows and at == begin + chunk.total_compressed_size else None


def _unpacked(packed: memoryview, n_values: int) -> Array | None:
    """Return the samples of a page; None where it is damaged or misses any."""
    from pyarrow import ArrowException

    levels, size, stated = _expected(n_values)
    if packed[: len(stated)] != stated:
        return None
    try:
        page = _snappy().decompress(packed, size)
    except (ArrowException, OSError):
        return None
    if bytes(memoryview(page)[: len(levels)]) != levels:
        return None
    return np.frombuffer(page, np.float32, n_values, len(levels))


@lru_cache(maxsize=4096)
def _number(text: bytes) -> int:
    """Return a number as Thrift writes it, seven bits a byte, the lowest for its sign; -1 for any below 0."""
    value, shift = 0, 0
    for byte in text:
        value |= (byte & 0x7F) << shift
        shift += 7
    return -1 if value & 1 else value >> 1


@lru_cache(maxsize=1024)
def _expected(n_values: int) -> tuple[bytes, int, bytes]:
    """Return the levels of a page that may miss values and misses none, its size, and how Snappy states that.

    The levels are their length and one run of ones.
    """
    run = _varint(n_values << 1) + b"\x01"
    levels = len(run).to_bytes(_SIZE, "little") + run
    size = len(levels) + _SIZE * n_values
    return levels, size, _varint(size)


def _varint(value: int) -> bytes:
    """Return an unsigned number, seven bits a byte."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


@cache
def _snappy() -> Any:
    from pyarrow import Codec

    return Codec("snappy")
