"""The page: headlines, pictures, the table of all items, and what reproduces it."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hms.config.pages import yaml_of
from hms.labels.classes import Classes
from hms.labels.folds import Split
from hms.labels.items import NAMES_INSIDE, names_inside
from hms.labels.summary import class_proportions, imbalance_ratio
from hms.labels.votes import only_labelled
from hms.quality.grading import GRADES
from hms.quality.selection import Graded, Selection
from hms.quality.summary import count_unusable_used, find_leaks, flag_counts, grade_counts
from hms.report.reproduce import PLACES, command_of
from hms.report.style import GRADE_COLOURS, class_colours
from hms.store.rows import TOGETHER
from hms.terminal import counted

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

    from hms.store.columns import Reason

NOBODY = "no item is used"
MOST_IDS = 40
"""Ids listed per reason; all of them are in the table and in meta_excluded.csv."""


SOURCES = {
    "synthetic": "synthetic recordings made by hms",
    "kaggle": "Parquet files in the competition's layout",
    "edf": "EDF and BDF files",
    "bids": "a BIDS data set",
    "mne": "files that MNE reads",
    "iiic": "the published IIIC samples",
}
"""What recordings come from, by the option of ``data``."""


class Headline(NamedTuple):
    """A number with its name; ``state`` is "", "good" or "bad"."""

    name: str
    value: str
    note: str
    state: str = ""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("hms.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> bytes:
    """Return a template of this package filled in, as UTF-8; values are escaped."""
    colours, page = dict(zip(GRADES, GRADE_COLOURS, strict=True)), io.BytesIO()
    # Piece by piece: the table of all items is most of a page, and would be in memory three times.
    for piece in _environment().get_template(template).generate(grade_colours=colours, **values):
        page.write(piece.encode())
    return page.getvalue()


def embedded_json(value: Any) -> str:
    """Return JSON that is safe inside a script element, whatever it contains."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def about_items(
    *,
    items: pd.DataFrame,
    reasons: Sequence[Reason | None],
    ledger: pd.DataFrame,
    graded: Graded,
    exclude_from: str | None,
    duplicates: pd.DataFrame,
    splits: Sequence[Split],
    has_labels: bool,
) -> dict[str, Any]:
    """Return what the page says of items whatever they weigh, as JSON takes it.

    Parameters
    ----------
    items, reasons, ledger : one row per item, those left out included
    splits : of the items used; empty where the table of windows has no votes
    """
    used = items[[reason is None for reason in reasons]].reset_index(drop=True)
    columns = item_columns(items, reasons, ledger, splits)
    return {
        "columns": {name: embedded_json(values) for name, values in columns.items()},
        "n_classes": len(columns["classes"]),
        "headlines": headlines(used, len(items), ledger, duplicates, splits, has_labels=has_labels),
        "cost": [cost_by_class(graded, exclude_from), *cost_of_marks(items, reasons)],
        "excluded": _excluded(items, reasons),
        "has_names": names_inside(items),
    }


def render_page(
    about: Mapping[str, Any],
    *,
    is_used: NDArray[np.bool_],
    labels: Mapping[str, NDArray[Any]] | None,
    sections: Mapping[str, str],
    parts: Sequence[str],
    facts: Mapping[str, Any],
    data: Sequence[str],
) -> bytes:
    """Return the whole page.

    Parameters
    ----------
    about : from `about_items`
    is_used : bool, shape (n_items,)
    labels : of the items used; None where the table of windows has no votes
    sections : titles of the parts' sections by their ids
    parts : HTML of the parts, in the order of the page
    facts : hash, configuration, stages and versions of the run
    data : overrides that choose the recordings, see `hms.report.reproduce.data_overrides`
    """
    from markupsafe import Markup

    *first, leakage = about["headlines"]
    weights = {"weight": embedded_json(weight_column(is_used, labels))}
    columns = {name: (about["columns"] | weights)[name] for name in COLUMNS}
    return render(
        "report.html.j2",
        run=facts["run"],
        class_colours=class_colours(about["n_classes"]),
        notes=_notes(facts, has_names=about["has_names"]),
        headlines=[Headline(*told) for told in (*first, *_about_labels(labels), leakage, *about["cost"])],
        has_labels=labels is not None,
        sections=sections,
        parts=[Markup(part) for part in parts],
        data=Markup("{" + ",".join(f'"{name}":{text}' for name, text in columns.items()) + "}"),
        n_items=len(is_used),
        command=command_of(facts["config"], facts["stages"], data),
        source=SOURCES.get(data[0].removeprefix("data="), data[0]),
        places=[name for name in PLACES.values() if any(f"${name}" in text for text in data)],
        config=yaml_of(facts["config"]),
        votes=facts["votes"],
        versions=facts["versions"],
        excluded=about["excluded"],
    )


