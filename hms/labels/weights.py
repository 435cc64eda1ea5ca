"""Confidence weights: how much an item counts in training, from its number of votes.

Every kind is w = clip(f(n) / f(reference_count), 0, cap) with its own f, so that an item
with the reference count weighs 1. A kind of your own is a registered function of
``(vote_sum, params)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.registry import Params, PositiveFloat, lookup, register

__all__ = ["Weight", "confidence_weights", "constant", "linear", "log", "sqrt"]


@dataclass(frozen=True)
class Weight(Params):
    """Settings of the weights: the vote count that weighs 1, and the largest weight."""

    reference_count: PositiveFloat
    cap: PositiveFloat


def confidence_weights(vote_sum: ArrayLike, params: Params) -> NDArray[np.float32]:
    """Return the weight of each item by the function that ``params.kind`` names.

    Parameters
    ----------
    vote_sum : whole numbers, shape (n_items,)
    params : settings of the section ``weight``

    Returns
    -------
    float32, shape (n_items,)

    Raises
    ------
    ValueError
        If a function, a plugin's for example, gives another shape, a negative weight or NaN.
    """
    counts = np.asarray(vote_sum)
    weights = np.asarray(lookup("weight", params.kind).function(counts, params), dtype=np.float32)
    if weights.shape != counts.shape:
        raise ValueError(f"weight '{params.kind}' gives shape {weights.shape} for {counts.shape} vote counts")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise ValueError(f"weight '{params.kind}' gives {weights[bad[0]]} for {counts[bad[0]]} votes")
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
