"""From several readers' marks to their agreement, and to a table of windows with votes that a run takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hms.errors import ConfigError
from hms.labels.classes import COMPETITION, Classes
from hms.labels.marks import Agreement, Mark, agreement, read_marks
from hms.store.csvs import rows_text
from hms.store.package import Package
from hms.terminal import columns, listed


def read_readers(paths: Sequence[Path], classes: Classes = COMPETITION) -> list[Mark]:
    """Return the marks of several files; a reader without a name is named after the file.

    Raises `ConfigError` if a file is not a csv of marks, or two files hold marks of one reader about one
    item.
    """
    found: dict[tuple[str, str], Path] = {}
    marks = []
    for path in paths:
        for mark in read_marks(path, classes):
            who = mark.who or path.stem
            earlier = found.setdefault((mark.item_id, who), path)
            if earlier != path:
                raise ConfigError(
                    f"{earlier.name} and {path.name} both hold marks of reader '{who}' about item "
                    f"{mark.item_id}"
                )
            marks.append(Mark(mark.item_id, mark.mark, mark.votes, mark.note, mark.when, who))
    return marks


def agreement_text(marks: Sequence[Mark]) -> str:
    """Return a table of how every two readers agree, and what each of them judged."""
    counts = Counter(mark.who for mark in marks)
    excluded = Counter(mark.who for mark in marks if mark.mark == "exclude")
    voted = Counter(mark.who for mark in marks if mark.votes)
    rows = [("reader", "items", "excluded", "with votes")]
    rows += [(who, str(counts[who]), str(excluded[who]), str(voted[who])) for who in sorted(counts)]
    lines = [columns(rows)]
    pairs = agreement(marks)
    if pairs:
        head = ("readers", "left out alike", "kappa", "same class", "kappa")
        lines += ["", columns([head, *map(_pair_row, pairs)])]
    return "\n".join(lines)


def _pair_row(pair: Agreement) -> tuple[str, ...]:
    exclude, classes = ("" if k is None else f"{k:.2f}" for k in (pair.exclude_kappa, pair.class_kappa))
    same = (f"{pair.exclude_same} of {pair.exclude_items}", f"{pair.class_same} of {pair.class_items}")
    return (f"{pair.a}, {pair.b}", same[0], exclude, same[1], classes)


def votes_table(package: Package, marks: Sequence[Mark]) -> bytes:
    """Return a csv of windows with the votes that readers proposed: a reader's votes count as written.

    Columns ``recording``, ``patient_id``, ``start_s`` and a vote column for each class, a row for each item
    with votes, in the order of the run; ``data.windows=FILE`` takes it. Raises `ConfigError` if nobody
    proposed votes, or marks name items that the run does not use.
    """
    meta = package.meta.set_index("item_id", drop=False)
    proposed: dict[str, Counter[str]] = {}
    for mark in marks:
        for name, count in mark.votes:
            proposed.setdefault(mark.item_id, Counter())[name] += count  # type: ignore[assignment]
    unknown = [item for item in proposed if item not in meta.index]
    if unknown:
        raise ConfigError(
            f"run {package.hash} uses no item {listed(unknown)}; marks belong to a run of the "
            "same data and unit"
        )
    if not proposed:
        raise ConfigError("nobody proposed votes; the column votes holds them, such as lpd=2;other=1")
    classes = Classes(tuple(package.config.at("labels.classes")))
    into_window_s = float(package.config.at("window.start_s"))
    rows: list[Sequence[object]] = [("recording", "patient_id", "start_s", *classes.vote_columns)]
    for item in (i for i in meta["item_id"] if i in proposed):
        of, votes = meta.loc[item], (f"{proposed[item][n]:g}" for n in classes.names)
        start_s = float(of["window_start_s"]) - into_window_s
        rows.append((of["recording"], of["patient_id"], f"{start_s:g}", *votes))
    return rows_text(rows).encode()
