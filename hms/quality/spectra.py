"""Short Fourier transforms of electrodes as they were recorded, and what their power tells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.quality.blocks import Array, Mask, Row, Rows, constant, filled_up
from hms.quality.coherence import SILENT_UV, ekg_correlation, quietest_difference
from hms.quality.electrodes import IS_EKG

BLOCK_S = 2.0
"""Length of a Fourier transform: 0.5 Hz between bins, and the 2 s in which a page shows an amplitude."""


EEG_BAND_HZ = (1.0, 20.0)
EKG_BAND_HZ = (8.0, 40.0)
"""Where the QRS complex has much of its power and the EEG little."""


HF_BAND_HZ = (25.0, 95.0)
MAINS_HZ = (50.0, 60.0)
MAINS_HALF_WIDTH_HZ = 2.0
"""Left out of the power above 25 Hz on either side of the mains."""

FAST_BANDS_HZ = ((39.0, 46.0), (64.0, 72.0))
"""In which muscle is looked for: its spectrum is flat from the one to the other, a spike's falls to a
third, and a tone is in one of them alone."""

MUSCLE_BAND_HZ = 60.0
"""Width of 20 to 80 Hz, where scalp EMG has most of its power (Goncharova et al. 2003)."""

UNRECORDED_UV = 0.5
"""Below it the fastest band holds less than an amplifier's noise: the recorder cut it off."""


LINE_HALF_WIDTH_HZ = 0.5
LINE_NEIGHBOURHOOD_HZ = (3.0, 8.0)


def tapered_blocks(eeg: Array, n_block: int) -> Array:
    """Return whole blocks times a taper, shape (n_channels, n_blocks, n_block).

    One long product for each channel takes half the time of one for each block.
    """
    n_blocks = eeg.shape[1] // n_block
    products = eeg[:, : n_blocks * n_block] * taper(n_block, n_blocks)
    return np.asarray(products.reshape(len(eeg), n_blocks, n_block))


@lru_cache(maxsize=64)
def taper(n_block: int, n_blocks: int = 1) -> Array:
    """Return a periodic Hann window, repeated.

    With it an offset is in the bins of 0 and 0.5 Hz alone, so none is taken off.
    """
    taper = np.hanning(n_block + 1)[:n_block] if n_block > 1 else np.ones(1)
    return np.tile(taper.astype(np.float32), n_blocks)


def mean_power(spectra: NDArray[np.complex64]) -> Array:
    """Return the mean over blocks of the squared magnitude, shape (n_channels, n_freqs)."""
    n_blocks = spectra.shape[1]
    squares = np.square(spectra.view(np.float32))
    power = np.matmul(constant(n_blocks, 1 / n_blocks), squares)
    return np.asarray(power[:, ::2] + power[:, 1::2])


@dataclass(frozen=True)
class Bands:
    """What follows from the length of a block alone.

    Attributes
    ----------
    sums : float32, shape (n_freqs, 7); powers per bin times it give the power in the EEG's
        band and at high frequencies, then for 50 and 60 Hz the mean density of the line and
        next to it, then the sum over the EKG's band as it is
    density : float32, shape (n_freqs, n); a power density times it is that at `spectrum_freqs`
    fast : bins of each of `FAST_BANDS_HZ`
    to_density : float32, shape (2,); the sum of powers over such a band times it is their mean density
    ekg : bins of the EKG's band
    """

    sums: Array
    density: Array
    fast: tuple[slice, ...]
    to_density: Array
    ekg: slice


@lru_cache(maxsize=8)
def bands_of(n_block: int, sfreq: float) -> Bands:
    """Return the bands of blocks of so many samples."""
    freqs = np.fft.rfftfreq(n_block, 1 / sfreq)
    in_eeg, in_hf = _within(freqs, *EEG_BAND_HZ), _within(freqs, *HF_BAND_HZ)
    lines = []
    for mains_hz in MAINS_HZ:
        distance = np.abs(freqs - mains_hz)
        in_hf &= distance > MAINS_HALF_WIDTH_HZ
        lines += [distance <= LINE_HALF_WIDTH_HZ, _within(distance, *LINE_NEIGHBOURHOOD_HZ)]
    df = sfreq / n_block
    columns = [in_eeg * df, in_hf * df, *(mask / max(1, int(mask.sum())) for mask in lines)]
    to_density = 2 / (sfreq * np.square(taper(n_block), dtype=np.float64).sum())
    in_ekg = _within(freqs, *EKG_BAND_HZ)
    sums = np.stack([*(to_density * column for column in columns), in_ekg], axis=1)
    density = _smoothing(freqs, spectrum_freqs(sfreq)) * to_density
    fast = tuple(_span(np.flatnonzero(_within(freqs, *band))) for band in FAST_BANDS_HZ)
    n_fast = np.array([max(1, span.stop - span.start) for span in fast])
    return Bands(
        sums.astype(np.float32),
        density.astype(np.float32),
        fast,
        (to_density / n_fast).astype(np.float32),
        _span(np.flatnonzero(in_ekg)),
    )


