"""What real recordings hold, found without the measures of hms: on pages, by SciPy, by heartbeats.

Used by quality.py to tell true findings from false alarms. `SEEN` is what stands out on pages of
25 s (double banana, 0.5 to 70 Hz, mains out, 100 µV per row) and on the spectra of the channels,
looked at by the author of this file, who is no neurophysiologist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from hms.competition import EEG_CHANNELS, SFREQ_HZ

Array = NDArray[np.float32]
Samples = NDArray[np.int64]
Rng = np.random.Generator

N_EEG = len(EEG_CHANNELS)


@dataclass(frozen=True)
class Seen:
    """Something on a page that is no EEG, apart from mains and heartbeats."""

    eeg_id: str
    what: str
    from_s: float = 0.0
    to_s: float = 50.0


SEEN = (
    Seen("317816376", "movement and muscle after the seizure", 46.0, 49.5),
    Seen("1709793797", "muscle during the seizure", 15.0, 22.5),
    Seen("1709793797", "movement", 31.0, 34.5),
    Seen("2081121819", "muscle at Fp1, Fp2, F7 and F8, with bursts"),
    Seen("1733365529", "muscle at T4 and T6", 42.5, 44.0),
    Seen("528248093", "F7 loose, muscle everywhere"),
    Seen("130411186", "20 Hz in half of the pairs"),
    Seen("1638567830", "60 Hz of up to 7 mV, EEG not visible"),
)

LOOKED_AT = (
    "317816376", "1709793797", "2114219935", "1127365412", "1699991723", "2081121819",
    "1944190740", "1358093099", "1733365529", "528248093", "1638567830", "130411186",
)  # fmt: skip
"""IIIC-SPaRCNet, samples 1 and 3 of each class, under the names of their copies in this layout."""


PUBLISHED_AS_CLEAN = re.compile(r"Subject\d\d_[12]")
"""PhysioNet's eegmat: only stretches without artifacts were published (Zyma et al., Data 4:14, 2019)."""


def is_published_as_clean(name: str) -> bool:
    """Return whether a recording was published as free of muscle and movement."""
    return PUBLISHED_AS_CLEAN.fullmatch(name) is not None


def is_clean(eeg_id: str, from_s: float, to_s: float) -> bool:
    """Return whether nothing was seen in these seconds of a recording."""
    return not any(s.eeg_id == eeg_id and s.from_s < to_s and from_s < s.to_s for s in SEEN)


# --- mains ---------------------------------------------------------------------------------------

MAINS_HZ = (50.0, 60.0)
ABSENT_DB = 10.0
"""Under this by Welch, a channel counts as free of mains."""


def mains_db(eeg: Array) -> NDArray[np.float64]:
    """Return each channel's highest density within 0.5 Hz of the mains over the median 3 to 8 Hz beside, dB.

    The larger of 50 and 60 Hz. By `scipy.signal.welch` with 4 s, at 0.25 Hz: finer than the
    ledger's spectra, whose bins are of 0.5 Hz, so that a tone comes out some decibels higher here.
    """
    freqs, power = signal.welch(eeg.astype(np.float64), SFREQ_HZ, nperseg=min(800, eeg.shape[1]))
    levels = []
    for mains_hz in MAINS_HZ:
        distance = np.abs(freqs - mains_hz)
        beside = np.median(power[:, (distance >= 3) & (distance <= 8)], axis=1)
        levels.append(10 * np.log10(power[:, distance <= 0.5].max(axis=1) / beside))
    return np.max(levels, axis=0)


def without_tone(eeg: Array, freq_hz: float) -> Array:
    """Return the recording less a sine that may change its amplitude and phase from second to second.

    A sine and a constant are fitted to every second by least squares, half a second apart, and
    the sines are added up with Hann weights: it takes out about 1 Hz on either side, and no filter rings
    at the ends.
    """
    n, hop = round(SFREQ_HZ), round(SFREQ_HZ / 2)
    phase = 2 * np.pi * freq_hz * np.arange(n) / SFREQ_HZ
    design = np.stack([np.cos(phase), np.sin(phase), np.ones(n)])
    to_sine = np.linalg.pinv(design)[:, :2] @ design[:2]
    weight = np.hanning(n + 2)[1:-1]
    tone, weights = np.zeros(eeg.shape), np.zeros(eeg.shape[1])
    for start in range(0, eeg.shape[1] - n + 1, hop):
        span = slice(start, start + n)
        tone[:, span] += (eeg[:, span] @ to_sine) * weight
        weights[span] += weight
    return (eeg - tone / np.maximum(weights, 1e-12)).astype(np.float32)


