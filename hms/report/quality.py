"""Pictures of quality: grades, flags, channels on the head, gaps in time."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS
from hms.config.manual import notes_of
from hms.quality.grading import CHANNEL_FLAGS, FLAGS, GRADES, QualityControl
from hms.quality.selection import Graded, Selection, wilson
from hms.quality.summary import flag_counts, grade_counts
from hms.report.cards import Card, spoken
from hms.report.style import CLASS_COLOURS, GRADE_COLOURS, INK
from hms.report.svg import Axis, Frame, axes, drawing, image, legend, line, png_of, rect, text
from hms.terminal import counted

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

WIDTH = 480.0
TITLES = ("Grades and flags", "Flagged channels", "Gaps in the recordings", "Grades by class")

PLACES = {
    "Fp1": (-0.31, 0.95), "Fp2": (0.31, 0.95), "F7": (-0.81, 0.59), "F8": (0.81, 0.59),
    "F3": (-0.42, 0.52), "F4": (0.42, 0.52), "Fz": (0.0, 0.5), "T3": (-1.0, 0.0), "T4": (1.0, 0.0),
    "C3": (-0.5, 0.0), "C4": (0.5, 0.0), "Cz": (0.0, 0.0), "T5": (-0.81, -0.59), "T6": (0.81, -0.59),
    "P3": (-0.42, -0.52), "P4": (0.42, -0.52), "Pz": (0.0, -0.5), "O1": (-0.31, -0.95), "O2": (0.31, -0.95),
}  # fmt: skip
"""Places of the 10-20 system seen from above, nose up, on the unit circle."""

MOST_ROWS = 200
"""Lines of the raster of gaps; more recordings share a line."""


def quality_cards(
    ledger: pd.DataFrame,
    channels: FlagCounts,
    sketches: Mapping[str, NDArray[np.uint8]],
    *,
    graded: Graded,
    marked: Selection | None,
    qc: QualityControl,
    window_s: float,
    context_s: float,
) -> list[Card]:
    """Return the pictures of grades, flags, classes, channels and gaps, of used items and others alike."""
    flags = dict(sorted(flag_counts(ledger["raised"]).items(), key=lambda pair: (-pair[1], pair[0])))
    grades = grades_and_flags(grade_counts(ledger), flags, len(ledger))
    return [
        replace(grades, body=f"{grades.body}{glossary(flags, qc)}"),
        grades_by_class(graded, qc.exclude_from),
        *([] if marked is None else [marks_by_class(marked)]),
        head(channels, qc.grading.costly),
        gaps(sketches.get("gaps"), window_s=window_s, context_s=context_s),
    ]


def grades_and_flags(grades: Mapping[str, int], flags: Mapping[str, int], total: int, most: int = 12) -> Card:
    """Draw the number of items of each grade, and below it the number with each flag."""
    ungraded = total - sum(grades.values())
    bars = {**grades, **({"not graded": ungraded} if ungraded else {})}
    body = _bars("Items by grade", bars, total, [*GRADE_COLOURS, "#d0d4d8"])
    note = "Items that could not be prepared are not graded. " if ungraded else ""
    if flags:
        shown = dict(list(flags.items())[:most])
        body += _bars("Items by flag", shown, total, [CLASS_COLOURS[1]] * len(shown))
        note += "An item may carry several flags."
    else:
        note += "No item carries a flag."
    if len(flags) > most:
        note += f" {len(flags) - most} rarer flags are in qc/qc.csv."
    return Card(TITLES[0], body, note)


def glossary(counts: Mapping[str, int], qc: QualityControl) -> str:
    """Return what the grades mean, and each flag with its limit, those that occur most first."""
    grading, notes = qc.grading, notes_of("qc", "default")
    texts = (
        "no flag that lowers the grade",
        "a flag that lowers the grade",
        f"more than {grading.usable_bad_channels} bad electrodes ({', '.join(grading.bad_channel)}), or "
        f"{_any_of(grading.poor)}",
        f"more than {grading.poor_bad_channels} bad electrodes, or {_any_of(grading.unusable)}",
    )
    grades = "".join(
        _line(f'<span class="swatch" style="background:{colour}"></span>{name}', text)
        for name, colour, text in zip(GRADES, GRADE_COLOURS, texts, strict=True)
    )
    order = sorted(FLAGS, key=lambda name: (-counts.get(name, 0), FLAGS.index(name)))
    flags = "".join(_line(name.replace("_", " "), _meaning(name, qc, notes)) for name in order)
    return (
        f'<details class="glossary"><summary>What the grades mean</summary><dl>{grades}</dl></details>'
        f'<details class="glossary"><summary>What the flags mean</summary><dl>{flags}</dl></details>'
    )


def _chance(p: float) -> str:
    return f"at least as unequal by chance: p = {p:.2g}, by patient"


def _meaning(flag: str, qc: QualityControl, notes: Mapping[str, str]) -> str:
    where = "channel" if flag in CHANNEL_FLAGS else "item"
    limit = getattr(qc.channel if where == "channel" else qc.item, flag)
    unit, text = re.match(r"(µV|dB|)(?:; )?(.*)", notes[f"{where}.{flag}"]).groups()  # type: ignore[union-attr]
    if limit is None or limit is False:
        return f"{escape(text)}: off"
    shown = "" if limit is True else f" ({f'{limit:g} {unit}'.rstrip()})"
    return f"{escape(text)}{shown}{'; does not lower the grade' if flag in qc.grading.harmless else ''}"


def _any_of(flags: Sequence[str]) -> str:
    return " or ".join(name.replace("_", " ") for name in flags) or "no flag alone"


def _line(name: str, text: str) -> str:
    return f"<div><dt>{name}</dt><dd>{text}</dd></div>"


def _bars(title: str, counts: Mapping[str, int], total: int, colours: Sequence[str]) -> str:
    """Return horizontal bars with their names and shares."""
    left, step = 150.0, 25.0
    most = max([*counts.values(), 1])
    parts = [text(left - 8, 16, title, "e n")]
    for i, ((name, value), colour) in enumerate(zip(counts.items(), colours, strict=False), start=1):
        y = 2 + step * i
        width = (WIDTH - left - 106) * value / most
        parts.append(text(left - 8, y + 14, name.replace("_", " ")[:22], "e", tip=name))
        parts.append(rect(left, y, width, step - 6, colour, tip=f"{name}: {value}"))
        share = f"{value:,} ({100 * value / total:.1f} %)" if total else str(value)
        parts.append(text(left + width + 6, y + 14, share))
    said = ", ".join(f"{name} {value}" for name, value in counts.items())
    return drawing(WIDTH, 6 + step * (len(counts) + 1), parts, alt=f"{title}: {said}.")


# --- classes -------------------------------------------------------------------------------------


def grades_by_class(graded: Graded, exclude_from: str | None) -> Card:
    """List items by consensus and grade, and what leaving out a grade takes, or would take, of each."""
    if not graded.classes.size:
        return spoken(TITLES[3], "No item with votes was graded, so there is nothing to count by class.")
    taken = graded.exclusion(None if exclude_from else "poor")
    verb = "leaves" if exclude_from else "would leave"
    said = f"qc.exclude_from={exclude_from or 'poor'} {verb} out {taken.sentence()}"
    p, _ = taken.test
    tested = "too few patients for a test" if p is None else _chance(p)
    note = f"Classes are the consensus of the votes. {said}; {tested}. Intervals are Wilson's."
    return Card(TITLES[3], f'<div class="wide">{_class_table(taken, graded.by_class(), GRADES)}</div>', note)


def _class_table(
    taken: Selection, counts: Mapping[str, Mapping[str, int]], grades: Sequence[str] = ()
) -> str:
    """Return a row for each class: items by grade, and how many are left out with Wilson's interval."""
    header = "".join(f'<th scope="col">{name}</th>' for name in ("class", *grades, "left out", "95 %"))
    rows = []
    for name, (out, n) in taken.counts.items():
        low, high = wilson(out, n)
        span = f"{100 * low:.0f}–{100 * high:.0f} %" if n else ""
        cells = [*(f"{counts[name][grade]:,}" for grade in grades), f"{out:,} of {n:,}", span]
        inner = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{inner}</tr>')
    return f'<table class="plain"><thead><tr>{header}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def marks_by_class(marked: Selection) -> Card:
    """List what readers excluded, by class."""
    p, _ = marked.test
    note = f"marks=file leaves out {marked.sentence()}"
    note += "." if p is None else f"; {_chance(p)}."
    if marked.is_unequal:
        note += " That is more than chance: readers may have taken the look of a class for a fault."
    return Card("Left out by readers", _class_table(marked, {}), note)


