"""Samples of a recording, from the brain to the file."""

from __future__ import annotations

import numpy as np

from hms.competition import SFREQ_HZ
from hms.sources.synthetic.amplifier import digitise, drift, interference, lose_samples, white_noise
from hms.sources.synthetic.artifacts import artifacts, heartbeat
from hms.sources.synthetic.background import background
from hms.sources.synthetic.drafts import Draft
from hms.sources.synthetic.draws import Array, Stream, stream
from hms.sources.synthetic.montage import bridge_electrodes, draw_montage, loosen, pops, switch_off
from hms.sources.synthetic.patterns import patterns

BACKGROUND_UV = 18.5
"""Median over recordings of the background's SD at an electrode."""
RECORDING_SPREAD = 0.25
"""SD of the logarithm of a recording's amplitude about its patient's."""


def simulate(draft: Draft, *, seed: int, spoilt: bool = True) -> Array:
    """Return the samples of a recording before any were lost: float32, shape (20, n_samples), µV.

    Channels are in the order of the competition's files, without NaN. Unless ``spoilt``, there are
    background, pattern and heart alone, as ideal electrodes would record them.
    """
    patient, n_samples = draft.patient, int(draft.duration_s * SFREQ_HZ)
    rng = stream(seed, Stream.SIGNAL, draft.index)
    eeg = background(patient.traits("background"), rng, n_samples) + patterns(rng, draft, n_samples)
    eeg *= np.float32(patient.gain * rng.lognormal(np.log(BACKGROUND_UV), RECORDING_SPREAD))
    ekg = heartbeat(rng, n_samples)
    if spoilt:
        eeg += artifacts(rng, draft, ekg)
        montage = draw_montage(rng, patient)
        eeg = pops(rng, loosen(rng, bridge_electrodes(eeg, montage), montage), montage)
        eeg += interference(rng, patient, n_samples)
        eeg += drift(rng, patient, n_samples)
        eeg += white_noise(rng, n_samples)
        ekg = switch_off(rng, ekg, montage)
        eeg = digitise(patient, eeg)
        if montage.dead is not None:
            eeg[montage.dead] = 0
    return np.concatenate([eeg, ekg[None]])


def lost(draft: Draft, eeg: Array, *, seed: int) -> Array:
    """Return what a recording's file holds of its samples: NaN where some were lost."""
    return lose_samples(stream(seed, Stream.LOSS, draft.index), eeg)
