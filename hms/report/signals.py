"""Pictures of the signals: spectra and mean scalograms per class, and the values of x."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes
from hms.report.cards import Card, absent_classes, spoken
from hms.report.style import CLASS_COLOURS, INK, MARK, class_colours
from hms.report.svg import Axis, Frame, area, axes, colour_bar, drawing, image, line, png, rect, text, ticks
from hms.terminal import counted

TITLES = ("Spectra per class", "Mean scalograms", "Values of x")
NO_CLASSES = "The table of windows has no votes, so all items are drawn together."
MAINS_HZ = (50.0, 60.0)
MOST_OUTPUTS = 24
MOST_BESIDE = 8
"""Rows of a scalogram drawn side by side; more are drawn below."""

SORTED = 1 << 16
"""Values that are sorted at a time, about."""

SMALL, LARGE = (240.0, 244.0), (480.0, 264.0)
"""Width and height of a spectrum among others, and of one alone."""

NO_SPECTRUM = "No item has a channel with a whole second of samples."
SPECTRUM_NOTE = (
    "As recorded, before the filter: mean over channels of each item; line: median item, band: middle half"
)
MAINS_NOTE = "Dashed: 50 and 60 Hz, the mains frequencies."
SCALOGRAM_NOTE = (
    "Mean over items of the logarithm of wavelet power before scaling; windows are not aligned to events."
)


@dataclass(frozen=True)
class Gathered:
    """What pictures of the items used are made of.

    Attributes
    ----------
    spectrum : float32, shape (n_items, n_freqs), dB re 1 µV²/Hz
    power : float64, shape (n_classes + 1, n_outputs, n_freqs, n_frames), sums over the items of each
        class, and over those without one
    histogram : int64, shape (n_bins + 2,), the sum over items
    """

    spectrum: NDArray[np.float32]
    power: NDArray[np.float64]
    histogram: NDArray[np.int64]


def gather(
    blocks: Iterable[Mapping[str, NDArray[Any]]],
    label: NDArray[np.int64],
    is_used: NDArray[np.bool_],
    n_classes: int,
) -> Gathered:
    """Return what sketches, some of them at a time, come to.

    Sums of float16 are exact in float64, whatever the order.

    Parameters
    ----------
    blocks : arrays that `hms.stages.sketches` keeps, and ``row``, which item each row is of
    label, is_used : of every item, its class, -1 for none, and whether it takes part
    """
    sums, histogram = [], []
    spectra, first = np.empty((0, 0), np.float32), 0
    for block in blocks:
        inside = is_used[block["row"]]
        if inside.any():
            of, power = label[block["row"][inside]], block["power"][inside]
            if not first:
                spectra = np.empty((int(is_used.sum()), block["spectrum"].shape[1]), np.float32)
            spectra[first : first + len(of)] = 10 * block["spectrum"][inside]
            first += len(of)
            sums.append([power[of == i].sum(axis=0, dtype=np.float64) for i in (*range(n_classes), -1)])
            histogram.append(block["histogram"][inside].sum(axis=0, dtype=np.int64))
    return Gathered(spectra, np.sum(sums, axis=0), np.sum(histogram, axis=0))


def signal_cards(
    sketches: Gathered | None,
    label: NDArray[np.int64],
    ledger: Mapping[str, NDArray[np.float64]],
    *,
    classes: Classes,
    freqs_hz: NDArray[np.float64],
    cwt_hz: tuple[float, float],
    window_s: float,
    outputs: Sequence[str],
) -> list[Card]:
    """Return the pictures made from the sketches of the items used.

    Parameters
    ----------
    sketches : of the items used, None where there are none
    label : number of each row's consensus in ``classes``, -1 for one without votes
    ledger : ``x_share_0`` and ``x_share_1`` of each row
    freqs_hz, cwt_hz : frequencies of the spectra, and the lowest and highest of the scalograms
    outputs : names of the rows of a scalogram
    """
    if sketches is None:
        return [spoken(title, "No item is used, so there is nothing to draw.") for title in TITLES]
    voted = classes if (label >= 0).any() else None
    return [
        spectra(sketches.spectrum, label, freqs_hz, voted),
        mean_scalograms(sketches.power, label, voted, cwt_hz=cwt_hz, window_s=window_s, outputs=outputs),
        values_of_x(sketches.histogram, len(label), ledger),
    ]


# --- spectra -------------------------------------------------------------------------------------


def spectra(
    values: NDArray[np.float32],
    label: NDArray[np.int64],
    freqs_hz: NDArray[np.float64],
    classes: Classes | None,
) -> Card:
    """Draw the median spectrum of each class, or of all items, with the spread over its items."""
    good = np.isfinite(values.sum(axis=1))  # decibels add up to what float32 holds
    values, label = (values, label) if good.all() else (values[good], label[good])
    title = "Spectrum" if classes is None else TITLES[0]
    shown = [("All items", CLASS_COLOURS[1], label < 0)] if len(label) else []
    note = f"{NO_CLASSES} {SPECTRUM_NOTE}. {MAINS_NOTE}"
    if classes is not None:
        colours, counts = class_colours(len(classes)), np.bincount(label[label >= 0], minlength=len(classes))
        present = np.flatnonzero(counts).tolist()
        shown = [(classes.titles[i], colours[i], label == i) for i in present]
        note = (
            f"{SPECTRUM_NOTE}, dotted: median of all classes. {MAINS_NOTE}{absent_classes(counts, classes)}"
        )
    if not shown:
        return spoken(title, NO_SPECTRUM)
    up = _decibels(values)
    everyone = None if classes is None else _over_items(values, lambda few: np.median(few, axis=0))
    size = SMALL if len(shown) > 1 else LARGE
    tiles = [
        _spectrum(values, own, freqs_hz, up, name, colour, size, everyone) for name, colour, own in shown
    ]
    body = f'<div class="tiles">{"".join(tiles)}</div>' if len(tiles) > 1 else tiles[0]
    return Card(title, body, note, ("", "", "two", "two")[len(tiles)] if len(tiles) < 4 else "wide")


def _over_items(
    values: NDArray[np.float32], statistic: Callable[[NDArray[np.float32]], NDArray[Any]]
) -> NDArray[Any]:
    """Return a statistic over items, of a few frequencies at a time: it sorts a copy of what it gets."""
    n = max(1, SORTED // len(values))
    return np.concatenate([statistic(values[:, i : i + n]) for i in range(0, values.shape[1], n)], axis=-1)


def _decibels(values: NDArray[np.float32]) -> Axis:
    low, high = _low_end(values.T, values.size), -_low_end((-column for column in values.T), values.size)
    return Axis(math.floor(low / 10) * 10, math.ceil(high / 10 + 1e-9) * 10)


def _low_end(columns: Iterable[NDArray[np.float32]], n_values: int) -> float:
    """Return the quantile of 0.001 of all columns' values, of which only the lowest are copied."""
    place = 0.001 * (n_values - 1)
    below = int(place)
    lowest = np.concatenate(
        [np.partition(column, min(below + 1, len(column) - 1))[: below + 2].copy() for column in columns]
    )
    lowest.sort()
    one, other = lowest[below].item(), lowest[min(below + 1, len(lowest) - 1)].item()
    return float(one + (other - one) * (place - below))


