"""Patients: a disease, a way in which their EEG looks, and few or many recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hms.competition import CLASSES
from hms.sources.synthetic.draws import Rng, Stream, stream

__all__ = ["Patient", "draw_patient", "owners"]

SPREAD = 1.6
"""SD of the logarithm of a patient's share of the recordings: median 3 and a few above 100 among 17,000."""

GAIN_SPREAD = 0.5
"""SD of the logarithm of a patient's amplitude."""

P_HIGH = 0.28
"""Share of recordings whose first panel has 10 experts or more; with second panels it is 35 %."""

CLASS_PRIOR = {
    "high": (0.05, 0.17, 0.19, 0.13, 0.13, 0.33),
    "low": (0.21, 0.10, 0.065, 0.10, 0.135, 0.39),
}
"""How often each class is the likely one; experts met other recordings in either stratum."""


@dataclass(frozen=True)
class Patient:
    """What all recordings of one patient have in common.

    Attributes
    ----------
    number : of the patient, which with the seed gives all that is drawn of him
    gain : amplitude, 1 in the median
    stratum : ``high`` or ``low``: the size of the panels that see most of his recordings
    disease : number of the class that is the likely one in most of his recordings
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
        """Return the share of his recordings that have something which ``share`` of all recordings have."""
        return float(self.traits(f"tends to {subject}").beta(2 * share, 2 * (1 - share)))


def draw_patient(number: int, patient_id: int, *, seed: int) -> Patient:
    """Return a patient; what is drawn does not depend on how many others there are."""
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
    """Return each recording's patient: half of the patients have about three, few have very many."""
    weights = rng.lognormal(0, SPREAD, n_patients)
    counts = 1 + rng.multinomial(n_recordings - n_patients, weights / weights.sum())
    return [int(owner) for owner in rng.permutation(np.repeat(np.arange(n_patients), counts))]
