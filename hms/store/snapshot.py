"""What a long journal said when it was last read, in columns: read in a tenth of the time of its text.

It is believed while the journal's bytes have the digest that it names, and its own bytes theirs; in any doubt
the journal is read. It is among what commands found, which `hms gc` forgets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hms.errors import ManifestError, StorageError
from hms.store.columns import Files, Records
from hms.store.files import commit_files, digest_bytes, digest_file
from hms.store.inside import are_plain, read_file
from hms.store.journal import journal_line, lines_of
from hms.store.seen import FOLDER

Line = Mapping[str, Any]

LONG = 1 << 18
"""Bytes of a journal from which on it has a snapshot."""


@dataclass(frozen=True)
class Snapshot:
    """A journal in columns.

    Attributes
    ----------
    files, records : what it says, without what does not fit into columns
    rest : a line of what does not fit, with the sums of all lines
    n_rows : files and items that it names, however often
    """

    files: Files
    records: Records
    rest: Line
    n_rows: int


def place_of(journal: Path) -> Path:
    """Return where the snapshot of a stage's journal is."""
    return journal.parents[1] / FOLDER / f"{journal.parent.name}.columns"


def read_snapshot(journal: Path, checked: Callable[[Any], Line]) -> Snapshot | None:
    """Return the snapshot of a journal, None where there is none that is true of the journal as it is.

    ``checked`` returns a line of the journal, or raises.
    """
    try:
        if os.stat(journal).st_size < LONG:
            return None
        head, _, data = read_file(place_of(journal)).partition(b"\n")
        (found,) = lines_of(head)
        if found is None or found["order"] != sys.byteorder or digest_bytes(data) != found["columns"]:
            return None
        if digest_file(journal) != found["journal"] or not are_plain(found["names"]):
            return None
        files, records, first = Files(), Records(), int(found["bytes_of_files"])
        files.restore(data[:first])
        records.restore(data[first:], found["names"])
        return Snapshot(files, records, checked(found["rest"]), int(found["n_rows"]))
    except (OSError, ManifestError, StorageError, LookupError, TypeError, ValueError):
        return None  # the journal tells all


def write_snapshot(journal: Path, digest: str, snapshot: Snapshot) -> None:
    """Keep what a journal of that digest says."""
    columns = snapshot.files.dump(), snapshot.records.dump()
    head = {
        "journal": digest,
        "order": sys.byteorder,
        "columns": digest_bytes(b"".join(columns)),
        "bytes_of_files": len(columns[0]),
        "names": snapshot.records.names,
        "rest": snapshot.rest,
        "n_rows": snapshot.n_rows,
    }
    place = place_of(journal)
    commit_files(place.parent, {place.name: journal_line(head) + b"".join(columns)})