def without_mains(eeg: Array) -> Array:
    """Return the recording without 50 and 60 Hz."""
    return without_tone(without_tone(eeg, 60.0), 50.0)


# --- heartbeats ----------------------------------------------------------------------------------

BEAT_BAND_HZ = (8.0, 40.0)
SMALLEST_LIKENESS = 0.8
SMALLEST_KURTOSIS = 3.0
N_SHUFFLES = 999


def _beat_band(eeg: Array) -> NDArray[np.float64]:
    sections = signal.butter(4, BEAT_BAND_HZ, "bandpass", fs=SFREQ_HZ, output="sos")
    return np.asarray(signal.sosfiltfilt(sections, eeg.astype(np.float64), axis=-1))


def _around(values: NDArray[np.float64], times: Samples, half_s: float) -> NDArray[np.float64]:
    """Return what lies around each time, shape (..., n_times, n_samples)."""
    half = round(half_s * SFREQ_HZ)
    times = times[(times >= half) & (times < values.shape[-1] - half)]
    return values[..., times[:, None] + np.arange(-half, half + 1)]


@dataclass(frozen=True)
class Heart:
    """Peaks of an EKG between 8 and 40 Hz, and whether they are heartbeats.

    Attributes
    ----------
    times : samples of the peaks: half of the median largest value of 2 s or more, 0.25 s apart
    height_uv : their median size
    likeness : median correlation of a single peak's 0.2 s with the mean of all
    kurtosis : excess kurtosis of the band; noise has 0, a hum less
    """

    times: Samples
    height_uv: float
    likeness: float
    kurtosis: float

    @property
    def beats(self) -> bool:
        """Whether the peaks look like each other and stand out, as QRS complexes do."""
        return self.likeness > SMALLEST_LIKENESS and self.kurtosis > SMALLEST_KURTOSIS


def heart(ekg: Array) -> Heart:
    """Return the peaks of an EKG, shape (n_samples,)."""
    band = _beat_band(ekg - np.median(ekg))
    size = np.abs(band)
    n_block = round(2 * SFREQ_HZ)
    whole = size[: size.size // n_block * n_block].reshape(-1, n_block)
    height = max(float(np.median(whole.max(axis=1))) / 2, 1e-9)
    times, _ = signal.find_peaks(size, height=height, distance=round(0.25 * SFREQ_HZ))
    beats = _around(band, times, 0.1)
    mean = beats.mean(axis=0)
    likeness = float(np.median([np.corrcoef(beat, mean)[0, 1] for beat in beats]))
    spread = band - band.mean()
    kurtosis = float(np.mean(spread**4) / np.mean(spread**2) ** 2 - 3)
    return Heart(times, float(np.median(size[times])), likeness, kurtosis)


def heart_in_electrodes(
    eeg: Array, times: Samples, rng: Rng
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the peak to peak of each electrode's average around the beats, 8-40 Hz, and its p.

    p is the share of averages around shuffled beats, each moved by up to half a second on its
    own, that are as large.
    """
    band = _beat_band(eeg[:N_EEG])
    found = np.ptp(_around(band, times, 0.1).mean(axis=-2), axis=-1)
    larger = np.ones(N_EEG)
    for _ in range(N_SHUFFLES):
        larger += np.ptp(_around(band, shuffled(times, rng), 0.1).mean(axis=-2), axis=-1) >= found
    return found, larger / (N_SHUFFLES + 1)


def shuffled(times: Samples, rng: Rng) -> Samples:
    """Return the times, each moved by up to half a second on its own."""
    half = round(SFREQ_HZ / 2)
    return times + rng.integers(-half, half + 1, times.size)


def without_beats(eeg: Array, times: Samples) -> Array:
    """Return the recording with the electrodes' average around the beats taken off at every beat.

    From 0.15 s before to 0.25 s after, tapered; the EKG keeps its own. The average is of the
    signal above 1 Hz.
    """
    before, after = round(0.15 * SFREQ_HZ), round(0.25 * SFREQ_HZ)
    times = times[(times >= before) & (times < eeg.shape[1] - after)]
    sections = signal.butter(2, 1.0, "highpass", fs=SFREQ_HZ, output="sos")
    slow_off = signal.sosfiltfilt(sections, eeg[:N_EEG].astype(np.float64), axis=1)
    places = times[:, None] + np.arange(-before, after)
    beat = slow_off[:, places].mean(axis=1) * signal.windows.tukey(before + after, 0.3)
    clean = eeg.copy()
    for place in places:
        clean[:N_EEG, place] -= beat.astype(np.float32)
    return clean
