"""The page of predictions: divergence by group, calibration, and the items that they fail most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from hms.labels.classes import Classes
from hms.labels.intervals import Interval
from hms.report.baseline import confusion_card, reliability_card
from hms.report.cards import Card, spoken
from hms.report.page import Headline, render
from hms.report.style import CLASS_COLOURS, INK, MUTED
from hms.report.svg import Axis, Frame, axes, drawing, legend, line
from hms.terminal import counted
from hms.training.evaluation import Judged, Scores

WIDTH = 760.0
ROW_HEIGHT = 22.0
COLOURS = (INK, CLASS_COLOURS[1])
SHEETS = {"worst": "Largest divergence", "surprising": "Most surprising votes"}
NOTES = {
    "worst": "Items whose predicted shares are farthest from the votes.",
    "surprising": "Votes least likely if the prediction were right: divergence times the number of votes.",
}
_Groups = Mapping[str, Mapping[str, Interval]]


def evaluation_page(
    *,
    run: str,
    files: Sequence[str],
    items: Judged,
    scores: Sequence[Scores],
    difference: _Groups | None,
    n_unpredicted: int,
    picture: Callable[[int], str],
) -> bytes:
    """Return the page, which needs no other file, about the predictions of one or two files.

    ``picture`` takes a row of ``items`` to its pictures as HTML, empty where there are none.
    """
    classes, names = Classes(items.classes), ("a", "b") if len(files) == 2 else ("predictions",)
    return render(
        "evaluate.html.j2",
        run=run,
        files=list(zip(names, files, strict=True)),
        headlines=_headlines(names, items, scores, difference, n_unpredicted),
        divergence=[card.html() for card in _divergence(names, items, scores, difference)],
        calibration=[card.html() for card in _calibration(names, scores, classes)],
        tables=[(name, _error_table(found, classes)) for name, found in zip(names, scores, strict=True)],
        sheets=_sheets(names, items, scores, picture),
    )


def _headlines(
    names: Sequence[str],
    items: Judged,
    scores: Sequence[Scores],
    difference: _Groups | None,
    n_unpredicted: int,
) -> list[Headline]:
    n_patients = len(set(items.patient_id.tolist()))
    lines = [
        Headline("items predicted", f"{len(items):,}", f"of {counted(n_patients, 'patient')}"),
        Headline(
            "without prediction", f"{n_unpredicted:,}", "items of the run", "bad" if n_unpredicted else "good"
        ),
    ]
    for name, found in zip(names, scores, strict=True):
        overall = found.groups["all"]["all"]
        lines.append(Headline(f"divergence, {name}", f"{overall.value:.3f}", _span(overall)))
        error = float(np.mean([each["expected_calibration_error"] for each in found.calibration.values()]))
        lines.append(Headline(f"calibration error, {name}", f"{error:.3f}", "mean of the classes"))
    if difference is not None:
        overall = difference["all"]["all"]
        lines.append(Headline("a − b", f"{overall.value:+.3f}", _span(overall) + "; below 0, a is better"))
    return lines


def _span(found: Interval) -> str:
    return f"{found.low:.3f} to {found.high:.3f}" if found.holds else found.reason


# --- divergence ----------------------------------------------------------------------------------


def _divergence(
    names: Sequence[str], items: Judged, scores: Sequence[Scores], difference: _Groups | None
) -> list[Card]:
    title = "KL divergence by group of items"
    label = "KL divergence; lower is better"
    cards = [_forest(title, label, names, items, [found.groups for found in scores])]
    if difference is not None:
        title = "Difference a − b, item by item"
        cards.append(_forest(title, "left of 0, a is better", ("a − b",), items, [difference], zero=True))
    return cards


def _forest(
    title: str,
    label: str,
    names: Sequence[str],
    items: Judged,
    groups: Sequence[_Groups],
    *,
    zero: bool = False,
) -> Card:
    """Draw a dot with its interval for every group, of each of one or two predictions."""
    rows = [
        (_label(kind, name, items), [each[kind][name] for each in groups]) for kind, name in _order(groups[0])
    ]
    ends = [x for _, found in rows for each in found for x in (each.value, each.low, each.high)]
    ends = [x for x in ends if np.isfinite(x)] + [0.0]
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    across = Axis(min(ends) - (margin if zero else 0), max(ends) + margin)
    frame = Frame(190, 34, WIDTH - 210, ROW_HEIGHT * len(rows), across, Axis(0, len(rows)))
    parts, _ = legend(190, 4, list(zip(COLOURS, names, strict=False)), width=WIDTH)
    places = [
        (len(rows) - number - 0.5, f"{name}, {found[0].n_items:,}")
        for number, (name, found) in enumerate(rows)
    ]
    parts += axes(frame, xlabel=label, yticks=places, grid=False)
    if zero:
        parts.append(line([(frame.x(0), frame.top), (frame.x(0), frame.bottom)], MUTED, dash="4 4", width=1))
    for (place, _), (name, found) in zip(places, rows, strict=True):
        shifts = (0.17, -0.17) if len(found) == 2 else (0.0,)
        for shift, each, colour in zip(shifts, found, COLOURS, strict=False):
            span = (each.low, each.high) if each.holds else None
            parts += frame.dot(each.value, place + shift, colour, tip=f"{name}: {each}", ends=span)
    said = "; ".join(f"{name}: {', '.join(f'{each.value:.3f}' for each in found)}" for name, found in rows)
    note = "Dots without a line: too few patients for a valid interval."
    return Card(title, drawing(WIDTH, frame.bottom + 44, parts, alt=f"{title}. {said}."), note, "wide")


def _order(groups: _Groups) -> list[tuple[str, str]]:
    return [(kind, name) for kind, by in groups.items() for name in by]


def _label(kind: str, name: str, items: Judged) -> str:
    """Return what the reader calls a group."""
    titles = dict(zip(items.classes, Classes(items.classes).titles, strict=True))
    forms = {
        "all": "all",
        "stratum": f"{name} votes",
        "class": titles.get(name, name),
        "fold": "no fold" if name == "none" else f"fold {name}",
        "grade": name,
        "flag": name.replace("_", " "),
    }
    return forms[kind]


# --- calibration ---------------------------------------------------------------------------------


def _calibration(names: Sequence[str], scores: Sequence[Scores], classes: Classes) -> list[Card]:
    cards = []
    for name, found in zip(names, scores, strict=True):
        of = f", {name}" if len(names) > 1 else ""
        rows = [{"class": key, **row} for key, known in found.calibration.items() for row in known["bins"]]
        cards.append(reliability_card(rows, classes, f"Predicted and observed shares{of}"))
        cards.append(confusion_card(found.confusion.tolist(), classes, f"Predicted class by consensus{of}"))
    return cards


def _error_table(scores: Scores, classes: Classes) -> list[tuple[str, ...]]:
    head = ("class", "squared error", "miscalibration", "discrimination", "uncertainty", "calibration error")
    keys = ("squared_error", "miscalibration", "discrimination", "uncertainty", "expected_calibration_error")
    named = zip(classes.names, classes.titles, strict=True)
    return [head, *((title, *(f"{scores.calibration[name][k]:.4f}" for k in keys)) for name, title in named)]


# --- examples ------------------------------------------------------------------------------------


def _sheets(
    names: Sequence[str], items: Judged, scores: Sequence[Scores], picture: Callable[[int], str]
) -> list[tuple[str, str, list[str]]]:
    """Return id, title and cards of each sheet of items."""
    sheets = []
    for name, found in zip(names, scores, strict=True):
        for kind, title in SHEETS.items():
            cards = [_example(items, found, row, picture) for row in getattr(found, kind)]
            cards = cards or [spoken(title, "No item stands out.")]
            of = f", {name}" if len(names) > 1 else ""
            cards[0] = replace(cards[0], note=NOTES[kind])
            sheets.append((f"{kind}-{name}", f"{title}{of}", [card.html() for card in cards]))
    return sheets


def _example(items: Judged, scores: Scores, row: int, picture: Callable[[int], str]) -> Card:
    about = escape(about_prediction(items, scores, row))
    drawn = picture(row)
    body = f'<p class="about">{about}</p>' + (f'<div class="pair">{drawn}</div>' if drawn else "")
    return Card(str(items.item_id[row]), body, "")


def about_prediction(items: Judged, scores: Scores, row: int) -> str:
    """Describe an item: votes, prediction, divergence, quality."""
    titles = Classes(items.classes).titles
    votes = items.target[row] * float(items.vote_sum[row])
    cast = [f"{title} {_count(n)}" for title, n in zip(titles, votes.tolist(), strict=True) if n > 1e-6]
    order = np.argsort(-scores.shares[row])[:3].tolist()
    shares = [f"{titles[column]} {scores.shares[row, column]:.2f}" for column in order]
    parts = [
        f"Votes: {', '.join(cast)}",
        f"Predicted: {', '.join(shares)}",
        f"Divergence {scores.divergence[row]:.2f}",
    ]
    parts += [f"Grade: {items.grade[row]}"] if items.grade[row] else []
    flags = items.flags[row]
    parts += ["Flags: " + ", ".join(name.replace("_", " ") for name in flags)] if flags else []
    return ". ".join(parts) + "."


def _count(votes: float) -> str:
    return f"{round(votes)}" if abs(votes - round(votes)) < 0.01 else f"{votes:.2f}"


def plain_table(
    groups: Sequence[_Groups], items: Judged, kinds: Sequence[str] | None = None
) -> list[tuple[Any, ...]]:
    """Return rows of text: group, number of items, and the figures of each prediction.

    A figure without an interval is of too few patients for one that holds. ``kinds``: of groups that are
    wanted; None: all.
    """
    return [
        (
            _label(kind, name, items),
            f"{groups[0][kind][name].n_items:,}",
            *(_figure(each[kind][name]) for each in groups),
        )
        for kind, name in _order(groups[0])
        if kinds is None or kind in kinds
    ]


def _figure(found: Interval) -> str:
    return f"{found.value:.3f}" + (f" ({found.low:.3f} to {found.high:.3f})" if found.holds else "")
