"""The table that a sweep ends in: its members side by side, as far as they can be compared.

Members may be trained on other labels, weights and items. They are scored on the items
that all of them have, against one target: the votes of the labelled window. Folds belong
to patients and are the same for all, or the member is not compared.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.labels.intervals import Interval, mean_interval, paired_interval
from hms.quality.ledger import GRADES
from hms.training.metric import row_divergence

if TYPE_CHECKING:
    from hms.store.package import Package

__all__ = [
    "OBJECTIVES",
    "Leaderboard",
    "Member",
    "Row",
    "Scored",
    "WindowVotes",
    "make_leaderboard",
    "objective_of",
    "read_scored",
    "window_votes",
]

OBJECTIVES = ("kl_all", "kl_high", "kl_low")
"""Divergence of all items, of those with at least `labels.high_confidence_votes`, and of the others."""

OOF = "baseline/oof.npz"


@dataclass(frozen=True)
class Member:
    """A member of a sweep after its turn: a run, or the error that it ended with."""

    number: int
    overrides: tuple[str, ...]
    """What sets it apart from the others."""

    cfg: Config | None = None
    run: Package | None = None
    error: str = ""

    @property
    def label(self) -> str:
        """The overrides that set it apart, in one text."""
        return " ".join(self.overrides) or "(nothing varies)"


@dataclass(frozen=True)
class Row:
    """A line of the leaderboard; None stands for what there is not.

    ``difference`` is that of the objective to the reference, item by item; below 0, the
    member is better. Intervals are of 95 %, from draws of patients.
    """

    rank: int | None
    member: int
    overrides: str
    run: str | None
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
    seconds_computed: float | None = None
    seconds_reused: float | None = None
    good: int | None = None
    usable: int | None = None
    poor: int | None = None
    unusable: int | None = None
    note: str = ""
    error: str = ""


# --- scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowVotes:
    """What members are scored against: the votes of each item's own labelled window.

    Attributes
    ----------
    y : float64, shape (n_items, n_classes), rows sum to 1
    vote_sum : shape (n_items,)
    row : row of each item by its id; items without votes are left out
    digest : of the votes table
    threshold : votes from which an item is of high confidence
    """

    y: NDArray[np.float64]
    vote_sum: NDArray[np.int64]
    patient_id: NDArray[np.str_]
    row: dict[str, int]
    digest: str
    threshold: int


def window_votes(cfg: Config) -> WindowVotes:
    """Return the votes of a configuration's items as ``labels=window`` reads them.

    Raises
    ------
    ConfigError
        If the votes table cannot be read.
    """
    from hms.labels.items import choose_items
    from hms.registry import lookup
    from hms.store.places import Outputs

    outputs = Outputs(Path(cfg.outputs_dir))
    source = lookup("data", cfg.data.kind).function(cfg.data, outputs_dir=outputs.root, n_jobs=cfg.n_jobs)
    votes = source.votes(cfg.at("labels.ballot"))
    items = choose_items(votes.frame, cfg.unit, replace(cfg.labels, kind="window"), cfg.window)
    items = items[items["vote_sum"] > 0]
    counts = items[list(votes.classes.vote_columns)].to_numpy(np.float64)
    return WindowVotes(
        y=counts / counts.sum(axis=1, keepdims=True),
        vote_sum=items["vote_sum"].to_numpy(),
        patient_id=np.array(items["patient_id"].tolist(), dtype=np.str_),
        row={str(name): row for row, name in enumerate(items["item_id"].tolist())},
        digest=str(votes.digest),
        threshold=int(cfg.at("labels.high_confidence_votes")),
    )


@dataclass(frozen=True)
class Scored:
    """Out-of-fold predictions of a run, by item.

    Attributes
    ----------
    prediction : class shares of each item that has one, by its id
    fold : the fold that predicted it
    digest : of the run's votes table
    """

    prediction: dict[str, NDArray[np.float64]]
    fold: dict[str, int]
    digest: str


def read_scored(run: Package) -> Scored | None:
    """Return the out-of-fold predictions of a run, or None if it has no baseline or none of an item."""
    if OOF not in run.manifest["files"]:
        return None
    arrays = run.arrays(OOF)
    covered = np.flatnonzero(arrays["fold"] >= 0).tolist()
    if not covered:
        return None
    ids = [str(name) for name in arrays["item_id"].tolist()]
    return Scored(
        prediction={ids[row]: arrays["prediction"][row] for row in covered},
        fold={ids[row]: int(arrays["fold"][row]) for row in covered},
        digest=str(run.manifest["votes"]["digest"]),
    )


def divergences(scored: Scored, target: WindowVotes, items: Sequence[str]) -> NDArray[np.float64]:
    """Return the divergence of each item, shape (n_items,)."""
    rows = [target.row[name] for name in items]
    return row_divergence(target.y[rows], np.stack([scored.prediction[name] for name in items]))


def _masks(target: WindowVotes, items: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    votes = target.vote_sum[[target.row[name] for name in items]]
    high = np.asarray(votes >= target.threshold)
    return {"kl_all": np.ones(len(items), bool), "kl_high": high, "kl_low": ~high}


def objective_of(run: Package, cfg: Config) -> float:
    """Return what a search makes small: a run's divergence from the votes of the labelled windows.

    Raises
    ------
    ConfigError
        If the run has no baseline, or no item of the kind that the objective is about.
    """
    name = cfg.sweep.objective
    scored = read_scored(run)
    if scored is None:
        if OOF in run.manifest["files"]:
            raise ConfigError(f"sweep.objective={name}: the baseline has predicted no item; none is used")
        raise ConfigError(f"sweep.objective={name} is a figure of a baseline; add baseline=logreg")
    target = window_votes(cfg)
    items = [item for item in scored.prediction if item in target.row]
    mask = _masks(target, items)[name]
    if not mask.any():
        raise ConfigError(f"sweep.objective={name}: no item has that many votes; kl_all is of all items")
    return float(divergences(scored, target, items)[mask].mean())


# --- what can be compared ------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Members that can be compared, the items they share, and why the others cannot."""

    reference: int | None
    items: tuple[str, ...]
    scored: dict[int, Scored]
    refused: dict[int, str]
    target: WindowVotes | None


