"""Tables of windows of one's own: recording, patient, start, and votes if there are any."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hms.competition import SUB_WINDOW_S
from hms.config.paths import Address
from hms.errors import ConfigError
from hms.labels.classes import SIX, Ballot
from hms.registry import did_you_mean
from hms.sources.afar import content_of
from hms.sources.names import safe_ids
from hms.sources.patients import Patients
from hms.terminal import listed

if TYPE_CHECKING:
    from hms.sources.tables import VotesTable

COLUMNS = ("recording", "start_s")
"""What a table of windows needs; patient_id unless data.patient says it; the vote columns all or none."""

PATIENT = "patient_id"

_NAMES = {"recording": "eeg_id", "start_s": "eeg_label_offset_seconds"}
"""Our names to those of the competition's table, through whose checks all windows go."""

_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class WindowRows:
    """A table of windows as it was read.

    Attributes
    ----------
    rows : texts by column, one mapping a window
    lines : number of each row's last line in the file
    path : where it was read
    columns : those of `COLUMNS`, ``patient_id`` and the votes that there are
    """

    rows: list[dict[str, str]]
    lines: list[int]
    path: Path | Address
    columns: tuple[str, ...]

    @property
    def patients(self) -> dict[str, str] | None:
        """Patient of each recording, None without such a column."""
        if PATIENT not in self.columns:
            return None
        return {row["recording"]: row[PATIENT] for row in self.rows}


def read_windows(path: Path | Address, ballot: Ballot = SIX) -> WindowRows:
    """Return the windows of a CSV file with columns ``recording,patient_id,start_s[,votes]``.

    Commas, semicolons or tabs stand between the fields, and column names may be in any letter case; where it
    is not a comma, numbers may have a decimal comma. Raises `ConfigError` if the file is not such a table;
    the text names the column and the first lines.
    """
    header, records, separator = _records(path)
    votes = (*ballot.classes.vote_columns, *(name for name in header if name.endswith("_vote")))
    kept = _columns(path, header, (*COLUMNS, PATIENT, *votes), COLUMNS)
    rows = [{name: record[place].strip() for name, place in kept.items()} for _, record in records]
    lines = [line for line, _ in records]
    if separator != ",":
        numbers = [name for name in kept if name not in ("recording", PATIENT)]
        rows = [row | {name: row[name].replace(",", ".") for name in numbers} for row in rows]
    _check_starts(path, [(line, row["start_s"]) for line, row in zip(lines, rows, strict=True)])
    return WindowRows(rows, lines, path, tuple(kept))


def read_patients(path: Path | Address) -> dict[str, str]:
    """Return the patient of each recording from a CSV file with columns ``recording,patient_id``.

    Raises `ConfigError` if the file is not such a table, or gives a recording to two patients.
    """
    header, records, _ = _records(path)
    kept = _columns(path, header, ("recording", PATIENT), ("recording", PATIENT))
    rows = [{name: record[place].strip() for name, place in kept.items()} for _, record in records]
    lines = [line for line, _ in records]
    _check_one_patient(path, [(n, row, row["recording"]) for n, row in zip(lines, rows, strict=True)])
    return {row["recording"]: row[PATIENT] for row in rows}


def windows_of_files(table: WindowRows, files: Sequence[str]) -> WindowRows:
    """Return a table whose recordings are the files meant, duplicates refused.

    A recording is meant by its relative path or by its file's name, with its ending or without, in any letter
    case. A name that means no file is kept, and its item is left out with that reason. Raises `ConfigError`
    if a name may mean several files, or a window appears twice in the table.
    """
    index = _Files(files, table.path)
    meant = {name: index.meant(name) for name in {row["recording"] for row in table.rows}}
    lines = [(line, row, meant[row["recording"]]) for line, row in zip(table.lines, table.rows, strict=True)]
    _check_unique(table.path, lines)
    if PATIENT in table.columns:
        _check_one_patient(table.path, lines)
    return replace(table, rows=[row | {"recording": file} for _, row, file in lines])


def of_files(patients: Mapping[str, str], files: Sequence[str], path: Path | Address) -> dict[str, str]:
    """Return a mapping whose keys are the files that those of another mean."""
    index = _Files(files, path)
    return {index.meant(name): who for name, who in patients.items()}


