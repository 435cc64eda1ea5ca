"""Pictures of single recordings: traces next to scalograms, and one recording step by step."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import EKG_CHANNEL
from hms.labels.classes import Classes
from hms.labels.summary import entropy_nats
from hms.quality.grading import GRADES
from hms.report.cards import Card, spoken
from hms.report.style import INK
from hms.report.svg import Axis, Frame, axes, drawing, image, line, number, path, png, text, ticks
from hms.signal.wavelets import is_log_spaced

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.int64]

KINDS = {"worst": "Worst", "cleanest": "Cleanest", "disputed": "Most disputed"}
NONE_OF_A_KIND = {
    "worst": "No item is graded below good.",
    "cleanest": "No other item in use is graded good.",
    "disputed": "No other item has disputed votes.",
}
PER_SHEET = 6
MOST_S = 10.0
"""Longer windows are drawn by their middle."""

MOST_POINTS = 1000
MOST_UP = 30
"""Units of the drawing that a trace may leave its line by."""

_STEPS = [f"1 {d}" for d in range(8 * MOST_UP + 1)] + [f"1-{d}" for d in range(8 * MOST_UP, 0, -1)]
"""Path data of a step to the right and d quarters down; a negative d counts from the end."""

MOST_OUTPUTS = 24

EKG_TIMES = 10
"""µV of the EKG over those of a derivation on the same height."""


@dataclass(frozen=True)
class Example:
    """One prepared item with what is drawn of it.

    Attributes
    ----------
    traces : float32, shape (n_derivations, n_samples), µV; the window
    alive : bool, shape (n_derivations,)
    x : shape (n_outputs, n_freqs, n_frames)
    ekg : float32, shape (n_samples,), µV, filtered as the electrodes; None where none is to be shown
    band : of the traces, in words
    about : what is said of it: votes, grade, flags
    """

    item_id: str
    about: str
    traces: NDArray[np.float32]
    alive: NDArray[np.bool_]
    chains: tuple[tuple[str, tuple[str, ...]], ...]
    x: NDArray[Any]
    freqs_hz: NDArray[np.float32]
    outputs: Sequence[str]
    sfreq: float
    band: str
    ekg: NDArray[np.float32] | None = None

    @property
    def stated(self) -> str:
        """Polarity, band and gain of the traces."""
        ekg = "" if self.ekg is None else f"; EKG: {EKG_TIMES * _step_uv(self):g} µV"
        return f"Negative up · {self.band} · {_step_uv(self):g} µV from line to line{ekg}."

    @cached_property
    def pictures(self) -> str:
        """Traces and scalograms, drawn once however many sheets show the item."""
        return trace_picture(self) + scalogram_picture(self)


# --- which items ---------------------------------------------------------------------------------


def choose_examples(
    items: pd.DataFrame, ledger: pd.DataFrame, prepared: Rows, *, high_confidence_votes: int
) -> dict[str, list[int]]:
    """Return the rows of the worst, the cleanest and the most disputed items, at most six each.

    Only items that could be prepared take part, and each in one list at most. Worst are graded below good,
    cleanest are good and used; both go by grade, then by the number of flags, then by the share of gaps and
    the amplitude (farthest from, or nearest to, the data set's median). Disputed are those whose experts
    disagree, the largest entropy of votes first, those with many votes before others.
    """
    if not len(prepared):
        return {kind: [] for kind in KINDS}
    known = ledger.iloc[prepared]
    number = {name: n for n, name in enumerate(GRADES)}
    grade = np.array([number.get(name, 0) for name in known["grade"].tolist()], np.int64)
    raised = known["raised"].fillna("").tolist()
    flags = np.array([len(text.split(";")) if text else 0 for text in raised], np.int64)
    gaps, far = _column(known, "nan_share"), _distance(_column(known, "max_abs_uv"))
    used = known["used"].to_numpy(bool)
    columns = list(Classes.of_columns(items.columns).vote_columns)
    votes = items.iloc[prepared][columns].to_numpy(np.float64)
    totals = votes.sum(axis=1)
    entropy = entropy_nats(votes / np.where(totals > 0, totals, 1)[:, None])
    orders = {
        "worst": (np.lexsort((prepared, -far, -gaps, -flags, -grade)), grade > 0),
        "disputed": (
            np.lexsort((prepared, -entropy, totals < high_confidence_votes)),
            np.count_nonzero(votes > 0, axis=1) > 1,
        ),
        "cleanest": (np.lexsort((prepared, far, gaps, flags)), (grade == 0) & used),
    }
    chosen: dict[str, list[int]] = {}
    for kind, (order, may) in orders.items():
        taken = {row for rows in chosen.values() for row in rows}
        rows = prepared[order[may[order]]].tolist()
        chosen[kind] = [row for row in rows if row not in taken][:PER_SHEET]
    return {kind: chosen[kind] for kind in KINDS}


def choose_shown_steps(ledger: pd.DataFrame, prepared: Rows) -> int | None:
    """Return the row whose steps show most: one with a few gaps, or else the largest amplitude."""
    if not len(prepared):
        return None
    known = ledger.iloc[prepared]
    gaps, amplitude = _column(known, "nan_share"), _column(known, "max_abs_uv")
    few = (gaps > 0) & (gaps < 0.1)
    return int(prepared[np.lexsort((prepared, -np.nan_to_num(amplitude), ~few))[0]])


def _column(ledger: pd.DataFrame, name: str) -> NDArray[np.float64]:
    import pandas as pd

    if name not in ledger:
        return np.zeros(len(ledger))
    return np.asarray(pd.to_numeric(ledger[name], errors="coerce").to_numpy(np.float64, na_value=np.nan))


def _distance(amplitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many times each amplitude is above or below the median, in logarithms."""
    good = np.isfinite(amplitude) & (amplitude > 0)
    if not good.any():
        return np.zeros(len(amplitude))
    logs = np.log(np.where(good, amplitude, 1.0))
    return np.where(good, np.abs(logs - np.median(logs[good])), np.inf)


# --- contact sheets ------------------------------------------------------------------------------


def contact_sheet(kind: str, examples: Sequence[Example], *, any_prepared: bool = True) -> list[Card]:
    """Return a card per item of one kind, or one that says why there is none."""
    if not examples:
        none_read = "No item could be prepared, so there is nothing to draw."
        return [spoken(KINDS[kind], NONE_OF_A_KIND[kind] if any_prepared else none_read)]
    return [example_card(f"{KINDS[kind]} {place}", one) for place, one in enumerate(examples, start=1)]


def example_card(title: str, example: Example) -> Card:
    """Return the card of one item: what is said of it, its traces and scalograms, and how they are drawn."""
    body = f'<p class="about">{escape(example.about)}</p><div class="pair">{example.pictures}</div>'
    return Card(f"{title}: {example.item_id}", body, example.stated, item=example.item_id)


def about_item(item: pd.Series, ledger_row: pd.Series, costly: Collection[str]) -> str:
    """Describe an item: votes by class, grade, the flags that lower it and the harmless ones."""
    classes = Classes.of_columns(item.index)
    votes = [
        f"{name} {item[column]:g}"
        for name, column in zip(classes.titles, classes.vote_columns, strict=True)
        if item[column] > 0
    ]
    parts = ["Votes: " + ", ".join(votes)] if votes else []
    grade, flags = (text if isinstance(text, str) else "" for text in ledger_row[["grade", "raised"]])
    parts += [f"Grade: {grade}"] if grade else []
    for title, is_costly in (("Flags", True), ("Harmless", False)):
        names = [name for name in flags.split(";") if name and (name in costly) == is_costly]
        parts += [f"{title}: {', '.join(names)}".replace("_", " ")] if names else []
    parts += [] if ledger_row["used"] else ["Left out"]
    return "".join(f"{part}. " for part in parts).rstrip()


def _middle(n: int, seconds: float) -> slice:
    """Return the middle of ``n`` steps that last ``seconds``, at most ten seconds of them."""
    kept = n if seconds <= MOST_S else round(n * MOST_S / seconds)
    first = (n - kept) // 2
    return slice(first, first + kept)


def trace_picture(example: Example, width: float = 470.0) -> str:
    """Draw the derivations one below the other, chain after chain, with a scale bar in µV."""
    length_s = example.traces.shape[1] / example.sfreq
    part = _middle(example.traces.shape[1], length_s)
    traces = example.traces[:, part]
    step_uv = _step_uv(example)
    names = [(chain, name) for chain, pairs in example.chains for name in pairs]
    height = _traces_height(example)
    spacing = (height - 8 * len(example.chains)) / (len(names) + (example.ekg is not None))
    start_s = part.start / example.sfreq
    frame = Frame(
        56, 14, width - 64, height, Axis(start_s, start_s + traces.shape[1] / example.sfreq), Axis(0, 1)
    )
    parts = _seconds(frame)
    y = frame.top + spacing * 0.8
    for row, (chain, name) in enumerate(names):
        y += 8.0 if row and chain != names[row - 1][0] else 0.0
        live = bool(example.alive[row])
        parts.append(text(50, y + 3, name, "e t" if live else "e t dead"))
        parts.append(_trace(frame, traces[row], y, spacing / step_uv, live=live))
        y += spacing
    if example.ekg is not None:
        parts.append(text(50, y + 8, EKG_CHANNEL, "e t"))
        gain = spacing / (EKG_TIMES * step_uv)
        parts.append(_trace(frame, example.ekg[part], y + 5, gain, live=True))
    parts += _scale_bar(frame, step_uv, spacing)
    alt = f"Traces of {len(names)} derivations of item {example.item_id}, "
    alt += f"{step_uv:g} µV from line to line, negative up."
    return drawing(width, frame.bottom + 40, parts, alt=alt)


def _traces_height(example: Example) -> float:
    """Return the height of all traces; the scalograms next to them take the same."""
    return min(17.0 * len(example.traces), 340.0) + 8 * len(example.chains)


def _step_uv(example: Example) -> float:
    """Return the µV from line to line of an item's traces."""
    part = _middle(example.traces.shape[1], example.traces.shape[1] / example.sfreq)
    return _spacing_uv(example.traces[example.alive][:, part])


def _spacing_uv(traces: NDArray[np.float32]) -> float:
    """Return a round distance in µV from line to line that suits most of the traces."""
    if not traces.size:
        return 100.0
    typical = float(np.median(np.quantile(np.abs(traces), 0.98, axis=1)))
    return float(next((v for v in (20, 50, 100, 200, 500) if v >= typical * 1.2), 1000))


def _seconds(frame: Frame) -> list[str]:
    """Return a line per second, numbers below, and the name of the axis."""
    parts = []
    for value in ticks(frame.across, 10):
        x = frame.x(value)
        parts.append(f'<path class="grid" d="{path([(x, frame.top), (x, frame.bottom)])}"/>')
        parts.append(text(x, frame.bottom + 14, f"{value:g}", "m t"))
    parts.append(text(frame.left + frame.width / 2, frame.bottom + 29, "seconds of the window", "m t"))
    return parts


def _trace(frame: Frame, values: NDArray[np.float32], y: float, gain: float, *, live: bool) -> str:
    """Return a trace as short relative steps; negative is up, as readers of EEG expect."""
    step = max(1, math.ceil(len(values) / MOST_POINTS))
    points = np.clip(np.nan_to_num(values[::step], nan=0.0) * gain, -MOST_UP, MOST_UP)
    places = np.round(points * 4).astype(int)
    steps = " ".join(map(_STEPS.__getitem__, np.diff(places).tolist()))
    across = frame.width / max(len(places) - 1, 1)
    colour = INK if live else "#b0b6bc"
    return (
        f'<g transform="translate({number(frame.left)} {number(y)}) scale({number(across, 4)} .25)">'
        f'<path class="trace" stroke="{colour}" d="M0 {places[0]}l{steps}"/></g>'
        if len(places) > 1
        else ""
    )


def _scale_bar(frame: Frame, step_uv: float, spacing: float) -> list[str]:
    x, low = frame.right + 3, frame.bottom + 37
    return [
        line([(x, low), (x, low - spacing)], INK, width=2),
        text(x - 6, low - spacing / 2 + 5, f"{step_uv:g} µV", "e t b"),
    ]


def scalogram_picture(example: Example, width: float = 300.0) -> str:
    """Draw the rows of x one below the other, with the frequency axis spaced like the rows."""
    shown = min(len(example.outputs), MOST_OUTPUTS)
    length_s = example.traces.shape[1] / example.sfreq
    part = _middle(example.x.shape[2], length_s)
    span = (part.start / example.x.shape[2] * length_s, part.stop / example.x.shape[2] * length_s)
    height, gap = _traces_height(example) / shown, 6.0 if shown <= 8 else 3.0
    low, high = float(example.freqs_hz[0]), float(example.freqs_hz[-1])
    parts: list[str] = []
    up = Axis(low, max(high, low * 1.01), log=is_log_spaced(example.freqs_hz))
    frame = Frame(56, 14, width - 70, height * shown, Axis(*span), up)
    for row in range(shown):
        top = frame.top + height * row
        picture = np.asarray(example.x[row, ::-1, part], np.float64)
        parts.append(image(frame.left, top, frame.width, height - gap, png(_thin(picture), levels=32)))
        parts.append(text(6, top + height / 2 + 2, example.outputs[row], "b t"))
        own = Frame(frame.left, top, frame.width, height - gap, frame.across, frame.up)
        for hz in (1.0, 4.0, 16.0):
            if shown <= 5 and low < hz < high:
                parts.append(text(frame.left - 4, own.y(hz) + 3, f"{hz:g}", "e t"))
    for value in ticks(frame.across, 5):
        parts.append(text(frame.x(value), frame.bottom + 14, f"{value:g}", "m t"))
    rest = len(example.outputs) - shown
    below = "left: Hz" if shown <= 5 else f"{low:g} to {high:g} Hz" + (f"; {rest} more rows" if rest else "")
    parts.append(text(frame.left + frame.width / 2, frame.bottom + 29, f"seconds; {below}", "m t"))
    alt = (
        f"Scalograms of item {example.item_id}: {', '.join(example.outputs[:shown])}, {low:g} to {high:g} Hz."
    )
    return drawing(width, frame.bottom + 40, parts, alt=alt)


def _thin(picture: NDArray[np.float64], most: int = 125) -> NDArray[np.float64]:
    """Return an image with at most so many columns, its values brought to 0..1."""
    step = max(1, math.ceil(picture.shape[1] / most))
    whole = picture.shape[1] // step * step
    columns = sum(picture[:, first:whole:step] for first in range(step)) / step
    top = float(columns.max(initial=0.0))
    return np.asarray(columns / top if top > 1 else columns)


# --- step by step --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One step: a trace (one dimension, µV), or an image (frequency by time) with its limits in Hz."""

    name: str
    values: NDArray[Any]
    unit: str
    note: str
    freqs_hz: tuple[float, float] | None = None
    is_log: bool = True


def steps_card(title: str, steps: Sequence[Step], *, span_s: tuple[float, float], window_s: float) -> Card:
    """Draw one recording after each step of its preparation."""
    pictures = "".join(_step_picture(step, span_s, window_s) for step in steps)
    note = "Dashed: the window that becomes x; around it, the context that filter and wavelets need."
    return Card(title, f'<div class="steps">{pictures}</div>', note, "wide")


def _step_picture(step: Step, span_s: tuple[float, float], window_s: float) -> str:
    width, height = 400.0, 150.0
    is_trace = step.freqs_hz is None
    span = span_s if is_trace else (0.0, window_s)
    if is_trace:
        up = _range(step.values)
        frame = Frame(56, 24, width - 68, height - 62, Axis(*span), up)
        parts = axes(frame, yticks=[(v, f"{v:g}") for v in ticks(up, 4)])
        parts.append(_steps_trace(frame, step.values))
        for at in (0.0, window_s):
            parts.append(
                line([(frame.x(at), frame.top), (frame.x(at), frame.bottom)], INK, width=1, dash="4 3")
            )
    else:
        bottom, top = step.freqs_hz or (1.0, 2.0)
        up = Axis(bottom, max(top, bottom * 1.01), log=step.is_log)
        frame = Frame(56, 24, width - 68, height - 62, Axis(*span), up)
        low, high = float(np.nanmin(step.values)), float(np.nanmax(step.values))
        scaled = (np.asarray(step.values, np.float64)[::-1] - low) / max(high - low, 1e-12)
        parts = [image(frame.left, frame.top, frame.width, frame.height, png(_thin(scaled, 250)))]
        parts += axes(
            frame, yticks=[(hz, f"{hz:g}") for hz in (1.0, 4.0, 16.0) if bottom < hz < top], grid=False
        )
    parts.append(text(56, 14, step.name, "b"))
    parts.append(text(width - 8, 14, step.note, "e n"))
    parts.append(text(13, frame.top + frame.height / 2, step.unit, "m n", turn=True))
    parts.append(text(width - 8, height - 4, "seconds", "e n"))
    return drawing(width, height, parts, alt=f"Step {step.name}, over time in seconds: {step.note}.")


def _range(values: NDArray[Any]) -> Axis:
    good = values[np.isfinite(values)]
    low, high = (float(good.min()), float(good.max())) if good.size else (-1.0, 1.0)
    margin = max((high - low) * 0.06, 1.0)
    return Axis(low - margin, high + margin)


def _steps_trace(frame: Frame, values: NDArray[Any]) -> str:
    """Return a trace that is broken where it has gaps; peaks between points are kept."""
    starts = np.arange(0, len(values), max(1, math.ceil(len(values) / 700)))
    finite = np.isfinite(values)
    whole = np.logical_and.reduceat(finite, starts)
    filled = np.where(finite, values, 0).astype(np.float64)
    low, high = np.minimum.reduceat(filled, starts), np.maximum.reduceat(filled, starts)
    seconds = np.linspace(frame.across.low, frame.across.high, len(values))[starts]
    data = []
    for run in np.split(np.arange(len(starts)), np.flatnonzero(np.diff(whole)) + 1):
        if whole[run[0]]:
            twice = np.repeat(run, 2)
            ys = np.stack([low[run], high[run]], axis=1).ravel()
            kept = np.append(True, (ys[1:] != ys[:-1]) | (twice[1:] != twice[:-1]))
            points = frame.points(seconds[twice[kept]], ys[kept])
            data += [path(points)] if len(points) > 1 else []
    return f'<path class="trace" stroke="{INK}" d="{"".join(data)}"/>'
