"""Labels from events: what is in a recording, or in a file next to it, becomes votes.

A kind of events is a registered function ``(origin, params) -> events``; it returns None
where a recording has no such file. How events become votes is said in `hms.labels.events`.

References
----------
Shah et al., The Temple University Hospital Seizure Detection Corpus, Front Neuroinform 12
(2018): ``csv_bi``. Harati et al., Improved EEG event classification using differential
energy, IEEE SPMB (2015): the six classes of TUEV's ``.rec``. Shoeb, Application of machine
learning to epileptic seizure onset detection and treatment, MIT (2009): CHB-MIT's summaries.
BIDS specification 1.10, "Task events": ``events.tsv``.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hms.competition import JUDGED_LENGTH_S, JUDGED_START_S, SUB_WINDOW_S
from hms.config.paths import Address
from hms.errors import ConfigError, Unusable
from hms.labels.classes import Ballot
from hms.labels.events import Event, Mark, Rule, cast_votes, clipped, name_classes, overlapping_s
from hms.registry import PositiveFloat, Share, lookup, register
from hms.sources.afar import all_of, content_of, names_beside
from hms.sources.base import SourceParams
from hms.sources.windows import sliding_starts
from hms.terminal import counted, listed, say

_SHOWN = 8


@dataclass(frozen=True)
class FolderParams(SourceParams):
    """Settings of a folder of recordings, which may have events.

    Attributes
    ----------
    root : folder of recordings, searched with its sub-folders; or one file
    windows : table of windows, looked for where the command was typed, then in ``root``; None: windows of 50
        s that slide over every recording, or as ``event_windows`` says
    step_s : time from one sliding sub-window to the next
    events : kind of events that labels come from; None: no labels from events
    event_column : column of the label in a table of events; None: the usual one
    event_annotator : column that says who marked an event; None: ``annotator``, ``rater``, ``expert`` or
        ``reader``
    event_classes : classes of labels; a label that is a class's name needs no entry, and an empty class
        ignores a label
    event_windows : whether sub-windows slide over the recording or are centred on events
    event_part : which seconds of a sub-window are judged: the middle ten or all
    event_min_share : a class can get the vote if its events fill this share of the judged seconds, or if
        these contain this share of an event
    event_duration_s : how long events without a duration last; None refuses them
    event_background : class of the time without another event; None: not judged
    """

    root: str | None
    windows: str | None
    step_s: PositiveFloat
    # Not `added(...)`: a checker would take that for a default, which no setting has.
    events: str | None = field(metadata={"before": None})
    event_column: str | None = field(metadata={"before": None})
    event_annotator: str | None = field(metadata={"before": None})
    event_classes: tuple[tuple[str, str | None], ...] | None = field(metadata={"before": None})
    event_windows: Literal["slide", "centre"] = field(metadata={"before": "slide"})
    event_part: Literal["middle", "whole"] = field(metadata={"before": "middle"})
    event_min_share: Share = field(metadata={"before": 0.5})
    event_duration_s: PositiveFloat | None = field(metadata={"before": None})
    event_background: str | None = field(metadata={"before": None})

    def overlaps(self, window_s: float) -> bool:
        """Tell whether windows slide by less than their length; what a table holds is not known."""
        slides = self.windows is None and (self.events is None or self.event_windows == "slide")
        return slides and self.block_s is not None and self.step_s < window_s

    @property
    def part_s(self) -> tuple[float, float]:
        """Start and length, s, of the judged part of a sub-window."""
        return (JUDGED_START_S, JUDGED_LENGTH_S) if self.event_part == "middle" else (0.0, SUB_WINDOW_S)

    def rule(self, ballot: Ballot) -> Rule:
        """Return how marks become votes; raise `ConfigError` if the background is not a class."""
        background = None
        if self.event_background is not None:
            background = _class_of(self.event_background, "data.event_background", ballot)
        return Rule(self.part_s, self.event_min_share, background, ballot.soft)


def _class_of(name: str, setting: str, ballot: Ballot) -> int:
    try:
        return ballot.classes.index(name)
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from None


@dataclass(frozen=True)
class Origin:
    """A recording whose events are read.

    Attributes
    ----------
    path : its file
    own : returns the events that are in the file itself
    beside : returns the file next to it that has its name and an ending, None where there is none
    """

    path: Path | Address
    own: Callable[[], list[Event]]
    beside: Callable[[str], Path | Address | None]


Read = Callable[[Origin, "FolderParams"], "list[Event] | None"]
"""A kind of events."""

# --- kinds of events -----------------------------------------------------------------------------


@register("events", "annotations")
def own_annotations(origin: Origin, params: FolderParams) -> list[Event] | None:
    """Return what is in the recording's own file: EDF+ annotations, or those that MNE reads."""
    return origin.own()


