"""Labels that say what the next expert would vote, learned once from the whole votes table.

Three equal votes are not certain: the fourth expert often differs. Where votes are few,
their shares are drawn towards what recordings with such votes turn out to be. Measured on real
panels whose votes were held back: docs/decisions/smoothing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.errors import ConfigError
from hms.labels.evidence import Mixture, fit_mixture, posterior_mean
from hms.labels.items import Labels, vote_array
from hms.labels.votes import high_confidence
from hms.registry import register

if TYPE_CHECKING:
    import pandas as pd

LEAST_FOR_ONE = 40
"""Sets of votes from which one Dirichlet foretold held-back votes better than adding 1/2."""

LEAST_FOR_MIXTURE = 500
"""Sets of votes from which a mixture foretold them better than one Dirichlet."""

Floats = NDArray[np.float64]


@register("labels", "smoothed", Labels)
def smoothed_votes(frame: pd.DataFrame, rows: NDArray[np.int64], params: Labels) -> Floats:
    """Return the votes of the chosen rows as expected of further experts, each row's total kept.

    Rows with many votes and with few are kinds of their own, parted by ``high_confidence_votes``: each is
    fitted to its rows of the whole table, a patient's equal votes counting once. Raises `ConfigError` if a
    kind has rows, but too few different ones to learn from.
    """
    votes = vote_array(frame).astype(np.float64)
    total = votes.sum(axis=1)
    many = high_confidence(total, params.high_confidence_votes)
    patient = np.unique(frame["patient_id"].to_numpy(object).astype(str), return_inverse=True)[1]
    smoothed = np.zeros((len(rows), votes.shape[1]))
    for name, kind in (("few", ~many), ("many", many)):
        own = kind & (total > 0)
        asked = own[rows]
        if asked.any():
            mixture = fit_stratum(votes[own], patient[own], f"{name} votes")
            chosen = rows[asked]
            smoothed[asked] = posterior_mean(votes[chosen], mixture) * total[chosen, None]
    return smoothed


def fit_stratum(votes: Floats, patient: NDArray[np.int64], name: str) -> Mixture:
    """Return what one kind of rows shows of votes: a mixture, or one Dirichlet where rows are fewer.

    Raises `ConfigError` if there are fewer than `LEAST_FOR_ONE` different rows.

    Parameters
    ----------
    votes : shape (n_rows, n_classes), every row with a vote
    patient : int64, shape (n_rows,), number of each row's patient
    name : of the kind, for the error
    """
    different = np.unique(np.column_stack([patient, votes]), axis=0)[:, 1:]
    if len(different) < LEAST_FOR_ONE:
        raise ConfigError(
            f"labels=smoothed learns from the votes table, which has {len(different)} different rows with "
            f"{name}; it needs {LEAST_FOR_ONE}. Choose labels=window, or set "
            "labels.high_confidence_votes=1 to treat all rows as one kind"
        )
    return fit_mixture(different, None if len(different) >= LEAST_FOR_MIXTURE else 1)