def _notes(facts: Mapping[str, Any], *, has_names: bool) -> list[str]:
    """Return what a reader must know before passing the page on or trusting its folds."""
    who = f"Patients: {facts['patients']}." if facts.get("patients") else ""
    names = f"{NAMES_INSIDE[0].upper()}{NAMES_INSIDE[1:]}." if has_names else ""
    return [note for note in (who, names) if note]


# --- headlines -----------------------------------------------------------------------------------


def headlines(
    used: pd.DataFrame,
    n_items: int,
    ledger: pd.DataFrame,
    duplicates: pd.DataFrame,
    splits: Sequence[Split],
    *,
    has_labels: bool,
) -> list[Headline]:
    """Return the numbers at the top of the page that do not depend on labels; the last is of leakage."""
    left_out = n_items - len(used)
    patients = used["patient_id"].astype(str)
    return [
        Headline("items used", f"{len(used):,}", f"of {n_items:,}; {counted(patients.nunique(), 'patient')}"),
        Headline("left out", f"{left_out:,}", _percent(left_out, n_items), "bad" if left_out else "good"),
        _graded(ledger),
        _leakage(used, duplicates, splits, has_labels=has_labels),
    ]


def _graded(ledger: pd.DataFrame) -> Headline:
    counts = grade_counts(ledger)
    doubtful = counts["poor"] + counts["unusable"]
    kinds = counted(len(flag_counts(ledger["raised"])), "kind")
    note = f"{counts['good']:,} good, {counts['usable']:,} usable; {kinds} of flag"
    if used := count_unusable_used(ledger):
        note += f"; {used:,} graded unusable, but used"
    return Headline("poor or unusable", f"{doubtful:,}", note, "bad" if doubtful else "good")


def cost_by_class(graded: Graded, exclude_from: str | None) -> Headline:
    """Tell which classes lose items by the exclusion, or would lose them if poor items were excluded."""
    title = f"exclude_from={exclude_from} leaves out" if exclude_from else "exclude_from=poor would leave out"
    if not graded.classes.size:
        return Headline(title, "no votes", "no graded item has a class")
    taken = graded.exclusion(None if exclude_from else "poor")
    if not taken.taken.any():
        return Headline(title, "none", f"of {counted(taken.taken.size, 'item')} of any class", "good")
    p, _ = taken.test
    chance = "too few patients for a test" if p is None else f"p = {p:.2g} by patient; each class below"
    value = counted(int(taken.taken.sum()), "item")
    return Headline(title, value, f"{taken.sentence()}; {chance}", "bad" if taken.is_unequal else "")


def cost_of_marks(items: pd.DataFrame, reasons: Sequence[Reason | None]) -> list[Headline]:
    """Tell which classes lose items by readers' marks; nothing without such marks."""
    n = sum(reason is not None and reason.stage == "marks" for reason in reasons)
    if not n:
        return []
    marked = Selection.of_marks(items, ["" if r is None else r.stage for r in reasons])
    if marked is None:
        return [Headline("left out by readers", f"{n:,}", "none of them has votes")]
    p, _ = marked.test
    chance = "" if p is None else f"; p = {p:.2g} by patient"
    state = "bad" if marked.is_unequal else ""
    note = f"{marked.sentence()}{chance}; each class below"
    return [Headline("left out by readers", f"{n:,}", note, state)]


def _about_labels(labels: Mapping[str, NDArray[Any]] | None) -> list[Headline]:
    """Return how many items have high confidence, and how far apart the classes are."""
    names = ("high confidence", "class imbalance")
    if labels is None:
        return [Headline(name, "no votes", "the table of windows has no votes") for name in names]
    known = only_labelled(labels)
    confident, n, y = int(known["hc_mask"].sum()), len(known["hc_mask"]), known["y_soft"]
    first = Headline(names[0], f"{confident:,}", _percent(confident, n) + " of used" if n else NOBODY)
    raw, weighted = (imbalance_ratio(class_proportions(y, w)) for w in (None, known["w_conf"]))
    if not (math.isfinite(raw) and math.isfinite(weighted)):
        return [first, Headline(names[1], "undefined", "a class is absent" if n else NOBODY)]
    note = f"largest to smallest, weighted; raw {raw:.1f} : 1"
    return [first, Headline(names[1], f"{weighted:.1f} : 1", note)]


