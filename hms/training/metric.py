"""The competition's metric, by group of items, with intervals that know of patients.

Items of one patient resemble each other, so that an interval from single items is too
narrow: `hms.labels.intervals` counts patients.

References
----------
Kaggle, "HMS - Harmful Brain Activity Classification" (2024), evaluation page and its
metric's source (kaggle_kl_div): clipping, averaging, and what a submission may hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.competition import HIGH_CONFIDENCE_VOTES
from hms.labels.intervals import Interval, mean_interval
from hms.terminal import counted, listed

EPSILON = 1e-15
"""Predictions are clipped to EPSILON ... 1 - EPSILON, targets are not."""

N_BINS = 10
"""Bins of the predicted share, of a tenth each."""

Floats = NDArray[np.float64]


# --- the metric ----------------------------------------------------------------------------------


def kl_divergence(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    target_ids: Sequence[Any] | NDArray[Any] | None = None,
    prediction_ids: Sequence[Any] | NDArray[Any] | None = None,
    weights: ArrayLike | None = None,
) -> float:
    """Return the mean Kullback-Leibler divergence of predictions from targets, as Kaggle scores it.

    Parameters
    ----------
    target, prediction : shape (n_items, n_classes), rows sum to 1
    target_ids, prediction_ids : n_items ids each, optional
        Where both are given, predictions are put in the order of the targets; the ids
        must be the same. Without them row i is taken for the same item in both.
    weights : shape (n_items,), optional
        The competition has none: every row counts the same.

    Raises
    ------
    ValueError
        If the ids differ, or a row holds NaN, a value outside 0 ... 1, or does not sum to 1
        within `numpy.allclose`.

    References
    ----------
    Kaggle HMS, kaggle_kl_div with epsilon 1e-15 and micro_average=True.

    Examples
    --------
    Votes split between two classes, and a prediction that is nearly sure of one of them:

    >>> target, prediction = [[0.5, 0.5, 0]], [[0.9, 0.05, 0.05]]
    >>> round(kl_divergence(target, prediction), 4)
    0.8574
    >>> kl_divergence(target, target)
    0.0
    """
    if (target_ids is None) != (prediction_ids is None):
        raise ValueError("give target_ids and prediction_ids, or neither")
    if target_ids is not None and prediction_ids is not None:
        prediction = np.asarray(prediction)[align(prediction_ids, target_ids)]
    rows = row_divergence(target, prediction)
    if not rows.size:
        raise ValueError("the divergence of no rows is undefined")
    return float(np.average(rows, weights=None if weights is None else np.asarray(weights, np.float64)))


def row_divergence(target: ArrayLike, prediction: ArrayLike) -> Floats:
    """Return the divergence of each row: sum of y log(y / p) over the classes with y above 0.

    Parameters
    ----------
    target, prediction : shape (n_items, n_classes), rows sum to 1

    Returns
    -------
    float64, shape (n_items,); clipping leaves rows of a perfect prediction within 1e-15 of 0

    Raises
    ------
    ValueError
        As `kl_divergence`.

    Examples
    --------
    >>> row_divergence([[1, 0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]).round(4)
    array([0.6931, 0.    ])
    """
    y, p = check_distributions(target, "target"), check_distributions(prediction, "prediction")
    if y.shape != p.shape:
        raise ValueError(f"the targets have the shape {y.shape}, the predictions {p.shape}")
    clipped = np.clip(p, EPSILON, 1 - EPSILON)
    terms = y * np.log(np.where(y > 0, y, 1.0) / clipped)
    return np.asarray(np.where(y > 0, terms, 0.0).sum(axis=1))


def check_distributions(
    values: ArrayLike, name: str, ids: Sequence[Any] | NDArray[Any] | None = None
) -> Floats:
    """Return class shares as float64; refuse rows that are no distribution.

    Raises
    ------
    ValueError
        Naming the first bad rows, by id where ids are given.

    Examples
    --------
    >>> check_distributions([[0.25, 0.75]], "the predictions")
    array([[0.25, 0.75]])
    >>> check_distributions([[0.25, 0.5]], "the predictions")
    Traceback (most recent call last):
    ValueError: the predictions must sum to 1 in every row; divide each row by its sum (rows 0)
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"{name} has the shape (n_items, n_classes), not {rows.shape}")
    with np.errstate(invalid="ignore"):
        outside: NDArray[np.bool_] = np.any((rows < 0) | (rows > 1), axis=1)
        off: NDArray[np.bool_] = np.logical_not(np.isclose(1.0, rows.sum(axis=1)))
    _refuse(np.any(np.isnan(rows), axis=1), f"{name} holds NaN", ids)
    _refuse(outside, f"{name} has values outside 0 to 1", ids)
    _refuse(off, f"{name} must sum to 1 in every row; divide each row by its sum", ids)
    return rows


def _refuse(bad: NDArray[np.bool_], problem: str, ids: Sequence[Any] | NDArray[Any] | None) -> None:
    if bad.any():
        rows = np.flatnonzero(bad).tolist()
        what, names = ("rows", rows) if ids is None else ("items", [ids[row] for row in rows])
        raise ValueError(f"{problem} ({what} {listed(map(str, names))})")


def align(ids: Sequence[Any] | NDArray[Any], wanted: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """Return where each wanted id is among ``ids``; numbers and their text are the same id.

    Raises
    ------
    ValueError
        If an id appears twice, or one set has ids that the other lacks.

    Examples
    --------
    >>> align(["b", "a"], wanted=["a", "b"])
    array([1, 0])
    """
    have, want = [str(name) for name in ids], [str(name) for name in wanted]
    for names, what in ((have, "predictions"), (want, "targets")):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"the {what} have repeated ids: {listed(twice)}")
    place = {name: row for row, name in enumerate(have)}
    missing = [name for name in want if name not in place]
    extra = [name for name in have if name not in set(want)] if len(have) > len(want) - len(missing) else []
    if missing or extra:
        parts = [f"{counted(len(missing), 'id')} without a prediction: {listed(missing)}"] if missing else []
        parts += [f"{counted(len(extra), 'prediction')} with an unknown id: {listed(extra)}"] if extra else []
        raise ValueError("; ".join(parts))
    return np.array([place[name] for name in want], dtype=np.int64)