def _within(values: NDArray[Any], low: float, high: float) -> Mask:
    return (values >= low - 1e-9) & (values <= high + 1e-9)


def _span(bins: NDArray[np.intp]) -> slice:
    return slice(int(bins[0]), int(bins[-1]) + 1) if bins.size else slice(0, 0)


def spectrum_freqs(sfreq: float) -> NDArray[np.float64]:
    """Return the frequencies of `spectrum`: every whole number of Hz below half the sampling rate."""
    return np.arange(1.0, np.ceil(sfreq / 2))


def _smoothing(freqs: NDArray[Any], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights, shape (n_freqs, n_wanted), of the bins around each wanted frequency.

    They fall in a straight line to nothing 1 Hz away, or a bin's width where that is more. The
    bins of 0 Hz and the next, which hold an offset after a Hann taper, have no weight.
    """
    df = freqs[1] - freqs[0] if len(freqs) > 1 else 1.0
    weights = np.maximum(0, 1 - np.abs(freqs[:, None] - wanted) / max(1.0, df))
    weights[: 2 if len(freqs) > 2 else 0] = 0
    total: NDArray[np.float64] = weights.sum(axis=0)
    return np.asarray(weights / np.where(total > 0, total, np.nan))


class ObservedSpectra(TypedDict):
    """What the spectral measures follow from, of one item.

    Attributes
    ----------
    sums : float32, shape (20, 7); see `Bands`
    fast_products : float32, shape (2, 20, 20), µV²/Hz; real parts of the cross-spectral densities in
        each of `FAST_BANDS_HZ`
    ekg_products : float32, shape (20,); those with the EKG, summed over its band
    ekg_power : float32, shape (n_bins,); power of the EKG in its band
    """

    sums: Array
    fast_products: Array
    ekg_products: Array
    ekg_power: Array


def observe_spectra(
    spectra: NDArray[np.complex64], power: Array, bands: Bands, *, sfreq: float
) -> ObservedSpectra:
    """Observe the transforms of one item.

    Parameters
    ----------
    spectra : complex64, shape (20, n_spectra, n_freqs); transforms of tapered blocks of 2 s
    power : float32, shape (20, n_freqs); mean of their squared magnitudes
    """
    n_spectra = spectra.shape[1]
    fast, ekg = (
        [_as_vectors(spectra[:, :, band]) for band in bands.fast],
        _as_vectors(spectra[:, :, bands.ekg]),
    )
    products = np.array([band @ band.T for band in fast])
    ekg_bins = bands_of(round(BLOCK_S * sfreq), sfreq).ekg
    return {
        "sums": power @ bands.sums,
        "fast_products": products * (bands.to_density / np.float32(n_spectra))[:, np.newaxis, np.newaxis],
        "ekg_products": ekg @ ekg[-1] / np.float32(n_spectra),
        "ekg_power": filled_up(power[-1:, bands.ekg], ekg_bins.stop - ekg_bins.start)[0],
    }


def _as_vectors(band: NDArray[np.complex64]) -> Array:
    """Return a band's coefficients as one vector per channel: their products are cross-spectra."""
    return np.ascontiguousarray(band).view(np.float32).reshape(len(band), -1)


def derive_spectra(rows: Rows) -> Row:
    """Return what the power densities and the cross-spectra of blocks of 2 s tell."""
    sums = rows["sums"]
    amplitude = np.sqrt(sums[..., :2])
    return {
        "sd_uv": amplitude[..., 0],
        "hf_uv": amplitude[..., 1],
        "line50_db": _decibels(sums[..., 2], sums[..., 3]),
        "line60_db": _decibels(sums[..., 4], sums[..., 5]),
        "muscle_uv": _muscle_uv(rows["fast_products"]),
        "ekg_corr": ekg_correlation(rows["ekg_products"], sums[..., 6], rows["ekg_power"]),
    }


def _muscle_uv(densities: Array) -> Array:
    """Return the amplitude that 20 to 80 Hz would have with the density of the quietest fast band.

    Parameters
    ----------
    densities : float32, shape (n_items, 2, 20, 20), µV²/Hz; cross-spectra in each of `FAST_BANDS_HZ`

    Returns
    -------
    float32, shape (n_items, 20), µV
        Of the quietest difference to a neighbour, so that noise of the reference has none.
        Frequencies that the recorder did not keep (`UNRECORDED_UV`) do not count.
    """
    power = np.diagonal(densities, axis1=2, axis2=3)
    own = quietest_difference(densities, power * MUSCLE_BAND_HZ > SILENT_UV**2)
    amplitude = np.sqrt(own * np.float32(MUSCLE_BAND_HZ))
    amplitude[:, -1][amplitude[:, -1] < UNRECORDED_UV] = np.inf
    return np.where(IS_EKG, np.float32(np.nan), amplitude.min(axis=1))


def _decibels(power: Array, reference: Array) -> Array:
    """Return the ratio in dB, NaN where the reference is 0."""
    return np.asarray(10 * np.log10(power / np.where(reference > 0, reference, np.nan)))
