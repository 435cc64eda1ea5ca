"""The votes table: one row per labelled sub-window, read from CSV and checked once.

What comes out has one set of columns and dtypes whatever the source, so that nothing
behind this module looks at a file's own spelling again. Whatever would make a later
step guess is refused here, in one message that names the column and the first rows.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from hms.config.memory import give_back
from hms.config.paths import Address
from hms.errors import ConfigError
from hms.labels.classes import SIX, Ballot, Classes
from hms.labels.items import ITEM_COLUMNS, TABLE_ONLY, repeated_pairs
from hms.registry import did_you_mean
from hms.terminal import counted, listed, say, shortened

if TYPE_CHECKING:
    import pandas as pd

FRAME_COLUMNS = (
    "recording", "eeg_id", "patient_id", "eeg_sub_id", "offset_s",
    "spectrogram_id", "spectrogram_sub_id", "spectrogram_offset_s",
    "label_id", "expert_consensus",
)  # fmt: skip
"""Columns of `VotesTable.frame` in order, before the vote columns."""

MAX_ID_LENGTH = 200
"""File systems allow names of 255 bytes; an item's file adds its sub-window and an ending."""

MAX_VOTES = 1_000_000
"""A count above this is a column of something else."""

_ID = rf"^[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}$"
_NO_TEXT = {
    b"PAR1": "a parquet file",
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\x1f\x8b": "compressed (gzip)",
}
"""What files are that begin with some bytes."""

_BLOCK_BYTES = 1 << 24
"""Bytes of a table that are looked at together; no line is longer."""

_OWN_WORDS = "label_id"
"""The column in which every row has another word."""

_SOFT_HINT = "; labels.soft_votes=true takes shares"
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INT64_MAX = 2**63 - 1
_EXACT_MAX = 2**53
"""Whole numbers up to here are exact in float64."""

_ALWAYS = ("eeg_id", "patient_id")
_WITH_VOTES = ("eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id")
_OPTIONAL = (
    "eeg_sub_id", "eeg_label_offset_seconds", "spectrogram_id", "spectrogram_sub_id",
    "spectrogram_label_offset_seconds", "label_id", "expert_consensus",
)  # fmt: skip
_KNOWN = (*_ALWAYS, *_OPTIONAL)
_MADE = frozenset((*ITEM_COLUMNS, *FRAME_COLUMNS, *TABLE_ONLY)) - frozenset(_KNOWN)
"""Columns that a table may not have, because they are made here."""

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class VotesTable:
    """A checked votes table.

    Attributes
    ----------
    frame : columns `FRAME_COLUMNS` and the vote columns, rows in file order, index 0, 1, 2 ...
        ``recording``, ``patient_id``: text as in the file; ``eeg_id``: int64, see `eeg_number`;
        ``eeg_sub_id``: int64; ``offset_s``: float64, seconds from the start of the recording to the
        sub-window; ``spectrogram_id``, ``spectrogram_sub_id``, ``label_id``, ``expert_consensus``: text as in
        the file, None where it has none; ``spectrogram_offset_s``: float64, NaN where the file has none; the
        vote columns: int32 counts, float32 where votes are shares, 0 where the table has none. Where
        recordings have names that are not ids, a column ``item`` has an id for each, unique like the name.
        Further columns of a CSV file are text, None where empty.
    digest : xxh3-128 of the file's bytes, in hexadecimal
    has_votes : whether the file has vote columns
    patients : where patient ids come from, in words; empty where the table has them as a matter of course
    patients_declared : whether anybody has said whose each recording is; otherwise each counts as a patient
    extra : rows of a second table, to train on alone: columns as those of ``frame``, and ``label_weight``
    """

    frame: pd.DataFrame
    digest: str
    path: Path | Address
    has_votes: bool
    patients: str = ""
    patients_declared: bool = True
    extra: pd.DataFrame | None = None

    @property
    def classes(self) -> Classes:
        """What is voted on."""
        return Classes.of_columns(self.frame.columns)


def votes_from_csv(data: bytes, path: Path | Address, ballot: Ballot, *, require_votes: bool) -> VotesTable:
    """Return the checked table of a CSV file in the layout of the competition's train.csv.

    A UTF-8 byte order mark, Windows line ends and the order of columns do not matter; columns that the
    competition lacks are carried as text, see `hms.labels.items.own_columns`. ``3.0`` is a count; ``3.5`` is
    one only where votes are shares. Raises `ConfigError` if the file is not such a table; the text names the
    column and the first lines.

    Parameters
    ----------
    data : the file's bytes
    path : what messages call it
    ballot : the classes, each with a column ``<class>_vote``, and whether votes are shares
    require_votes : False reads windows without votes, such as test.csv: eeg_id and patient_id are then
        enough, a missing offset or sub-window number is 0, and the vote columns are all there or none
    """
    source = _Source(str(path), data, "line")
    return _checked(source, path, ballot, require_votes, _own_columns(source))