# --- channels ------------------------------------------------------------------------------------


FlagCounts = Mapping[tuple[str, str], int]
"""How many items have a channel, the first text, with flags, the second: ``line;muscle``."""


def count_channels(batches: Iterable[pa.RecordBatch]) -> FlagCounts:
    """Return the counts of batches with the columns ``channel`` and ``raised``, dictionaries of texts."""
    counts: Counter[tuple[str, str]] = Counter()
    for batch in batches:
        channel, raised = batch.column("channel"), batch.column("raised")
        names, texts = channel.dictionary.to_pylist(), raised.dictionary.to_pylist()
        pair = channel.indices.to_numpy().astype(np.int64) * len(texts) + raised.indices.to_numpy()
        for found, n in zip(*(part.tolist() for part in np.unique(pair, return_counts=True)), strict=True):
            counts[names[found // len(texts)], texts[found % len(texts)]] += n
    return counts


def channel_shares(channels: FlagCounts, flags: Collection[str] | None = None) -> dict[str, float]:
    """Return each channel's share of items in which it carries a flag, or one of some flags."""
    every: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for (name, raised), n in channels.items():
        every[name] += n
        if raised and (flags is None or not set(flags).isdisjoint(raised.split(";"))):
            flagged[name] += n
    return {name: flagged[name] / every[name] for name in sorted(every)}


def head(channels: FlagCounts, costly: Collection[str]) -> Card:
    """Draw each electrode's share of items with a flag that lowers the grade; on request, with any flag."""
    shares, all_shares = channel_shares(channels, costly), channel_shares(channels)
    if not shares:
        return spoken(TITLES[1], "No recording was read, so no channel was measured.")
    note = "Share of recordings in which the channel has a flag that lowers the grade, in %."
    more = "Share with any flag, including harmless ones, in %."
    more += "".join(f" {name}: {s:.1%}." for name, s in all_shares.items() if name not in EEG_CHANNELS)
    body = _head_picture(shares, note)
    body += f"<details><summary>All flags, including harmless ones</summary>{_head_picture(all_shares, more)}"
    return Card(TITLES[1], f"{body}<p>{escape(more)}</p></details>", note)


def _head_picture(shares: Mapping[str, float], note: str) -> str:
    cx, cy, radius = 240.0, 176.0, 128.0
    # Darkest at a tenth at least, so that a clean set does not look bad.
    top = 1.15 * max([*(shares.get(name, 0.0) for name in EEG_CHANNELS), 0.1])
    nose = [(cx - 14, cy - radius - 14), (cx, cy - radius - 32), (cx + 14, cy - radius - 14)]
    parts = [
        line(nose, INK, width=1.5),
        f'<circle cx="{cx}" cy="{cy}" r="{radius + 15}" fill="none" stroke="{INK}" stroke-width="1.5"/>',
    ]
    for name in EEG_CHANNELS:
        x, y = cx + radius * PLACES[name][0] * 0.92, cy - radius * PLACES[name][1] * 0.92
        parts += _electrode(x, y, name, shares.get(name), top)
    parts.append(text(cx - 190, cy, "left", "m n"))
    parts.append(text(cx + 190, cy, "right", "m n"))
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return drawing(WIDTH, 336, parts, alt=f"Head with the 19 electrodes of the 10-20 system. {note} {said}.")


def _electrode(x: float, y: float, name: str, share: float | None, top: float) -> list[str]:
    depth = 0.0 if share is None else share / top
    fill = _warm(depth)
    shown = "–" if share is None else f"{100 * share:.{0 if share >= 0.0995 else 1}f}"
    css = "m white" if depth > 0.6 else "m k"
    tip = f"<title>{name}: {'not measured' if share is None else f'{share:.2%}'}</title>"
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="19"'
    return [
        f'<circle {place} fill="{fill}" stroke="{INK}" stroke-width="0.8">{tip}</circle>',
        text(x, y - 1, name, f"{css} t"),
        text(x, y + 11, shown, css),
    ]


def _warm(depth: float) -> str:
    """Return a colour from white (0) over orange to dark brown (1)."""
    stops = np.array([[255, 255, 255], [253, 208, 140], [226, 120, 30], [140, 52, 0]], float)
    mixed = [np.interp(depth * 3, np.arange(4), stops[:, i]) for i in range(3)]
    return "#" + "".join(f"{round(float(v)):02x}" for v in mixed)


# --- gaps ----------------------------------------------------------------------------------------


def gaps(raster: NDArray[np.uint8] | None, *, window_s: float, context_s: float) -> Card:
    """Draw where in time the recordings have gaps: a line per recording that has any."""
    if raster is None or not len(raster):
        return spoken(TITLES[2], "No recording was read, so there are no gaps to show.")
    rows = np.flatnonzero(((raster > 0) & (raster < 255)).any(axis=1))
    outside = int((raster == 255).any(axis=1).sum())
    edge = (
        f"{outside:,} of {counted(len(raster), 'item')} are so close to an end that their context is cut off."
        if outside
        else "Every item has its full context."
    )
    if not len(rows):
        return spoken(TITLES[2], f"Of {counted(len(raster), 'item')} read, none has a gap. {edge}")
    share = np.where(raster[rows] == 255, 0, raster[rows] / 200.0)
    order = rows[np.lexsort((-share.sum(axis=1), share.argmax(axis=1)))]
    lines = _lines(raster[order])
    height = float(min(max(10 * len(lines), 90), 236))
    frame = Frame(52, 34, WIDTH - 66, height, Axis(-context_s, window_s + context_s), Axis(0, len(order)))
    colours = np.array([_rgb(_gap_colour(i)) for i in range(11)] + [[196, 202, 208]], np.uint8)
    parts = [image(frame.left, frame.top, frame.width, frame.height, png_of(lines, colours), crisp=True)]
    parts += axes(frame, xlabel="seconds from the start of the window", ylabel="items with gaps", yticks=[])
    for at in (0.0, window_s):
        parts.append(line([(frame.x(at), frame.top), (frame.x(at), frame.bottom)], INK, dash="4 3"))
    keys = [(_gap_colour(1), "few samples"), (_gap_colour(10), "all samples"), ("#c4cad0", "not recorded")]
    parts += legend(52, 8, keys, width=WIDTH - 60)[0]
    together = math.ceil(len(order) / len(lines))
    shared = f" Each line is up to {together} items." if together > 1 else ""
    note = (
        f"{len(order):,} of {counted(len(raster), 'item')} have gaps in the window (between the dashed "
        f"lines) or in the context around it; {len(raster) - len(order):,} without gaps are not drawn."
        f"{shared} {edge}"
    )
    return Card(
        TITLES[2], drawing(WIDTH, frame.bottom + 44, parts, alt=f"Raster of gaps over time. {note}"), note
    )


def _lines(raster: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return colour indices: 0 for none, 1 to 10 for the share of gaps, 11 outside the recording."""
    step = math.ceil(len(raster) / MOST_ROWS)
    index = np.where(raster == 255, 11, np.ceil(raster / 20)).astype(np.uint8)
    starts = np.arange(0, len(index), step)
    worst = np.maximum.reduceat(np.where(index == 11, 0, index), starts, axis=0)
    beyond = np.minimum.reduceat(index, starts, axis=0) == 11
    return np.where(beyond, 11, worst).astype(np.uint8)


def _gap_colour(tenth: int) -> str:
    return "#ffffff" if tenth == 0 else _warm(0.35 + 0.065 * tenth)


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
