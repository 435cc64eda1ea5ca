"""Resampling to the sampling rate that everything behind the sources works at."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_FACTOR", "Ratio", "rational", "resample", "resampled_length", "source_range"]

Ratio = tuple[int, int]
"""Factors up and down: output rate = input rate x up / down."""

MAX_FACTOR = 20_000
"""A larger factor means a rate that is no round number; its filter would have millions of taps."""

HALF_LENGTH = 48
"""Zero crossings of the low-pass on each side."""

KAISER_BETA = 10.0
"""Stop band 100 dB down."""


def rational(sfreq_in: float, sfreq_out: float) -> Ratio:
    """Return the factors that turn one sampling rate into the other.

    Raises
    ------
    ValueError
        If the rate is not positive, or the ratio is no fraction with parts up to `MAX_FACTOR`.
    """
    if not (math.isfinite(sfreq_in) and sfreq_in > 0):
        raise ValueError(f"a sampling rate must be above 0 Hz; got {sfreq_in:g}")
    ratio = (Fraction(sfreq_out) / Fraction(sfreq_in)).limit_denominator(MAX_FACTOR)
    if ratio.numerator > MAX_FACTOR or not math.isclose(float(ratio) * sfreq_in, sfreq_out, rel_tol=1e-9):
        raise ValueError(f"{sfreq_in:g} Hz has no simple ratio to {sfreq_out:g} Hz")
    return ratio.numerator, ratio.denominator


def resampled_length(n_samples: int, ratio: Ratio) -> int:
    """Return how many output samples lie within a recording of ``n_samples``."""
    up, down = ratio
    return n_samples * up // down


def source_range(start: int, stop: int, ratio: Ratio) -> tuple[int, int]:
    """Return the input samples that output samples start to stop depend on.

    The first one stands at the same instant as an output sample, so that the result does
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

    A zero-phase windowed-sinc low-pass (Kaiser, beta 10, 48 zero crossings a side) at half
    the lower rate, in polyphase form. Below 80 % of the output's Nyquist frequency (or the
    input's, if lower) a sine is off by less than 1e-5 of its amplitude, and of what lies above
    120 % of it less than 1e-5 is left.

    Parameters
    ----------
    signals : float64, shape (n_channels, n_given), finite
        A NaN becomes NaN over the filter's length.
    first : number of the first given sample, a multiple of the factor down
    start, stop : output samples wanted; those given must cover `source_range`
    ratio : factors up and down

    Returns
    -------
    float32, shape (n_channels, stop - start)
    """
    up, down = ratio
    if up == down:
        return signals[:, start - first : stop - first].astype(np.float32)
    from scipy.signal import upfirdn

    taps = _low_pass(ratio)
    half = (taps.size - 1) // 2
    # Output n stands at n * down in the rate of the upsampled signal, whose zero is `first`;
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
