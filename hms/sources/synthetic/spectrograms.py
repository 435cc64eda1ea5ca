"""The competition's spectrograms: ten minutes of power around the sub-windows of a patient's recordings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, SFREQ_HZ
from hms.sources.synthetic.drafts import Draft
from hms.sources.synthetic.draws import Array, Stream, stream

CHAIN_PATHS = {
    "LL": ("Fp1", "F7", "T3", "T5", "O1"),
    "RL": ("Fp2", "F8", "T4", "T6", "O2"),
    "LP": ("Fp1", "F3", "C3", "P3", "O1"),
    "RP": ("Fp2", "F4", "C4", "P4", "O2"),
}
"""Electrodes along each chain, in the order of the spectrogram files."""

SPECTROGRAM_STEP_S = 2
SPECTROGRAM_S = 600
LEAD_S = 275
"""An EEG sub-window is in the middle of its ten minutes."""

N_FFT = 1024
BINS = slice(3, 103)
SPECTROGRAM_HZ = np.arange(N_FFT)[BINS] * SFREQ_HZ / N_FFT
"""0.59 to 19.92 Hz: the competition's frequencies are bins of 1,024 samples."""

CONTEXT_QUANTILE = 0.25
P_NAN_ROWS = 0.087


def chain_power(eeg: Array) -> Array:
    """Return the power of the double banana's chains in frames of 4 s, 2 s apart: (n_frames, 4, 100), µV²/Hz.

    Frame i is centred at 2 (i + 1) s; chains LL, RL, LP, RP; the mean of the pairs' one-sided power densities
    at SPECTROGRAM_HZ. ``eeg`` is float32, shape (19 or 20, n_samples), µV.
    """
    from scipy import fft

    paths = [[CHANNELS.index(name) for name in path] for path in CHAIN_PATHS.values()]
    pairs = np.stack([eeg[path[:-1]] - eeg[path[1:]] for path in paths])
    step, taper = int(SPECTROGRAM_STEP_S * SFREQ_HZ), np.hanning(800).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(pairs, len(taper), axis=-1)[:, :, ::step]
    power = np.abs(fft.rfft(frames * taper, n=N_FFT)[..., BINS]) ** 2
    density = power.mean(axis=1) * 2 / (SFREQ_HZ * np.sum(taper**2))
    return np.asarray(density.transpose(1, 0, 2), dtype=np.float32)


def spectrogram(group: list[Draft], eegs: list[Array], *, seed: int) -> Array:
    """Return the power around all recordings of one spectrogram, float32 (n_frames, 4, 100).

    Between and around recordings there are no samples. There the lower quartile over time of
    the nearest recording's power stands in as its background, times the speckle (gamma, shape 3)
    that an estimate from a few tapers has.
    """
    rng = stream(seed, Stream.SPECTROGRAM, group[0].index)
    powers = [chain_power(eeg) for eeg in eegs]
    n_frames = (max(p.start_s + p.rows[-1].offset_s for p in group) + SPECTROGRAM_S) // SPECTROGRAM_STEP_S
    # Frame i is centred at 2 i + 1 s, a recording starts at an odd second, its own frames 2 s later.
    firsts = [(LEAD_S + p.start_s + 1) // SPECTROGRAM_STEP_S for p in group]
    nearest = _nearest(n_frames, firsts, [len(power) for power in powers])
    quiet = np.stack([np.quantile(power, CONTEXT_QUANTILE, axis=0) for power in powers]).astype(np.float32)
    image = quiet[nearest] * rng.standard_gamma(3, (n_frames, 4, 100), dtype=np.float32) / np.float32(3)
    for first, power in zip(firsts, powers, strict=True):
        image[first : first + len(power)] = power
    if rng.random() < P_NAN_ROWS:
        start = rng.integers(n_frames - 10)
        image[start : start + rng.integers(1, 11)] = np.nan
    return image


def _nearest(n_frames: int, firsts: list[int], lengths: list[int]) -> NDArray[np.intp]:
    """Return for each frame the number of the recording whose frames are nearest to it."""
    frames = np.arange(n_frames)
    distance = [
        np.maximum(first - frames, frames - (first + n - 1)) for first, n in zip(firsts, lengths, strict=True)
    ]
    number: NDArray[np.intp] = np.argmin(distance, axis=0)
    return number
