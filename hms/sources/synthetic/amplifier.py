"""What cables and the amplifier do to a signal: mains, hum, drift, offsets, limits, steps, lost samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS, SFREQ_HZ
from hms.sources.synthetic.draws import Array, Rng, slow_noise
from hms.sources.synthetic.patients import Patient

P_MAINS = 0.72
MAINS_UV, MAINS_SPREAD = 13.0, 2.0
"""Median amplitude of 60 Hz where it was not filtered away, and SD of its logarithm: 20 dB over its
neighbourhood in the median of all recordings, and millivolts in some."""

P_HUM = 0.07
HUM_HZ = 20.0
HUM_UV = 6.0
"""Patients with a tone inside the band that is kept, as the 20 Hz of two of the twelve IIIC recordings."""

NOISE_UV = 0.35
"""Median of the amplifier's white noise."""

DRIFT_HZ = 0.25
COMMON_DRIFT_UV, DRIFT_UV, DRIFT_SPREAD = 3.0, 2.5, 1.25
"""SD of slow drift that all electrodes share, and of each one's own; the means of 2 s range over four SDs."""
P_WANDERING, WANDERING = 0.35, 35.0
"""Share of recordings with an electrode that drifts more than the others, and the median of how much more."""

OFFSET_UV = 30.0
P_LARGE_OFFSET, LARGEST_OFFSET_UV = 0.05, 2500.0
"""Patients whose electrodes have offsets of up to millivolts, within the amplifier's range."""

RANGES_UV = (3_200.0, 8_500.0, 10_000.0)
"""Largest magnitudes that amplifiers record, chosen: a few real recordings reach 10,700 µV."""

P_STEPS, STEP_UV = 0.16, 0.26
"""Patients whose samples stand on steps of the converter (two of the twelve); others were resampled."""

P_GAPS, P_EDGE_GAP = 0.03, 0.02
LONGEST_EDGE_GAP = 5197


def interference(rng: Rng, patient: Patient, n_samples: int) -> Array:
    """Return mains and in-band hum in µV, float32 of shape (19, n_samples).

    Mains is nearly the same at all electrodes; a tone inside the band differs between them.
    """
    n = len(EEG_CHANNELS)
    t = np.arange(n_samples) / SFREQ_HZ
    traits = patient.traits("interference")
    level_uv = traits.lognormal(np.log(MAINS_UV), MAINS_SPREAD) * rng.lognormal(0, 0.4)
    at_electrode, hum_at_electrode = traits.normal(1, 0.1, n), traits.normal(1, 0.5, n)
    has_mains = rng.random() < patient.tends_to("mains", P_MAINS)
    mains = has_mains * level_uv * np.sin(2 * np.pi * 60 * t + rng.uniform(0, 2 * np.pi))
    eeg = at_electrode[:, None] * mains
    if traits.random() < P_HUM:
        tone = traits.lognormal(np.log(HUM_UV), 0.9) * _hum(rng, t)
        eeg += hum_at_electrode[:, None] * tone
    return np.asarray(eeg, dtype=np.float32)


def _hum(rng: Rng, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a tone with the harmonics that it was seen with."""
    phase = 2 * np.pi * HUM_HZ * t + rng.uniform(0, 2 * np.pi)
    return np.asarray(np.sin(phase) + 0.05 * np.sin(2 * phase) + 0.05 * np.sin(4 * phase))


def drift(rng: Rng, patient: Patient, n_samples: int) -> Array:
    """Return offsets and slow drift in µV, shared and of each electrode; float32, shape (19, n_samples)."""
    n = len(EEG_CHANNELS)
    level = patient.traits("drift").lognormal(0, DRIFT_SPREAD) * rng.lognormal(0, 0.4)
    own = DRIFT_UV * rng.lognormal(0, 0.6, n)
    if rng.random() < patient.tends_to("wandering", P_WANDERING):
        own[rng.integers(n)] *= rng.lognormal(np.log(WANDERING), 0.8)
    waves = slow_noise(rng, 1 + n, n_samples, DRIFT_HZ)
    waves *= np.float32(level) * np.append(COMMON_DRIFT_UV, own).astype(np.float32)[:, None]
    large = patient.traits("offset").random() < P_LARGE_OFFSET
    limit = LARGEST_OFFSET_UV
    offsets = rng.uniform(-limit, limit, (n, 1)) if large else rng.normal(0, OFFSET_UV, (n, 1))
    return np.asarray(waves[:1] + waves[1:] + offsets.astype(np.float32), dtype=np.float32)


def white_noise(rng: Rng, n_samples: int) -> Array:
    """Return the amplifier's own noise in µV, float32 of shape (19, n_samples)."""
    level_uv = np.float32(rng.lognormal(np.log(NOISE_UV), 0.5))
    return level_uv * rng.standard_normal((len(EEG_CHANNELS), n_samples), dtype=np.float32)


def digitise(patient: Patient, eeg: Array) -> Array:
    """Return what the patient's amplifier can record: within its range, on its steps where they are kept."""
    traits = patient.traits("amplifier")
    limit, keeps_steps = np.float32(traits.choice(RANGES_UV)), traits.random() < P_STEPS
    eeg = np.clip(eeg, -limit, limit)
    if keeps_steps:
        eeg = np.rint(eeg / np.float32(STEP_UV)) * np.float32(STEP_UV)
    return np.asarray(eeg, dtype=np.float32)


def lose_samples(rng: Rng, eeg: Array) -> Array:
    """Return recorded samples with gaps of 1 to 3 samples inside, or a block missing at an end."""
    eeg, n_samples = eeg.copy(), eeg.shape[1]
    if rng.random() < P_GAPS:
        for start in rng.integers(1, n_samples - 4, rng.integers(1, 6)):
            eeg[:, start : start + rng.integers(1, 4)] = np.nan
    if rng.random() < P_EDGE_GAP:
        length = int(np.exp(rng.uniform(np.log(18), np.log(LONGEST_EDGE_GAP + 1))))
        eeg[:, slice(0, length) if rng.random() < 0.5 else slice(-length, None)] = np.nan
    return eeg