def _spectrum(
    values: NDArray[np.float32],
    shown: NDArray[np.bool_],
    freqs_hz: NDArray[np.float64],
    up: Axis,
    name: str,
    colour: str,
    size: tuple[float, float],
    everyone: NDArray[np.float32] | None = None,
) -> str:
    n = int(shown.sum())
    frame = Frame(42, 24, size[0] - 58, size[1] - 64, Axis(0, float(freqs_hz[-1]) + 1), up)
    parts = [text(frame.left + 2, 14, name, "b"), text(frame.right, 14, f"n = {n:,}", "e n")]
    parts += axes(
        frame,
        xlabel="Hz",
        ylabel="dB re 1 µV²/Hz",
        xticks=[(v, f"{v:g}") for v in ticks(frame.across, 4)],
        yticks=[(v, f"{v:g}") for v in ticks(up, 4)],
    )
    for mains in MAINS_HZ:
        if mains < frame.across.high:
            x = frame.x(mains)
            parts.append(line([(x, frame.top), (x, frame.bottom)], MARK, width=0.8, dash="3 3"))
    if everyone is not None:
        parts.append(line(frame.points(freqs_hz, everyone), INK, width=0.9, dash="1.5 2"))
    q1, median, q3 = _over_items(values, lambda few: np.quantile(few[shown], (0.25, 0.5, 0.75), axis=0))
    parts.append(area([*frame.points(freqs_hz, q3), *frame.points(freqs_hz, q1)[::-1]], colour, opacity=0.35))
    parts.append(line(frame.points(freqs_hz, median), colour, width=2))
    said = f"median of {counted(n, 'item')}, highest at {freqs_hz[int(median.argmax())]:g} Hz"
    span = f"from {freqs_hz[0]:g} to {freqs_hz[-1]:g} Hz"
    return drawing(*size, parts, alt=f"Spectrum of {name} {span}: {said}.")


# --- scalograms ----------------------------------------------------------------------------------


def mean_scalograms(
    power: NDArray[np.float64],
    label: NDArray[np.int64],
    classes: Classes | None,
    *,
    cwt_hz: tuple[float, float],
    window_s: float,
    outputs: Sequence[str],
) -> Card:
    """Draw the mean scalogram of every class, or of all items (row), and chain (column) in one scale.

    ``power``: sums by class, and last the sum over items without one.
    """
    shown = tuple(outputs[:MOST_OUTPUTS])
    means = [("All items", len(label), 10 * (power[-1] / len(label)))]
    before, after = f"{NO_CLASSES} ", ""
    if classes is not None:
        counts = np.bincount(label[label >= 0], minlength=len(classes))
        present = np.flatnonzero(counts).tolist()
        means = [(classes.titles[i], int(counts[i]), 10 * (power[i] / counts[i])) for i in present]
        before, after = "", absent_classes(counts, classes)
    limits = _limits([mean for _, _, mean in means])
    tiles = [_scalogram_tile(mean, name, n, limits, cwt_hz, window_s, shown) for name, n, mean in means]
    body = tiles[0] if classes is None else f'<div class="tiles broad">{"".join(tiles)}</div>'
    rest = "" if len(outputs) == len(shown) else f" The first {len(shown)} of {len(outputs)} rows."
    note = f"{before}{SCALOGRAM_NOTE}{rest}{after}"
    return Card(TITLES[1], body + _scale(limits), note, "two" if len(tiles) > 1 else "")


