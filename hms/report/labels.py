"""Pictures of the votes: totals, disagreement, entropy, patients, proportions, weights, folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes
from hms.labels.folds import Split, far_from_even, items_in_folds
from hms.labels.summary import (
    class_agreement,
    class_counts,
    class_proportions,
    disagreement_matrix,
    entropy_nats,
    per_patient,
)
from hms.labels.votes import consensus, only_labelled, soft_labels
from hms.report.cards import Card, absent_classes, spoken
from hms.report.style import CLASS_COLOURS, INK, MUTED, class_colours
from hms.report.svg import Axis, Frame, axes, colour_bar, drawing, image, legend, line, png, rect, text, ticks
from hms.terminal import counted

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 480.0


def nobody(titles: Sequence[str]) -> list[Card]:
    """Return a card per title, each saying that no item is used."""
    return [spoken(title, "No item is used, so there is nothing to draw.") for title in titles]


def class_legend(classes: Classes, y: float, left: float = 52) -> tuple[list[str], float]:
    """Return the legend of the classes and its height."""
    entries = list(zip(class_colours(len(classes)), classes.titles, strict=True))
    return legend(left, y, entries, width=WIDTH - left - 8)


def shaded_classes(
    share: NDArray[np.float64], cells: Sequence[Sequence[object]], classes: Classes, name: str
) -> list[str]:
    """Draw a table of shades with a row for each consensus and a column for each class.

    Parameters
    ----------
    share : shape (n_classes, n_classes), 0 to 1 or NaN; makes the shade
    cells : what is written on them
    name : of the columns
    """
    n = len(classes)
    left, top, cell_w, cell_h = 92.0, 38.0, 372.0 / n, 210.0 / n
    parts = [image(left, top, cell_w * n, cell_h * n, png(share), crisp=True)]
    for i, title in enumerate(classes.titles):
        parts.append(text(left + cell_w * (i + 0.5), top - 8, title, "m"))
        parts.append(text(left - 8, top + cell_h * (i + 0.5) + 4, title, "e"))
        for j, value in enumerate(share[i].tolist()):
            css = "m white" if value < 0.65 else "m k"
            parts.append(text(left + cell_w * (j + 0.5), top + cell_h * (i + 0.5) + 5, cells[i][j], css))
    parts.append(text(left + cell_w * n / 2, top - 25, name, "m n"))
    parts.append(text(13, top + cell_h * n / 2, "consensus", "m n", turn=True))
    return parts + colour_bar(left + 60, top + cell_h * n + 14, 160, "0", "100 %", "")


# --- votes ---------------------------------------------------------------------------------------

VOTE_TITLES = ("Votes per item", "Where experts disagree", "Disagreement per class", "Items per patient")

NO_VOTES = "The table of windows has no votes, so there are no totals, disagreement or entropy to draw."


def vote_cards(used: pd.DataFrame, *, high_confidence_votes: int) -> list[Card]:
    """Return the pictures of the votes of the items used; without votes, those that need none."""
    if used.empty:
        return nobody(VOTE_TITLES)
    patients = used["patient_id"].astype(str).to_numpy(object)
    if not used["vote_sum"].any():
        return [spoken("Votes", NO_VOTES), items_per_patient(patients)]
    has_votes = used["vote_sum"].to_numpy() > 0
    used = used[has_votes]
    classes = Classes.of_columns(used.columns)
    y = soft_labels(used[list(classes.vote_columns)].to_numpy(np.float64))
    label, totals = consensus(y), used["vote_sum"].to_numpy().astype(np.int64)
    everybody = np.full(len(patients), -1)
    everybody[has_votes] = label
    return [
        vote_totals(label, totals, high_confidence_votes, classes),
        disagreement(disagreement_matrix(y), class_counts(y), classes),
        entropy_boxes(entropy_nats(y), label, classes),
        items_per_patient(patients, everybody),
    ]


def vote_totals(
    label: NDArray[np.int64], totals: NDArray[np.int64], threshold: int, classes: Classes
) -> Card:
    """Draw how many items have each total of votes, stacked by class; many totals share bars that double."""
    edges = _total_edges(int(totals.max()), threshold)
    counts = np.zeros((len(edges) - 1, len(classes)), int)
    np.add.at(counts, (np.searchsorted(edges, totals, side="right") - 1, label), 1)
    top = float(max(counts.sum(axis=1).max(), 1))
    frame = Frame(60, 44, WIDTH - 74, 200, Axis(0, len(counts)), Axis(0, top))
    parts, _ = class_legend(classes, 4)
    up = [(v, f"{v:,.0f}") for v in ticks(frame.up) if v == round(v)]
    names = [str(a) if b - a == 1 else f"{a}–{b - 1}" for a, b in pairwise(edges.tolist())]
    if len(counts) < edges[-1] - 1:  # bars of several totals: numbers between them
        apart = math.ceil(8 * len(f"{edges[-1]:,}") * len(counts) / frame.width)
        across = [(float(k), f"{edges[k]:,}") for k in range(0, len(edges), apart)]
    else:
        step = max(1, math.ceil(len(names) / 14))
        across = [(k + 0.5, name) for k, name in enumerate(names) if (k + 1) % step == 0]
    parts += axes(frame, xlabel="votes", ylabel="items", xticks=across, yticks=up)
    for k, name in enumerate(names):
        parts += _stack(frame, k + 0.5, counts[k], classes, 0.84, f"{name} votes")
    at = float(np.searchsorted(edges, threshold))
    x, right = frame.x(at), at > len(counts) * 0.7
    parts.append(line([(x, frame.top), (x, frame.bottom)], INK, dash="4 3"))
    parts.append(text(x + (-5 if right else 5), frame.top + 10, f"{threshold} or more", "e" if right else ""))
    gap = _gap(np.bincount(totals, minlength=threshold + 1), threshold)
    note = (
        f"High confidence means {threshold} votes or more: {_share((totals >= threshold).mean())} of items."
    )
    if gap:
        note += f" No item has {gap} votes."
    alt = f"Histogram of votes per item, stacked by class, from 1 to {int(totals.max())} votes. {note}"
    return Card(VOTE_TITLES[0], drawing(WIDTH, 284, parts, alt=alt), note)


MOST_TOTALS = 40
"""Totals of votes that have a bar each; votes that are summed over overlapping rows have thousands."""


def _total_edges(largest: int, threshold: int) -> NDArray[np.int64]:
    """Return the first total of each bar and the end of the last; a bar begins at the threshold."""
    if max(largest, threshold) <= MOST_TOTALS:
        return np.arange(1, max(largest, threshold) + 2)
    below, above = [threshold], [threshold]
    while below[-1] > 1:
        below.append(max(below[-1] // 2, 1))
    while above[-1] <= largest:
        above.append(2 * above[-1])
    return np.array([*reversed(below[1:]), *above])


def _gap(counts: NDArray[np.int64], threshold: int) -> str:
    """Name the totals just under the threshold that no item has."""
    first = threshold
    while first > 1 and not counts[first - 1]:
        first -= 1
    last = threshold - 1
    if first > last:
        return ""
    return str(last) if first == last else f"{first} {'or' if last - first == 1 else 'to'} {last}"


def _stack(
    frame: Frame, at: float, counts: NDArray[np.int64], classes: Classes, width: float, name: str
) -> list[str]:
    """Return one stacked bar."""
    parts, base = [], 0
    left, right = frame.x(at - width / 2), frame.x(at + width / 2)
    colours = class_colours(len(classes))
    for count, colour, title in zip(counts.tolist(), colours, classes.titles, strict=True):
        if count:
            top, low = frame.y(base + count), frame.y(base)
            tip = f"{name}, {title}: {count}"
            parts.append(rect(left, top, right - left, low - top, colour, tip=tip))
            base += count
    return parts


def disagreement(matrix: NDArray[np.float64], counts: NDArray[np.int64], classes: Classes) -> Card:
    """Draw the mean vote shares of the items of each consensus as a table of shades."""
    percent = [[f"{100 * v:.0f}" if math.isfinite(v) else "–" for v in row] for row in matrix.tolist()]
    parts = shaded_classes(matrix, percent, classes, "share of votes for, %")
    note = "Each row is the mean vote of the items with that consensus. Off the diagonal, experts disagree."
    note += absent_classes(counts, classes)
    cells = "; ".join(
        f"{name}: " + ", ".join(f"{v:.0%}" if math.isfinite(v) else "none" for v in row)
        for name, row in zip(classes.titles, matrix.tolist(), strict=True)
    )
    alt = f"Mean vote shares by consensus class, in the order {', '.join(classes.titles)}. {cells}."
    return Card(VOTE_TITLES[1], drawing(WIDTH, 284, parts, alt=alt), note)


def entropy_boxes(entropy: NDArray[np.float64], label: NDArray[np.int64], classes: Classes) -> Card:
    """Draw the spread of the label entropy per class."""
    n = len(classes)
    top_value, colours = math.log(n), class_colours(n)
    frame = Frame(52, 12, WIDTH - 66, 224, Axis(0, n), Axis(0, top_value))
    ticks = [(i + 0.5, name) for i, name in enumerate(classes.titles)]
    parts = axes(frame, ylabel="entropy of the votes, nats", xticks=ticks)
    said = []
    for i, name in enumerate(classes.titles):
        values = entropy[label == i]
        if not len(values):
            parts.append(text(frame.x(i + 0.5), frame.bottom - 8, "none", "m n"))
            continue
        low, q1, median, q3, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
        said.append(f"{name} median {median:.2f}")
        parts += _box(frame, i + 0.5, (low, q1, median, q3, high), colours[i], f"{name}: {len(values)}", n)
    y = frame.y(top_value)
    parts.append(line([(frame.left, y), (frame.right, y)], MUTED, width=1, dash="4 3"))
    parts.append(text(frame.right, y + 14, f"log {n}: evenly split", "e n"))
    note = "Box: middle half and median; line: 5th to 95th percentile. 0: all experts agree."
    alt = f"Entropy of the votes per consensus class: {'; '.join(said)} nats. {note}"
    return Card(VOTE_TITLES[2], drawing(WIDTH, 270, parts, alt=alt), note)


def _box(
    frame: Frame, at: float, values: tuple[float, ...], colour: str, tip: str, n_classes: int
) -> list[str]:
    low, q1, median, q3, high = (frame.y(v) for v in values)
    x, half = frame.x(at), min(20.0, 120 / n_classes)
    return [
        line([(x, low), (x, high)], INK, width=1.2),
        rect(x - half, q3, 2 * half, max(q1 - q3, 1), colour, tip=f"{tip} items, median {values[2]:.2f}"),
        line([(x - half, median), (x + half, median)], INK, width=2.4),
    ]


def items_per_patient(patients: NDArray[np.object_], label: NDArray[np.int64] | None = None) -> Card:
    """Draw how many patients have how many items, in bins that double; ``label`` is -1 without votes."""
    counts = np.unique(patients, return_counts=True)[1]
    edges = 2 ** np.arange(math.floor(math.log2(int(counts.max()))) + 2)
    patients_in = np.histogram(counts, edges)[0]
    items_in = np.histogram(counts, edges, weights=counts)[0]
    frame = Frame(52, 34, WIDTH - 66, 200, Axis(0, len(patients_in)), Axis(0, 1))
    names = [str(a) if b - a == 1 else f"{a}–{b - 1}" for a, b in pairwise(edges.tolist())]
    ticks = [(i + 0.5, name) for i, name in enumerate(names)]
    shares = [(v / 100, f"{v}") for v in range(0, 101, 25)]
    parts = axes(frame, xlabel="items of a patient", ylabel="share, %", xticks=ticks, yticks=shares)
    for i, (n, m) in enumerate(zip(patients_in.tolist(), items_in.tolist(), strict=True)):
        for share, shift, colour, what in (
            (n / len(counts), -0.39, CLASS_COLOURS[1], f"{n} of {len(counts)} patients"),
            (m / len(patients), 0.01, CLASS_COLOURS[4], f"{m:.0f} of {len(patients)} items"),
        ):
            x, y = frame.x(i + 0.5 + shift), frame.y(share)
            parts.append(rect(x, y, frame.x(0.38) - frame.x(0), frame.bottom - y, colour, tip=what))
    shown = [(CLASS_COLOURS[1], "of patients"), (CLASS_COLOURS[4], "of items")]
    parts += legend(52, 6, shown, width=WIDTH - 60)[0]
    note = (
        f"{counted(len(counts), 'patient')}; median {counted(np.median(counts), 'item')}, "
        f"largest {counts.max()} ({_share(counts.max() / len(patients))} of all items). They count like "
        f"{counted(round(per_patient(patients)['effective'] or 0), 'patient')} with equal numbers of items."
        f"{_alike(label, patients)}"
    )
    alt = f"Share of patients and of items by the number of items of a patient. {note}"
    return Card(VOTE_TITLES[3], drawing(WIDTH, 278, parts, alt=alt), note)


def _alike(label: NDArray[np.int64] | None, patients: NDArray[np.object_]) -> str:
    """Return how often two items of one patient, or of two, have the same class, if there are any."""
    found = class_agreement(np.full(len(patients), -1) if label is None else label, patients)
    same, other = found["same_patient"], found["other_patient"]
    if same is None or other is None:
        return ""
    return (
        f" Two items of one patient have the same class in {_share(same)} of pairs, "
        f"of two patients in {_share(other)}."
    )


# --- weights and folds ---------------------------------------------------------------------------

WEIGHT_TITLES = ("Class proportions", "Classes per fold", "Confidence weight")


def weight_cards(labels: Mapping[str, NDArray[Any]], splits: Sequence[Split]) -> list[Card]:
    """Return the pictures that follow from weights and folds.

    ``labels``: what labels.npz holds.
    """
    y, weights, classes = labels["y_soft"], labels["w_conf"], Classes.of_labels(labels)
    if not len(y):
        return nobody(WEIGHT_TITLES)
    known = only_labelled(labels)
    return [
        proportions(known["y_soft"], known["w_conf"], classes),
        fold_bars(y, weights, splits, classes),
        weight_curve(known["w_conf"], known["vote_sum"]),
    ]


def proportions(y: NDArray[np.float32], weights: NDArray[np.float32], classes: Classes) -> Card:
    """Draw each class's share of the soft labels, raw and weighted."""
    raw, weighted = class_proportions(y), class_proportions(y, weights)
    top = max(float(np.nanmax([raw, weighted])) * 100, 1.0)
    frame = Frame(52, 34, WIDTH - 66, 202, Axis(0, len(classes)), Axis(0, top * 1.12))
    names = [(i + 0.5, name) for i, name in enumerate(classes.titles)]
    parts = axes(frame, ylabel="share of labels, %", xticks=names)
    for i, colour in enumerate(class_colours(len(classes))):
        for share, shift, opacity in ((raw[i], -0.4, ' fill-opacity="0.45"'), (weighted[i], 0.01, "")):
            if math.isfinite(share):
                x, y_top = frame.x(i + 0.5 + shift), frame.y(100 * share)
                width = frame.x(0.39) - frame.x(0)
                parts.append(rect(x, y_top, width, frame.bottom - y_top, colour, extra=opacity))
                parts.append(text(x + width / 2, y_top - 4, f"{100 * share:.0f}", "m n"))
    key = [("#b9bec4", "raw (paler)"), ("#5b6875", "weighted")]
    parts += legend(52, 6, key, width=WIDTH - 60)[0]
    pairs = "; ".join(
        f"{n} {_share(a)} raw, {_share(b)} weighted"
        for n, a, b in zip(classes.titles, raw, weighted, strict=True)
    )
    note = "Mean soft label over the items used, before and after the confidence weights."
    return Card(WEIGHT_TITLES[0], drawing(WIDTH, 266, parts, alt=f"{note} {pairs}."), note)


