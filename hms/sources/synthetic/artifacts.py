"""What the body adds to an EEG: blinks, muscle, movement, the heart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hms.competition import EEG_CHANNELS, SFREQ_HZ
from hms.sources.synthetic.drafts import Draft
from hms.sources.synthetic.draws import Array, Rng, band, shaped_noise
from hms.sources.synthetic.head import FRONTOPOLAR, field, somewhere
from hms.sources.synthetic.patterns import discharges, lobes

N_EEG = len(EEG_CHANNELS)


def blinks(traits: Rng, rng: Rng, n_samples: int) -> Array:
    """Return eye blinks in µV: 0.3 s long, 60 to 200 µV at the frontopolar electrodes."""
    train = np.zeros(n_samples)
    train[rng.integers(0, n_samples, rng.poisson(0.2 * n_samples / SFREQ_HZ) + 1)] = rng.uniform(60, 200)
    place = np.maximum(field(FRONTOPOLAR[0], 0.3), field(FRONTOPOLAR[1], 0.3))
    return (place[:, None] * np.convolve(train, lobes((1, 0.2, 0.07)))[:n_samples]).astype(np.float32)


def muscle(traits: Rng, rng: Rng, n_samples: int) -> Array:
    """Return bursts of 20-95 Hz in µV around one temple, of 3 to 45 µV RMS at the nearest electrode."""
    place = field((float(traits.choice((-0.9, 0.9))), float(traits.uniform(-0.3, 0.8))), 0.45)
    bursts = np.clip(shaped_noise(rng, 1, n_samples, band(0.02, 0.3)) + 0.5, 0, None)
    near = np.flatnonzero(place > 0.05)
    eeg = np.zeros((N_EEG, n_samples), np.float32)
    level_uv = np.float32(rng.lognormal(np.log(10), 0.75))
    eeg[near] = level_uv * place[near, None] * bursts * shaped_noise(rng, near.size, n_samples, band(20, 95))
    return eeg


def movement(traits: Rng, rng: Rng, n_samples: int) -> Array:
    """Return one to four swings of 1 to 3 s in µV, 100 to 1,500 at the electrodes that move most."""
    eeg = np.zeros((N_EEG, n_samples), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        n = min(n_samples, int(rng.uniform(1, 3) * SFREQ_HZ))
        start = int(rng.integers(0, n_samples - n + 1))
        places = field(somewhere(rng), 0.6) * rng.normal(1, 0.4, N_EEG).astype(np.float32)
        level_uv = np.exp(rng.uniform(np.log(100), np.log(1500)))
        swing = level_uv * np.hanning(n) * shaped_noise(rng, 1, n, band(0.3, 4))[0]
        eeg[:, start : start + n] += places[:, None] * swing.astype(np.float32)
    return eeg


def heartbeat(rng: Rng, n_samples: int) -> Array:
    """Return an EKG in µV: QRS complex and T wave, 55 to 110 beats per minute; float32, (n_samples,)."""
    train = -discharges(rng, n_samples, 60 / rng.uniform(55, 110), cv=0.04)
    beat = lobes((-0.15, 0.06, 0.01), (1, 0.09, 0.012), (-0.25, 0.12, 0.012), (0.25, 0.35, 0.04))
    wave = rng.uniform(200, 900) * np.convolve(train, beat)[:n_samples]
    return (wave + 5 * rng.standard_normal(n_samples)).astype(np.float32)


def heartbeat_on_scalp(traits: Rng, ekg: Array) -> Array:
    """Return what electrodes near one ear see of the heart: 1 to 10 % of the EKG."""
    place = field((float(traits.choice((-1, 1))), float(traits.uniform(-0.6, 0.2))), 0.5)
    return np.asarray(np.float32(traits.uniform(0.01, 0.1)) * place[:, None] * ekg, dtype=np.float32)


ARTIFACTS: tuple[tuple[str, float, float, Callable[[Rng, Rng, int], Array]], ...] = (
    ("blinks", 0.35, 0.0, blinks),
    ("muscle", 0.30, 0.4, muscle),
    ("movement", 0.10, 0.3, movement),
)
"""An artifact, the share of recordings that have it, what a certain seizure adds, its function."""

P_HEART_ON_SCALP = 0.12


def artifacts(rng: Rng, draft: Draft, ekg: Array) -> Array:
    """Return the artifacts of a recording, each as often as its patient tends to have it.

    float32, shape (19, n_samples), µV.
    """
    patient, n_samples = draft.patient, ekg.size
    ictal = draft.states[0][0]
    eeg = np.zeros((N_EEG, n_samples), np.float32)
    for name, share, more, artifact in ARTIFACTS:
        if rng.random() < patient.tends_to(name, share) + more * ictal:
            eeg += artifact(patient.traits(name), rng, n_samples)
    if rng.random() < patient.tends_to("heart", P_HEART_ON_SCALP):
        eeg += heartbeat_on_scalp(patient.traits("heart"), ekg)
    return eeg
