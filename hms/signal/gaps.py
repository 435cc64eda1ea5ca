"""Gaps of a recording: what stands in for samples that are NaN or infinite.

A filter spreads one NaN over the whole recording, so gaps are filled before it. Inside a recording gaps are
short (1 to 3 samples in the competition's files), and what the signal does next to them tells what it did in
them better than a straight line does (docs/decisions/gaps.md). At the ends, and where a window's context
reaches beyond the recording, blocks of thousands of samples are missing, and whatever replaces them must
neither jump nor drift.

References
----------
Janssen A, Veldhuis R, Vries L, "Adaptive interpolation of discrete-time signals that can be
modeled as autoregressive processes", IEEE Trans Acoust Speech Signal Process 34 (1986): the
missing samples are those that leave the least squared error of prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hms.registry import Limits, NonNegativeFloat, Params, PositiveFloat, added, lookup, register

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

RIDGE = 1e-9
"""Share of a signal's power that is added to normal equations, so that a constant signal has a solution."""

ROWS_PER_COEFFICIENT = 4
"""Predictions that a model is fitted to, for each of its coefficients at least."""


@dataclass(frozen=True)
class FillGaps(Params):
    """Settings of `interpolate`.

    Attributes
    ----------
    hold_s : how long the nearest sample is held at an end
    taper_s : how long it then takes to reach the median
    order : samples that predict the next one in a short gap; 0: straight lines
    fit_s : how much signal on each side of a short gap the prediction is fitted to
    longest_s : length up to which a gap is short
    """

    hold_s: NonNegativeFloat
    taper_s: NonNegativeFloat
    order: Annotated[int, Limits(at_least=0, at_most=100)] = added(before=0)
    fit_s: PositiveFloat = added(before=2.0)
    longest_s: NonNegativeFloat = added(before=0.2)


def has_gaps(eeg: Array) -> bool:
    """Tell whether any sample is NaN or infinite.

    Either makes a sum so too, in the time of one look; as finite samples can also add up to an
    infinity, extremes have the last word: a NaN survives them, an infinity is one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.einsum("ct->c", eeg)).all():
            return False
    return not (np.isfinite(eeg.min(initial=0)) and np.isfinite(eeg.max(initial=0)))


def fill_gaps(eeg: Array, params: Params, *, sfreq: float) -> Array:
    """Return the recording with its gaps filled by the policy ``params.kind``.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN and infinities are gaps.
    params : settings of a kind of the group ``gaps``
    sfreq : sampling rate in Hz

    Returns
    -------
    float32, shape (n_channels, n_samples), µV, finite
        The array given, not a copy, where it has no gap; it is never written to.
    """
    if not has_gaps(eeg):
        return eeg
    filled: Array = lookup("gaps", params.kind).function(eeg, params, sfreq=sfreq)
    return filled


@register("gaps", "interpolate", FillGaps)
def interpolate(eeg: Array, params: FillGaps, *, sfreq: float) -> Array:
    """Return a copy with short gaps predicted, straight lines through longer ones and tapered ends.

    A linear prediction of each sample from the ``order`` before it is fitted by least squares to ``fit_s`` of
    signal on either side of a gap of up to ``longest_s``. The gap's samples are those that the prediction
    errs least with, limited to the range of that signal. Gaps less than ``order`` samples apart are filled
    together. Where there is too little signal to fit to, a straight line stays.

    Beyond the first and the last valid sample its value is held for ``hold_s``, then goes
    along half a cosine of ``taper_s`` to the median of the channel's valid samples and stays
    there. A channel without any valid sample becomes zeros.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        NaN and infinities are gaps.
    params : durations in s
    sfreq : sampling rate in Hz

    Returns
    -------
    float32, shape (n_channels, n_samples), µV, finite
    """
    out = np.array(eeg, dtype=np.float32)
    hold, taper = params.hold_s * sfreq, params.taper_s * sfreq
    for rows, gap in gap_patterns(~np.isfinite(eeg)):
        some = out[rows]
        valid = np.flatnonzero(~gap)
        if valid.size == 0:
            some[:] = 0
            continue
        has_open_end = gap[0] or gap[-1]
        centre = np.median(some[:, valid], axis=1, keepdims=True) if has_open_end else np.float32(0)
        bridge(some, gap)
        if params.order:
            _predict_short_gaps(some, gap, params, sfreq=sfreq)
        _taper_ends(some, valid[0], valid[-1], centre, hold=hold, taper=taper)
    return out


def gap_patterns(is_gap: NDArray[np.bool_]) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Yield channels together with the gaps that they have in common, if any.

    A device that loses samples loses those of all channels. Where gaps differ, channels come one by one.

    Parameters
    ----------
    is_gap : bool, shape (n_channels, n_samples)

    Yields
    ------
    rows : slice of the channels
    gap : bool, shape (n_samples,); some of it True
    """
    if len(is_gap) and (is_gap == is_gap[0]).all():
        groups = [slice(0, len(is_gap))]
    else:
        groups = [slice(row, row + 1) for row in range(len(is_gap))]
    for rows in groups:
        if is_gap[rows.start].any():
            yield rows, is_gap[rows.start]


def bridge(eeg: Array, gap: NDArray[np.bool_]) -> None:
    """Put straight lines through gaps that channels share, in place; at the ends, the nearest valid sample.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
    gap : bool, shape (n_samples,); the samples that are not valid: some, not all
    """
    missing = np.flatnonzero(gap)
    is_first = np.diff(missing, prepend=-2) > 1
    run = np.cumsum(is_first) - 1
    before, after = missing[is_first] - 1, missing[np.append(is_first[1:], True)] + 1
    before, after = np.where(before < 0, after, before), np.where(after >= gap.size, before, after)
    start, stop = (eeg[:, at].astype(np.float64) for at in (before, after))
    slope = (stop - start) / np.maximum(after - before, 1)
    eeg[:, missing] = slope[:, run] * (missing - before[run]) + start[:, run]


