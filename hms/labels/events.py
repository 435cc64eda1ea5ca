"""From events to votes: what somebody marked in a recording, as votes on windows of it.

An event is a stretch of a recording with a label. Each annotator casts at most one vote on a
window: for the class whose events fill most of its judged part. With shares instead of votes,
each instant of the judged part is divided among the classes marked there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes

Floats = NDArray[np.float64]
_ROUNDING_S = 1e-6
"""Seconds are sums of decimals; a share that misses its limit by less than this reaches it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a recording with a label.

    Attributes
    ----------
    start_s, stop_s : s from the recording's first sample; ``stop_s`` is None where no duration is stated
    label : as the file spells it
    annotator : who marked it, "" where that is not said
    """

    start_s: float
    stop_s: float | None
    label: str
    annotator: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of a recording that belongs to the class in column ``class_`` of the votes."""

    start_s: float
    stop_s: float
    class_: int
    annotator: str = ""


@dataclass(frozen=True)
class Rule:
    """How marks become votes.

    Attributes
    ----------
    part_s : start and length, s, of the judged part of a sub-window
    min_share : a class may take a vote if its marks fill this share of the judged part, or if
        the judged part holds this share of one of its marks
    background : class of the time that has no other mark, or None where such time is not judged
    soft : whether a vote is a share
    """

    part_s: tuple[float, float]
    min_share: float
    background: int | None
    soft: bool


def name_classes(
    events: Iterable[Event], mapping: Mapping[str, str | None], classes: Classes
) -> tuple[list[tuple[Event, int]], Counter[str]]:
    """Return the events whose label means a class, with its column, and how often other labels occur.

    Parameters
    ----------
    events : in any order
    mapping : labels to names of classes, None for a label that is left out on purpose; a
        label that it lacks is looked for among the classes themselves. Letter case and
        spaces around a label do not matter where no label matches as it is.
    """
    exact = {name: name for name in classes.names} | dict(mapping)
    folded = {label.strip().casefold(): name for label, name in exact.items()}
    known: list[tuple[Event, int]] = []
    unknown: Counter[str] = Counter()
    for event in events:
        key = event.label.strip().casefold()
        if event.label not in exact and key not in folded:
            unknown[event.label] += 1
            continue
        name = exact[event.label] if event.label in exact else folded[key]
        if name is not None:
            known.append((event, classes.index(name)))
    return known, unknown


def cast_votes(starts_s: Sequence[float], marks: Sequence[Mark], rule: Rule, n_classes: int) -> Floats:
    """Return the votes on sub-windows of one recording: float64, shape (n_windows, n_classes).

    They are whole numbers unless ``rule.soft``. Each annotator who marked anything in the recording votes;
    where nobody did, one votes, for the background. A tie goes to the first class. The background takes a
    vote only where no other class may.

    Parameters
    ----------
    starts_s : where sub-windows start, s
    marks : of this recording, inside it
    """
    first = np.asarray(starts_s, dtype=np.float64) + rule.part_s[0]
    votes = np.zeros((first.size, n_classes))
    for annotator in sorted({mark.annotator for mark in marks}) or [""]:
        own = [mark for mark in marks if mark.annotator == annotator]
        votes += _votes_of_one(first, own, rule, n_classes)
    return votes


def overlapping_s(marks: Sequence[Mark]) -> tuple[float, float]:
    """Return for how many seconds one annotator's marks name two classes, and where that is first the case.

    The second is NaN where they never do.
    """
    total, first = 0.0, np.nan
    for annotator in {mark.annotator for mark in marks}:
        edges, active = _timeline([mark for mark in marks if mark.annotator == annotator])
        several = np.flatnonzero(active.sum(axis=1) > 1)
        total += float(np.diff(edges)[several].sum())
        if several.size:
            first = np.nanmin([first, edges[several[0]]])
    return total, float(first)


def _votes_of_one(first: Floats, marks: Sequence[Mark], rule: Rule, n_classes: int) -> Floats:
    """Return one annotator's votes on judged parts that start at ``first``."""
    length = rule.part_s[1]
    others = [mark for mark in marks if mark.class_ != rule.background]
    edges, active = _timeline(others, n_classes)
    together = np.asarray(active.any(axis=1), dtype=np.float64)
    covered = _seconds(edges, together[:, None], first, length)[:, 0]
    if rule.soft:
        share = active / np.maximum(active.sum(axis=1, keepdims=True), 1)
        votes = _seconds(edges, share, first, length) / length
        if rule.background is not None:
            votes[:, rule.background] = 1 - covered / length
        return np.clip(votes, 0, 1)
    seconds = _seconds(edges, active.astype(np.float64), first, length)
    may = seconds >= rule.min_share * length - _ROUNDING_S
    may |= _holds_enough(others, rule.min_share, first, length, n_classes)
    may &= seconds > 0
    if rule.background is not None:
        free = (length - covered >= rule.min_share * length - _ROUNDING_S) & ~may.any(axis=1)
        may[:, rule.background], seconds[:, rule.background] = free, length
    winner = np.where(may, seconds, -1.0).argmax(axis=1)
    votes = np.zeros_like(seconds)
    votes[np.arange(len(votes)), winner] = may.any(axis=1)
    return votes


def _timeline(marks: Sequence[Mark], n_classes: int | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the ends of all marks, and which classes are marked between each two of them.

    float64, shape (n_edges,), ascending; bool, shape (n_edges - 1, n_classes).
    """
    width = max((mark.class_ for mark in marks), default=0) + 1 if n_classes is None else n_classes
    if not marks:
        return np.zeros(2), np.zeros((1, width), np.bool_)
    edges = np.unique([edge for mark in marks for edge in (mark.start_s, mark.stop_s)])
    change = np.zeros((edges.size, width), np.int64)
    for mark in marks:
        change[np.searchsorted(edges, mark.start_s), mark.class_] += 1
        change[np.searchsorted(edges, mark.stop_s), mark.class_] -= 1
    return edges, change.cumsum(axis=0)[:-1] > 0


def _seconds(edges: Floats, density: Floats, first: Floats, length: float) -> Floats:
    """Return the integral of a function that is constant between edges, over parts of one length.

    float64, shape (n_parts, n_columns); 0 outside the edges.
    """
    steps = np.diff(edges)[:, None] * density
    total = np.concatenate([np.zeros((1, density.shape[1])), steps.cumsum(axis=0)])
    return np.stack(
        [np.interp(first + length, edges, column) - np.interp(first, edges, column) for column in total.T],
        axis=1,
    )


def _holds_enough(
    marks: Sequence[Mark], min_share: float, first: Floats, length: float, n_classes: int
) -> NDArray[np.bool_]:
    """Tell which parts hold at least a share of one mark that is shorter than they are, by class."""
    holds = np.zeros((first.size, n_classes), np.bool_)
    for column in range(n_classes):
        short = [m for m in marks if m.class_ == column and m.stop_s - m.start_s < length]
        begin = np.array([m.start_s for m in short])
        end = np.array([m.stop_s for m in short])
        needed = min_share * (end - begin)
        lowest = np.sort(begin + needed - length - _ROUNDING_S)
        highest = np.sort(end - needed + _ROUNDING_S)
        began = np.searchsorted(lowest, first, side="right")
        holds[:, column] = began > np.searchsorted(highest, first, side="left")
    return holds


def clipped(mark: Mark, duration_s: float) -> Mark | None:
    """Return what of a mark is inside a recording, None where nothing does."""
    start_s, stop_s = max(mark.start_s, 0.0), min(mark.stop_s, duration_s)
    return replace(mark, start_s=start_s, stop_s=stop_s) if start_s < stop_s else None
