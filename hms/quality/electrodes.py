"""The electrodes of the 10-20 system: which stand next to each other, and on which side."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EEG_CHANNELS
from hms.quality.blocks import Mask

_GRID = (
    (None, "Fp1", None, "Fp2", None),
    ("F7", "F3", "Fz", "F4", "F8"),
    ("T3", "C3", "Cz", "C4", "T4"),
    ("T5", "P3", "Pz", "P4", "T6"),
    (None, "O1", None, "O2", None),
)
_ALSO = (("Fp1", "Fp2"), ("Fp1", "F7"), ("Fp2", "F8"), ("O1", "O2"), ("O1", "T5"), ("O2", "T6"))


def _neighbours() -> Mask:
    """Return which electrodes stand beside, before or behind each other in the 10-20 system."""
    pairs = [pair for row in _GRID for pair in pairwise(row)]
    pairs += [pair for rows in pairwise(_GRID) for pair in zip(*rows, strict=True)]
    beside = np.zeros((len(EEG_CHANNELS), len(EEG_CHANNELS)), bool)
    for first, second in (*pairs, *_ALSO):
        if first and second:
            i, j = EEG_CHANNELS.index(first), EEG_CHANNELS.index(second)
            beside[i, j] = beside[j, i] = True
    return beside


NEIGHBOURS = _neighbours()
"""bool, shape (19, 19): electrodes next to each other, three or four for each."""

N_EEG = len(EEG_CHANNELS)
BESIDE = np.zeros((len(CHANNELS), len(CHANNELS)), np.float32)
BESIDE[:N_EEG, :N_EEG] = NEIGHBOURS
NOT_BESIDE = np.where(BESIDE > 0, np.float32(0), np.float32(-3))
"""Added to a correlation, keeps electrodes that are not neighbours from being the best."""

FAR = np.where(BESIDE > 0, np.float32(0), np.float32(np.inf))
FAR[N_EEG:, N_EEG:] = 0
"""Added to values of electrodes, puts those that are not neighbours last; the EKG is its own."""

N_BESIDE = np.isfinite(FAR).sum(axis=1)
"""intp, shape (20,): how many neighbours each channel has."""

OTHER = np.ones_like(BESIDE) - np.eye(len(CHANNELS), dtype=np.float32)
IS_EKG = np.arange(len(CHANNELS)) >= N_EEG
OTHER[IS_EKG] = OTHER[:, IS_EKG] = 0
IS_LEFT = np.array([name[-1] in "1357" for name in EEG_CHANNELS])
IS_RIGHT = np.array([name[-1] in "2468" for name in EEG_CHANNELS])


def _neighbour_rows() -> NDArray[np.intp]:
    """Return the neighbours of each channel, repeated to as many for each; the EKG is its own."""
    rows = [np.flatnonzero(beside) for beside in NEIGHBOURS] + [np.array([len(EEG_CHANNELS)])]
    most = max(map(len, rows))
    return np.array([np.resize(row, most) for row in rows], np.intp)


NEIGHBOUR_ROWS = _neighbour_rows()
"""intp, shape (20, 4): the neighbours of each channel by their rows, some twice."""
