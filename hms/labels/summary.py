"""Figures about labels: class mix, imbalance, entropy and disagreement, by stratum and by fold.

All take soft labels, float of shape (n_items, n_classes). What is undefined because there are no items
is NaN in arrays and None in `summarise_labels`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.labels.classes import Classes
from hms.labels.folds import Split
from hms.labels.votes import consensus, high_confidence


def class_proportions(y_soft: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the mean soft label, weighted if weights are given: float64, shape (n_classes,), sum 1.

    NaN without items or where all weights are 0.
    """
    y = np.asarray(y_soft, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = w.sum()
    return np.asarray(w @ y / total) if total > 0 else np.full(y.shape[1], np.nan)


def class_counts(y_soft: ArrayLike) -> NDArray[np.int64]:
    """Return how many items have each class as consensus: int64, shape (n_classes,)."""
    y = np.asarray(y_soft, dtype=np.float64)
    return np.bincount(consensus(y), minlength=y.shape[1]).astype(np.int64)


def imbalance_ratio(proportions: ArrayLike) -> float:
    """Return the largest share over the smallest: infinite with a class absent, NaN without items."""
    shares = np.asarray(proportions, dtype=np.float64)
    if not shares.sum() > 0:
        return math.nan
    return float(shares.max() / shares.min()) if shares.min() > 0 else math.inf


def entropy_nats(y_soft: ArrayLike) -> NDArray[np.float64]:
    """Return each item's entropy in nats, 0 for one mind: float64, shape (n_items,).

    Of n classes that all have as many votes it is log(n).
    """
    y = np.asarray(y_soft, dtype=np.float64)
    logs = np.log(y, out=np.zeros_like(y), where=y > 0)
    return np.asarray(np.abs(np.sum(y * logs, axis=1)))


def entropy_by_class(y_soft: ArrayLike) -> NDArray[np.float64]:
    """Return the mean entropy in nats of the items of each consensus class: float64, shape (n_classes,)."""
    y = np.asarray(y_soft, dtype=np.float64)
    return _mean_by_class(entropy_nats(y)[:, None], consensus(y), y.shape[1])[:, 0]


def disagreement_matrix(y_soft: ArrayLike) -> NDArray[np.float64]:
    """Return the mean vote share of each class (column) among items of a consensus (row).

    float64, shape (n_classes, n_classes); rows sum to 1, NaN for a class that is no item's consensus. Without
    disagreement it is the identity.
    """
    y = np.asarray(y_soft, dtype=np.float64)
    return _mean_by_class(y, consensus(y), y.shape[1])


def _mean_by_class(
    values: NDArray[np.float64], label: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    member = (label == np.arange(n_classes)[:, None]).astype(np.float64)
    n = member.sum(axis=1, keepdims=True)
    mean = np.full((n_classes, values.shape[1]), np.nan)
    np.divide(member @ values, n, out=mean, where=n > 0)
    return mean


def vote_sum_counts(vote_sum: ArrayLike) -> dict[int, int]:
    """Return how many items have each total of votes, from 0 to the largest, zeros included.

    The zeros show the gap between the two strata of the competition (no row has 8 or 9).
    A total of shares counts as the whole number below it.
    """
    return dict(enumerate(np.bincount(np.asarray(vote_sum).astype(np.int64)).tolist()))


def vote_strata(vote_sum: ArrayLike, threshold: int) -> dict[str, NDArray[np.bool_]]:
    """Return the items of all votes, of fewer than ``threshold`` and of at least that many."""
    high = high_confidence(vote_sum, threshold)
    return {"all": np.ones_like(high), f"under_{threshold}": ~high, f"from_{threshold}": high}


def summarise_labels(
    y_soft: ArrayLike,
    vote_sum: ArrayLike,
    weights: ArrayLike,
    patient_id: ArrayLike,
    *,
    classes: Classes,
    threshold: int,
    splits: Sequence[Split] = (),
) -> dict[str, Any]:
    """Return all figures as nested dictionaries for JSON, None for what is undefined.

    Parameters
    ----------
    y_soft : shape (n_items, n_classes)
    vote_sum, weights, patient_id : shape (n_items,)
    threshold : number of votes from which an item is high-confidence
    """
    y, n, w = (
        np.asarray(y_soft, dtype=np.float64),
        np.asarray(vote_sum),
        np.asarray(weights, dtype=np.float64),
    )
    patients = np.asarray(patient_id, dtype=object)
    masks = vote_strata(n, threshold)
    label, entropy = consensus(y), entropy_nats(y)

    def figures(rows: NDArray[Any]) -> dict[str, Any]:
        return _figures(y[rows], w[rows], label[rows], entropy[rows], classes)

    return {
        "items": len(y),
        "vote_sum": {str(total): count for total, count in vote_sum_counts(n).items()},
        "high_confidence_votes": threshold,
        "high_confidence_share": _number(masks[f"from_{threshold}"].mean() if len(y) else math.nan),
        "strata": {name: figures(mask) for name, mask in masks.items()},
        "folds": [
            {part: figures(rows) | {"patients": len(set(patients[rows]))} for part, rows in pair}
            for pair in (zip(("train", "valid"), split, strict=True) for split in splits)
        ],
        "items_per_patient": per_patient(patients),
    }


def per_patient(patient_id: ArrayLike) -> dict[str, float | None]:
    """Return how many patients there are, and how many entries they have.

    ``patients``; ``effective``, one over the sum of their squared shares: as many patients with equal numbers
    of entries say as much; ``median`` and ``largest`` number of entries.
    """
    counts = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_counts=True)[1]
    return {
        "patients": int(counts.size),
        "effective": _number(counts.sum() ** 2 / np.sum(counts**2) if counts.size else math.nan),
        "median": _number(np.median(counts) if counts.size else math.nan),
        "largest": int(counts.max(initial=0)),
    }


def class_agreement(label: ArrayLike, patient_id: ArrayLike) -> dict[str, float | None]:
    """Return how often two items have the same class, by whether they are of one patient.

    ``same_patient`` is the share of pairs of a patient's items, mean over the patients who have two and more;
    ``other_patient`` the share of all pairs of items of two patients, which is what chance gives. None where
    there is no such pair. ``label``: int, shape (n_items,); consensus class of each item, -1 without votes.
    """
    label, patients = np.asarray(label, dtype=np.int64), np.asarray(patient_id, dtype=object).astype(str)
    voted = label >= 0
    names, patient = np.unique(patients[voted], return_inverse=True)
    counts = np.zeros((names.size, int(label.max(initial=0)) + 1))
    np.add.at(counts, (patient, label[voted]), 1)
    n = counts.sum(axis=1)
    equal, pairs = np.sum(counts * (counts - 1), axis=1), n * (n - 1)
    apart = n.sum() ** 2 - np.sum(n**2)
    equal_apart = np.sum(counts.sum(axis=0) ** 2) - np.sum(counts**2)
    return {
        "same_patient": _number(
            np.mean((equal / np.maximum(pairs, 1))[n > 1]) if (n > 1).any() else math.nan
        ),
        "other_patient": _number(equal_apart / apart if apart else math.nan),
    }


def _figures(
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    label: NDArray[np.int64],
    entropy: NDArray[np.float64],
    classes: Classes,
) -> dict[str, Any]:
    n_classes = y.shape[1]

    def by_class(values: NDArray[np.float64]) -> dict[str, float | None]:
        return {name: _number(value) for name, value in zip(classes.names, values, strict=True)}

    raw, weighted = class_proportions(y), class_proportions(y, weights)
    return {
        "items": len(y),
        "consensus_counts": dict(
            zip(classes.names, np.bincount(label, minlength=n_classes).tolist(), strict=True)
        ),
        "proportions_raw": by_class(raw),
        "proportions_weighted": by_class(weighted),
        "imbalance_ratio_raw": _number(imbalance_ratio(raw)),
        "imbalance_ratio_weighted": _number(imbalance_ratio(weighted)),
        "entropy_nats": by_class(_mean_by_class(entropy[:, None], label, n_classes)[:, 0]),
        "disagreement": {
            name: by_class(row)
            for name, row in zip(classes.names, _mean_by_class(y, label, n_classes), strict=True)
        },
    }


def _number(value: float) -> float | None:
    """Return a number to six decimals, None where it is not finite."""
    return round(float(value), 6) if math.isfinite(value) else None
