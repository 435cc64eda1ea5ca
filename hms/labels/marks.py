"""Marks: what people decided by eye about single items, and what follows from it for a run.

One csv, readable and editable by hand, a row per item and reader::

    item_id,mark,votes,note,when,who
    1000913311,exclude,,electrode off,2026-11-27T09:30:00Z,ab
    1706021,,lpd=2;other=1,,2026-11-27T09:31:10Z,ab

``mark`` is keep, exclude, doubt or empty. ``votes`` proposes votes: ``class=count`` separated by ``;``, or
a class alone for one vote.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hms.config.identity import digest_of
from hms.config.reading import regular_bytes
from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.labels.votes import consensus
from hms.registry import Params, did_you_mean, register
from hms.terminal import counted, listed

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("item_id", "mark", "votes", "note", "when", "who")
MARKS = ("keep", "exclude", "doubt", "")
Votes = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class MarksFile(Params):
    """Settings of marks from a file.

    Attributes
    ----------
    path : csv with the marks
    apply_votes : whether proposed votes replace the table's
    resolve : what counts if readers disagree; None refuses. ``latest`` takes the last mark by ``when``;
        ``any`` leaves an item out if one reader does, ``majority`` if more than half of its readers do; both
        add up the proposed votes of all readers
    """

    path: str | None
    apply_votes: bool
    resolve: Literal["latest", "any", "majority"] | None


@dataclass(frozen=True)
class Mark:
    """What one reader decided about one item."""

    item_id: str
    mark: str
    votes: Votes
    note: str
    when: str
    who: str


@dataclass(frozen=True)
class Decision:
    """What counts for an item: whether it is left out, with which note, and the votes proposed for it."""

    excluded: bool
    note: str
    votes: Votes


@dataclass(frozen=True)
class Marked:
    """What marks do to the items of a run.

    Attributes
    ----------
    items : as they were, with proposed votes where those are applied
    excluded : text of the reason by item row
    n_votes : items whose votes were replaced
    """

    items: pd.DataFrame
    excluded: dict[int, str]
    n_votes: int

    @property
    def digest(self) -> str:
        """Identity of what was decided: who decided it, when, and doubts are not part of it."""
        votes = [name for name in self.items.columns if str(name).endswith("_vote")]
        table = self.items[["item_id", *votes]].astype(str).to_numpy().tolist() if self.n_votes else []
        ids = self.items["item_id"].tolist()
        return digest_of([[[ids[row], text] for row, text in sorted(self.excluded.items())], table])


@register("marks", "none")
def no_marks(params: Params, items: pd.DataFrame) -> Marked:
    """Return the items as they are."""
    return Marked(items, {}, 0)


@register("marks", "file", MarksFile)
def marks_of_file(params: MarksFile, items: pd.DataFrame) -> Marked:
    """Return the items with what a file says of them.

    Raises `ConfigError` if the file cannot be worked with, names items that there are not, or readers differ
    unresolved.
    """
    if params.path is None:
        raise ConfigError("marks=file needs the csv of marks; give marks.path=FILE")
    classes = Classes.of_columns(items.columns)
    decisions = resolve(read_marks(Path(params.path).expanduser(), classes), params.resolve)
    return marked_items(items, decisions, classes, apply_votes=params.apply_votes)


def marked_items(
    items: pd.DataFrame, decisions: Mapping[str, Decision], classes: Classes, *, apply_votes: bool
) -> Marked:
    """Return the items with what was decided of them; unknown ids are a ConfigError."""
    row_of = {item: row for row, item in enumerate(items["item_id"].tolist())}
    unknown = [item for item in decisions if item not in row_of]
    if unknown:
        raise ConfigError(
            f"marks.path: {len(unknown)} of {len(decisions)} item_ids are not among the items: "
            f"{listed(unknown)}{did_you_mean(unknown[0], row_of)}; "
            "marks belong to a run of the same data and unit"
        )
    excluded = {row_of[item]: _reason(d) for item, d in decisions.items() if d.excluded}
    proposed = {row_of[item]: d.votes for item, d in decisions.items() if d.votes and apply_votes}
    _check_whole(items, proposed)
    return Marked(_with_votes(items, proposed, classes), excluded, len(proposed))


def _reason(decision: Decision) -> str:
    return f"marked by eye: {decision.note}" if decision.note else "marked by eye"


def _check_whole(items: pd.DataFrame, proposed: Mapping[int, Votes]) -> None:
    """Raise `ConfigError` if shares are proposed where votes are counts."""
    if items["vote_sum"].dtype.kind == "f":
        return
    for row, votes in proposed.items():
        if not all(count.is_integer() for _, count in votes):
            raise ConfigError(
                f"marks.path: item {items['item_id'].iloc[row]}: votes '{format_votes(votes)}' are not whole "
                "numbers; labels.soft_votes=true takes shares"
            )


def _with_votes(items: pd.DataFrame, proposed: Mapping[int, Votes], classes: Classes) -> pd.DataFrame:
    if not proposed:
        return items
    changed = items.copy()
    columns = list(classes.vote_columns)
    table = changed[columns].to_numpy(np.float64, copy=True)
    total = changed["vote_sum"].to_numpy(copy=True)
    names = changed["expert_consensus"].to_numpy(object, copy=True)
    for row, votes in proposed.items():
        table[row] = [dict(votes).get(name, 0.0) for name in classes.names]
        total[row] = table[row].sum()
        names[row] = classes.titles[int(consensus(table[row : row + 1])[0])]
    changed[columns] = table
    changed["vote_sum"], changed["expert_consensus"] = total, names
    return changed


# --- the file --------------------------------------------------------------------------------------


def read_marks(path: Path, classes: Classes, *, only: Sequence[str] = ()) -> list[Mark]:
    """Return the marks of a csv, one per item and reader: of several, the last row.

    ``only``: columns that there may be; empty: others are passed over. Raises `ConfigError`, naming the line,
    what is wrong with it and what is allowed.
    """
    try:
        text = regular_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"marks.path={path}: the file does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"marks.path={path} cannot be read as UTF-8 text: {error}") from None
    reader = csv.DictReader(io.StringIO(text))
    try:
        rows = [(row, f"{path.name}, line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise ConfigError(f"{path.name} is not a table ({error})") from None
    header = reader.fieldnames or ()
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ConfigError(f"{path.name}: column '{twice[0]}' appears more than once in the header")
    lacking = [name for name in ("item_id", "mark") if name not in header]
    if lacking:
        raise ConfigError(
            f"{path.name} lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}; "
            f"marks have {', '.join(COLUMNS)}, with a comma between them"
        )
    others = [name for name in header if name not in only] if only else []
    if others:
        raise ConfigError(
            f"{path.name} has the column{'s' * (len(others) > 1)} {', '.join(others)}, which would be lost; "
            f"marks have {', '.join(COLUMNS)}"
        )
    found: dict[tuple[str, str], Mark] = {}
    for row, where in rows:
        mark = _mark(row, where, classes)
        found[mark.item_id, mark.who] = mark
    return list(found.values())


def _mark(row: Mapping[str, Any], where: str, classes: Classes) -> Mark:
    cells = {name: str(row.get(name) or "").strip() for name in COLUMNS}
    if not cells["item_id"]:
        raise ConfigError(f"{where}: item_id is empty")
    if cells["mark"] not in MARKS:
        raise ConfigError(
            f"{where}: mark '{cells['mark']}' is not known{did_you_mean(cells['mark'], MARKS)}; "
            f"it is keep, exclude, doubt or empty"
        )
    try:
        votes = parse_votes(cells["votes"], classes)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return Mark(cells["item_id"], cells["mark"], votes, cells["note"], cells["when"], cells["who"])


def parse_votes(text: str, classes: Classes) -> Votes:
    """Return the votes that a text proposes: ``lpd=2;other`` is two for lpd and one for other.

    Raises `ValueError` if a class is not known, or a count is not a positive number.
    """
    found: Counter[str] = Counter()
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, sign, count = (piece.strip() for piece in part.partition("="))
        if name not in classes.names:
            raise ValueError(
                f"votes '{text}' name the class '{name}'{did_you_mean(name, classes.names)}; "
                f"there are {', '.join(classes.names)}"
            )
        try:
            number = float(count) if sign else 1.0
        except ValueError:
            number = 0.0
        if not 0 < number < 1e6:
            raise ValueError(f"votes '{text}': the count of {name} must be a positive number, not '{count}'")
        found[name] += number  # type: ignore[assignment]
    return tuple((name, float(found[name])) for name in classes.names if name in found)


def format_votes(votes: Votes) -> str:
    """Return votes as `parse_votes` reads them."""
    return ";".join(f"{name}={count:g}" for name, count in votes)


def write_marks(marks: Iterable[Mark]) -> bytes:
    """Return the csv of marks, in the order given."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for m in marks:
        writer.writerow([m.item_id, m.mark, format_votes(m.votes), _plain(m.note), m.when, _plain(m.who)])
    return out.getvalue().encode()


