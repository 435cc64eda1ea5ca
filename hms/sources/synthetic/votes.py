"""What experts see in a recording, and how they vote on its rows.

The distribution over the classes that an expert's vote is drawn from is Dirichlet given the
likely class. A Dirichlet is gammas over their sum, and a gamma is a sum of gammas: the part
that is drawn once for a patient, or once for a recording, makes the patient's recordings, or
the recording's rows, alike without changing the distribution of any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.sources.synthetic.draws import Rng
from hms.sources.synthetic.patients import Patient, draw_class, draw_stratum

DIRICHLET = np.array(
    [
        (4.6, 0.8, 0.8, 0.5, 0.3, 0.7),
        (0.3, 4.9, 0.2, 0.5, 0.1, 0.8),
        (1.3, 0.5, 7.6, 0.05, 0.3, 0.95),
        (0.7, 2.7, 0.06, 14.9, 1.4, 5.4),
        (0.4, 0.4, 1.0, 0.8, 13.1, 4.7),
        (0.2, 0.9, 0.6, 1.3, 1.8, 6.7),
    ]
)
"""Expert opinion given the likely class (rows) over all classes, fitted to IIIC votes."""

KEEPS_STRATUM = 0.8
KEEPS_DISEASE = 0.82
"""Shares of recordings that follow their patient; the others are drawn as anybody's."""

SHARED_BY_PATIENT = 0.5
SHARED_BY_ROWS = 0.3
"""Parts of the Dirichlet's gammas that all recordings of a patient, and all rows of a recording, share."""

LOW_COUNTS = (1, 2, 3, 4, 5, 6, 7)
LOW_COUNT_P = (0.081, 0.043, 0.72, 0.064, 0.075, 0.0165, 0.0005)
"""Vote counts under 10 and their shares: 3 in 72 %, the others as in train.csv."""

P_LONG = 0.63
P_SECOND_PANEL = 0.16
"""Share of the recordings with several rows whose later rows were judged by another panel."""
P_OFFSET_USED = 0.35
MAX_EXTRA_S = 240


@dataclass(frozen=True)
class Row:
    """One labelled sub-window: its start in seconds, its votes, and what they were drawn from."""

    offset_s: int
    votes: tuple[int, ...]
    truth: tuple[float, ...]


@dataclass(frozen=True)
class Opinions:
    """What experts see in a recording.

    Attributes
    ----------
    stratum : size of the first panel
    first, later : float64, shape (6,); shares of experts in favour of each class, at the
        start of the recording and after what it shows has changed
    """

    stratum: str
    first: NDArray[np.float64]
    later: NDArray[np.float64]


def draw_opinions(rng: Rng, patient: Patient) -> Opinions:
    """Return what experts see in a recording of a patient."""
    stratum = patient.stratum if rng.random() < KEEPS_STRATUM else draw_stratum(rng)
    follows, other = rng.random() < KEEPS_DISEASE, draw_class(rng, stratum)
    likely = patient.disease if follows else other
    alpha = DIRICHLET[likely]
    of_patient = (patient.traits("opinion") if follows else rng).gamma(SHARED_BY_PATIENT * alpha)
    of_rows = of_patient + rng.gamma(SHARED_BY_ROWS * alpha)
    own = 1 - SHARED_BY_PATIENT - SHARED_BY_ROWS
    first, later = (of_rows + rng.gamma(own * alpha) for _ in range(2))
    return Opinions(stratum, first / first.sum(), later / later.sum())


def draw_rows(rng: Rng, opinions: Opinions, offsets: list[int]) -> tuple[tuple[Row, ...], int]:
    """Return the rows of a recording, and how many of them the first panel judged."""
    first = _draw_panel(rng, opinions.first, opinions.stratum)
    second = _draw_panel(rng, opinions.later, "low" if opinions.stratum == "high" else "high")
    n_first = len(offsets)
    if len(offsets) > 1 and rng.random() < P_SECOND_PANEL:
        n_first = int(rng.integers(1, len(offsets)))
    return tuple(Row(s, *(first if i < n_first else second)) for i, s in enumerate(offsets)), n_first


def draw_offsets(rng: Rng) -> list[int]:
    """Return the starts of the sub-windows in even seconds: 0 alone in 37 % of recordings."""
    extra_s = 2 * int(np.clip(np.ceil(rng.lognormal(np.log(21), 1.2) / 2), 1, MAX_EXTRA_S // 2))
    used = rng.random(extra_s // 2 - 1) < P_OFFSET_USED
    if rng.random() >= P_LONG:
        return [0]
    return [0, *(2 + 2 * np.flatnonzero(used)).tolist(), extra_s]


def _draw_panel(
    rng: Rng, opinion: NDArray[np.float64], stratum: str
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the votes of one panel of experts and the distribution they were drawn from.

    Panels under 10 agree more than independent experts would: their recordings were chosen
    for being clear, which squaring the distribution imitates.
    """
    if stratum == "high":
        n, truth = 10 + int(rng.binomial(18, 1 / 3)), opinion
    else:
        n, truth = int(rng.choice(LOW_COUNTS, p=LOW_COUNT_P)), opinion**2 / np.sum(opinion**2)
    return tuple(rng.multinomial(n, truth).tolist()), tuple(truth.tolist())
