"""Pictures of agreement: alpha by stratum and class, and how it changes with the number of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hms.labels.classes import Classes
from hms.report.cards import Card, spoken
from hms.report.labels import class_legend
from hms.report.style import INK, MUTED, class_colours
from hms.report.svg import Axis, Frame, axes, dotted, drawing, legend, text

WIDTH = 480.0
TITLES = ("Agreement beyond chance", "Agreement by number of votes")
MARKS = (INK, MUTED)
ROW_HEIGHT = 30.0
LEAST_PATIENTS = 5
"""Effective patients from which a share without an interval is worth a dot."""


def agreement_cards(found: Mapping[str, Any], classes: Classes) -> list[Card]:
    """Return the pictures of what `hms.labels.agreement.agreement` gives."""
    if found.get("reason"):
        return [spoken(title, f"{found['reason']}.") for title in TITLES]
    if not found["by_votes"]:
        return [spoken(title, "No item has two votes, so agreement cannot be measured.") for title in TITLES]
    return [_alphas(found["strata"], classes), _by_votes(found["by_votes"], classes)]


def _alphas(strata: Mapping[str, Any], classes: Classes) -> Card:
    """Draw alpha of all classes and of each class against the rest, with intervals, for the two strata."""
    shown = [(name, strata[name]) for name in list(strata)[1:] if strata[name]["items"]]
    rows = [("all classes", [one["alpha"] for _, one in shown])]
    rows += [
        (title, [one["by_class"][name]["alpha"] for _, one in shown])
        for name, title in zip(classes.names, classes.titles, strict=True)
    ]
    figures = [figure for _, own in rows for figure in own if figure["value"] is not None]
    if not figures:
        return spoken(TITLES[0], "All votes are for one class, so chance alone would agree.")
    least = min(min(f["value"] if f["low"] is None else f["low"] for f in figures), 0.0)
    frame = Frame(104, 34, WIDTH - 120, ROW_HEIGHT * len(rows), Axis(least, 1), Axis(0, len(rows)))
    names = [f"{name.replace('_', ' ')} votes, {one['items']} items" for name, one in shown]
    parts, _ = legend(104, 4, list(zip(MARKS, names, strict=False)), width=WIDTH)
    places = [(len(rows) - i - 0.5, name) for i, (name, _) in enumerate(rows)]
    label = "Krippendorff's alpha: 0 is chance, 1 is full agreement"
    parts += axes(frame, xlabel=label, yticks=places, grid=False)
    for (place, _), (_, own) in zip(places, rows, strict=True):
        for shift, colour, figure in zip((0.17, -0.17), MARKS, own, strict=False):
            parts += _mark(frame, place + shift, figure, colour)
    unheld = sum(figure["low"] is None for figure in figures)
    note = "Lines are 95 % intervals over patients. Each class is compared with all others."
    note += f" {unheld} of {len(figures)} figures have too few patients for an interval." if unheld else ""
    said = "; ".join(f"{name} {', '.join(_said(f) for f in own)}" for name, own in rows)
    alt = f"Krippendorff's alpha for {' and '.join(names)}. {said}."
    return Card(TITLES[0], drawing(WIDTH, frame.bottom + 44, parts, alt=alt), note)


def _said(figure: Mapping[str, Any]) -> str:
    return "undefined" if figure["value"] is None else f"{figure['value']:.2f}"


def _mark(frame: Frame, place: float, figure: Mapping[str, Any], colour: str) -> list[str]:
    if figure["value"] is None:
        return []
    tip, ends = _said(figure), None
    if figure["low"] is None:
        tip += f", {figure['reason']}"
    else:
        ends = max(figure["low"], frame.across.low), min(figure["high"], 1)
    return frame.dot(figure["value"], place, colour, tip=tip, ends=ends)


def _by_votes(groups: Sequence[Mapping[str, Any]], classes: Classes) -> Card:
    """Draw, by number of votes, the share of the other votes that confirm a vote for each class."""
    frame = Frame(52, 44, WIDTH - 66, 196, Axis(0, len(groups)), Axis(0, 1))
    parts, _ = class_legend(classes, 4)
    ticks = [(i + 0.5, f"{group['votes']}") for i, group in enumerate(groups)]
    parts += axes(frame, xlabel="votes of an item", ylabel="other votes for it", xticks=ticks)
    for name, title, colour in zip(classes.names, classes.titles, class_colours(len(classes)), strict=True):
        figures = [group["by_class"][name]["confirmed"] for group in groups]
        met = [
            (i + 0.5, figure["value"])
            for i, figure in enumerate(figures)
            if figure["value"] is not None and figure["effective_patients"] >= LEAST_PATIENTS
        ]
        points = frame.points([at for at, _ in met], [share for _, share in met])
        parts += dotted(points, colour, tip=title, tips=(f"{title}: {share:.2f}" for _, share in met))
    for i, group in enumerate(groups):
        parts.append(text(frame.x(i + 0.5), frame.top + 10, f"{group['items']}", "m n"))
    note = "Given one vote for a class, the share of the item's other votes for it; above: items. "
    note += f"Shares of fewer than {LEAST_PATIENTS} effective patients are not drawn."
    alt = f"Share of other votes that confirm a vote, by class and number of votes. {note}"
    return Card(TITLES[1], drawing(WIDTH, 284, parts, alt=alt), note)