def _leakage(
    used: pd.DataFrame, duplicates: pd.DataFrame, splits: Sequence[Split], *, has_labels: bool
) -> Headline:
    """Tell whether a fold has a patient or copies in both parts, from the same splits as summary.json."""
    leaks = find_leaks(duplicates, used, list(splits))
    if not any(len(valid) for _, valid in splits):
        why = "folds=none" if len(used) else NOBODY
        why = why if has_labels else "folds are made of items with votes"
        return Headline("leakage check", "no folds", why)
    if leaks.passed is None:
        return Headline("leakage check", "nothing to check", "no fold has items on both sides")
    if not leaks.passed:
        found = f"{counted(leaks.patients, 'patient')}, {counted(len(leaks.pairs), 'pair')} of copies"
        return Headline("leakage check", "failed", f"{found} on both sides of a fold", "bad")
    return Headline(
        "leakage check", "passed", f"{len(splits)} folds; no patient or copy on both sides", "good"
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


# --- the table -----------------------------------------------------------------------------------


COLUMNS = (
    *("classes", "grades", "id", "patient", "votes", "weight"),
    *("fold", "grade", "flags", "reason"),
)
"""Of the table of all items, in the order of the page."""


def item_columns(
    items: pd.DataFrame, reasons: Sequence[Reason | None], ledger: pd.DataFrame, splits: Sequence[Split]
) -> dict[str, Any]:
    """Return the table of all items in columns, without their weights; texts that repeat are numbered."""
    used = np.flatnonzero([reason is None for reason in reasons])
    fold = np.full(len(items), -1)
    for number, (_, valid) in enumerate(splits):
        fold[used[valid]] = number
    classes = Classes.of_columns(items.columns)
    counts = items[list(classes.vote_columns)]
    parts = (counts[first : first + TOGETHER].to_numpy() for first in range(0, len(counts), TOGETHER))
    rows = (tuple(row) for part in parts for row in part.tolist())
    votes = cache(lambda row: " ".join(f"{v:g}" for v in row))  # a few hundred differ
    return {
        "classes": classes.titles,
        "grades": GRADES,
        "id": list(map(str, items["item_id"])),
        "patient": numbered(map(str, items["patient_id"])),
        "votes": numbered(map(votes, rows)),
        "fold": fold.tolist(),
        "grade": numbered(ledger["grade"].fillna("").tolist()),
        "flags": numbered(ledger["raised"].fillna("").tolist()),
        "reason": numbered("" if r is None else f"{r.stage}: {r.text}" for r in reasons),
    }


def weight_column(is_used: NDArray[np.bool_], labels: Mapping[str, NDArray[Any]] | None) -> dict[str, Any]:
    """Return the weight of each item, empty where it has none."""
    weight = np.full(len(is_used), np.nan)
    if labels is not None:
        weight[is_used] = labels["w_conf"]
    text = cache(lambda w: f"{w:.3g}" if math.isfinite(w) else "")
    return numbered(map(text, weight.tolist()))


def numbered(texts: Any) -> dict[str, Any]:
    """Return each distinct text once, and for each row its number."""
    known: dict[str, int] = {}
    rows = [known.setdefault(text, len(known)) for text in texts]
    return {"texts": list(known), "rows": rows}


def _excluded(items: pd.DataFrame, reasons: Sequence[Reason | None]) -> list[dict[str, Any]]:
    """Return the reasons with their items, most items first."""
    found: dict[tuple[str, str], list[str]] = {}
    for item_id, reason in zip(map(str, items["item_id"]), reasons, strict=True):
        if reason is not None:
            found.setdefault((reason.stage, reason.text), []).append(item_id)
    order = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [
        {
            "stage": stage,
            "text": text,
            "count": len(ids),
            "ids": ids[:MOST_IDS],
            "more": max(len(ids) - MOST_IDS, 0),
        }
        for (stage, text), ids in order
    ]
