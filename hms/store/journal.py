"""Journals: files that only grow, by one line with a checksum at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from hms.config.identity import canonical_json
from hms.errors import ManifestError
from hms.store.files import make_folder, storage_error, sync_folder, write_content
from hms.store.inside import MOST_JSON, open_own, parse_json

MOST_LINE = MOST_JSON + 64
"""Most bytes of a line that are read, its header included."""


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


def journal_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield what each line of a journal says, None for a damaged one; one line is in memory at a time.

    A line shorter than it states was cut by a kill, which is not damage: what it would have recorded is
    computed again. Reading ends at a line longer than hms writes. Raises `StorageError` if the journal
    is there and cannot be read, or a file stands where its folder should.
    """
    try:
        with open_own(path) as file:
            while line := file.readline(MOST_LINE):
                if len(line) == MOST_LINE and line[-1:] != b"\n":
                    yield None
                    return
                yield from lines_of(line.removesuffix(b"\n"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except ManifestError:
        yield None


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the valid lines of a journal and the number of damaged ones, see `journal_lines`."""
    lines = list(journal_lines(path))
    good = [line for line in lines if line is not None]
    return good, len(lines) - len(good)


def lines_of(line: bytes) -> Iterator[dict[str, Any] | None]:
    """Yield what a line says, None if it is damaged, nothing if it was cut."""
    header = _HEADER.match(line)
    text = line[header.end() :] if header else b""
    is_true = header is not None and header[1] == xxhash.xxh3_64_hexdigest(text).encode()
    if header is not None and is_true and header[2] == b"%d" % len(text):
        try:
            content = parse_json(text)
        except ValueError:
            content = None
        yield content if isinstance(content, dict) else None
    elif is_true or not _is_cut(line, header, text):
        yield None


_HEADER = re.compile(rb"([0-9a-f]{16}) ([0-9]+) ")
_HEADER_CUT = re.compile(rb"[0-9a-f]{0,16}|[0-9a-f]{16} [0-9]{0,12}")


def _is_cut(line: bytes, header: re.Match[bytes] | None, text: bytes) -> bool:
    """Tell whether a line ends before the length it states, or inside its header."""
    if header is None:
        return _HEADER_CUT.fullmatch(line) is not None
    return len(text) < int(header[2][:20])
