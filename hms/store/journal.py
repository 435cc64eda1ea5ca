"""Journals: files that only grow, by one line with a checksum at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from hms.config.identity import canonical_json
from hms.errors import ManifestError
from hms.store.files import make_folder, storage_error, sync_folder, write_content
from hms.store.inside import parse_json, read_file

MOST_BYTES = 1 << 30
"""Bytes of a journal that are read at most."""

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
        if is_new:
            make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            write_content(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path.parent) from error


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the valid lines of a journal and the number of damaged ones.

    A line shorter than it states was cut by a kill, which is not damage: what it would
    have recorded is computed again.

    Raises
    ------
    StorageError
        If the journal is there and cannot be read, or a file stands where its folder should.
    """
    try:
        data = read_file(path, MOST_BYTES)
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except ManifestError:
        return [], 1
    good, damaged = [], 0
    for line in data.split(b"\n"):
        header = _HEADER.match(line)
        text = line[header.end() :] if header else b""
        is_true = header is not None and header[1] == xxhash.xxh3_64_hexdigest(text).encode()
        if header is not None and is_true and header[2] == b"%d" % len(text):
            try:
                good.append(_object(parse_json(text)))
            except ValueError:
                damaged += 1
        elif is_true or not _is_cut(line, header, text):
            damaged += 1
    return good, damaged


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a line of a journal is an object")
    return value


_HEADER = re.compile(rb"([0-9a-f]{16}) ([0-9]+) ")
_HEADER_CUT = re.compile(rb"[0-9a-f]{0,16}|[0-9a-f]{16} [0-9]{0,12}")


def _is_cut(line: bytes, header: re.Match[bytes] | None, text: bytes) -> bool:
    """Tell whether a line ends before the length it states, or inside its header."""
    if header is None:
        return _HEADER_CUT.fullmatch(line) is not None
    return len(text) < int(header[2][:20])