def votes_from_frame(
    frame: pd.DataFrame,
    ballot: Ballot = SIX,
    *,
    path: Path | Address = Path("votes"),
    require_votes: bool = True,
    lines: Sequence[int] | None = None,
) -> VotesTable:
    """Return the checked table of a DataFrame that has the columns of train.csv, as `votes_from_csv`.

    The frame is read as the CSV text that it writes, so that a table in memory and the same table on disk are
    one; the digest is that of the text. Messages count rows from 0, unless ``lines`` has the line of each row
    in the file that they come from.
    """
    data = frame.to_csv(index=False, lineterminator="\n").encode()
    return _checked(_Source(str(path), data, "row", lines), Path(path), ballot, require_votes)


def eeg_number(recording: str) -> int:
    """Return the int64 that stands for a recording's id.

    An id that is a plain decimal number (no sign, no leading zero, below 2**63) is that number. Any other
    text becomes a negative number, -1 minus the upper 63 bits of its 8-byte blake2b digest: the same on every
    machine, and never the number of another recording's decimal id.
    """
    if _DECIMAL.fullmatch(recording) and int(recording) <= _INT64_MAX:
        return int(recording)
    digest = blake2b(recording.encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


# --- from bytes to columns of text ---------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """The text of a table, and how a message calls its name and its rows."""

    name: str
    data: bytes
    counts: Literal["line", "row"]
    lines: Sequence[int] | None = None

    @cached_property
    def header(self) -> list[str]:
        """The names of the columns; raises if the bytes are not a table."""
        _check_text(self)
        try:
            start = [record for _, record in islice(self.records(), 2)]
        except csv.Error as error:
            self.refuse(f"is not a table ({error})")
        if not start:
            self.refuse("is empty")
        if len(start) == 1:
            self.refuse("has a header but no rows")
        header = start[0]
        for name, count in Counter(header).items():
            if name and count > 1:
                self.refuse(f"column '{shortened(name, 40)}' appears {count} times in the header")
        return header

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of the first line and the fields of each record, header first."""
        lines = io.TextIOWrapper(io.BytesIO(self.data), "utf-8-sig", newline="")
        reader = csv.reader(lines)
        first = 1
        for record in reader:
            if record:
                yield first, record
            first = reader.line_num + 1

    def places(self, rows: Sequence[int]) -> list[str]:
        """Return what a person looks for to find rows: ``line 7`` of a file, ``row 5`` of a frame."""
        if self.lines is not None:
            return [f"line {self.lines[row]}" for row in rows]
        if self.counts == "row":
            return [f"row {row}" for row in rows]
        wanted, found = set(rows), {}
        for row, (line, _) in enumerate(self.records(), start=-1):
            if row in wanted:
                found[row] = f"line {line}"
                if len(found) == len(wanted):
                    break
        return [found[row] for row in rows]

    def line_of(self, position: int) -> int:
        """Return the number of the line that holds the byte at a position."""
        return self.data.count(b"\n", 0, position) + 1

    def refuse(self, problem: str) -> NoReturn:
        raise ConfigError(f"{self.name}: {problem}")


def _own_columns(source: _Source) -> tuple[str, ...]:
    """Return the names of a table's further columns; raise if hms writes one of that name."""
    own = tuple(n for n in source.header if n and n not in _KNOWN and not n.endswith("_vote"))
    taken = [name for name in own if name in _MADE]
    if taken:
        source.refuse(
            f"column '{taken[0]}' has the name of one that hms writes into meta_use.csv; rename it "
            f"(for example to 'my_{taken[0]}'), because further columns are copied there"
        )
    return own


@dataclass(frozen=True)
class _Words:
    """A column of text as its distinct words, a pyarrow array, and the number of each row's word."""

    words: Any
    codes: NDArray[np.int32]

    def texts(self) -> NDArray[np.object_]:
        """Return the texts row by row, None for an empty one."""
        texts: NDArray[np.object_] = self.words.to_numpy(zero_copy_only=False)
        texts[self.is_empty] = None
        return texts[self.codes]

    @property
    def is_empty(self) -> NDArray[np.bool_]:
        """Which words are empty."""
        import pyarrow.compute as pc

        return np.asarray(pc.equal(self.words, ""), dtype=np.bool_)


_Columns = dict[str, _Words]


def _columns(source: _Source, classes: Classes, own: Sequence[str]) -> _Columns:
    """Return the known columns as text, without converting any of them.

    A word is kept once, however many rows have it: a table of ten million windows names
    thousands of recordings.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    wanted, text = {*_KNOWN, *classes.vote_columns, *own}, pa.string()
    known = [name for name in source.header if name in wanted]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(source.data),
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types={
                    name: text if name == _OWN_WORDS else pa.dictionary(pa.int32(), text) for name in known
                },
                include_columns=known,
            ),
        )
    except pa.ArrowInvalid as error:
        _refuse_ragged(source, len(source.header), str(error))
    columns = {name: _words_of(table[name]) for name in known}
    del table
    give_back()
    return columns


def _words_of(column: Any) -> _Words:
    """Return a column of pyarrow's."""
    if column.type == "string":
        words = column.combine_chunks()
        return _Words(words, np.arange(len(words), dtype=np.int32))
    shared = column.unify_dictionaries()  # the parts have their own words until then
    return _Words(shared.chunk(0).dictionary, np.concatenate([chunk.indices for chunk in shared.chunks]))


def _check_text(source: _Source) -> None:
    what = next((what for begin, what in _NO_TEXT.items() if source.data.startswith(begin)), None)
    if what is not None:
        source.refuse(f"is {what}; the votes table is a CSV file")
    wrong = _first_not_utf8(source.data)
    if wrong is not None:
        byte, line = source.data[wrong], source.line_of(wrong)
        source.refuse(f"is not UTF-8: line {line} has byte 0x{byte:02x}; save it as CSV in UTF-8")
    zero = source.data.find(b"\0")
    if zero >= 0:
        source.refuse(f"is not text: line {source.line_of(zero)} has a zero byte")


def _first_not_utf8(data: bytes) -> int | None:
    """Return where the first byte is that is not UTF-8; the text is never whole in memory."""
    decoder, start = codecs.getincrementaldecoder("utf-8")(), 0
    while start < len(data):
        held = len(decoder.getstate()[0])
        piece = data[start : start + _BLOCK_BYTES]
        try:
            decoder.decode(piece, final=start + len(piece) == len(data))
        except UnicodeDecodeError as error:
            return start - held + error.start
        start += len(piece)
    return None


def _refuse_ragged(source: _Source, width: int, reason: str) -> NoReturn:
    try:
        wrong = [(line, len(record)) for line, record in source.records() if len(record) != width]
    except csv.Error as error:
        source.refuse(f"is not a table ({error})")
    if not wrong:
        source.refuse(f"is not a table ({shortened(reason, 200)})")
    shown = listed((f"line {line} has {n}" for line, n in wrong), _SHOWN)
    source.refuse(f"the header has {counted(width, 'column')}, but {shown}{_other_separator(source)}")


def _other_separator(source: _Source) -> str:
    """Return what to do if the header is one field that holds another separator, otherwise an empty text."""
    mark = next((mark for mark in ";\t|" if len(source.header) == 1 and mark in source.header[0]), None)
    return f"; its fields seem to be separated by {mark!r}, use commas" if mark else ""


def _and_more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""


# --- checks --------------------------------------------------------------------------------------


def _checked(
    source: _Source, path: Path | Address, ballot: Ballot, require_votes: bool, own: Sequence[str] = ()
) -> VotesTable:
    import pandas as pd
    import xxhash

    classes = ballot.classes
    columns = _columns(source, classes, own)
    has_votes = _check_present(source, columns, classes, require_votes)
    recording, patient = (_ids(source, columns, name) for name in _ALWAYS)
    sub_id = _whole_numbers(source, columns, "eeg_sub_id", _EXACT_MAX)
    data: dict[str, Any] = {
        "recording": recording.texts(),
        "eeg_id": _eeg_numbers(source, recording),
        "patient_id": patient.texts(),
        "eeg_sub_id": sub_id,
        "offset_s": _seconds(source, columns, "eeg_label_offset_seconds"),
        "spectrogram_id": _ids(source, columns, "spectrogram_id", optional=True).texts(),
        "spectrogram_sub_id": _words(columns, "spectrogram_sub_id").texts(),
        "spectrogram_offset_s": _seconds(source, columns, "spectrogram_label_offset_seconds", optional=True),
        "label_id": _words(columns, "label_id").texts(),
        "expert_consensus": _words(columns, "expert_consensus").texts(),
    }
    for name in classes.vote_columns:
        data[name] = _votes(source, columns, name, soft=ballot.soft)
    data |= {name: _words(columns, name).texts() for name in own}
    del columns
    _check_one_patient(source, recording, patient)
    _check_unique(source, recording, sub_id)
    series = {name: pd.Series(data[name], dtype=data[name].dtype, copy=False) for name in data}
    frame = pd.DataFrame(series, copy=False)
    return VotesTable(frame, xxhash.xxh3_128_hexdigest(source.data), path, has_votes)


def _check_present(source: _Source, columns: dict[str, Any], classes: Classes, require_votes: bool) -> bool:
    """Raise if a needed column is missing; tell whether the table has votes."""
    votes = classes.vote_columns
    has_votes = require_votes or any(name in columns for name in votes)
    required = (*(_WITH_VOTES if require_votes else _ALWAYS), *(votes if has_votes else ()))
    missing = [name for name in required if name not in columns]
    if missing:
        _refuse_some_classes(source, missing, [name for name in votes if name in columns], classes)
        _refuse_missing(source, missing)
    _speak_of_other_votes(source, classes, has_votes=has_votes)
    return has_votes


def _refuse_some_classes(source: _Source, missing: list[str], there: list[str], classes: Classes) -> None:
    """Raise if nothing but the votes of some classes is missing."""
    others = [name for name in source.header if name not in {*_KNOWN, *there}]
    is_typo = any(did_you_mean(name, others) for name in missing)
    if len(there) > 1 and set(missing) <= set(classes.vote_columns) and not is_typo:
        named, has = ", ".join(map(repr, missing)), ",".join(name.removesuffix("_vote") for name in there)
        plural = "s" * (len(missing) > 1)
        source.refuse(f"lacks column{plural} {named}; labels.classes=[{has}] takes the votes that it has")


def _speak_of_other_votes(source: _Source, classes: Classes, *, has_votes: bool) -> None:
    """Say which vote columns belong to no class; raise if the table has no others."""
    columns = [name for name in source.header if name.endswith("_vote") and name not in classes.vote_columns]
    if not columns:
        return
    others = ",".join(name.removesuffix("_vote") for name in columns)
    if not has_votes:
        source.refuse(
            f"has votes for {others}, but labels.classes has {', '.join(classes.names)}; "
            f"labels.classes=[{others}] takes them"
        )
    say(f"{source.name}: votes for {others} are not read; labels.classes has {', '.join(classes.names)}")


def _refuse_missing(source: _Source, missing: list[str]) -> NoReturn:
    header = source.header
    others = [name for name in header if name not in _KNOWN]
    named = ", ".join(f"'{name}'{did_you_mean(name, others)}" for name in missing)
    found = shortened(", ".join(header), 200)
    hint = _other_separator(source)
    source.refuse(f"lacks column{'s' * (len(missing) > 1)} {named}; the header has {found}{hint}")


def _refuse_values(
    source: _Source, name: str, column: _Words, bad: NDArray[np.bool_], rule: str, hint: str = ""
) -> None:
    """Raise if any word is bad, showing the first rows that have one, with their places."""
    if not bad.any():
        return
    rows = np.flatnonzero(bad[column.codes])
    first = [int(row) for row in rows[:_SHOWN]]
    shown = ", ".join(
        f"{place} has '{shortened(column.words[column.codes[row]].as_py(), 40)}'"
        for place, row in zip(source.places(first), first, strict=True)
    )
    source.refuse(f"column '{name}' must hold {rule}, but {shown}{_and_more(rows.size)}{hint}")


def _numbers(values: Any) -> NDArray[np.float64]:
    """Return texts as float64; NaN where a text is not a number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        numbers = pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(values)
        is_number = pc.match_substring_regex(trimmed, _NUMBER)
        numbers = pc.cast(pc.if_else(is_number, trimmed, None), pa.float64())
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _n_rows(columns: _Columns) -> int:
    return len(columns["eeg_id"].codes)


def _whole_numbers(source: _Source, columns: _Columns, name: str, largest: int) -> NDArray[np.int64]:
    """Return a column of whole numbers 0 ... largest; zeros where the table lacks it."""
    if name not in columns:
        return np.zeros(_n_rows(columns), np.int64)
    numbers = _numbers(columns[name].words)
    with np.errstate(invalid="ignore"):
        good = (numbers >= 0) & (numbers <= largest)
        is_whole = numbers == np.floor(numbers)
    is_share = bool((good & ~is_whole).any()) and name.endswith("_vote")
    hint = _SOFT_HINT if is_share else ""
    _refuse_values(
        source, name, columns[name], ~(good & is_whole), f"whole numbers from 0 to {largest}", hint
    )
    return numbers.astype(np.int64)[columns[name].codes]


def _votes(source: _Source, columns: _Columns, name: str, *, soft: bool) -> NDArray[Any]:
    """Return a column of votes: int32 counts, or float32 where they are shares."""
    if not soft:
        return _whole_numbers(source, columns, name, MAX_VOTES).astype(np.int32)
    if name not in columns:
        return np.zeros(_n_rows(columns), np.float32)
    numbers = _numbers(columns[name].words)
    with np.errstate(invalid="ignore"):
        good = (numbers >= 0) & (numbers <= MAX_VOTES)
    _refuse_values(source, name, columns[name], ~good, f"numbers from 0 to {MAX_VOTES}")
    return numbers.astype(np.float32)[columns[name].codes]


def _seconds(source: _Source, columns: _Columns, name: str, *, optional: bool = False) -> NDArray[np.float64]:
    """Return a column of seconds; an optional one is NaN where empty, another is 0 where absent."""
    if name not in columns:
        return np.full(_n_rows(columns), np.nan if optional else 0.0)
    numbers = _numbers(columns[name].words)
    bad = ~(np.isfinite(numbers) & (numbers >= 0))
    if optional:
        bad &= ~columns[name].is_empty
    _refuse_values(source, name, columns[name], bad, "seconds, 0 or more")
    return (numbers + 0.0)[columns[name].codes]


def _words(columns: _Columns, name: str) -> _Words:
    """Return a column of text; a column that the table lacks is empty."""
    import pyarrow as pa

    return columns.get(name) or _Words(pa.array([""]), np.zeros(_n_rows(columns), np.int32))


def _ids(source: _Source, columns: _Columns, name: str, *, optional: bool = False) -> _Words:
    """Return a column of ids that are safe as a part of a file's name."""
    import pyarrow.compute as pc

    found = _words(columns, name)
    bad = ~pc.match_substring_regex(found.words, _ID).to_numpy(zero_copy_only=False)
    if optional:
        bad &= ~found.is_empty
    rule = f"ids of letters, digits, '_' and '-', at most {MAX_ID_LENGTH} of them"
    decimals = pc.match_substring_regex(found.words, r"^[0-9]+\.0*$").to_numpy(zero_copy_only=False)
    hint = "; write these whole numbers without a point" if decimals[bad].all() else ""
    _refuse_values(source, name, found, bad, rule, hint)
    return found


def _eeg_numbers(source: _Source, recording: _Words) -> NDArray[np.int64]:
    numbers: dict[int, str] = {}
    for word in recording.words.to_pylist():
        other = numbers.setdefault(eeg_number(word), word)
        if other != word:
            source.refuse(
                f"column 'eeg_id': '{other}' and '{word}' share the number {eeg_number(word)}; rename one"
            )
    return np.fromiter(numbers, np.int64, len(numbers))[recording.codes]


def _check_one_patient(source: _Source, recording: _Words, patient: _Words) -> None:
    n_rows = recording.codes.size
    first_row = np.empty(len(recording.words), np.int64)
    first_row[recording.codes[::-1]] = np.arange(n_rows)[::-1]
    rows = np.flatnonzero(patient.codes != patient.codes[first_row][recording.codes])
    if not rows.size:
        return
    row = int(rows[0])
    code = recording.codes[row]
    places = source.places([int(first_row[code]), row])
    one, two = (patient.words[patient.codes[r]].as_py() for r in (first_row[code], row))
    n_recordings = np.unique(recording.codes[rows]).size
    source.refuse(
        f"column 'patient_id': recording '{recording.words[code].as_py()}' belongs to patient '{one}' in "
        f"{places[0]} and to '{two}' in {places[1]}; recordings with two patients: {n_recordings}"
    )


def _check_unique(source: _Source, recording: _Words, sub_id: NDArray[np.int64]) -> None:
    # Rows that repeat an earlier one, in the order of the file.
    again = repeated_pairs(recording.codes, sub_id)
    if not again.size:
        return
    first = [int(row) for row in again[:_SHOWN]]
    shown = ", ".join(
        f"{place} repeats ({recording.words[recording.codes[row]].as_py()}, {sub_id[row]})"
        for place, row in zip(source.places(first), first, strict=True)
    )
    source.refuse(
        f"columns 'eeg_id', 'eeg_sub_id' must be unique together, but {shown}{_and_more(again.size)}"
    )