# --- by group of items ---------------------------------------------------------------------------


def stratum_names(vote_sum: ArrayLike, threshold: int = HIGH_CONFIDENCE_VOTES) -> NDArray[np.str_]:
    """Return ``"10+"`` for items with at least ``threshold`` votes and ``"1-9"`` for the others.

    Examples
    --------
    >>> stratum_names([3, 14]).tolist()
    ['1-9', '10+']
    """
    low = "1" if threshold == 2 else f"1-{threshold - 1}"
    return np.where(np.asarray(vote_sum) >= threshold, f"{threshold}+", low)


def scores(
    target: ArrayLike,
    prediction: ArrayLike,
    *,
    vote_sum: ArrayLike,
    patient_id: Sequence[Any] | NDArray[Any],
    fold: ArrayLike,
    classes: Sequence[str],
    threshold: int = HIGH_CONFIDENCE_VOTES,
) -> dict[str, dict[str, Interval]]:
    """Return the divergence of all items, and by vote stratum, consensus class and fold.

    Parameters
    ----------
    target, prediction : shape (n_items, n_classes), rows sum to 1
    vote_sum, patient_id, fold : shape (n_items,)
    classes : names of the columns
    threshold : votes from which an item belongs to the upper stratum

    Returns
    -------
    dict
        ``all``, ``stratum``, ``class`` and ``fold``, each from a group's name to its
        interval; a stratum or class without items has the value NaN.

    Examples
    --------
    >>> labels, meta = run.labels, run.meta
    >>> prior = np.tile(labels.y_soft.mean(axis=0), (len(meta), 1))
    >>> found = scores(
    ...     labels.y_soft, prior, vote_sum=labels.vote_sum, patient_id=meta["patient_id"],
    ...     fold=[0, 0, 1, 1], classes=labels.classes,
    ... )
    >>> sorted(found), round(found["all"]["all"].value, 2)
    (['all', 'class', 'fold', 'stratum'], 0.52)
    """
    values = row_divergence(target, prediction)
    patients = np.asarray([str(name) for name in patient_id])
    consensus = np.asarray(classes)[np.asarray(target).argmax(axis=1)]
    strata = stratum_names(vote_sum, threshold)
    folds = np.asarray([str(name) for name in np.asarray(fold).tolist()])

    def by(names: NDArray[Any], order: Sequence[str]) -> dict[str, Interval]:
        inside = {name: names == name for name in order}
        return {name: mean_interval(values[mask], patients[mask]) for name, mask in inside.items()}

    return {
        "all": {"all": mean_interval(values, patients)},
        "stratum": by(strata, stratum_names([threshold, 1], threshold).tolist()),
        "class": by(consensus, classes),
        "fold": by(folds, sorted(set(folds.tolist()), key=int)),
    }


def plain_groups(groups: Mapping[str, Mapping[str, Interval]]) -> dict[str, Any]:
    """Return intervals by group as JSON takes them.

    Examples
    --------
    >>> plain_groups({})
    {}
    """
    return {kind: {name: found.to_dict() for name, found in by.items()} for kind, by in groups.items()}


def confusion_counts(target: Floats, shares: Floats) -> NDArray[np.int64]:
    """Return how many items of each consensus class (rows) have their largest share in each class.

    Of equal shares the first counts.

    Examples
    --------
    >>> confusion_counts(np.array([[1, 0], [0, 1], [0, 1]]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    array([[1, 0],
           [1, 1]])
    """
    n = target.shape[1]
    code = target.argmax(axis=1) * n + shares.argmax(axis=1)
    return np.bincount(code, minlength=n * n).reshape(n, n)


def reliability(target: ArrayLike, prediction: ArrayLike, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the bins of every class, see `share_bins`, each with its ``class``.

    Examples
    --------
    >>> bins = reliability([[1, 0], [0, 1]], [[0.95, 0.05], [0.95, 0.05]], ["lpd", "other"])
    >>> bins[0]["class"], bins[0]["n"], bins[0]["predicted"], bins[0]["observed"]
    ('lpd', 2, 0.95, 0.5)
    """
    y, p = check_distributions(target, "target"), check_distributions(prediction, "prediction")
    return [
        {"class": name, **row}
        for column, name in enumerate(classes)
        for row in share_bins(y[:, column], p[:, column])
    ]


def share_bins(target: Floats, share: Floats) -> list[dict[str, Any]]:
    """Return, by bin of the predicted share of one class, what was predicted and what experts said.

    Returns
    -------
    list of dict
        ``low`` and ``high`` of the bin, ``n``, mean ``predicted`` and mean ``observed`` share; empty
        bins are left out.

    Examples
    --------
    >>> share_bins(np.array([1.0, 0.0]), np.array([0.95, 0.95]))
    [{'low': 0.9, 'high': 1.0, 'n': 2, 'predicted': 0.95, 'observed': 0.5}]
    """
    bins = np.minimum((share * N_BINS).astype(int), N_BINS - 1)
    inside = {number: bins == number for number in np.unique(bins).tolist()}
    return [
        {
            "low": number / N_BINS,
            "high": (number + 1) / N_BINS,
            "n": int(rows.sum()),
            "predicted": float(share[rows].mean()),
            "observed": float(target[rows].mean()),
        }
        for number, rows in inside.items()
    ]
