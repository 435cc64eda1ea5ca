"""Two runs side by side: what differs in settings, labels, folds and images, with pictures."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes
from hms.labels.summary import class_proportions
from hms.report.cards import Card, spoken
from hms.report.page import render
from hms.report.style import CLASS_COLOURS
from hms.report.svg import (
    Axis,
    Frame,
    axes,
    colour_bar,
    drawing,
    image,
    legend,
    line,
    png,
    png_of,
    rect,
    text,
)
from hms.results.diff import RunDifference, compare
from hms.store.files import commit_files
from hms.training.selection import folds_of

if TYPE_CHECKING:
    from hms.store.package import Package

MOST_ITEMS = 6
MOST_IDS = 40
MOST_OUTPUTS = 4
A_COLOUR, B_COLOUR = CLASS_COLOURS[1], CLASS_COLOURS[4]


def write_difference(a: Package, b: Package, outputs: Path) -> Path:
    """Write the page of two runs into the outputs folder and return its path."""
    name = f"diff-{a.hash[:8]}-{b.hash[:8]}.html"
    commit_files(outputs, {name: difference_page(a, b)})
    return outputs / name


def difference_page(a: Package, b: Package) -> bytes:
    """Return the page that compares two runs; items are joined by item_id."""
    found = compare(a, b)
    return render(
        "diff.html.j2",
        a=a.hash,
        b=b.hash,
        headlines=_headlines(found),
        settings=found.settings,
        stages=sorted(found.stages.items()),
        only=[(n, ids[:MOST_IDS], len(ids)) for n, ids in (("a", found.only_a), ("b", found.only_b)) if ids],
        cards=[card.html() for card in (*_label_cards(found), *_image_cards(found))],
        versions=_versions(a, b),
    )


def _headlines(found: RunDifference) -> list[tuple[str, str, str]]:
    """Return name, value and note of what is at the top."""
    apart = f"{len(found.only_a):,} only in a, {len(found.only_b):,} only in b"
    lines = [("settings", f"{len(found.settings)}", "differ"), ("items in both", f"{found.common:,}", apart)]
    for folder in found.folders:
        kind = folder.folder.removesuffix("_out").replace("_", " ")
        size = "" if folder.largest is None else f"; largest difference {folder.largest:.3g}"
        lines.append((kind, f"{folder.differing:,}", f"of {folder.common:,} differ{size}"))
    for name, count in (("labels", found.labels), ("weights", found.weights), ("folds", found.folds)):
        lines.append((name, "–", "not in both") if count is None else (name, f"{count:,}", "items changed"))
    return lines


def _versions(a: Package, b: Package) -> list[tuple[str, str, str]]:
    """Return the libraries whose versions differ."""
    of_a, of_b = a.manifest["versions"], b.manifest["versions"]
    names = dict.fromkeys([*of_a, *of_b])
    return [(n, of_a.get(n, "–"), of_b.get(n, "–")) for n in names if of_a.get(n) != of_b.get(n)]


# --- labels --------------------------------------------------------------------------------------


def _label_cards(found: RunDifference) -> list[Card]:
    if found.labels is None:
        return [spoken("Labels", _lacking(found, "labels", "data_package/labels.npz"))]
    cards = [_proportions(found), _weights(found)]
    return cards if found.folds is None else [*cards, _folds(found)]


def _lacking(found: RunDifference, what: str, start: str) -> str:
    """Say which run lacks files under this path, or that both do."""
    names = [
        name
        for name, run in (("a", found.a), ("b", found.b))
        if not any(path.startswith(start) for path in run.manifest["files"])
    ]
    return f"Neither run made {what}." if len(names) == 2 else f"Run {names[0]} made no {what}."


def _proportions(found: RunDifference) -> Card:
    both = [Classes.of_labels({"classes": run.labels.classes}) for run in (found.a, found.b)]
    if both[0] != both[1]:
        named = " and ".join(", ".join(classes.names) for classes in both)
        return spoken("Class proportions, weighted", f"The runs have different classes: {named}.")
    titles = both[0].titles
    shares = [_shares(found.a), _shares(found.b)]
    top = max([float(np.nanmax(s)) for s in shares if np.isfinite(s).any()], default=0.0)
    if not top:
        return spoken("Class proportions, weighted", "Neither run uses an item.")
    frame = Frame(52, 34, 414, 200, Axis(0, len(titles)), Axis(0, 112 * top))
    ticks = [(i + 0.5, name) for i, name in enumerate(titles)]
    parts = axes(frame, ylabel="share of labels, %", xticks=ticks)
    for share, shift, colour in zip(shares, (-0.4, 0.01), (A_COLOUR, B_COLOUR), strict=True):
        for i, value in enumerate(np.nan_to_num(share).tolist()):
            x, y, width = frame.x(i + 0.5 + shift), frame.y(100 * value), frame.x(0.39) - frame.x(0)
            parts.append(rect(x, y, width, frame.bottom - y, colour, tip=f"{titles[i]}: {value:.1%}"))
            parts.append(text(x + width / 2, y - 4, f"{100 * value:.0f}", "m n"))
    parts += legend(52, 6, [(A_COLOUR, "a"), (B_COLOUR, "b")], width=200)[0]
    said = "; ".join(
        f"{n} {x:.1%} and {y:.1%}" for n, x, y in zip(titles, *map(np.nan_to_num, shares), strict=True)
    )
    picture = drawing(480, 262, parts, alt=f"Weighted class proportions of a and b: {said}.")
    return Card("Class proportions, weighted", picture, "")


def _shares(run: Package) -> NDArray[np.float64]:
    return class_proportions(run.labels.y_soft, run.labels.w_conf)


def _weights(found: RunDifference) -> Card:
    curves = []
    for run in (found.a, found.b):
        totals, index = np.unique(run.labels.vote_sum, return_inverse=True)
        curves.append((totals, np.bincount(index, run.labels.w_conf) / np.maximum(np.bincount(index), 1)))
    right = max([float(t.max()) for t, _ in curves if len(t)], default=1.0)
    top = max([float(w.max()) for _, w in curves if len(w)], default=1.0)
    frame = Frame(52, 34, 414, 200, Axis(0, right + 1), Axis(0, max(1.12 * top, 1e-6)))
    parts = axes(frame, xlabel="votes", ylabel="weight")
    for (totals, weights), colour, dash in zip(curves, (A_COLOUR, B_COLOUR), ("", "6 4"), strict=True):
        if len(totals):
            parts.append(line(frame.points(totals, weights), colour, width=2.5, dash=dash))
    parts += legend(52, 6, [(A_COLOUR, "a"), (B_COLOUR, "b, dashed")], width=260)[0]
    note = f"{found.weights:,} of {found.common:,} items have another weight."
    return Card(
        "Confidence weight", drawing(480, 276, parts, alt=f"Weights by votes of a and b. {note}"), note
    )


def _folds(found: RunDifference) -> Card:
    title = "Items that changed fold"
    pairs, rows, columns = _fold_pairs(found)
    if not pairs.size or not found.folds:
        return spoken(title, "No item changed its fold.")
    size = min(40.0, 240 / max(pairs.shape))
    left, top = 96.0, 40.0
    most = float(pairs.max())
    parts = [image(left, top, size * pairs.shape[1], size * pairs.shape[0], png(pairs / most), crisp=True)]
    for i in range(pairs.shape[0]):
        parts.append(text(left - 6, top + size * (i + 0.5) + 4, rows[i], "e"))
        for j in range(pairs.shape[1]):
            css = "m white" if pairs[i, j] < 0.65 * most else "m k"
            parts.append(text(left + size * (j + 0.5), top + size * (i + 0.5) + 4, int(pairs[i, j]), css))
    for j in range(pairs.shape[1]):
        parts.append(text(left + size * (j + 0.5), top - 6, columns[j], "m"))
    parts.append(text(left, top - 24, "fold in b", "n"))
    parts.append(text(14, top + 14, "fold in a", "n"))
    note = f"{found.folds:,} of {found.common:,} items changed their fold."
    picture = drawing(
        480, top + size * pairs.shape[0] + 12, parts, alt=f"Items by fold in a and in b. {note}"
    )
    return Card(title, picture, note)


def _fold_pairs(found: RunDifference) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Return how many common items each pair of folds has, and the names of the folds of a and of b."""
    import pandas as pd

    of_a, of_b = (pd.Series(folds_of(run), run.meta["item_id"]) for run in (found.a, found.b))
    pairs = pd.crosstab(*of_a.align(of_b, join="inner"))
    numbers = (pairs.index.to_numpy(np.int64), pairs.columns.to_numpy(np.int64))
    rows, columns = (["none" if n < 0 else str(n) for n in side.tolist()] for side in numbers)
    return pairs.to_numpy(np.float64), rows, columns