def _limits(means: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the ends of the scale of colours."""
    low, high = (float(v) for v in np.quantile(np.stack(means), (0.01, 0.99)))
    return low, max(high, low + 1e-3)


def _scale(limits: tuple[float, float]) -> str:
    low, high = limits
    bar = colour_bar(60, 4, 180, f"{low:.0f}", f"{high:.0f}", "dB re 1 µV²")
    return drawing(400, 20, bar, alt=f"Colours from {low:.0f} to {high:.0f} dB re 1 µV², dark to light.")


def _scalogram_tile(
    mean: NDArray[np.float64],
    name: str,
    count: int,
    limits: tuple[float, float],
    cwt_hz: tuple[float, float],
    window_s: float,
    outputs: Sequence[str],
) -> str:
    lines = math.ceil(len(outputs) / MOST_BESIDE)
    beside = math.ceil(len(outputs) / lines)
    width, height = 348.0 / beside, 84.0 if lines == 1 else 62.0
    across, up = Axis(0, window_s), Axis(cwt_hz[0], max(cwt_hz[1], cwt_hz[0] * 1.01), log=True)
    parts = [text(6, 14, name, "b"), text(394, 14, f"n = {count:,}", "e n")]
    for j, output in enumerate(outputs):
        left, top = 44 + j % beside * width, 36 + j // beside * (height + 20)
        frame = Frame(left, top, width - 5, height, across, up)
        if j % beside == 0:
            parts += [text(38, frame.y(hz) + 4, f"{hz:g}", "e") for hz in _octave_ticks(cwt_hz)]
            parts.append(text(12, top + height / 2, "Hz", "m n", turn=True))
        scaled = (mean[j, ::-1] - limits[0]) / (limits[1] - limits[0])
        parts.append(image(left, top, frame.width, height, png(scaled)))
        parts.append(text(left + width / 2, top - 6, output, "m b" if beside < 6 else "m t"))
        if j + beside >= len(outputs):
            parts.append(text(left, frame.bottom + 14, "0", "t"))
            parts.append(text(frame.right, frame.bottom + 14, f"{window_s:g} s", "e t"))
    peak = [float(mean[j].mean(axis=1).argmax()) / max(mean.shape[1] - 1, 1) for j in range(len(outputs))]
    hz = [cwt_hz[0] * (cwt_hz[1] / cwt_hz[0]) ** share for share in peak]
    said = ", ".join(f"{output} {value:.1f} Hz" for output, value in zip(outputs, hz, strict=True))
    alt = f"Mean scalogram of {name}, {counted(count, 'item')}; most power at: {said}."
    return drawing(400, 46 + lines * (height + 20), parts, alt=alt)


def _octave_ticks(cwt_hz: tuple[float, float]) -> list[float]:
    """Return two or three frequencies that EEG readers know."""
    return [hz for hz in (1.0, 4.0, 16.0, 64.0) if cwt_hz[0] * 1.1 <= hz <= cwt_hz[1] / 1.1]


# --- x -------------------------------------------------------------------------------------------


def values_of_x(counts: NDArray[np.int64], n_items: int, ledger: Mapping[str, NDArray[np.float64]]) -> Card:
    """Draw the histogram of x over all items, with the shares at exactly 0 and 1."""
    share = 100 * counts / max(int(counts.sum()), 1)
    inside = share[1:-1]
    bins = len(inside)
    frame = Frame(52, 12, 414, 206, Axis(0, 1), Axis(0, max(float(inside.max()) * 1.08, 1e-6)))
    parts = axes(frame, xlabel="x", ylabel="share of all values, %")
    for i, value in enumerate(inside.tolist()):
        y = frame.y(value)
        tip = f"{i / bins:.2f} to {(i + 1) / bins:.2f}: {value:.2f} %"
        width = frame.width / bins - 0.6
        parts.append(rect(frame.x(i / bins), y, width, frame.bottom - y, CLASS_COLOURS[1], tip=tip))
    beyond = float(share[0] + share[-1])
    note = f"Every tenth frame of {counted(n_items, 'item')}."
    if {"x_share_0", "x_share_1"} <= set(ledger):
        at_0, at_1 = (100 * float(np.nanmean(ledger[name])) for name in ("x_share_0", "x_share_1"))
        note += f" Exactly 0: {at_0:.2f} %, exactly 1: {at_1:.2f} % of all values."
    note += f" {beyond:.1f} % lie outside 0 to 1 and are not drawn." if beyond else ""
    return Card(TITLES[2], drawing(480, 262, parts, alt=f"Histogram of x from 0 to 1. {note}"), note)