@register("events", "events_tsv")
def events_tsv(origin: Origin, params: FolderParams) -> list[Event] | None:
    """Return the rows of a BIDS table: ``onset``, ``duration``, ``trial_type``."""
    return _table_beside(origin, "_events.tsv", params, ("trial_type", "value"))


@register("events", "csv")
def csv_file(origin: Origin, params: FolderParams) -> list[Event] | None:
    """Return the rows of ``<recording>.csv``: start, stop or duration, label."""
    return _table_beside(origin, ".csv", params, _COLUMNS["label"])


@register("events", "csv_bi")
def csv_bi(origin: Origin, params: FolderParams) -> list[Event] | None:
    """Return the rows of TUSZ's ``<recording>.csv_bi``: ``seiz`` and ``bckg``."""
    return _table_beside(origin, ".csv_bi", params, _COLUMNS["label"])


TUEV_LABELS = {"1": "spsw", "2": "gped", "3": "pled", "4": "eyem", "5": "artf", "6": "bckg"}


@register("events", "rec")
def rec(origin: Origin, params: FolderParams) -> list[Event] | None:
    """Return the rows of TUEV's ``<recording>.rec``: channel, start, stop, number of the label."""
    path = origin.beside(".rec")
    if path is None:
        return None
    where, found = _where(path, params), []
    for number, line in enumerate(_read_text(path, where).splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 4 or fields[3] not in TUEV_LABELS:
            raise ConfigError(
                f"{where}: line {number} is '{line.strip()[:60]}', not channel,start,stop,label with a label "
                f"from 1 to {len(TUEV_LABELS)}"
            )
        start_s, stop_s = (_seconds(text, where, number) for text in fields[1:3])
        found.append(_event(start_s, stop_s, TUEV_LABELS[fields[3]], "", where, number))
    return found


_FILE = re.compile(r"^File Name:\s*(.+?)\s*$", re.IGNORECASE)
_TIME = re.compile(r"^Seizure\s*\d*\s*(Start|End) Time:\s*([\d.]+)\s*seconds", re.IGNORECASE)


@register("events", "summary")
def summary(origin: Origin, params: FolderParams) -> list[Event] | None:
    """Return what CHB-MIT's ``<case>-summary.txt``, in the recording's folder, says of it: ``seizure``.

    A recording that the summary does not name has no events that are known.
    """
    folder = origin.path.parent
    for path in [folder / name for name in names_beside(origin.path) if name.endswith("-summary.txt")]:
        where = _where(path, params)
        times = _seizure_times(path, where).get(origin.path.name.lower())
        if times is not None:
            if len(times) % 2:
                raise ConfigError(f"{where}: a seizure of '{origin.path.name}' has a start and no end")
            pairs = zip(times[::2], times[1::2], strict=True)
            return [_event(start, stop, "seizure", "", where, 0) for start, stop in pairs]
    return None


def _seizure_times(path: Path | Address, where: str) -> dict[str, list[float]]:
    """Return the starts and ends of the seizures of each file, in turn."""
    times: dict[str, list[float]] = {}
    current: list[float] = []
    for line in _read_text(path, where).splitlines():
        if name := _FILE.match(line.strip()):
            current = times.setdefault(name[1].lower(), [])
        elif time := _TIME.match(line.strip()):
            current.append(float(time[2]))
    return times


USUAL = {"seiz": "seizure", "sz": "seizure", "gped": "gpd", "pled": "lpd", "bckg": "other"}
"""What the named corpora call classes of the competition."""

_COLUMNS = {
    "start": ("start", "start_s", "start_time", "onset", "onset_s", "begin"),
    "stop": ("stop", "stop_s", "stop_time", "end", "end_s", "end_time"),
    "duration": ("duration", "duration_s"),
    "label": ("label", "trial_type", "description", "event", "class", "annotation"),
    "annotator": ("annotator", "rater", "expert", "reader", "labeler"),
}


def _table_beside(
    origin: Origin, ending: str, params: FolderParams, labels: Sequence[str]
) -> list[Event] | None:
    """Return the events of a table with a header; lines that begin with ``#`` are remarks."""
    path = origin.beside(ending)
    if path is None:
        return None
    where = _where(path, params)
    lines = [(n, line) for n, line in enumerate(_read_text(path, where).splitlines(), 1) if line.strip()]
    lines = [(n, line) for n, line in lines if not line.startswith("#")]
    if not lines:
        return []
    mark = next((mark for mark in "\t;," if mark in lines[0][1]), ",")
    try:
        rows = [next(csv.reader(io.StringIO(line), delimiter=mark)) for _, line in lines]
    except csv.Error as error:
        raise ConfigError(f"{where}: is not a table ({error})") from None
    header = [name.strip().lower() for name in rows[0]]
    place = _places(where, header, params, labels)
    found = []
    for (number, _), row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise ConfigError(
                f"{where}: line {number} has {len(row)} fields, but the header has {len(header)}"
            )
        cell = {name: row[column].strip() for name, column in place.items()}
        start_s = _seconds(cell["start"], where, number)
        stop_s = _stop(cell, start_s, where, number)
        found.append(_event(start_s, stop_s, cell["label"], cell.get("annotator", ""), where, number))
    return found


def _places(where: str, header: list[str], params: FolderParams, labels: Sequence[str]) -> dict[str, int]:
    """Return where the needed columns are, by what they mean here."""
    wanted: dict[str, Sequence[str]] = {**_COLUMNS, "label": labels}
    if params.event_column is not None:
        wanted["label"] = (params.event_column.lower(),)
    if params.event_annotator is not None:
        wanted["annotator"] = (params.event_annotator.lower(),)
    place = {
        ours: header.index(name)
        for ours, names in wanted.items()
        for name in [next((name for name in names if name in header), "")]
        if name
    }
    needed = ["start", "label", *(["annotator"] if params.event_annotator is not None else [])]
    for ours in needed:
        if ours not in place:
            settings = {"label": "; data.event_column names it", "annotator": "; see data.event_annotator"}
            raise ConfigError(
                f"{where}: lacks the column of the {ours} ({' or '.join(wanted[ours])}); the header has "
                f"{', '.join(header)}{settings.get(ours, '')}"
            )
    return place


def _stop(cell: Mapping[str, str], start_s: float, where: str, line: int) -> float | None:
    if cell.get("stop", "").lower() not in ("", "n/a"):
        return _seconds(cell["stop"], where, line)
    if cell.get("duration", "").lower() not in ("", "n/a"):
        return start_s + _seconds(cell["duration"], where, line)
    return None


def _seconds(text: str, where: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: line {line} has '{text}' instead of seconds")
    return value


def _event(start_s: float, stop_s: float | None, label: str, annotator: str, where: str, line: int) -> Event:
    if stop_s is not None and stop_s < start_s:
        raise ConfigError(
            f"{where}: line {line} has an event that stops at {stop_s:g} s, before {start_s:g} s"
        )
    return Event(start_s, None if stop_s == start_s else stop_s, label, annotator)


def _where(path: Path | Address, params: FolderParams) -> str:
    """Return a file's name for messages; behind pseudonyms it is withheld."""
    return str(path) if params.pseudonyms is None else "a file of events"


def _read_text(path: Path | Address, where: str) -> str:
    try:
        data = content_of(path)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror or error})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# --- from events to windows with votes -----------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """A recording, its length in seconds, and where its events are found.

    ``stretches_s`` says where each part without an interruption begins and ends, if there are
    interruptions. Of a recording that ``is_lost``, whatever the window, one window tells why.
    """

    name: str
    duration_s: float
    origin: Origin
    stretches_s: tuple[tuple[float, float], ...] = ()
    is_lost: bool = False


Marked = Mapping[str, Sequence[Mark]]
"""The marks of recordings by name; one that has no file of events is not there."""


def read_marks(recordings: Sequence[Timed], params: FolderParams, ballot: Ballot) -> Marked:
    """Read the events of recordings, and say what of them means nothing here.

    Raises `ConfigError` if no label means a class, an event has no duration, or a file cannot be read.
    """
    read = _reader_of(params)
    mapping = _mapping(params, ballot)
    report = _Report(params)
    marks: dict[str, Sequence[Mark]] = {}
    origins = [recording.origin for recording in recordings]
    found = all_of(partial(_events_of, read, params), origins, origins[0].path if origins else Path())
    for recording, events in zip(recordings, found, strict=True):
        if events is None:
            report.without_file.append(recording.name)
            continue
        known, unknown = name_classes(events, mapping, ballot.classes)
        report.unknown += unknown
        report.n_known += len(known)
        inside = [_mark(event, column, params, recording) for event, column in known]
        kept = [clipped(mark, recording.duration_s) for mark in inside]
        lost = [mark for mark, rest in zip(inside, kept, strict=True) if rest is None]
        report.outside += [f"{recording.name} at {mark.start_s:g} s" for mark in lost]
        marks[recording.name] = [mark for mark in kept if mark is not None]
        report.note_overlap(recording.name, marks[recording.name])
    report.say(ballot)
    return marks


def _events_of(read: Read, params: FolderParams, origin: Origin) -> list[Event] | None:
    try:
        return read(origin, params)
    except Unusable:  # the recording says so itself when it is prepared
        return None


def _reader_of(params: FolderParams) -> Read:
    try:
        return lookup("events", str(params.events)).function
    except ConfigError as error:
        raise ConfigError(str(error).replace("events.kind", "data.events")) from None


def _mapping(params: FolderParams, ballot: Ballot) -> dict[str, str | None]:
    """Return labels to classes: as the settings say, and as the named corpora call them."""
    names = ballot.classes.names
    usual: dict[str, str | None] = {}
    if params.events in ("csv_bi", "rec", "summary"):
        usual = {label: name for label, name in USUAL.items() if name in names and label not in names}
    own = {label: name or None for label, name in params.event_classes or ()}
    for label, name in own.items():
        if name is not None:
            _class_of(name, f"data.event_classes: '{label}'", ballot)
    return usual | own


def _mark(event: Event, column: int, params: FolderParams, recording: Timed) -> Mark:
    stop_s = event.stop_s
    if stop_s is None:
        if params.event_duration_s is None:
            raise ConfigError(
                f"recording '{recording.name}' has an event '{event.label}' at {event.start_s:g} s without a "
                "duration; set data.event_duration_s"
            )
        stop_s = event.start_s + params.event_duration_s
    return Mark(event.start_s, stop_s, column, event.annotator)


class _Report:
    """What was found in the events of a folder, said in a few lines at the end; no names on request."""

    def __init__(self, params: FolderParams) -> None:
        self.params = params
        self.is_private = params.pseudonyms is not None
        self.without_file: list[str] = []
        self.unknown: Counter[str] = Counter()
        self.n_known = 0
        self.outside: list[str] = []
        self.overlap: list[str] = []

    def note_overlap(self, recording: str, marks: Sequence[Mark]) -> None:
        seconds, first = overlapping_s(marks)
        if seconds > 0:
            self.overlap.append(f"{recording} for {seconds:g} s from {first:g} s")

    def say(self, ballot: Ballot) -> None:
        """Say in a line each what was passed over; raise where nothing is left."""
        labels = listed([f"'{label}' ({n})" for label, n in self.unknown.most_common()], _SHOWN)
        names = ", ".join(ballot.classes.names)
        if self.unknown and not self.n_known:
            raise ConfigError(
                f"data.events={self.params.events}: no label of an event means one of {names}; the labels "
                f"are {labels}. data.event_classes={{LABEL: CLASS}} maps them"
            )
        if self.unknown:
            number = f"ignored {counted(sum(self.unknown.values()), 'event')} whose label means no class"
            self._say(f"{number} (data.event_classes can map them)", labels)
        if self.without_file:
            whose = counted(len(self.without_file), "recording")
            number = f"no events of data.events={self.params.events} for {whose}"
            self._say(f"{number}, and so no votes", listed(self.without_file, _SHOWN))
        if self.outside:
            number = f"left out {counted(len(self.outside), 'event')} outside the recording"
            self._say(number, listed(self.outside, _SHOWN))
        if self.overlap:
            number = f"events of different classes overlap in {counted(len(self.overlap), 'recording')}"
            rule = "the class with the most seconds gets the vote, and shares are divided"
            self._say(f"{number}; {rule}", listed(self.overlap, _SHOWN))

    def _say(self, text: str, names: str) -> None:
        say(text if self.is_private else f"{text}: {names}")


def windows_of(
    recordings: Sequence[Timed], marked: Marked | None, params: FolderParams, ballot: Ballot
) -> dict[str, list[float]]:
    """Return where the sub-windows of each recording start, s: sliding, or one centred on each event.

    Events of one class that touch or overlap are one; the background is not an event.
    """
    if marked is None or params.event_windows == "slide":
        return {one.name: _sliding(one, params.step_s) for one in recordings}
    background = params.rule(ballot).background
    return {
        one.name: _centred(marked.get(one.name, ()), background, one.duration_s, params.part_s)
        for one in recordings
    }


def _sliding(one: Timed, step_s: float) -> list[float]:
    """Return where windows start that slide over each stretch without an interruption."""
    stretches = one.stretches_s or ((0.0, one.duration_s),)
    starts = [
        start_s + offset_s
        for start_s, stop_s in stretches
        for offset_s in sliding_starts(stop_s - start_s, step_s)
    ]
    return starts[:1] if one.is_lost else starts


def _centred(
    marks: Sequence[Mark], background: int | None, duration_s: float, part_s: tuple[float, float]
) -> list[float]:
    """Return sub-windows whose judged part has an event in its middle, or as near to it as the ends allow."""
    starts = set()
    lowest, highest = -part_s[0], duration_s - sum(part_s)
    for column in {mark.class_ for mark in marks} - {background}:
        spans = sorted((mark.start_s, mark.stop_s) for mark in marks if mark.class_ == column)
        for start_s, stop_s in _joined(spans):
            wanted = (start_s + stop_s) / 2 - part_s[0] - part_s[1] / 2
            inside = min(max(wanted, lowest), highest) if lowest <= highest else (lowest + highest) / 2
            starts.add(round(inside, 3))
    return sorted(starts)


def _joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start_s, stop_s in spans:
        if joined and start_s <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], stop_s)
        else:
            joined.append((start_s, stop_s))
    return joined


def label_windows(
    rows: Sequence[Mapping[str, Any]], marked: Marked, params: FolderParams, ballot: Ballot
) -> list[dict[str, Any]]:
    """Return windows with the votes that the events of their recordings cast on them.

    ``rows``: with ``recording`` and ``start_s``.
    """
    rule, columns = params.rule(ballot), ballot.classes.vote_columns
    by_recording: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_recording.setdefault(str(row["recording"]), []).append(number)
    votes = np.zeros((len(rows), len(columns)))
    for name, numbers in by_recording.items():
        if name in marked:
            starts = [float(rows[number]["start_s"]) for number in numbers]
            votes[numbers] = cast_votes(starts, marked[name], rule, len(columns))
    without = int((votes.sum(axis=1) == 0).sum())
    if without:
        hint = "" if params.event_background else "; data.event_background=CLASS gives unmarked time a class"
        say(f"{without} of {len(rows)} windows have no vote from events{hint}")
    cast = votes if ballot.soft else votes.astype(np.int64)
    return [
        {**row, **dict(zip(columns, cast[number].tolist(), strict=True))} for number, row in enumerate(rows)
    ]