def compare(scored: Mapping[int, Scored], target: WindowVotes, reference: int) -> Comparison:
    """Return which members can be compared with the reference, and on which items.

    Parameters
    ----------
    scored : predictions by the member's number
    target : the votes of the reference
    """
    base = scored[reference]
    items = [name for name in base.prediction if name in target.row]
    fit, refused = {reference: base}, {}
    for number, other in scored.items():
        if number == reference:
            continue
        shared = [name for name in items if name in other.prediction]
        problem = _problem(base, other, shared)
        if problem:
            refused[number] = f"not compared: {problem} (reference: member {reference})"
        else:
            fit[number], items = other, shared
    return Comparison(reference, tuple(items), fit, refused, target)


def _problem(base: Scored, other: Scored, shared: Sequence[str]) -> str:
    """Return why two members cannot be compared, or an empty text."""
    if other.digest != base.digest:
        return "its votes table is another"
    if not shared:
        return "it has no item in common with the others"
    moved = sum(base.fold[name] != other.fold[name] for name in shared)
    return f"its folds are others, {moved} of {len(shared)} common items moved" if moved else ""


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """The members of a sweep, the best first, then those that cannot be compared, then failures.

    Attributes
    ----------
    objective : by which members are ranked
    reference : number of the member that the others are compared with, or None
    notes : what a reader must know about the comparison
    """

    name: str
    command: str
    objective: str
    reference: int | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def n_failed(self) -> int:
        """How many members ended with an error."""
        return sum(bool(row.error) for row in self.rows)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that say something of at least one member."""
        always = ("rank", "member", "overrides", "run")
        names = [f.name for f in fields(Row)]
        return tuple(
            n for n in names if n in always or any(getattr(r, n) not in (None, "") for r in self.rows)
        )

    def to_csv(self) -> bytes:
        """Return the table with all its columns, numbers in full."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return text.getvalue().encode()

    def to_json(self) -> bytes:
        """Return the table and what it is about."""
        tree = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        tree |= {"notes": list(self.notes), "rows": [asdict(row) for row in self.rows]}
        return (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode()

    def table(self) -> list[tuple[str, ...]]:
        """Return the columns worth showing as texts, their names first."""
        shown = [column for column in _SHOWN if any(name in self.used for name in column[1])]
        head = tuple(title.format(objective=self.objective) for title, _, _ in shown)
        return [head, *(tuple(write(row) for _, _, write in shown) for row in self.rows)]

    def __str__(self) -> str:
        from hms.terminal import columns

        lines = [columns(self.table())]
        lines += [f"  {note}" for note in self.notes]
        lines += [
            f"  member {row.member}: {row.note or row.error}" for row in self.rows if row.note or row.error
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Leaderboard {self.name}: {len(self.rows)} members, {self.n_failed} failed>"

    def _repr_html_(self) -> str:
        head, *rows = self.table()
        left = "style='text-align:left'"
        cells = "".join(f"<th {left}>{escape(name)}</th>" for name in head)
        body = "".join(
            "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        notes = "<br>".join(
            escape(text)
            for text in (
                *self.notes,
                *(f"member {r.member}: {r.note or r.error}" for r in self.rows if r.note or r.error),
            )
        )
        caption = f"<caption>sweep <code>{escape(self.name)}</code></caption>"
        return f"<table>{caption}<tr>{cells}</tr>{body}</table><p>{notes}</p>"


def _number(value: float | int | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, int) else f"{value:.3f}"


def _interval(row: Row, name: str) -> str:
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_lower", "_upper"))
    if value is None:
        return ""
    sign = "+" if name == "difference" else ""
    text = f"{value:{sign}.3f}"
    return text if low is None else f"{text} ({low:{sign}.3f} to {high:{sign}.3f})"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


_SHOWN: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("rank", ("rank",), lambda row: "" if row.rank is None else str(row.rank)),
    ("member", ("member",), lambda row: str(row.member)),
    ("overrides", ("overrides",), lambda row: row.overrides),
    ("run", ("run",), lambda row: (row.run or "failed")[:8]),
    ("items", ("n_items",), lambda row: _number(row.n_items)),
    ("left out", ("n_left_out",), lambda row: _number(row.n_left_out)),
    ("KL, many votes", ("kl_high",), lambda row: _interval(row, "kl_high")),
    ("KL, few votes", ("kl_low",), lambda row: _interval(row, "kl_low")),
    ("KL, all", ("kl_all",), lambda row: _interval(row, "kl_all")),
    ("{objective} minus reference", ("difference",), lambda row: _interval(row, "difference")),
    ("s computed", ("seconds_computed",), lambda row: _seconds(row.seconds_computed)),
    ("s reused", ("seconds_reused",), lambda row: _seconds(row.seconds_reused)),
    ("good", ("good",), lambda row: _number(row.good)),
    ("usable", ("usable",), lambda row: _number(row.usable)),
    ("poor", ("poor",), lambda row: _number(row.poor)),
    ("unusable", ("unusable",), lambda row: _number(row.unusable)),
)
"""Title, the fields it shows, and how."""


def make_leaderboard(
    members: Sequence[Member], *, name: str, command: str, objective: str, reference: int
) -> Leaderboard:
    """Return the leaderboard of members that had their turn.

    Parameters
    ----------
    members : in the order of the sweep
    name : of the sweep
    command : what was typed
    objective : one of `OBJECTIVES`, by which members are ranked
    reference : number of the member that the others are compared with
    """
    scored = {m.number: s for m in members if m.run is not None and (s := read_scored(m.run)) is not None}
    found = _comparison(members, scored, reference)
    rows = {m.number: _plain_row(m, found) for m in members}
    notes: list[str] = []
    if found.target is not None:
        rows |= _scored_rows(rows, found, found.target, objective)
        notes = _notes(found, found.target, reference, rows, len(scored))
    elif any(m.run is not None and OOF in m.run.manifest["files"] for m in members):
        notes = ["no baseline has predicted an item, because none is used: members are listed, not ranked"]
    elif any(m.run is not None for m in members):
        notes = ["no member has a baseline: they are listed, not ranked; baseline=logreg adds one"]
    ordered = sorted(rows.values(), key=_order)
    return Leaderboard(name, command, objective, found.reference, tuple(ordered), tuple(notes))


def _member(members: Sequence[Member], number: int) -> Member:
    return next(member for member in members if member.number == number)


def _order(row: Row) -> tuple[bool, bool, int, int]:
    return (bool(row.error), row.rank is None, row.rank or 0, row.member)


def _comparison(members: Sequence[Member], scored: Mapping[int, Scored], reference: int) -> Comparison:
    """Compare with the reference or, where it has no predictions, with the first member that has."""
    for number in dict.fromkeys([reference, *scored]):
        if number in scored:
            cfg = _member(members, number).cfg
            assert cfg is not None
            return compare(scored, window_votes(cfg), number)
    return Comparison(None, (), {}, {}, None)


def _notes(
    found: Comparison, target: WindowVotes, asked: int, rows: Mapping[int, Row], n_scored: int
) -> list[str]:
    notes = [
        f"{len(found.scored)} of {n_scored} members with predictions are compared, on the "
        f"{len(found.items)} items they all have, against the votes of the labelled windows; "
        f"many votes: {target.threshold} and more; intervals of 95 % from draws of patients"
    ]
    if found.reference != asked:
        notes.append(f"member {asked} has no predictions; the differences are to member {found.reference}")
    sizes = {row.n_items for number, row in rows.items() if number in found.scored}
    if len(sizes) > 1:
        notes.append("members were fitted on different numbers of items, which is part of the comparison")
    return notes


def _plain_row(member: Member, found: Comparison) -> Row:
    """Return a member's row without its scores."""
    run = member.run
    row = Row(None, member.number, member.label, None if run is None else run.hash, error=member.error)
    if run is None:
        return row
    counts, grades = run.manifest["counts"], _grades(run)
    computed, reused = _seconds_of(run)
    of_grade: dict[str, Any] = {grade: grades.get(grade) for grade in GRADES}
    note = found.refused.get(member.number, "")
    if found.reference is not None and member.number not in found.scored and not note:
        has_one = OOF in run.manifest["files"]
        note = "not compared: " + ("no item of it is used" if has_one else "it has no baseline")
    return replace(
        row,
        n_items=counts["used"],
        n_left_out=counts["excluded"],
        seconds_computed=round(computed, 3),
        seconds_reused=round(reused, 3),
        note=note,
        **of_grade,
    )


def _grades(run: Package) -> dict[str, int]:
    if "qc/summary.json" not in run.manifest["files"]:
        return {}
    grades: dict[str, int] = run.summary.get("quality", {}).get("grades", {})
    return grades


def _seconds_of(run: Package) -> tuple[float, float]:
    """Return the seconds of work that a run did and those of what it found done.

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


def _scored_rows(
    rows: Mapping[int, Row], found: Comparison, target: WindowVotes, objective: str
) -> dict[int, Row]:
    """Return the rows of the members that can be compared, with scores and ranks."""
    masks = _masks(target, found.items)
    patients = target.patient_id[[target.row[name] for name in found.items]]
    values = {number: divergences(s, target, found.items) for number, s in found.scored.items()}
    assert found.reference is not None
    base = values[found.reference]
    made: dict[int, Row] = {}
    for number, own in values.items():
        filled: dict[str, Any] = {"n_compared": len(found.items)}
        for name, mask in masks.items():
            filled |= _filled(name, mean_interval(own[mask], patients[mask]))
        if number != found.reference:
            mask = masks[objective]
            paired = paired_interval(own[mask], base[mask], patients[mask])
            filled |= _filled("difference", paired)
        made[number] = replace(rows[number], **filled)
    return _ranked(made, objective)


def _filled(name: str, found: Interval) -> dict[str, float | None]:
    plain = found.to_dict()
    return {name: plain["value"], f"{name}_lower": plain["low"], f"{name}_upper": plain["high"]}


def _ranked(rows: Mapping[int, Row], objective: str) -> dict[int, Row]:
    """Give ranks by the objective; equal values share the better rank."""
    values = {number: getattr(row, objective) for number, row in rows.items()}
    known = sorted(value for value in values.values() if value is not None)
    return {
        number: row if values[number] is None else replace(row, rank=known.index(values[number]) + 1)
        for number, row in rows.items()
    }
