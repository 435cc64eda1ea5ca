"""Hum in x's own band: a narrow line that lasts through the window and is not a rhythm of the EEG.

A line of one frequency turns by the same angle from one block of 2 s to the next, and has the
same size in each. Its *steadiness*, the autocorrelation of the transforms one block apart, is 1.
An alpha rhythm is 0.5 to 2 Hz wide and forgets its phase within a second or two; rhythmic delta
is slower than `LOWEST_HZ`; a seizure changes its frequency.

References
----------
G. C. Carter, "Coherence and time delay estimation", Proc IEEE 75:236 (1987): estimates over
few blocks are high by chance, so the limit is near 1. ACNS 2021 (Hirsch et al., J Clin
Neurophysiol 38:1): rhythmic delta is 0.5 to 4 Hz, evolution is a change of frequency by 0.5 Hz.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.quality.blocks import QUIET, Array, Rows
from hms.quality.spectra import BLOCK_S
from hms.signal.filters import FilterParams, design_filter

FIRST_HZ, BEYOND_TOP = 1.0, 1.2
"""Power counts from there to this times the highest frequency of x, whose wavelet reaches as far."""

LOWEST_HZ = 5.0
"""Rhythms below are the brain's, however regular."""

STEADY = 0.85
"""Steadiness from which on a line is hum: rhythms of the real windows that it was set on reach 0.78, hum has
0.95 and more (docs/quality_proof.md)."""

FEWEST_BLOCKS = 3


class ObservedLines(TypedDict):
    """What the steady lines of one item follow from, by derivation and bin.

    Attributes
    ----------
    line_turned : complex64, shape (n_derivations, n_bins); sum over blocks of each transform times the
        conjugate of the one before
    line_power, line_ends : float32, same shape; sum over blocks of the squared magnitude, and that of
        the first and the last block
    n_line_blocks : int64
    """

    line_turned: NDArray[np.complex64]
    line_power: Array
    line_ends: Array
    n_line_blocks: np.int64


def observe_lines(spectra: NDArray[np.complex64]) -> ObservedLines:
    """Observe the transforms of blocks one after the other, shape (n_blocks, n_derivations, n_bins)."""
    shape = spectra.shape[1:]
    blocks = spectra.reshape(len(spectra), -1)  # a sum over the first of two axes is the fastest
    parts = np.square(blocks.view(np.float32))
    power, ends = parts.sum(axis=0), parts[0] + parts[-1]
    return {
        "line_turned": (blocks[1:] * blocks[:-1].conj()).sum(axis=0).reshape(shape),
        "line_power": (power[::2] + power[1::2]).reshape(shape),
        "line_ends": (ends[::2] + ends[1::2]).reshape(shape),
        "n_line_blocks": np.int64(len(spectra)),
    }


def hum_shares(rows: Rows, params: FilterParams, *, top_hz: float, sfreq: float) -> Array:
    """Return the share of each derivation's power that is in its strongest steady line.

    float32, shape (n_items, n_derivations), 0 to 1; 0 where no line is steady, or fewer than `FEWEST_BLOCKS`
    blocks are there to tell.

    Parameters
    ----------
    rows : what `observe_lines` returns, stacked
    params : settings of the filter
    top_hz : highest frequency of x
    sfreq : sampling rate in Hz
    """
    shares, steadiness = lines(rows, params, top_hz=top_hz, sfreq=sfreq)
    is_steady = steadiness > STEADY
    is_steady &= rows["n_line_blocks"][:, np.newaxis, np.newaxis] >= FEWEST_BLOCKS
    return np.asarray((shares * is_steady).max(axis=-1, initial=0), np.float32)


def lines(
    rows: Rows, params: FilterParams, *, top_hz: float, sfreq: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the share of power and the steadiness of each line from `LOWEST_HZ` on.

    Parameters as of `hum_shares`.

    Returns
    -------
    shares, steadiness : float32, shape (n_items, n_derivations, n_lines), 0 to 1
    """
    gain, freqs = (values[line_bins(top_hz, sfreq)] for values in block_gain(params, sfreq))
    kept = np.square(gain)
    first = int(np.searchsorted(freqs, LOWEST_HZ - 1e-9)) - 1  # a line is named after its middle bin
    with np.errstate(**QUIET):
        turned, ends = (rows[name][..., first:] * kept[first:] for name in ("line_turned", "line_ends"))
        power = rows["line_power"] * kept
        of_line, total = _line(power[..., first:]), power.sum(axis=-1, keepdims=True)
        both = of_line - _line(ends) / 2
        shares = of_line / np.where(total > 0, total, 1)
        parts = np.square(_line(turned).view(np.float32))
        size = np.sqrt(
            parts[..., ::2] + parts[..., 1::2]
        )  # `abs` of complex numbers takes four times as long
        return shares, size / np.where(both > 0, both, np.inf)


def _line(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of three bins in a row: what a Hann taper makes of a line."""
    return np.asarray(values[..., :-2] + values[..., 1:-1] + values[..., 2:])


@lru_cache(maxsize=32)
def line_bins(top_hz: float, sfreq: float) -> slice:
    """Return the bins of a block's transform in which lines are looked for."""
    freqs = np.fft.rfftfreq(round(BLOCK_S * sfreq), 1 / sfreq)
    return slice(*np.searchsorted(freqs, [FIRST_HZ - 1e-9, BEYOND_TOP * top_hz]).tolist())


@lru_cache(maxsize=32)
def block_gain(params: FilterParams, sfreq: float) -> tuple[Array, NDArray[np.float64]]:
    """Return the filter's gain at the bins of a block's transform, and their frequencies in Hz."""
    n_block = round(BLOCK_S * sfreq)
    gain, freqs = design_filter(params, n_samples=n_block, sfreq=sfreq), np.fft.rfftfreq(n_block, 1 / sfreq)
    known = np.linspace(0, sfreq / 2, gain.size)  # a length that is no fast one is filtered as a longer one
    return np.asarray(np.interp(freqs, known, gain), np.float32), np.asarray(freqs, np.float64)
