"""Votes of one item per row to soft labels, consensus and confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.terminal import listed

_TIE = 1e-9
"""Averaged votes that differ by less than this share of the largest are equal but for rounding."""


_OF_CLASSES, _BY_FOLD = ("classes", "w_class_fold"), "w_conf_fold"
"""Arrays of labels.npz that are not of items, and that which has items along its second axis."""


def has_label(labels: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Tell which items of labels.npz have a label: all, unless ``labels.unlabelled=keep`` kept others."""
    known = labels.get("has_label")
    return np.ones(len(labels["y_soft"]), np.bool_) if known is None else np.asarray(known, np.bool_)


def only_labelled(labels: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what labels.npz holds of the items that have a label; names of classes stay."""
    mask = has_label(labels)
    of_items = {name: values for name, values in labels.items() if name not in (*_OF_CLASSES, _BY_FOLD)}
    found = dict(labels) | {name: values[mask] for name, values in of_items.items()}
    return found | ({_BY_FOLD: labels[_BY_FOLD][:, mask]} if _BY_FOLD in labels else {})


def kept_soft_labels(votes: ArrayLike) -> NDArray[np.float32]:
    """Return `soft_labels`, zeros where a row has no votes."""
    counts = _as_votes(votes)
    labelled = counts.sum(axis=1) > 0
    found = np.zeros(counts.shape, np.float32)
    found[labelled] = soft_labels(counts[labelled])
    return found


def soft_labels(votes: ArrayLike) -> NDArray[np.float32]:
    """Return each row of votes divided by its sum: float32, shape (n_items, n_classes), rows sum to 1.

    Raises `ValueError` if a row has no votes, or a vote is negative, NaN or infinite.
    """
    counts = _as_votes(votes)
    bad: NDArray[np.bool_] = ~np.all(np.isfinite(counts) & (counts >= 0), axis=1)
    if bad.any():
        raise ValueError(f"votes must be finite and not negative; rows {listed(np.flatnonzero(bad))}")
    total = counts.sum(axis=1, keepdims=True)
    empty = total[:, 0] == 0
    if empty.any():
        raise ValueError(f"rows without votes have no soft label; rows {listed(np.flatnonzero(empty))}")
    return np.asarray(counts / total, dtype=np.float32)


def consensus(votes: ArrayLike) -> NDArray[np.int64]:
    """Return the column of the class with most votes: int64, shape (n_items,).

    A tie goes to the first. A row without votes gives -1.

    References
    ----------
    Kaggle HMS competition: the column expert_consensus of train.csv follows this rule.
    """
    counts = _as_votes(votes)
    most = counts.max(axis=1, keepdims=True, initial=0)
    winner = np.argmax(counts >= most * (1 - _TIE), axis=1)
    return np.where(most[:, 0] > 0, winner, -1).astype(np.int64)


def high_confidence(vote_sum: ArrayLike, threshold: int) -> NDArray[np.bool_]:
    """Return which items have at least ``threshold`` votes."""
    return np.asarray(np.asarray(vote_sum) >= threshold, dtype=np.bool_)


def _as_votes(votes: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(votes, dtype=np.float64)
    if counts.ndim != 2:
        raise ValueError(f"votes have the shape (n_items, n_classes), not {counts.shape}")
    return counts
