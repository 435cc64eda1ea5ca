"""Settings of the synthetic data set, and the sizes that it can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hms.registry import Limits, PositiveInt
from hms.sources.base import SourceParams

MAX_PATIENTS = 60_000
MAX_RECORDINGS = 1_000_000
"""More would not fit on a disk: each takes about a megabyte."""


@dataclass(frozen=True)
class Synthetic(SourceParams):
    """Settings of the synthetic data set.

    Attributes
    ----------
    root : folder for the data sets; None: inside outputs_dir
    n_recordings : number of recordings
    n_patients : number of patients
    seed : seed of the random numbers they are made from
    write_spectrograms : whether spectrograms of 10 minutes are made, when ``spectrograms=kaggle`` needs them
    """

    root: str | None
    n_recordings: PositiveInt
    n_patients: PositiveInt
    seed: Annotated[int, Limits(at_least=0)]
    write_spectrograms: bool

    def overlaps(self, window_s: float) -> bool:
        """Return True: sub-windows overlap, as in the competition."""
        return True

    def __post_init__(self) -> None:
        check_sizes(self.n_recordings, self.n_patients)


def check_sizes(n_recordings: int, n_patients: int) -> None:
    """Raise ValueError, naming both numbers, if patients and recordings do not fit or are too many."""
    if n_patients > n_recordings:
        fitting = max(n_recordings * 2 // 5, min(n_recordings, 5))
        raise ValueError(
            f"n_patients {n_patients} is more than n_recordings {n_recordings}; every patient has at least "
            f"one recording; add data.n_patients={fitting}"
        )
    if n_recordings > MAX_RECORDINGS:
        raise ValueError(f"n_recordings {n_recordings} is more than {MAX_RECORDINGS}, the largest number")
    if n_patients > MAX_PATIENTS:
        raise ValueError(
            f"n_patients {n_patients} is more than {MAX_PATIENTS}, the number of patient ids there are"
        )