# --- images --------------------------------------------------------------------------------------


def _image_cards(found: RunDifference) -> list[Card]:
    """Return the scalograms that changed most, a and b and their difference."""
    folder = next((f for f in found.folders if f.folder == "spec_hr_out"), None)
    title = "Scalograms"
    if folder is None:
        return [spoken(title, _lacking(found, "scalograms", "spec_hr_out/"))]
    if not folder.differing:
        return [spoken(title, f"All {folder.common:,} scalograms are identical.")]
    if not folder.by_item:
        return [_other_shapes(found, title)]
    worst = heapq.nsmallest(MOST_ITEMS, folder.by_item.items(), key=lambda pair: (-pair[1], pair[0]))
    return [_item_card(found, item, size) for item, size in worst]


def _other_shapes(found: RunDifference, title: str) -> Card:
    item = found.a.meta["item_id"].iloc[0]
    shapes = [str(run.spec(run.meta["item_id"].iloc[0]).shape) for run in (found.a, found.b)]
    return spoken(title, f"The scalograms have other shapes, {shapes[0]} and {shapes[1]} (item {item}).")


def _item_card(found: RunDifference, item: str, size: float) -> Card:
    x, y = (run.spec(item).astype(np.float64)[:MOST_OUTPUTS] for run in (found.a, found.b))
    names = found.a.outputs[:MOST_OUTPUTS]
    height, width = 60.0, 148.0
    top_value = max(float(np.nanmax(x)), float(np.nanmax(y)), 1e-12)
    top_value = top_value if top_value > 1 else 1.0
    parts: list[str] = []
    for j, head in enumerate(("a", "b", "b − a")):
        parts.append(text(34 + j * (width + 6) + width / 2, 14, head, "m b"))
    for i, name in enumerate(names):
        y_top = 22 + i * height
        parts.append(text(4, y_top + height / 2, name, "b"))
        pictures = (
            png(_few(x[i] / top_value)),
            png(_few(y[i] / top_value)),
            _signed(_few(y[i] - x[i]), size),
        )
        for j, uri in enumerate(pictures):
            parts.append(image(34 + j * (width + 6), y_top, width, height - 5, uri))
    bottom = 22 + len(names) * height
    parts += colour_bar(52, bottom + 6, 90, "0", f"{top_value:.3g}", "")
    parts.append(text(494, bottom + 15, f"blue −{size:.2g}, orange +{size:.2g}", "e n"))
    alt = f"Scalograms of item {item} in a and in b and their difference, at most {size:.3g}."
    return Card(
        f"Changed most: {item}", drawing(500, bottom + 24, parts, alt=alt), f"Largest difference {size:.3g}."
    )


def _few(picture: NDArray[np.float64], most: int = 125) -> NDArray[np.float64]:
    """Return an image, highest frequency on top, with at most so many columns."""
    step = max(1, -(-picture.shape[1] // most))
    columns = picture[::-1, : picture.shape[1] // step * step].reshape(len(picture), -1, step)
    return np.asarray(columns[:, :, 0])


def _signed(picture: NDArray[np.float64], size: float) -> str:
    """Return an image of differences: blue below, white at, orange above 0."""
    shares = np.linspace(-1, 1, 65)[:, None]
    blue, white, orange = (np.array(c, float) for c in ((0, 90, 160), (255, 255, 255), (213, 94, 0)))
    end = np.where(shares < 0, blue, orange)
    colours = np.round(white + (end - white) * np.abs(shares)).astype(np.uint8)
    index = np.clip(np.round((picture / max(size, 1e-12) + 1) * 32), 0, 64).astype(np.uint8)
    return png_of(index, colours)