def _plain(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; whoever reads takes the space off again."""
    return f" {text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


# --- several readers -------------------------------------------------------------------------------


def resolve(marks: Sequence[Mark], how: str | None) -> dict[str, Decision]:
    """Return what counts for each item that somebody marked.

    Raises `ConfigError` if readers disagree about an item and ``how`` is None; keep, doubt and an empty mark
    do not differ.
    """
    by_item: dict[str, list[Mark]] = {}
    for mark in marks:
        by_item.setdefault(mark.item_id, []).append(mark)
    split = [item for item, group in by_item.items() if _differ(group)]
    if split and how is None:
        raise ConfigError(
            f"readers disagree about {counted(len(split), 'item')}: {listed(split)}; "
            "set marks.resolve=latest, any or majority"
        )
    return {item: _decided(group, how or "latest") for item, group in by_item.items()}


def _differ(group: Sequence[Mark]) -> bool:
    excluding = {mark.mark == "exclude" for mark in group}
    return len(excluding) > 1 or len({mark.votes for mark in group if mark.votes}) > 1


def _decided(group: Sequence[Mark], how: str) -> Decision:
    if how == "latest" or len(group) == 1:
        last = max(group, key=lambda mark: mark.when)
        return Decision(last.mark == "exclude", last.note, last.votes)
    against = [mark for mark in group if mark.mark == "exclude"]
    excluded = bool(against) if how == "any" else 2 * len(against) > len(group)
    notes = dict.fromkeys(mark.note for mark in against if mark.note)
    total: Counter[str] = Counter()
    for mark in group:
        for name, count in mark.votes:
            total[name] += count  # type: ignore[assignment]
    votes = tuple((name, float(count)) for name, count in total.items())
    return Decision(excluded, "; ".join(notes) if excluded else "", votes)


@dataclass(frozen=True)
class Agreement:
    """How two readers agree, over what both judged.

    Attributes
    ----------
    exclude_items, class_items : items both marked, and both proposed votes for
    exclude_same, class_same : of those, judged alike: left out or not; the class with most votes
    exclude_kappa, class_kappa : Cohen's kappa, None where it is not defined
    """

    a: str
    b: str
    exclude_items: int
    exclude_same: int
    exclude_kappa: float | None
    class_items: int
    class_same: int
    class_kappa: float | None


def agreement(marks: Sequence[Mark]) -> list[Agreement]:
    """Return how every two readers agree.

    References
    ----------
    Cohen J. A coefficient of agreement for nominal scales. Educ Psychol Meas 1960;20:37-46.
    """
    readers: dict[str, dict[str, Mark]] = {}
    for mark in marks:
        readers.setdefault(mark.who, {})[mark.item_id] = mark
    return [_pair(a, readers[a], b, readers[b]) for a, b in combinations(sorted(readers), 2)]


def _pair(a: str, of_a: Mapping[str, Mark], b: str, of_b: Mapping[str, Mark]) -> Agreement:
    both = [(of_a[item], of_b[item]) for item in of_a if item in of_b]
    marked = [(x.mark == "exclude", y.mark == "exclude") for x, y in both if x.mark and y.mark]
    voted = [(_most(x.votes), _most(y.votes)) for x, y in both if x.votes and y.votes]
    return Agreement(a, b, len(marked), _same(marked), kappa(marked), len(voted), _same(voted), kappa(voted))


def _same(pairs: Sequence[tuple[Any, Any]]) -> int:
    return sum(x == y for x, y in pairs)


def _most(votes: Votes) -> str:
    return max(votes, key=lambda pair: pair[1])[0]


def kappa(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    """Return Cohen's kappa of pairs of judgements; None without pairs, or where chance alone agrees."""
    if not pairs:
        return None
    n = len(pairs)
    first, second = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    by_chance = sum(first[name] * second[name] for name in first) / n**2
    return None if by_chance == 1 else (_same(pairs) / n - by_chance) / (1 - by_chance)
