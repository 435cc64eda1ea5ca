"""Reading of files, for the sources that read them whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.config.reading import regular_bytes
from hms.errors import Unusable, reraise_fault
from hms.sources.base import RECORDING, Place
from hms.terminal import shortened

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def place_of(recording: str, path: str) -> Place:
    """Return a file's place, with size and time where it is there.

    Raises `OSError` if the machine fails, so that nothing is known of the file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Place(recording, path, None, None, why_missing(path) if Path(path).is_symlink() else None)
    except OSError as error:
        reraise_fault(error)
        why = f"the recording's file cannot be read: {error.strerror}"
        return Place(recording, path, None, None, why)
    return Place(recording, path, status.st_size, status.st_mtime_ns)


def why_missing(path: str, kind: str = RECORDING) -> str:
    """Return what is told of a file that is not there; a link to nothing is what git-annex leaves of one."""
    if Path(path).is_symlink():
        return f"the {kind}'s file is a link to nothing; where git-annex or DataLad left it: git annex get"
    return f"the {kind}'s file is missing"


_POINTERS = {
    b"version https://git-lfs": "is a Git LFS pointer; git lfs pull gets the file",
    b"/annex/objects/": "is a git-annex pointer; git annex get gets the file",
}


def pointer(data: bytes) -> str:
    """Return what a file says of another that it stands for, in words; empty for a file of its own."""
    return next((told for start, told in _POINTERS.items() if data.startswith(start)), "")


def read_bytes(place: Place, kind: str = RECORDING) -> bytes:
    """Return a file's bytes, read once: what is digested is what is decoded.

    Raises `Unusable` if it is missing, no regular file or cannot be read; another time it may be there.
    Raises `OSError` if the machine fails.
    """
    try:
        return regular_bytes(place.path, LARGEST_FILE)
    except FileNotFoundError:
        raise Unusable(why_missing(place.path, kind), permanent=False) from None
    except OSError as error:
        raise Unusable(f"the {kind}'s file cannot be read: {error.strerror}", permanent=False) from None


LARGEST_FILE = 1 << 32
"""Bytes that a file which is read whole may have: two weeks of 20 channels at 200 Hz, packed."""


def open_parquet(data: bytes) -> tuple[pq.ParquetFile | None, str]:
    """Return an open parquet file, or None and what is wrong with it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(pa.BufferReader(data)), ""
    except (pa.ArrowException, OSError, ValueError) as error:
        reraise_fault(error)
        return None, f"file {pointer(data) or f'is truncated or not parquet: {shortened(error)}'}"


MOST_DECODED = 1 << 31
"""Bytes that what is decoded of one file may take: a day of 20 channels at 200 Hz takes two thirds of it."""


def check_decoded_size(
    file: pq.ParquetFile,
    groups: Sequence[int],
    names: Sequence[str],
    n_rows: int,
    schema: pa.Schema | None = None,
) -> None:
    """Raise ValueError before anything is decoded if it would take too much memory, or is not numbers.

    The text names the size, or the column. A few megabytes can unpack to any size. The file's schema takes
    long to make: whoever has it gives it.
    """
    import pyarrow as pa

    packed = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    size = max(packed, n_rows * len(names) * np.dtype(np.float32).itemsize)
    if size > MOST_DECODED:
        raise ValueError(
            f"what is read of it unpacks to {size / 1e9:.1f} GB, more than {MOST_DECODED / 1e9:.1f}; "
            "write it in smaller row groups"
        )
    schema = file.schema_arrow if schema is None else schema
    labels, kinds, usual = schema.names, schema.types, pa.float32()
    if kinds.count(usual) == len(kinds) and len(set(labels)) == len(labels) and set(names) <= set(labels):
        return
    for name in names:
        count = labels.count(name)
        if count != 1:
            raise ValueError(f"column '{name}' exists {count} times in the file")
        kind = kinds[labels.index(name)]
        if kind != usual and not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise ValueError(f"column '{name}' holds {kind}, not numbers")


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return record batches, at least one, as one of all their rows."""
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return whole[0] if whole else batches[0]  # of no rows there is no batch


def float32_rows(batch: pa.RecordBatch) -> NDArray[np.float32]:
    """Return the numbers of a batch, a row for each column, read-only; missing ones are NaN.

    Raises `ValueError` if a column, which is named, holds no numbers.
    """
    import pyarrow as pa

    types = batch.schema.types
    if types.count(pa.float32()) == len(types):
        # One copy of all columns: a loop over them takes three times as long.
        rows = np.asarray(batch.to_tensor(null_to_nan=True, row_major=False).to_numpy().T)
    else:
        columns = zip(batch.columns, batch.schema.names, strict=True)
        rows = np.stack([_to_float32(column, name) for column, name in columns])
    rows.flags.writeable = False
    return rows


def _to_float32(column: pa.Array, name: str) -> NDArray[np.float32]:
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ValueError(f"column '{name}' holds {column.type}, not numbers")
    with np.errstate(over="ignore"):  # beyond float32 is infinite: a gap, as any sample that is not finite
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float32)
