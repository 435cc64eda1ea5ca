"""Pictures of the signals: spectra and mean scalograms per class, and the values of x."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CLASS_NAMES, CLASSES
from hms.quality.report.cards import Card, spoken
from hms.quality.report.style import CLASS_COLOURS, INK, MARK
from hms.quality.report.svg import (
    Axis,
    Frame,
    area,
    axes,
    colour_bar,
    drawing,
    image,
    line,
    png,
    rect,
    text,
    ticks,
)

__all__ = ["signal_cards"]

TITLES = ("Spectra per class", "Mean scalograms", "Values of x")
MAINS_HZ = (50.0, 60.0)


def signal_cards(
    sketches: Mapping[str, NDArray[Any]],
    label: NDArray[np.int64],
    ledger: Mapping[str, NDArray[np.float64]],
    *,
    freqs_hz: NDArray[np.float64],
    cwt_hz: tuple[float, float],
    window_s: float,
    outputs: Sequence[str],
) -> list[Card]:
    """Return the pictures made from the sketches of the items used.

    Parameters
    ----------
    sketches : what `hms.stages.sketches` keeps, one row per item used
    label : consensus of each row
    ledger : ``x_share_0`` and ``x_share_1`` of each row
    freqs_hz : frequencies of the spectra
    cwt_hz : lowest and highest frequency of the scalograms
    outputs : names of the rows of a scalogram
    """
    if not len(label):
        return [spoken(title, "No item is used, so there is nothing to draw.") for title in TITLES]
    return [
        spectra(sketches["spectrum"], label, freqs_hz),
        mean_scalograms(sketches["power"], label, cwt_hz=cwt_hz, window_s=window_s, outputs=outputs),
        values_of_x(sketches["histogram"], ledger),
    ]


# --- spectra -------------------------------------------------------------------------------------


def spectra(values: NDArray[np.float32], label: NDArray[np.int64], freqs_hz: NDArray[np.float64]) -> Card:
    """Draw the median spectrum of each class with the spread over its items."""
    good = np.isfinite(values).all(axis=1)
    values, label = 10 * values[good], label[good]
    if not len(values):
        return spoken(TITLES[0], "No item has a channel with a whole second of samples.")
    low, high = (float(np.quantile(values, q)) for q in (0.001, 0.999))
    up = Axis(math.floor(low / 10) * 10, math.ceil(high / 10 + 1e-9) * 10)
    everyone = np.median(values, axis=0)
    width, height, columns = 228.0, 176.0, 3
    parts: list[str] = []
    for i, name in enumerate(CLASS_NAMES):
        left, top = 48 + (i % columns) * (width + 8), 24 + (i // columns) * (height + 42)
        frame = Frame(left, top, width - 10, height, Axis(0, float(freqs_hz[-1]) + 1), up)
        parts += _spectrum(frame, values[label == i], everyone, freqs_hz, i, first=i % columns == 0)
        parts.append(text(left + 4, top - 7, name, "b"))
    bottom = 24 + 2 * (height + 42)
    parts.append(text(48 + 1.5 * width, bottom + 4, "Hz", "m n"))
    parts.append(text(13, bottom / 2, "power density, dB re 1 µV²/Hz", "m n", turn=True))
    note = (
        "As recorded, before the filter: mean over channels of each item; line: median item, band: middle "
        "half, dotted: median of all classes. Dashed: 50 and 60 Hz, where mains shows."
    )
    counts = ", ".join(f"{name} {int((label == i).sum())}" for i, name in enumerate(CLASS_NAMES))
    alt = f"Spectra of the six classes from {freqs_hz[0]:g} to {freqs_hz[-1]:g} Hz. {note} Items: {counts}."
    return Card(TITLES[0], drawing(48 + 3 * (width + 8), bottom + 10, parts, alt=alt), note, wide=True)


def _spectrum(
    frame: Frame,
    values: NDArray[np.float32],
    everyone: NDArray[np.float32],
    freqs_hz: NDArray[np.float64],
    index: int,
    *,
    first: bool,
) -> list[str]:
    shown = [(v, f"{v:g}") for v in ticks(frame.up, 4)]
    parts = axes(frame, yticks=shown if first else [(v, "") for v, _ in shown])
    for mains in MAINS_HZ:
        if mains < frame.across.high:
            x = frame.x(mains)
            parts.append(line([(x, frame.top), (x, frame.bottom)], MARK, width=0.8, dash="3 3"))
    parts.append(line(frame.points(freqs_hz, everyone), INK, width=0.9, dash="1.5 2"))
    if not len(values):
        parts.append(text(frame.left + frame.width / 2, frame.top + 20, "no item", "m n"))
        return parts
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    outline = [*frame.points(freqs_hz, q3), *frame.points(freqs_hz, q1)[::-1]]
    parts.append(area(outline, CLASS_COLOURS[index], opacity=0.35))
    parts.append(line(frame.points(freqs_hz, median), CLASS_COLOURS[index], width=2))
    return parts


# --- scalograms ----------------------------------------------------------------------------------


def mean_scalograms(
    power: NDArray[np.float16],
    label: NDArray[np.int64],
    *,
    cwt_hz: tuple[float, float],
    window_s: float,
    outputs: Sequence[str],
) -> Card:
    """Draw the mean scalogram of every class (row) and chain (column), all in one scale."""
    means = [
        10 * power[label == i].mean(axis=0, dtype=np.float64) if (label == i).any() else None
        for i in range(len(CLASSES))
    ]
    present = np.stack([m for m in means if m is not None])
    low, high = (float(v) for v in np.quantile(present, (0.01, 0.99)))
    high = max(high, low + 1e-3)
    shown = min(len(outputs), 8)
    left, top, cell_h = 96.0, 40.0, 76.0
    cell_w = min(160.0, 656 / shown)
    parts = []
    for j in range(shown):
        parts.append(text(left + cell_w * (j + 0.5), top - 8, outputs[j], "m b"))
    for i, mean in enumerate(means):
        parts += _scalogram_row(
            mean, i, (low, high), (left, top + i * cell_h, cell_w - 6, cell_h - 8), cwt_hz
        )
    bottom = top + len(means) * cell_h
    for j in range(shown):
        x = left + cell_w * j
        parts.append(text(x, bottom + 8, "0"))
        parts.append(text(x + cell_w - 6, bottom + 8, f"{window_s:g} s", "e"))
    parts.append(text(13, (top + bottom) / 2, "Hz", "m n", turn=True))
    parts += colour_bar(left + 70, bottom + 22, 180, f"{low:.0f}", f"{high:.0f}", "dB re 1 µV²")
    note = (
        "Mean over items of the logarithm of wavelet power before scaling; windows are not aligned to events."
    )
    if len(outputs) > shown:
        note += f" The first {shown} of {len(outputs)} rows."
    counts = ", ".join(f"{name} {int((label == i).sum())}" for i, name in enumerate(CLASS_NAMES))
    alt = f"Mean scalograms, {cwt_hz[0]:g} to {cwt_hz[1]:g} Hz, per class and chain. {note} Items: {counts}."
    width = left + cell_w * shown
    return Card(TITLES[1], drawing(width, bottom + 40, parts, alt=alt), note, wide=True)


def _scalogram_row(
    mean: NDArray[np.float64] | None,
    index: int,
    limits: tuple[float, float],
    place: tuple[float, float, float, float],
    cwt_hz: tuple[float, float],
) -> list[str]:
    left, top, width, height = place
    parts = [text(20, top + height / 2 + 4, CLASS_NAMES[index], "b")]
    if mean is None:
        return [*parts, text(left + 6, top + height / 2 + 4, "no item", "n")]
    frame = Frame(left, top, width, height, Axis(0, 1), Axis(*cwt_hz, log=True))
    for hz in _octave_ticks(cwt_hz):
        parts.append(text(left - 5, frame.y(hz) + 4, f"{hz:g}", "e"))
    for j, picture in enumerate(mean[:8]):
        scaled = (picture[::-1] - limits[0]) / (limits[1] - limits[0])
        parts.append(image(left + j * (width + 6), top, width, height, png(scaled)))
    return parts


def _octave_ticks(cwt_hz: tuple[float, float]) -> list[float]:
    """Return two or three frequencies that a reader of EEG knows."""
    return [hz for hz in (1.0, 4.0, 16.0, 64.0) if cwt_hz[0] * 1.1 <= hz <= cwt_hz[1] / 1.1]


# --- x -------------------------------------------------------------------------------------------


def values_of_x(histograms: NDArray[np.int32], ledger: Mapping[str, NDArray[np.float64]]) -> Card:
    """Draw the histogram of x over all items, with the shares at exactly 0 and 1."""
    counts = histograms.sum(axis=0, dtype=np.int64)
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
    note = f"Every tenth frame of {len(histograms):,} items."
    if {"x_share_0", "x_share_1"} <= set(ledger):
        at_0, at_1 = (100 * float(np.nanmean(ledger[name])) for name in ("x_share_0", "x_share_1"))
        note += f" Exactly 0: {at_0:.2f} %, exactly 1: {at_1:.2f} % of all values."
    note += f" {beyond:.1f} % lie outside 0 to 1 and are not drawn." if beyond else ""
    return Card(TITLES[2], drawing(480, 262, parts, alt=f"Histogram of x from 0 to 1. {note}"), note)
