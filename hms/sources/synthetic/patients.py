"""Patients: a disease, a way in which their EEG looks, and few or many recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.competition import CLASSES
from hms.sources.synthetic.draws import Rng, Stream, stream

SPREAD = 1.7
"""SD of the logarithm of a patient's share of the recordings."""

LARGEST_SHARE = 0.694
"""Largest share of the recordings that a patient has, times the root of the number of patients:
269 of the competition's 17,089 recordings, of 1,950 patients, are one's."""

GAIN_SPREAD = 0.5
"""SD of the logarithm of a patient's amplitude."""

P_HIGH = 0.28
"""Share of recordings whose first panel has 10 experts or more; with second panels it is 35 %."""

CLASS_PRIOR = {"high": (0.05, 0.17, 0.19, 0.13, 0.13, 0.33), "low": (0.21, 0.10, 0.065, 0.10, 0.135, 0.39)}
"""How often each class is the likely one; experts met other recordings in either stratum."""


@dataclass(frozen=True)
class Patient:
    """What all recordings of one patient have in common.

    Attributes
    ----------
    number : with the seed, gives everything that is drawn for the patient
    gain : amplitude, 1 in the median
    stratum : ``high`` or ``low``: the size of the panels that see most of the recordings
    disease : number of the class that is the likely one in most of the recordings
    """

    seed: int
    number: int
    patient_id: int
    gain: float
    stratum: str
    disease: int

    def traits(self, subject: str) -> Rng:
        """Return a generator that draws the same for every recording: a trait of the patient."""
        return stream(self.seed, Stream.PATIENT, self.number, *subject.encode())

    def tends_to(self, subject: str, share: float) -> float:
        """Return the share of the patient's recordings that have what ``share`` of all recordings have."""
        return float(self.traits(f"tends to {subject}").beta(2 * share, 2 * (1 - share)))


def draw_patient(number: int, patient_id: int, *, seed: int) -> Patient:
    """Return a patient, the same whatever the number of others."""
    rng = stream(seed, Stream.PATIENT, number)
    stratum = draw_stratum(rng)
    disease = draw_class(rng, stratum)
    return Patient(seed, number, patient_id, float(rng.lognormal(0, GAIN_SPREAD)), stratum, disease)


def draw_stratum(rng: Rng) -> str:
    """Return the size of a panel."""
    return "high" if rng.random() < P_HIGH else "low"


def draw_class(rng: Rng, stratum: str) -> int:
    """Return the number of a class, by how often each is the likely one in a stratum."""
    return int(rng.choice(len(CLASSES), p=CLASS_PRIOR[stratum]))


def owners(rng: Rng, n_recordings: int, n_patients: int) -> list[int]:
    """Return each recording's patient: many have few, few have many, with the same counts for any ``rng``."""
    edges = np.rint(np.cumsum(_shares(n_patients)) * (n_recordings - n_patients)).astype(int)
    counts = rng.permutation(1 + np.diff(edges, prepend=0))
    return [int(owner) for owner in rng.permutation(np.repeat(np.arange(n_patients), counts))]


def _shares(n_patients: int) -> NDArray[np.float64]:
    """Return shares whose logarithms have normal quantiles, none above the largest; their sum is 1."""
    from scipy.special import ndtri

    largest = max(LARGEST_SHARE / np.sqrt(n_patients), 1 / n_patients)
    shares = np.exp(SPREAD * ndtri((np.arange(n_patients) + 0.5) / n_patients))
    shares /= shares.sum()
    while (shares > largest + 1e-12).any():
        full = shares >= largest
        shares[full] = largest
        shares[~full] *= (1 - largest * full.sum()) / shares[~full].sum()
    return np.asarray(shares)