class _Files:
    """Files by every way in which a table may name them."""

    def __init__(self, files: Sequence[str], path: Path | Address) -> None:
        self.path = path
        spellings = (str, _without_ending, _base, lambda file: _without_ending(_base(file)))
        self.by_name: list[dict[str, list[str]]] = []
        for fold in (str, str.casefold):
            for spelled in spellings:
                index: dict[str, list[str]] = {}
                for file in files:
                    index.setdefault(fold(spelled(file)), []).append(file)
                self.by_name.append(index)

    def meant(self, name: str) -> str:
        """Return the file that a name means, or the name where it means none."""
        wanted = name.replace("\\", "/").removeprefix("./")
        for number, index in enumerate(self.by_name):
            found = index.get(wanted if number < len(self.by_name) // 2 else wanted.casefold(), [])
            if len(found) > 1:
                raise ConfigError(
                    f"{self.path}: column 'recording': '{name}' could be {listed(found)}; write the path as "
                    "it is there"
                )
            if found:
                return found[0]
        return name


def _without_ending(file: str) -> str:
    return os.path.splitext(file)[0]


def _base(file: str) -> str:
    return file.rpartition("/")[2]


def windows_from_rows(
    rows: Sequence[Mapping[str, Any]],
    path: Path | Address,
    ballot: Ballot,
    patients: Patients | None = None,
    *,
    lines: Sequence[int] | None = None,
) -> VotesTable:
    """Return the checked table of windows given by ``recording``, ``patient_id``, ``start_s`` and votes.

    Windows of a recording are numbered in the order of the table. A recording may have any name: its items
    get an id that is safe (`hms.sources.names.safe_ids`), and the column ``recording`` keeps the name. A
    patient may be any text but an empty one. A start before 0 s is that of a sub-window longer than the
    recording. Messages call the table ``path``; ``patients``, if given, stand for ``patient_id`` in the rows,
    and ``lines`` are where in the file each row stands.

    Raises `ConfigError` if a number is not allowed; the text names the column and the first rows.
    """
    import pandas as pd

    from hms.sources.tables import votes_from_frame

    names = [str(row["recording"]) for row in rows]
    who = [str(row[PATIENT]) if patients is None else patients.of[row["recording"]] for row in rows]
    ids = safe_ids(list(dict.fromkeys(names)))
    starts = [float(row["start_s"]) for row in rows]
    frame = pd.DataFrame(rows).rename(columns=_NAMES)
    frame["eeg_id"] = [ids[name] for name in names]
    frame[PATIENT] = who
    frame["eeg_sub_id"] = frame.groupby("eeg_id", sort=False).cumcount()
    # What the competition's table cannot hold stands next to it, so that the digest covers it.
    if any(ids[name] != name for name in ids):
        frame["name"] = names
    if not all(map(_is_plain, who)):
        frame["patient"] = who
        frame[PATIENT] = pd.factorize(pd.Series(who, dtype=object))[0]
    if min(starts, default=0.0) < 0:
        frame["start"] = starts
        frame["eeg_label_offset_seconds"] = 0.0
    try:
        table = votes_from_frame(frame, ballot, path=path, require_votes=False, lines=lines)
    except ConfigError as error:
        text = str(error)
        for ours, theirs in _NAMES.items():
            text = text.replace(f"'{theirs}'", f"'{ours}'")
        raise ConfigError(text) from None
    kept = table.frame.assign(recording=names, patient_id=who, offset_s=starts)
    kept["item"] = [ids[name] for name in names]
    if patients is None:
        return replace(table, frame=kept)
    return replace(table, frame=kept, patients=patients.source, patients_declared=patients.declared)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("_", "").replace("-", "").isalnum() and len(text) <= 200


# --- from bytes to rows --------------------------------------------------------------------------


def _records(path: Path | Address) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Return the header, each record with the number of its last line, and what is between fields."""
    try:
        text = content_of(path).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8; save it as CSV in UTF-8") from None
    separator = max(_SEPARATORS, key=(text.splitlines() or [""])[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error as error:
        raise ConfigError(f"{path}: is not a table ({error})") from None
    if len(records) < 2:
        raise ConfigError(f"{path}: has no windows; a row is recording,patient_id,start_s")
    header = [name.strip() for name in records[0][1]]
    ragged = [f"line {line} has {len(r)}" for line, r in records if len(r) != len(header)]
    if ragged:
        raise ConfigError(f"{path}: the header has {len(header)} columns, but {listed(ragged)}")
    return header, records[1:], separator


def _columns(
    path: Path | Address, header: list[str], known: Sequence[str], needed: Sequence[str]
) -> dict[str, int]:
    """Return where known columns stand, in the order of ``known``."""
    lower = [name.lower() for name in header]
    missing = [name for name in needed if name not in lower]
    if missing:
        named = ", ".join(f"'{name}'{did_you_mean(name, header)}" for name in missing)
        raise ConfigError(f"{path}: lacks column {named}; the header has {', '.join(header)}")
    for name in lower:
        if lower.count(name) > 1:
            raise ConfigError(f"{path}: column '{name}' appears {lower.count(name)} times in the header")
    return {name: lower.index(name.lower()) for name in dict.fromkeys(known) if name.lower() in lower}


def _check_starts(path: Path | Address, starts: Iterable[tuple[int, str]]) -> None:
    bad = [f"line {line} has '{text}'" for line, text in starts if not _is_start(text)]
    if bad:
        raise ConfigError(f"{path}: column 'start_s' must hold seconds, 0 or more, but {listed(bad)}")


def _is_start(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False


_Line = tuple[int, Mapping[str, str], str]
"""Number of a line, its texts, and the file that its recording means."""


def _check_unique(path: Path | Address, lines: Iterable[_Line]) -> None:
    seen: set[tuple[str, float]] = set()
    again = []
    for line, row, file in lines:
        window = (file, float(row["start_s"]))
        if window in seen:
            again.append(f"line {line} repeats {row['recording']} at {window[1]:g} s")
        seen.add(window)
    if again:
        raise ConfigError(f"{path}: each window may appear once in the table, but {listed(again)}")


def _check_one_patient(path: Path | Address, lines: Iterable[_Line]) -> None:
    found: dict[str, str] = {}
    for line, row, file in lines:
        who = row[PATIENT]
        if not who:
            raise ConfigError(f"{path}: column '{PATIENT}' is empty in line {line}")
        if found.setdefault(file, who) != who:
            raise ConfigError(
                f"{path}: column '{PATIENT}': recording '{row['recording']}' belongs to patient "
                f"'{found[file]}' and, in line {line}, to '{who}'"
            )


def sliding_starts(duration_s: float, step_s: float) -> list[float]:
    """Return where 50 s sub-windows start that slide over a recording.

    A recording that is shorter is in the middle of its one sub-window, which starts before it.
    """
    if duration_s < SUB_WINDOW_S:
        return [(duration_s - SUB_WINDOW_S) / 2]
    n_steps = math.floor((duration_s - SUB_WINDOW_S) / step_s + 1e-9)
    return [number * step_s for number in range(n_steps + 1)]