def _taper_ends(eeg: Array, first: np.intp, last: np.intp, centre: Any, *, hold: float, taper: float) -> None:
    start, stop = eeg[:, first : first + 1] - centre, eeg[:, last : last + 1] - centre
    eeg[:, :first] = centre + start * _taper(first, hold=hold, taper=taper)[::-1]
    eeg[:, last + 1 :] = centre + stop * _taper(eeg.shape[1] - 1 - last, hold=hold, taper=taper)


def _taper(n_samples: int | np.intp, *, hold: float, taper: float) -> Array:
    """Weight of the held value 1 to ``n_samples`` samples away from it, 1 falling to 0."""
    distance = np.arange(1, n_samples + 1, dtype=np.float64)
    progress = np.clip((distance - hold) / max(taper, 1e-9), 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * progress)).astype(np.float32)


def _predict_short_gaps(eeg: Array, gap: Mask, params: FillGaps, *, sfreq: float) -> None:
    """Put what their surroundings predict into the short inner gaps that channels share, in place."""
    n_fit, longest = round(params.fit_s * sfreq), round(params.longest_s * sfreq)
    for start, stop in _clusters(gap, longest, params.order):
        near = slice(max(0, start - n_fit), stop + n_fit)
        unknown = start + np.flatnonzero(gap[start:stop])
        signal = eeg[:, near].astype(np.float64)
        values = _most_predictable(signal, gap[near], unknown - near.start, params.order)
        if values is not None:
            eeg[:, unknown] = values


def _clusters(gap: Mask, longest: int, order: int) -> list[tuple[int, int]]:
    """Return first and past-last sample of inner gaps, neighbours of less than ``order`` apart together.

    A cluster with a gap that is longer than ``longest`` or is at an end is left out.
    """
    edges = np.flatnonzero(np.diff(gap, prepend=False, append=False)).reshape(-1, 2)
    found: list[tuple[int, int, bool]] = []
    for start, stop in edges.tolist():
        is_short = stop - start <= longest and start > 0 and stop < gap.size
        if found and start - found[-1][1] < order:
            first, _, all_short = found.pop()
            found.append((first, stop, all_short and is_short))
        else:
            found.append((start, stop, is_short))
    return [(start, stop) for start, stop, is_short in found if is_short]


def _most_predictable(eeg: Floats, gap: Mask, unknown: NDArray[np.intp], order: int) -> Floats | None:
    """Return the samples with which a linear prediction of the signal errs least.

    Parameters
    ----------
    eeg : float64, shape (n_channels, n_samples); gaps are filled somehow
    gap : bool, shape (n_samples,)
    unknown : int, shape (n_unknown,); samples of the gap that are wanted, ascending
    order : samples that predict the next one

    Returns
    -------
    float64, shape (n_channels, n_unknown), or None where there is too little signal to fit to
    """
    from numpy.lib.stride_tricks import sliding_window_view

    is_whole = ~sliding_window_view(gap, order + 1).any(axis=1) if gap.size > order else np.zeros(0, bool)
    if np.count_nonzero(is_whole) < ROWS_PER_COEFFICIENT * order:
        return None
    known = eeg[:, ~gap]
    centre = known.mean(axis=1, keepdims=True)
    rest = eeg - centre
    error = _prediction_error(sliding_window_view(rest, order + 1, axis=1)[:, is_whole])
    rest[:, unknown] = 0
    at = np.arange(max(unknown[0], order), min(unknown[-1] + order + 1, eeg.shape[1]))
    of_known = np.matmul(sliding_window_view(rest, order + 1, axis=1)[:, at - order], error[:, :, None])
    lag = at[:, None] - unknown
    of_unknown = np.where((lag >= 0) & (lag <= order), error[:, order - np.clip(lag, 0, order)], 0)
    values = centre - _least_squares(of_unknown, of_known[..., 0])
    return np.asarray(np.clip(values, *(f(axis=1)[:, None] for f in (known.min, known.max))))


def _prediction_error(windows: Floats) -> Floats:
    """Return the filter that gives the error of the best linear prediction of each window's last sample.

    From shape (n_channels, n_windows, order + 1), shape (n_channels, order + 1); its last value is 1.
    """
    coefficients = _least_squares(windows[..., :-1], windows[..., -1])
    return np.concatenate([-coefficients, np.ones((len(windows), 1))], axis=1)


def _least_squares(rows: Floats, target: Floats) -> Floats:
    """Return for each channel the x with the least squared ``rows @ x - target``."""
    square = rows.transpose(0, 2, 1) @ rows
    n = square.shape[1]
    size = np.trace(square, axis1=1, axis2=2) / n
    square[:, range(n), range(n)] += (RIDGE * size + np.finfo(np.float64).tiny)[:, None]
    right = rows.transpose(0, 2, 1) @ target[..., None]
    return np.asarray(np.linalg.solve(square, right)[..., 0])


@register("gaps", "median")
def median(eeg: Array, params: Params, *, sfreq: float) -> Array:
    """Return a copy whose gaps hold the median of the channel's valid samples; zeros where it has none."""
    out = np.array(eeg, dtype=np.float32)
    for row in out:
        gap = ~np.isfinite(row)
        row[gap] = 0 if gap.all() else np.median(row[~gap])
    return out