def fold_bars(
    y: NDArray[np.float32], weights: NDArray[np.float32], splits: Sequence[Split], classes: Classes
) -> Card:
    """Draw the weighted class proportions of the validation part of every fold."""
    if not any(len(valid) for _, valid in splits):
        return spoken(WEIGHT_TITLES[1], "The run has no folds (folds=none).")
    parts, height = class_legend(classes, 4, 72)
    top, bar = height + 10, min(26.0, 190 / len(splits))
    frame = Frame(72, top, WIDTH - 162, bar * len(splits), Axis(0, 100), Axis(0, 1))
    parts += axes(frame, xlabel="weighted share of labels in the validation part, %", yticks=[], grid=False)
    colours = class_colours(len(classes))
    for fold, split in enumerate(splits):
        middle = top + bar * (fold + 0.5)
        parts.append(text(64, middle + 4, f"fold {fold}", "e"))
        parts.append(text(frame.right + 8, middle + 4, f"{len(split[1])} items"))
        shares = class_proportions(y[split[1]], weights[split[1]])
        at = 0.0
        for share, colour, name in zip(shares.tolist(), colours, classes.titles, strict=True):
            if math.isfinite(share):
                width = frame.x(100 * share) - frame.x(0)
                tip = f"fold {fold}, {name}: {share:.1%}"
                parts.append(rect(frame.x(at), middle - bar * 0.4, width, bar * 0.8, colour, tip=tip))
                at += 100 * share
    sizes = ", ".join(str(len(split[1])) for split in splits)
    note = f"{len(splits)} folds with {sizes} validation items; every patient is in one fold only."
    note += _uneven_folds(y, splits, classes)
    alt = f"Stacked bars of the class proportions per fold. {note}"
    return Card(WEIGHT_TITLES[1], drawing(WIDTH, top + bar * len(splits) + 44, parts, alt=alt), note)


