"""Confidence weights: how much an item counts in training, from its number of votes.

Every kind is w = clip(f(n) / f(reference_count), 0, cap) with its own f, so that an item with the reference
count weighs 1. A kind of your own is a registered function of ``(vote_sum, params)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.errors import ConfigError
from hms.labels.folds import Split
from hms.registry import Limits, Params, PositiveFloat, added, lookup, register


@dataclass(frozen=True)
class Weight(Params):
    """Settings of the weights.

    Attributes
    ----------
    reference_count : number of votes with weight 1
    cap : largest weight
    balance : whether classes get equal weight in each fold's training part, see `class_weights`
    beta : how far ``balance=effective`` goes: 0 like none, towards 1 like inverse
    """

    reference_count: PositiveFloat
    cap: PositiveFloat
    balance: Literal["none", "inverse", "effective"] = added(before="none")
    beta: Annotated[float, Limits(at_least=0, at_most=0.999999)] = added(before=0.999)


def confidence_weights(vote_sum: ArrayLike, params: Params) -> NDArray[np.float32]:
    """Return the weight of each item by the function that ``params.kind`` names: float32, shape (n_items,).

    Raises `ConfigError` if a function, a plugin's for example, gives another shape, a negative weight or NaN.
    """
    counts = np.asarray(vote_sum)
    weights = np.asarray(lookup("weight", params.kind).function(counts, params), dtype=np.float32)
    if weights.shape != counts.shape:
        raise ConfigError(
            f"weight '{params.kind}' gives shape {weights.shape} for {counts.shape} vote counts"
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise ConfigError(f"weight '{params.kind}' gives {weights[bad[0]]} for {counts[bad[0]]} votes")
    return weights


@register("weight", "linear", Weight)
def linear(vote_sum: ArrayLike, params: Weight) -> NDArray[np.float32]:
    """Return weights in proportion to the votes, f(n) = n."""
    return _relative(lambda n: n, vote_sum, params)


@register("weight", "log", Weight)
def log(vote_sum: ArrayLike, params: Weight) -> NDArray[np.float32]:
    """Return weights that grow ever more slowly, f(n) = log(1 + n)."""
    return _relative(np.log1p, vote_sum, params)


@register("weight", "sqrt", Weight)
def sqrt(vote_sum: ArrayLike, params: Weight) -> NDArray[np.float32]:
    """Return weights as the precision of a share grows with votes, f(n) = sqrt(n)."""
    return _relative(np.sqrt, vote_sum, params)


@register("weight", "constant", Weight)
def constant(vote_sum: ArrayLike, params: Weight) -> NDArray[np.float32]:
    """Return the same weight for all items, f(n) = 1."""
    return _relative(np.ones_like, vote_sum, params)


def _relative(
    f: Callable[[NDArray[np.float64]], NDArray[np.float64]], vote_sum: ArrayLike, params: Weight
) -> NDArray[np.float32]:
    counts = np.asarray(vote_sum, dtype=np.float64)
    reference = f(np.array([params.reference_count], dtype=np.float64))[0]
    return np.asarray(np.clip(f(counts) / reference, 0, params.cap), dtype=np.float32)


# --- classes made to count alike -----------------------------------------------------------------


def balance_of(params: Params) -> Literal["none", "inverse", "effective"]:
    """Return how classes are balanced; weights of a plugin's own settings are not."""
    return params.balance if isinstance(params, Weight) else "none"


def class_weights(y_soft: ArrayLike, splits: Sequence[Split], params: Weight) -> NDArray[np.float64]:
    """Return the weight of each class in each fold: float64, shape (n_folds, n_classes).

    It follows from the shares p of the classes in the training part. ``inverse``: 1 / p. ``effective``: (1 -
    beta) / (1 - beta^n) with n = p times the items, which grows from 1 / n for many items towards 1 for beta
    = 0. Both are scaled so that the mean over the training items, each by its own shares, is 1. A class that
    the training part lacks weighs 1.

    References
    ----------
    scikit-learn: compute_class_weight("balanced") is ``inverse``, for labels of one class.
    Cui Y et al., "Class-balanced loss based on effective number of samples", CVPR 2019.
    """
    y = np.asarray(y_soft, dtype=np.float64)
    return np.array([_of_part(y[split.train], params) for split in splits])


def _of_part(y: NDArray[np.float64], params: Weight) -> NDArray[np.float64]:
    counts = y.sum(axis=0)
    weights, present = np.ones(y.shape[1]), counts > 0
    if not present.any():
        return weights
    if params.balance == "inverse":
        weights[present] = 1 / counts[present]
    else:
        log_beta = np.log(params.beta) if params.beta > 0 else -np.inf
        weights[present] = (1 - params.beta) / -np.expm1(counts[present] * log_beta)
    weights[present] *= counts.sum() / (weights @ counts)
    return weights
