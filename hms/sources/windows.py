"""Tables of windows of one's own: recording, patient, start, and votes if there are any."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hms.competition import SUB_WINDOW_S, VOTE_COLUMNS
from hms.registry import ConfigError, did_you_mean

if TYPE_CHECKING:
    from hms.sources.tables import VotesTable

__all__ = ["COLUMNS", "read_windows", "sliding_starts", "windows_from_rows"]

COLUMNS = ("recording", "patient_id", "start_s")
"""What a table of windows needs; the six vote columns are there all together or not at all."""

_NAMES = {"recording": "eeg_id", "start_s": "eeg_label_offset_seconds"}
"""Our names to those of the competition's table, through whose checks all windows go."""

_SHOWN = 5


def read_windows(path: Path) -> VotesTable:
    """Return the checked table of a CSV file with columns ``recording,patient_id,start_s[,votes]``.

    Raises
    ------
    ConfigError
        If the file is no such table; the text names the column and the first lines.
    """
    header, records = _records(path)
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        named = ", ".join(f"'{name}'{did_you_mean(name, header)}" for name in missing)
        raise ConfigError(f"{path}: lacks column {named}; the header has {', '.join(header)}")
    for name in header:
        if header.count(name) > 1:
            raise ConfigError(f"{path}: column '{name}' stands {header.count(name)} times in the header")
    _check_starts(path, [(line, record[header.index("start_s")]) for line, record in records])
    kept = [name for name in (*COLUMNS, *VOTE_COLUMNS) if name in header]
    rows = [{name: record[header.index(name)].strip() for name in kept} for _, record in records]
    _check_unique(path, [(line, row) for (line, _), row in zip(records, rows, strict=True)])
    return windows_from_rows(rows, path)


def windows_from_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> VotesTable:
    """Return the checked table of windows given by ``recording``, ``patient_id``, ``start_s`` and votes.

    Windows of a recording are numbered in the order of the table.

    Raises
    ------
    ConfigError
        If an id or a vote is not allowed.
    """
    import pandas as pd

    from hms.sources.tables import votes_from_frame

    frame = pd.DataFrame(rows).rename(columns=_NAMES)
    frame["eeg_sub_id"] = frame.groupby("eeg_id", sort=False).cumcount()
    try:
        return votes_from_frame(frame, path=path, require_votes=False)
    except ConfigError as error:
        text = str(error)
        for ours, theirs in _NAMES.items():
            text = text.replace(f"'{theirs}'", f"'{ours}'")
        raise ConfigError(text) from None


def _records(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and each record with the number of its last line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8; save it as CSV in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error as error:
        raise ConfigError(f"{path}: is no table ({error})") from None
    if len(records) < 2:
        raise ConfigError(f"{path}: has no windows; a row is recording,patient_id,start_s")
    header = [name.strip() for name in records[0][1]]
    ragged = [f"line {line} has {len(r)}" for line, r in records if len(r) != len(header)]
    if ragged:
        raise ConfigError(f"{path}: the header has {len(header)} columns, but {_listed(ragged)}")
    return header, records[1:]


def _check_starts(path: Path, starts: Iterable[tuple[int, str]]) -> None:
    bad = [f"line {line} has '{text}'" for line, text in starts if not _is_start(text)]
    if bad:
        raise ConfigError(f"{path}: column 'start_s' must hold seconds, 0 or more, but {_listed(bad)}")


def _is_start(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False


def _check_unique(path: Path, rows: Iterable[tuple[int, Mapping[str, str]]]) -> None:
    seen: set[tuple[str, float]] = set()
    again = []
    for line, row in rows:
        window = (row["recording"], float(row["start_s"]))
        if window in seen:
            again.append(f"line {line} repeats {window[0]} at {window[1]:g} s")
        seen.add(window)
    if again:
        raise ConfigError(f"{path}: a window stands once in the table, but {_listed(again)}")


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def sliding_starts(duration_s: float, step_s: float) -> list[float]:
    """Return where 50 s sub-windows start that slide over a recording; at least one, at 0 s."""
    n_steps = math.floor((duration_s - SUB_WINDOW_S) / step_s + 1e-9)
    return [number * step_s for number in range(max(n_steps, 0) + 1)]
