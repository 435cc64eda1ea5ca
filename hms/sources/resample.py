"""Resampling to the sampling rate that everything behind the sources works at."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ratio = tuple[int, int]
"""Factors up and down: output rate = input rate x up / down."""

MAX_FACTOR = 20_000
"""A polyphase filter for a larger factor would have millions of taps."""

HALF_LENGTH = 48
"""Zero crossings of the low-pass on each side."""

KAISER_BETA = 10.0
"""Stop band 100 dB down."""

TABLE_STEPS = 2_048
"""Places per zero crossing at which the low-pass is tabled; between them it is a straight line, 1e-7 off."""

ROWS_TOGETHER = 256
"""Output samples whose weights are in memory together."""


def source_range(start: int, stop: int, ratio: Ratio) -> tuple[int, int]:
    """Return the input samples that output samples start to stop depend on.

    The first one is at the same instant as an output sample, so that the result does
    not depend on where a piece begins.
    """
    up, down = ratio
    reach = math.ceil(HALF_LENGTH * max(up, down) / up)
    first = (start // up) * down - math.ceil(reach / down) * down
    return first, -(-stop * down // up) + reach


def resample(
    signals: NDArray[np.float64], first: int, start: int, stop: int, ratio: Ratio
) -> NDArray[np.float32]:
    """Return output samples start to stop of signals whose first given sample has the number ``first``.

    A zero-phase windowed-sinc low-pass (Kaiser, beta 10, 48 zero crossings a side) at half the lower rate, in
    polyphase form. Below 80 % of the output's Nyquist frequency (or the input's, if lower) a sine is off by
    less than 1e-5 of its amplitude, and of what is above 120 % of it less than 1e-5 is left. float32, shape
    (n_channels, stop - start).

    Parameters
    ----------
    signals : float64, shape (n_channels, n_given); a NaN becomes NaN over the filter's length
    first : number of the first given sample, a multiple of the factor down
    start, stop : output samples wanted; those given must cover `source_range`
    """
    up, down = ratio
    if up == down:
        return signals[:, start - first : stop - first].astype(np.float32)
    from scipy.signal import upfirdn

    taps = _low_pass(ratio)
    half = (taps.size - 1) // 2
    # Output n is at n * down in the rate of the upsampled signal, whose zero is `first`;
    # leading zeros bring the filter's delay to a whole number of output samples.
    lead = -half % down
    offset = (half + lead) // down + start - first * up // down
    padded = np.concatenate([np.zeros(lead), taps])
    filtered = upfirdn(padded, signals, up, down, axis=1)
    return np.asarray(filtered[:, offset : offset + stop - start], dtype=np.float32)


@lru_cache(maxsize=32)
def _low_pass(ratio: Ratio) -> NDArray[np.float64]:
    """Return the taps at the rate input x up; their sum is ``up``."""
    from scipy.signal import firwin

    widest = max(ratio)
    taps = np.asarray(firwin(2 * HALF_LENGTH * widest + 1, 1 / widest, window=("kaiser", KAISER_BETA)))
    taps *= ratio[0]
    taps.flags.writeable = False
    return taps


# --- any ratio -----------------------------------------------------------------------------------


def source_range_anywhere(start: int, stop: int, step: float) -> tuple[int, int]:
    """Return the input samples that `resample_anywhere` needs for output samples start to stop."""
    reach = _reach(step)
    return math.floor(start * step) - reach + 1, math.floor((stop - 1) * step) + reach + 1


def resample_anywhere(
    signals: NDArray[np.float64], first: int, start: int, stop: int, step: float
) -> NDArray[np.float32]:
    """Return output samples start to stop of signals whose first given sample has the number ``first``.

    Output n is at ``n * step`` input samples, which need be no fraction of anything. The low-pass is that of
    `resample`, evaluated around each output sample, with weights that sum to one; it is as exact. A sample
    does not depend on where a piece begins. float32, shape (n_channels, stop - start).

    Parameters
    ----------
    signals : float64, shape (n_channels, n_given), finite
    start, stop : output samples wanted; those given must cover `source_range_anywhere`
    """
    reach, table = _reach(step), _table()
    taps = np.arange(1 - reach, reach + 1)
    out = np.empty((len(signals), stop - start), np.float32)
    for begin in range(start, stop, ROWS_TOGETHER):
        numbers = np.arange(begin, min(begin + ROWS_TOGETHER, stop))
        whole, part = np.divmod(numbers * step, 1.0)
        crossings = np.abs(taps - part[:, None]) / max(step, 1.0)
        weights = np.interp(crossings * TABLE_STEPS, np.arange(table.size), table, right=0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        places = (whole.astype(np.int64) - first)[:, None] + taps
        out[:, begin - start : begin - start + numbers.size] = np.einsum(
            "cnt,nt->cn", signals[:, places], weights
        )
    return out


def _reach(step: float) -> int:
    """Return the input samples on either side of an output sample that it depends on."""
    return math.ceil(HALF_LENGTH * max(step, 1.0)) + 1


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float64]:
    """Return half of the low-pass, from its middle to its last zero crossing."""
    at = np.arange(HALF_LENGTH * TABLE_STEPS + 1) / TABLE_STEPS
    shape = np.sqrt(np.maximum(0.0, 1 - (at / HALF_LENGTH) ** 2))
    table: NDArray[np.float64] = np.sinc(at) * np.i0(KAISER_BETA * shape) / np.i0(KAISER_BETA)
    table.flags.writeable = False
    return table
