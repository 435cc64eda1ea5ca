"""The table that a sweep ends in: its members side by side, as far as they can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from hms.labels.intervals import Interval, mean_interval
from hms.quality.grading import GRADES
from hms.store.csvs import harmless_cell, rows_text
from hms.sweep.members import Member
from hms.sweep.scores import (
    OBJECTIVES,
    Comparison,
    Confirmation,
    Scored,
    Standings,
    compare,
    confirm,
    divergences,
    masks_of,
    patients_of,
    read_scored,
    stand,
    window_votes,
)
from hms.terminal import WIDTH, columns, filled, narrowed
from hms.training.predictions import OOF

if TYPE_CHECKING:
    from hms.store.package import Package


@dataclass(frozen=True)
class Row:
    """A line of the leaderboard; None stands for what there is not.

    Differences are those of the objective, item by item; below 0, the member is better. Their intervals of
    95 % hold for all members at once. ``told_from_reference`` and ``told_from_best`` are ``better``,
    ``worse``, ``no`` or ``too few patients``. ``luck`` is in the best member's line: by how much it would
    beat the reference if all were equal. ``confirmed`` is the objective on patients set aside, where
    ``sweep.confirm`` is true. ``page`` is where the run's report, or its folder, lies, as seen from here.
    """

    rank: int | None
    member: int
    overrides: str
    run: str | None
    page: str | None = None
    n_items: int | None = None
    n_left_out: int | None = None
    n_compared: int | None = None
    kl_high: float | None = None
    kl_high_lower: float | None = None
    kl_high_upper: float | None = None
    kl_low: float | None = None
    kl_low_lower: float | None = None
    kl_low_upper: float | None = None
    kl_all: float | None = None
    kl_all_lower: float | None = None
    kl_all_upper: float | None = None
    difference: float | None = None
    difference_lower: float | None = None
    difference_upper: float | None = None
    told_from_reference: str = ""
    to_best: float | None = None
    to_best_lower: float | None = None
    to_best_upper: float | None = None
    told_from_best: str = ""
    luck: float | None = None
    confirmed: float | None = None
    confirmed_lower: float | None = None
    confirmed_upper: float | None = None
    confirmed_difference: float | None = None
    confirmed_difference_lower: float | None = None
    confirmed_difference_upper: float | None = None
    seconds_computed: float | None = None
    seconds_reused: float | None = None
    good: int | None = None
    usable: int | None = None
    poor: int | None = None
    unusable: int | None = None
    note: str = ""
    error: str = ""


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """The members of a sweep, the best first, then those that cannot be compared, then failures.

    Attributes
    ----------
    objective : by which members are ranked
    reference : number of the member that the others are compared with, or None
    best : member with the lowest score, or None where none is compared
    winner : the best, where it can be told from the reference; None where luck may have chosen it
    luck : by how much the best would beat the reference if all members were equal; None where unknown
    notes : what a reader must know about the comparison
    machine_failed : whether the machine failed at a member, which the same command then continues with
    """

    name: str
    command: str
    objective: str
    reference: int | None
    best: int | None
    winner: int | None
    luck: float | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    machine_failed: bool = False

    @property
    def n_failed(self) -> int:
        """How many members ended with an error."""
        return sum(bool(row.error) for row in self.rows)

    @property
    def remarks(self) -> list[tuple[int, str]]:
        """Members with a note or an error, and its text."""
        return [(row.member, row.note or row.error) for row in self.rows if row.note or row.error]

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that are not empty for every member."""
        always = ("rank", "member", "overrides", "run")
        names = [f.name for f in fields(Row)]
        return tuple(
            n for n in names if n in always or any(getattr(r, n) not in (None, "") for r in self.rows)
        )

    def to_csv(self) -> bytes:
        """Return the table with all its columns, numbers in full."""
        rows = [[harmless_cell(value) for value in asdict(row).values()] for row in self.rows]
        return rows_text([[f.name for f in fields(Row)], *rows]).encode()

    def to_json(self) -> bytes:
        """Return the table and what it is about."""
        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        tree |= {"notes": list(self.notes), "rows": [asdict(row) for row in self.rows]}
        return (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode()

    def table(self) -> list[tuple[str, ...]]:
        """Return the columns worth showing as texts, their names first."""
        return self._texts(self._with_content(_SHOWN))

    def _with_content(self, columns: Iterable[Column]) -> list[Column]:
        return [column for column in columns if any(name in self.used for name in column[1])]

    def _texts(self, columns: Sequence[Column]) -> list[tuple[str, ...]]:
        head = tuple(title.format(objective=self.objective) for title, _, _ in columns)
        return [head, *(tuple(write(row) for _, _, write in columns) for row in self.rows)]

    def short_table(self) -> list[tuple[str, ...]]:
        """Return the columns that fit a terminal, their names first: who is better, and by how much."""
        unscored = [column for column in _SHOWN if column[0] in _OF_UNSCORED]
        shown = self._with_content(unscored if self.best is None else _short_columns(self.objective))
        done = [row for row in self.rows if not row.error]
        same = {title for title, _, write in shown if title in _SAME and len({*map(write, done)}) == 1}
        return self._texts([column for column in (*shown, _OVERRIDES) if column[0] not in same])

    def __str__(self) -> str:
        said = [*self.notes, *(f"member {member}: {text}" for member, text in self.remarks)]
        lines = self._lines()
        if self.best is not None:
            lines.insert(0, f"KL divergence, lower is better; the reference is member {self.reference}")
        return "\n".join(lines + [filled(f"  {text}", indent=4) for text in said])

    def _lines(self) -> list[str]:
        """Return the short table; overrides that do not fit beside the figures go below them."""
        table = self.short_table()
        figures = columns([row[:-1] for row in table]).splitlines()
        longest = max((len(word) for row in table for word in row[-1].split()), default=0)
        if max(map(len, figures)) + 2 + longest <= WIDTH:
            return columns(narrowed(table)).splitlines()
        below = [filled(f"      {row[-1]}", indent=6) for row in table]
        return figures[:1] + [line for pair in zip(figures[1:], below[1:], strict=True) for line in pair]

    def __repr__(self) -> str:
        return f"<Leaderboard {self.name}: {len(self.rows)} members, {self.n_failed} failed>"

    def _repr_html_(self) -> str:
        head, *rows = self.table()
        left = "style='text-align:left'"
        cells = "".join(f"<th {left}>{escape(name)}</th>" for name in head)
        body = "".join(
            "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        said = (*self.notes, *(f"member {member}: {text}" for member, text in self.remarks))
        notes = "<br>".join(escape(text) for text in said)
        caption = f"<caption>sweep <code>{escape(self.name)}</code></caption>"
        return f"<table>{caption}<tr>{cells}</tr>{body}</table><p>{notes}</p>"


# --- the table as texts --------------------------------------------------------------------------


def told_apart(row: Row) -> str:
    """Say from whom a member can be told apart; nothing if it is not compared."""
    verdicts = {"the reference": row.told_from_reference, "the best": row.told_from_best}
    known = {whom: verdict for whom, verdict in verdicts.items() if verdict}
    if "too few patients" in known.values():
        return "too few patients"
    told = [f"{verdict} than {whom}" for whom, verdict in known.items() if verdict != "no"]
    return "; ".join(told) if told else "from neither" if len(known) == 2 else "no" if known else ""


def with_interval(value: float, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """Return a figure with its interval, or say that there is none."""
    sign = "+" if signed else ""
    text = f"{value:{sign}.3f}"
    return f"{text} (no interval)" if low is None else f"{text} ({low:{sign}.3f} to {high:{sign}.3f})"


Column = tuple[str, tuple[str, ...], Callable[[Row], str]]
"""Title, the fields it shows, and how."""


def _figure(title: str, name: str, digits: int = 3) -> Column:
    """Return a column of a number, whole ones without digits."""

    def write(row: Row) -> str:
        value = getattr(row, name)
        return "" if value is None else str(value) if isinstance(value, int) else f"{value:.{digits}f}"

    return title, (name,), write


def _interval(title: str, name: str, *, signed: bool = False) -> Column:
    """Return a column of a figure with its interval."""

    def write(row: Row) -> str:
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_lower", "_upper"))
        return "" if value is None else with_interval(value, low, high, signed=signed)

    return title, (name,), write


_OVERRIDES: Column = ("overrides", ("overrides",), lambda row: row.overrides)

_SHOWN: tuple[Column, ...] = (
    _figure("rank", "rank"),
    _figure("member", "member"),
    _OVERRIDES,
    ("run", ("run",), lambda row: (row.run or "failed")[:8]),
    _figure("items", "n_items"),
    _figure("left out", "n_left_out"),
    _interval("KL, many votes", "kl_high"),
    _interval("KL, few votes", "kl_low"),
    _interval("KL, all", "kl_all"),
    _interval("{objective} minus reference", "difference", signed=True),
    ("told apart", ("told_from_reference", "told_from_best"), told_apart),
    _figure("advantage of the best by chance", "luck"),
    _interval("on patients set aside", "confirmed"),
    _interval("minus reference there", "confirmed_difference", signed=True),
    _figure("s computed", "seconds_computed", digits=1),
    _figure("s reused", "seconds_reused", digits=1),
    *(_figure(grade, grade) for grade in GRADES),
)
"""The columns of the page and of a notebook."""

_SAME = ("items", "left out", *GRADES)
"""Columns that say nothing in a terminal where all members have the same."""

_OF_UNSCORED = ("member", "run", *_SAME)
"""Columns of a table without scores."""


def _short_columns(objective: str) -> list[Column]:
    """Return the columns that a terminal has room for where members are scored."""
    wanted = ("rank", "member", "run", "items", "left out")
    title = next(column[0] for column in _SHOWN if column[1] == (objective,))
    return [
        *(column for column in _SHOWN if column[0] in wanted),
        _figure(title, objective),
        _interval("minus reference", "difference", signed=True),
        ("verdict", ("told_from_reference",), _told_from_reference),
    ]


def _told_from_reference(row: Row) -> str:
    return "not told apart" if row.told_from_reference == "no" else row.told_from_reference


# --- from members to the table -------------------------------------------------------------------


def make_leaderboard(
    members: Sequence[Member], *, name: str, command: str, objective: str, reference: int
) -> Leaderboard:
    """Return the leaderboard of members that had their turn; see `Leaderboard` for the arguments."""
    scored = {m.number: s for m in members if m.run is not None and (s := read_scored(m.run)) is not None}
    by_number = {member.number: member for member in members}
    found = _comparison(by_number, scored, reference)
    facts = {member.number: _facts(member, found) for member in members}
    standings, notes = None, _why_not_ranked(members)
    if found is not None:
        _add_scores(facts, found, objective)
        notes = _notes(found, reference, facts, len(scored))
        standings = _standings(found, objective)
    if found is not None and standings is not None:
        _add_standings(facts, standings)
        runs = {number: by_number[number].run for number in (standings.best, found.reference)}
        aside = {n: read_scored(run, set_aside=True) for n, run in runs.items() if run is not None}
        confirmation = confirm(aside, found.target, objective, best=standings.best, reference=found.reference)
        _add_confirmation(facts, confirmation, standings.best)
        notes += _verdicts(standings, found.reference, confirmation)
    rows = [Row(**{"rank": None} | facts[member.number]) for member in members]
    return Leaderboard(
        name=name,
        command=command,
        objective=objective,
        reference=None if found is None else found.reference,
        best=None if standings is None else standings.best,
        winner=None if standings is None else standings.winner,
        luck=None if standings is None else _known(standings.luck),
        rows=tuple(sorted(rows, key=lambda r: (bool(r.error), r.rank is None, r.rank or 0, r.member))),
        notes=tuple(notes),
        machine_failed=any(member.machine_failed for member in members),
    )


def _comparison(
    members: Mapping[int, Member], scored: Mapping[int, Scored], reference: int
) -> Comparison | None:
    """Compare with the reference or, where it has no predictions, with the first member that has."""
    for number in dict.fromkeys([reference, *scored]):
        if number in scored:
            cfg = members[number].cfg
            assert cfg is not None
            return compare(scored, window_votes(cfg), number)
    return None


Facts = dict[int, dict[str, Any]]
"""What is known for the row of each member, by its number and the field."""


# --- rows ----------------------------------------------------------------------------------------


def _facts(member: Member, found: Comparison | None) -> dict[str, Any]:
    """Return the fields of a member's row but its scores."""
    run = member.run
    facts: dict[str, Any] = {"member": member.number, "overrides": member.label, "error": member.error}
    if run is None:
        return facts | {"run": None}
    counts, grades = run.manifest["counts"], _grades(run)
    computed, reused = _seconds_of(run)
    note = ""
    if found is not None and member.number not in found.scored:
        has_one = OOF in run.manifest["files"]
        note = "not compared: " + ("it uses no item" if has_one else "it has no baseline")
        note = found.refused.get(member.number, note)
    return facts | {
        "run": run.hash,
        "page": _page_of(run),
        "n_items": counts["used"],
        "n_left_out": counts["excluded"],
        "seconds_computed": round(computed, 3),
        "seconds_reused": round(reused, 3),
        "note": note,
        **{grade: grades.get(grade) for grade in GRADES},
    }


def _page_of(run: Package) -> str:
    """Return where a run's report is, seen from outputs/sweeps/<name>/; its folder without one."""
    report = "qc/report.html"
    return f"../../{run.hash}/" + (report if report in run.manifest["files"] else "")


def _grades(run: Package) -> dict[str, int]:
    if "qc/summary.json" not in run.manifest["files"]:
        return {}
    grades: dict[str, int] = run.summary.get("quality", {}).get("grades", {})
    return grades


def _seconds_of(run: Package) -> tuple[float, float]:
    """Return the seconds that a run computed, and those that it saved by results found in the store.

    The second are an estimate: items that it found, at the stage's own pace.
    """
    from hms.store.folders import StageFolder

    computed, reused = sum(run.manifest["times"].values()), 0.0
    for note in run.manifest["stages"].values():
        folder = StageFolder(run.path.resolve().parent / "store" / note["folder"]).load()
        wanted = 1 if "stored" in note else run.manifest["counts"]["used"]
        found = max(wanted - note["computed"], 0)
        reused += found * folder.seconds / folder.computed if folder.computed else 0.0
    return computed, reused


def _add_scores(facts: Facts, found: Comparison, objective: str) -> None:
    """Add the scores of the members that can be compared, and their ranks; equal ones share the better."""
    masks, patients = masks_of(found.target, found.items), patients_of(found.target, found.items)
    for number, one in found.scored.items():
        own = divergences(one, found.target, found.items)
        facts[number]["n_compared"] = len(found.items)
        for name, mask in masks.items():
            facts[number] |= _fields_of(name, mean_interval(own[mask], patients[mask]))
    values = {number: facts[number][objective] for number in found.scored}
    known = sorted(value for value in values.values() if value is not None)
    for number, value in values.items():
        facts[number]["rank"] = None if value is None else known.index(value) + 1


def _standings(found: Comparison, objective: str) -> Standings | None:
    """Return who can be told apart by the objective; None where no item is of its kind."""
    mask = masks_of(found.target, found.items)[objective]
    if not mask.any():
        return None
    values = {number: divergences(s, found.target, found.items)[mask] for number, s in found.scored.items()}
    return stand(values, found.reference, patients_of(found.target, found.items)[mask])


def _add_standings(facts: Facts, standings: Standings) -> None:
    for number, one in standings.to_reference.items():
        facts[number] |= _fields_of("difference", one) | {"told_from_reference": _verdict(one)}
    for number, one in standings.to_best.items():
        facts[number] |= _fields_of("to_best", one) | {"told_from_best": _verdict(one)}
    facts[standings.best]["luck"] = _known(standings.luck)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _verdict(difference: Interval) -> str:
    if not difference.holds:
        return "too few patients"
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else "no"


def _add_confirmation(facts: Facts, confirmation: Confirmation | None, best: int) -> None:
    if confirmation is None:
        return
    for number, score in confirmation.scores.items():
        facts[number] |= _fields_of("confirmed", score)
    if confirmation.difference is not None:
        facts[best] |= _fields_of("confirmed_difference", confirmation.difference)


def _fields_of(name: str, found: Interval) -> dict[str, Any]:
    plain = found.to_dict()
    return {name: plain["value"], f"{name}_lower": plain["low"], f"{name}_upper": plain["high"]}


# --- notes ---------------------------------------------------------------------------------------


def _why_not_ranked(members: Sequence[Member]) -> list[str]:
    """Return the note of a table without scores."""
    if any(m.run is not None and OOF in m.run.manifest["files"] for m in members):
        return ["no item is in use, so no baseline predicted one: members are listed, not ranked"]
    if any(m.run is not None for m in members):
        return ["no member has a baseline: they are listed, not ranked; baseline=logreg adds one"]
    return []


def _notes(found: Comparison, asked: int, facts: Facts, n_scored: int) -> list[str]:
    notes = [
        f"{len(found.scored)} of {n_scored} members with predictions are compared, on the "
        f"{len(found.items)} items they all have, against the votes of the labelled windows; "
        f"many votes: {found.target.threshold} and more; intervals of 95 % over patients, those of "
        "differences for all members at once"
    ]
    if found.reference != asked:
        notes.append(f"member {asked} has no predictions; the differences are to member {found.reference}")
    if len({facts[number]["n_items"] for number in found.scored}) > 1:
        notes.append("members were fitted on different numbers of items, which is part of the comparison")
    return [*notes, *_unheld(found)]


def _unheld(found: Comparison) -> list[str]:
    """Say for which items there are too few patients for an interval."""
    names = dict(zip(OBJECTIVES, ("all items", "items with many votes", "items with few votes"), strict=True))
    patients, notes = patients_of(found.target, found.items), []
    for name, mask in masks_of(found.target, found.items).items():
        why = mean_interval(np.zeros(int(mask.sum())), patients[mask])
        if mask.any() and not why.holds:
            notes.append(f"{names[name]}: {why.reason}")
    return notes


def _verdicts(standings: Standings, reference: int, confirmation: Confirmation | None) -> list[str]:
    """Return what may be said of the best member, and what luck alone would do."""
    best, others = standings.best, len(standings.to_reference)
    if not others:
        return []
    if best == reference:
        notes = [f"the reference, member {reference}, scores best"]
    elif standings.winner is not None:
        notes = [f"member {best} is better than the reference beyond chance"]
    elif standings.to_reference[best].holds:
        notes = [f"member {best} scores best, but the difference from the reference may be chance: no winner"]
    else:
        notes = [
            f"member {best} scores best, but there are too few patients to tell members apart: no winner"
        ]
    if not np.isnan(standings.luck):
        notes.append(
            f"if all were equal, the best of {others + 1} would score {standings.luck:.3f} below the "
            "reference by chance"
        )
    return notes + _confirmed(confirmation, best, reference)


def _confirmed(confirmation: Confirmation | None, best: int, reference: int) -> list[str]:
    if confirmation is None:
        return []
    own = confirmation.scores[reference]
    said = f"on {own.n_groups} patients set aside before, member {reference} scores {own}"
    if confirmation.difference is None:
        return [said]
    return [f"{said} and member {best} {confirmation.scores[best]}; difference {confirmation.difference}"]