def _uneven_folds(y: NDArray[np.float32], splits: Sequence[Split], classes: Classes) -> str:
    """Return which fold is least even in which class, if any is far from even."""
    label = consensus(np.nan_to_num(y))
    uneven = far_from_even(items_in_folds(label, splits, len(classes)), classes.titles)
    if not uneven:
        return ""
    worst = uneven[0]
    return (
        f" Fold {worst.fold} has {_share(worst.share)} of '{worst.name}'; {_share(worst.even)} would be even."
    )


def weight_curve(weights: NDArray[np.float32], totals: NDArray[Any]) -> Card:
    """Draw the weight against the number of votes; the size of a dot is the number of items."""
    at, index, counts = np.unique(totals, return_inverse=True, return_counts=True)
    mean = np.bincount(index, weights) / counts
    many = float(at.max()) > MOST_TOTALS
    across = Axis(max(float(at.min()) * 0.9, 0.1), float(at.max()) * 1.1, log=True) if many else None
    up = Axis(0, max(float(mean.max()) * 1.15, 1e-6))
    frame = Frame(52, 12, WIDTH - 66, 222, across or Axis(0, float(at.max()) + 1), up)
    parts = axes(frame, xlabel="votes", ylabel="weight")
    if len(at) > 1:
        parts.append(line(frame.points(at, mean), MUTED, width=1))
    for total, weight, count in zip(at.tolist(), mean.tolist(), counts.tolist(), strict=True):
        radius = 2.5 + 12 * math.sqrt(count / len(totals))
        tip = f"<title>{total:g} votes: weight {weight:.3g}, {count} items</title>"
        x, y = frame.x(total), frame.y(weight)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{CLASS_COLOURS[1]}" '
            f'fill-opacity="0.75">{tip}</circle>'
        )
    note = f"Weights from {mean.min():.3g} to {mean.max():.3g}; the larger a dot, the more items."
    alt = f"Confidence weight against number of votes. {note}"
    return Card(WEIGHT_TITLES[2], drawing(WIDTH, 278, parts, alt=alt), note)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "undefined"
