"""Faulty electrodes: dead, bridged, loose or popping, or the EKG's leads off.

A patient keeps the same electrodes, and their faults, in most recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hms.competition import EEG_CHANNELS, SFREQ_HZ
from hms.sources.synthetic.draws import Array, Rng, band, shaped_noise
from hms.sources.synthetic.head import POSITIONS
from hms.sources.synthetic.patients import Patient

P_DEAD, P_BRIDGED, P_LOOSE, P_EKG_OFF, P_POPS = 0.05, 0.03, 0.10, 0.15, 0.10

P_SEEN = 0.8
"""Share of a patient's recordings that show a fault of the patient's montage."""


@dataclass(frozen=True)
class Montage:
    """Faults of the electrodes in one recording, as numbers of `hms.competition.EEG_CHANNELS`.

    Attributes
    ----------
    dead : electrode that records nothing
    bridged : two electrodes that gel has joined
    loose : electrode with bad contact
    popping : electrode that pops
    ekg : whether the EKG's leads are on, off and silent, or off and picking up hum and drift
    """

    dead: int | None
    bridged: tuple[int, int] | None
    loose: int | None
    popping: int | None
    ekg: Literal["on", "silent", "open"]


def draw_montage(rng: Rng, patient: Patient) -> Montage:
    """Return the faults that a recording of a patient shows."""
    traits = patient.traits("montage")
    dead, bridged, loose = (
        _fault(traits, rng, share, int(traits.integers(len(EEG_CHANNELS))))
        for share in (P_DEAD, P_BRIDGED, P_LOOSE)
    )
    off: Literal["silent", "open"] = "silent" if traits.random() < 0.5 else "open"
    is_off = _fault(traits, rng, P_EKG_OFF, 0) is not None
    pops = int(rng.integers(len(EEG_CHANNELS))) if rng.random() < P_POPS else None
    pair = None if bridged is None else (bridged, _nearest(bridged))
    return Montage(dead, pair, loose, pops, off if is_off else "on")


def _fault(traits: Rng, rng: Rng, share: float, electrode: int) -> int | None:
    """Return the electrode where the patient has a fault and the recording shows it."""
    has, shown = traits.random() < share / P_SEEN, rng.random() < P_SEEN
    return electrode if has and shown else None


def _nearest(electrode: int) -> int:
    distance = np.sum((POSITIONS - POSITIONS[electrode]) ** 2, axis=1)
    return int(np.argsort(distance)[1])


def bridge_electrodes(eeg: Array, montage: Montage) -> Array:
    """Return EEG in which bridged electrodes record their mean."""
    if montage.bridged is None:
        return eeg
    eeg, pair = eeg.copy(), list(montage.bridged)
    eeg[pair] = eeg[pair].mean(axis=0)
    return eeg


def loosen(rng: Rng, eeg: Array, montage: Montage) -> Array:
    """Return EEG in µV in which a loose electrode sees little of the brain and much of its own noise."""
    if montage.loose is None:
        return eeg
    eeg, n_samples = eeg.copy(), eeg.shape[1]
    level_uv = rng.lognormal(np.log(120), 0.8)
    bursts = np.clip(shaped_noise(rng, 1, n_samples, band(0.02, 0.2)), 0, None)[0]
    noise = shaped_noise(rng, 1, n_samples, lambda freqs: 1 / np.maximum(freqs, 0.3) * (freqs > 0))[0]
    hum = np.sin(2 * np.pi * 60 * np.arange(n_samples) / SFREQ_HZ)
    eeg[montage.loose] = 0.3 * eeg[montage.loose] + level_uv * (bursts * noise + 0.3 * hum)
    return eeg


def pops(rng: Rng, eeg: Array, montage: Montage) -> Array:
    """Return EEG in µV with steps of 150 to 900 µV on one electrode that decay in under two seconds."""
    if montage.popping is None:
        return eeg
    eeg, n_samples, decay_s = eeg.copy(), eeg.shape[1], rng.uniform(0.1, 0.5)
    for start in rng.integers(0, n_samples, rng.integers(1, 5)):
        t = np.arange(n_samples - start) / SFREQ_HZ
        eeg[montage.popping, start:] += rng.choice((-1, 1)) * rng.uniform(150, 900) * np.exp(-t / decay_s)
    return eeg


def switch_off(rng: Rng, ekg: Array, montage: Montage) -> Array:
    """Return the EKG as recorded: if its leads are off, amplifier noise, or millivolts of hum and drift."""
    if montage.ekg == "on":
        return ekg
    if montage.ekg == "silent":
        return np.asarray(rng.normal(0, 2, ekg.size), dtype=np.float32)
    hum = rng.lognormal(np.log(800), 0.8) * np.sin(2 * np.pi * 60 * np.arange(ekg.size) / SFREQ_HZ)
    drift = rng.lognormal(np.log(1500), 0.8) * shaped_noise(rng, 1, ekg.size, band(0.02, 0.3))[0]
    return np.asarray(hum + drift, dtype=np.float32)
