"""Votes to look at again: items whose votes are improbable under what a model predicts of them.

A large divergence is not evidence by itself: three votes diverge from any sure prediction, and sixteen of a
class that experts confuse do. So each item's votes are held against what panels of its size would
do under the prediction, with the noise that votes have around such predictions. What is improbable
here but probable elsewhere comes first: votes that no item is likely to have are odd, not misplaced.

References
----------
Northcutt CG, Jiang L, Chuang IL, "Confident learning", J Artif Intell Res 70 (2021): out-of-fold
predictions against given labels. Here votes stand in the place of one label, with their noise.
Benjamini Y, Hochberg Y, "Controlling the false discovery rate", J R Stat Soc B 57 (1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.labels.evidence import (
    Noise,
    dirichlet_multinomial_log,
    fit_mixture,
    fit_noise,
    mixture_log,
    tail_probability,
)
from hms.labels.smoothing import LEAST_FOR_MIXTURE

LEAST_TO_FIT = 50
"""Items of a stratum from which its noise is fitted to it alone; with fewer, to all items."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Doubts:
    """How improbable each item's votes are; arrays have a row per item.

    Attributes
    ----------
    tail : share of panels of the item's size that would agree no better with the prediction
    elsewhere : how many times as probable its votes are as those of any item of its kind
    expected : items of all that would be as improbable by chance
    false_rate : share of false alarms among the items up to this one, at most
    calibrated : shape (n_items, n_classes), predicted shares as sure as the votes bear out
    order : items by ``tail / elsewhere``, the lowest first
    """

    tail: Floats
    elsewhere: Floats
    expected: Floats
    false_rate: Floats
    calibrated: Floats
    order: NDArray[np.int64]


def doubt(votes: ArrayLike, prediction: ArrayLike, *, many: NDArray[np.bool_]) -> Doubts:
    """Hold votes against predictions that did not see them.

    Items with many votes and with few are judged by a noise of their own, as experts
    differ over them in their own ways.

    Parameters
    ----------
    votes : counts, shape (n_items, n_classes), every row with a vote
    prediction : shares, shape (n_items, n_classes), by models that saw neither item nor patient
    many : which items have many votes
    """
    counts, shares = np.asarray(votes, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    tail, odds, calibrated = np.empty(len(counts)), np.empty(len(counts)), np.empty_like(shares)
    for stratum in (many, ~many):
        if not stratum.any():
            continue
        own, noise = counts[stratum], _noise(counts, shares, stratum)
        tail[stratum] = tail_probability(own, shares[stratum], noise)
        anywhere = mixture_log(own, fit_mixture(own, None if len(own) >= LEAST_FOR_MIXTURE else 1))
        odds[stratum] = anywhere - dirichlet_multinomial_log(own, noise.alpha(shares[stratum]))
        calibrated[stratum] = noise.calibrated(shares[stratum])
    order = np.argsort(np.log(tail) - odds, kind="stable")
    return Doubts(tail, np.exp(odds), tail * len(tail), false_discovery_rate(tail), calibrated, order)


def _noise(counts: Floats, shares: Floats, stratum: NDArray[np.bool_]) -> Noise:
    own = stratum if stratum.sum() >= LEAST_TO_FIT else np.ones_like(stratum)
    return fit_noise(counts[own], shares[own])


def false_discovery_rate(probability: ArrayLike) -> Floats:
    """Return, for each item, the share of false alarms if it and all less probable ones are taken.

    References
    ----------
    Benjamini and Hochberg (1995), as adjusted probabilities.
    """
    p = np.asarray(probability, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    rates = p[order] * p.size / np.arange(1, p.size + 1)
    found = np.empty(p.size)
    found[order] = np.minimum.accumulate(rates[::-1])[::-1]
    return np.minimum(found, 1.0)
