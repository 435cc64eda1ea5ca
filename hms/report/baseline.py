"""Pictures of the baseline: divergence against the class prior, confusion, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hms.labels.classes import Classes
from hms.report.cards import Card, spoken
from hms.report.labels import class_legend, shaded_classes
from hms.report.style import INK, MUTED, class_colours
from hms.report.svg import Axis, Frame, axes, dotted, drawing, legend, line

WIDTH = 480.0
TITLES = ("Divergence out of fold", "Predicted class by consensus", "Predicted and observed shares")
MODEL, PRIOR = INK, MUTED


def baseline_cards(metrics: Mapping[str, Any]) -> list[Card]:
    """Return the pictures of what `hms.training.baseline.report_scores` gives."""
    if not metrics["n_items"]:
        why = "No item was predicted" if metrics["n_without_prediction"] else "No item is used"
        return [spoken(title, f"{why}, so there is no baseline to draw.") for title in TITLES]
    classes = Classes(tuple(metrics["confusion"]["classes"]))
    return [
        _divergence(metrics, classes),
        confusion_card(metrics["confusion"]["counts"], classes),
        reliability_card(metrics["reliability"], classes),
    ]


def _divergence(metrics: Mapping[str, Any], classes: Classes) -> Card:
    """Draw the model's and the prior's divergence with intervals, by group of items."""
    rows = [
        (name, metrics["model"][kind][group], metrics["prior"][kind][group])
        for kind, group, name in _groups(metrics["model"], classes)
        if metrics["model"][kind][group]["n_items"]
    ]
    ends = (found["value"] if found["high"] is None else found["high"] for _, *both in rows for found in both)
    frame = Frame(104, 34, WIDTH - 120, 24.0 * len(rows), Axis(0, 1.05 * max(ends)), Axis(0, len(rows)))
    parts, _ = legend(104, 4, [(MODEL, "baseline"), (PRIOR, "class prior")], width=WIDTH)
    places = [(len(rows) - i - 0.5, f"{name}, {row['n_items']}") for i, (name, row, _) in enumerate(rows)]
    parts += axes(frame, xlabel="KL divergence, lower is better", yticks=places, grid=False)
    for (place, _), (_, model, prior) in zip(places, rows, strict=True):
        parts += _mark(frame, place + 0.16, model, MODEL) + _mark(frame, place - 0.16, prior, PRIOR)
    said = "; ".join(
        f"{name}: {model['value']:.3f} against {prior['value']:.3f}" for name, model, prior in rows
    )
    gain = metrics["gain"]["all"]
    note = "Each item is predicted without its patient; lines are 95 % intervals by patient. All items: "
    note += f"{gain['value']:+.3f} against the class prior"
    if gain["low"] is None:
        note += f" ({gain['reason']})."
    else:
        note += f" ({gain['low']:+.3f} to {gain['high']:+.3f}, paired)."
    alt = f"KL divergence of the baseline and of the class prior. {said}."
    return Card(TITLES[0], drawing(WIDTH, frame.bottom + 44, parts, alt=alt), note)


def _groups(scores: Mapping[str, Any], classes: Classes) -> list[tuple[str, str, str]]:
    """Return kind, group and name of the rows of the picture."""
    strata = [("stratum", name, f"{name} votes") for name in scores["stratum"]]
    by_class = [("class", key, name) for key, name in zip(classes.names, classes.titles, strict=True)]
    return [("all", "all", "all"), *strata, *by_class]


def _mark(frame: Frame, place: float, found: Mapping[str, Any], colour: str) -> list[str]:
    """Return a dot at the value and a line over its interval."""
    ends = None if found["low"] is None else (found["low"], found["high"])
    return frame.dot(found["value"], place, colour, tip=f"{found['value']:.3f}", ends=ends)


def confusion_card(counts: Sequence[Sequence[int]], classes: Classes, title: str = TITLES[1]) -> Card:
    """Draw which class the items of each consensus were given to."""
    table = np.array(counts, dtype=float)
    sums = table.sum(axis=1, keepdims=True)
    share = np.divide(table, sums, out=np.full_like(table, np.nan), where=sums > 0)
    parts = shaded_classes(share, counts, classes, "largest predicted share")
    right = int(np.trace(table))
    note = f"{right} of {int(table.sum())} items have the largest predicted share in their consensus class."
    said = "; ".join(f"{name}: {row}" for name, row in zip(classes.titles, counts, strict=True))
    order = ", ".join(classes.titles)
    alt = f"Items by consensus class (rows) and predicted class, in the order {order}. {said}."
    return Card(title, drawing(WIDTH, 284, parts, alt=alt), note)


def reliability_card(rows: Sequence[Mapping[str, Any]], classes: Classes, title: str = TITLES[2]) -> Card:
    """Draw the observed mean share against the predicted one, a line per class.

    ``rows``: class, n, predicted and observed of each bin.
    """
    frame = Frame(52, 44, WIDTH - 66, 200, Axis(0, 1), Axis(0, 1))
    parts, _ = class_legend(classes, 4)
    parts += axes(frame, xlabel="predicted share", ylabel="share of the votes")
    parts.append(line(frame.points([0, 1], [0, 1]), MUTED, width=1, dash="4 3"))
    for key, name, colour in zip(classes.names, classes.titles, class_colours(len(classes)), strict=True):
        bins = [row for row in rows if row["class"] == key]
        points = frame.points([row["predicted"] for row in bins], [row["observed"] for row in bins])
        parts += dotted(points, colour, tip=name, tips=(f"{name}, {row['n']} items" for row in bins))
    note = "Bins of a tenth. On the dashed line, predicted shares equal the experts' votes on average."
    alt = f"Observed against predicted share by class in bins of a tenth. {note}"
    return Card(title, drawing(WIDTH, 284, parts, alt=alt), note)
