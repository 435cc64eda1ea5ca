"""How good predictions are: for whom, how sure, and where they err most.

References
----------
Dimitriadis T, Gneiting T, Jordan AI, "Stable reliability diagrams for probabilistic classifiers",
PNAS 118 (2021): a proper score as miscalibration - discrimination + uncertainty, by isotonic
regression and so without a choice of bins. Targets here are shares of votes, not outcomes; the
identity holds for them as well, and the uncertainty is their variance.
Naeini MP, Cooper GF, Hauskrecht M, "Obtaining well calibrated probabilities using Bayesian
binning", AAAI (2015): expected calibration error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.labels.intervals import Interval, mean_interval, paired_interval
from hms.training.metric import confusion_counts, row_divergence, share_bins, stratum_names

Floats = NDArray[np.float64]
N_EXAMPLES = 6


@dataclass(frozen=True)
class Judged:
    """What is known of the items that are predicted, row by row.

    Attributes
    ----------
    item_id, patient_id : text, shape (n_items,)
    target : float64, shape (n_items, n_classes), rows sum to 1
    vote_sum : shape (n_items,)
    fold : text, shape (n_items,); ``none`` where no fold validates the item
    grade : text, shape (n_items,); empty where there is none
    flags : for each item the names of its flags; None where nothing was flagged by anybody
    classes : their names
    threshold : votes from which an item belongs to the upper stratum
    """

    item_id: NDArray[np.str_]
    patient_id: NDArray[np.str_]
    target: Floats
    vote_sum: NDArray[Any]
    fold: NDArray[np.str_]
    grade: NDArray[np.str_]
    flags: Sequence[Sequence[str]]
    classes: tuple[str, ...]
    threshold: int

    def __len__(self) -> int:
        return len(self.item_id)


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes
    ----------
    divergence : float64, shape (n_items,), Kaggle's KL divergence of each item
    groups : kind of group to group to mean divergence with its interval over patients
    calibration : class to its calibration, see `calibration`
    confusion : items by consensus class (rows) and class with the largest share
    worst : rows of the largest divergences
    surprising : rows where the votes are least likely if the prediction were right
    """

    shares: Floats
    divergence: Floats
    groups: dict[str, dict[str, Interval]]
    calibration: dict[str, dict[str, Any]]
    confusion: NDArray[np.int64]
    worst: list[int]
    surprising: list[int]


def score(items: Judged, shares: Floats) -> Scores:
    """Return how good predictions are; ``shares`` has the shape of the targets."""
    divergence = row_divergence(items.target, shares)
    worst = np.argsort(-divergence, kind="stable")[:N_EXAMPLES].tolist()
    return Scores(
        shares,
        divergence,
        {
            kind: {name: mean_interval(divergence[mask], items.patient_id[mask]) for name, mask in by.items()}
            for kind, by in groups_of(items).items()
        },
        {
            name: calibration(items.target[:, column], shares[:, column])
            for column, name in enumerate(items.classes)
        },
        confusion_counts(items.target, shares),
        worst,
        _surprising(divergence, items.vote_sum, leave=worst),
    )


def _surprising(divergence: Floats, vote_sum: NDArray[Any], *, leave: Sequence[int]) -> list[int]:
    """Return rows by the log-likelihood ratio of their votes, n KL(y || p), which counts how many voted.

    One vote against a prediction is chance, sixteen are not.
    """
    ratio = divergence * np.asarray(vote_sum, np.float64)
    order = np.argsort(-ratio, kind="stable").tolist()
    return [row for row in order if row not in leave and ratio[row] > 0][:N_EXAMPLES]


def compare(items: Judged, first: Floats, second: Floats) -> dict[str, dict[str, Interval]]:
    """Return the mean of first - second divergence for every group, paired; below 0 the first is better."""
    a, b = row_divergence(items.target, first), row_divergence(items.target, second)
    return {
        kind: {name: paired_interval(a[mask], b[mask], items.patient_id[mask]) for name, mask in by.items()}
        for kind, by in groups_of(items).items()
    }


def groups_of(items: Judged) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return the groups of items by kind, each with its mask; an item may have several flags.

    Groups without an item are left out; an item without a grade or a fold is in no group of it.
    """
    strata = stratum_names(items.vote_sum, items.threshold)
    consensus = np.asarray(items.classes)[items.target.argmax(axis=1)]
    upper, lower = stratum_names([items.threshold, 0], items.threshold).tolist()
    folds = sorted(set(items.fold.tolist()), key=lambda fold: int(fold) if fold.isdigit() else -1)
    flagged = sorted({name for names in items.flags for name in names})
    masks: dict[str, dict[str, NDArray[np.bool_]]] = {
        "all": {"all": np.ones(len(items), np.bool_)},
        "stratum": {name: strata == name for name in (upper, lower)},
        "class": {name: consensus == name for name in items.classes},
        "fold": {name: items.fold == name for name in folds},
        "grade": {name: items.grade == name for name in ("good", "usable", "poor", "unusable")},
        "flag": {name: np.array([name in names for names in items.flags]) for name in flagged},
    }
    if flagged:
        masks["flag"]["no flag"] = np.array([not names for names in items.flags])
    return {kind: {name: mask for name, mask in by.items() if mask.any()} for kind, by in masks.items()}


# --- calibration ---------------------------------------------------------------------------------


def calibration(target: Floats, share: Floats) -> dict[str, Any]:
    """Return how predicted shares of one class agree with the shares of the votes.

    Parameters
    ----------
    target, share : float64, shape (n_items,), 0 to 1

    Returns
    -------
    dict
        ``bins``, see `share_bins`, ``expected_calibration_error`` (mean distance of predicted and
        observed, by items), and the mean squared error with its parts, see `decompose`.
    """
    bins = share_bins(target, share)
    error = sum(row["n"] * abs(row["predicted"] - row["observed"]) for row in bins) / max(len(share), 1)
    return {"bins": bins, "expected_calibration_error": float(error), **decompose(target, share)}


def decompose(target: Floats, share: Floats) -> dict[str, float]:
    """Return the mean squared error as miscalibration - discrimination + uncertainty.

    Miscalibration is what would be gained by the best monotonous correction of the shares,
    discrimination how much better the corrected shares are than the overall mean, and uncertainty the
    variance of the targets. The first two are never below 0.

    Parameters
    ----------
    target, share : float64, shape (n_items,), at least one item
    """
    from scipy.optimize import isotonic_regression

    values, place, counts = np.unique(share, return_inverse=True, return_counts=True)
    means = np.bincount(place, target, len(values)) / counts
    recalibrated = np.asarray(isotonic_regression(means, weights=counts.astype(np.float64)).x)[place]
    error, best = float(np.mean((share - target) ** 2)), float(np.mean((recalibrated - target) ** 2))
    uncertainty = float(np.var(target))
    return {
        "squared_error": error,
        "miscalibration": max(error - best, 0.0),
        "discrimination": max(uncertainty - best, 0.0),
        "uncertainty": uncertainty,
    }
