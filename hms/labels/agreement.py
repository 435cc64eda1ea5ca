"""How far experts agree beyond chance, in all, by class, by stratum and by number of votes.

Votes are counts: who cast them is not known, and raters differ from item to item. What can be
read off counts are pairs of votes on one item, so items with fewer than two votes say nothing.

References
----------
Krippendorff K, "Computing Krippendorff's alpha-reliability" (2011) and Content Analysis, 4th ed.
(2019), chapter 12: nominal data, missing values; a class against the rest gives the class's own.
Gwet KL, "Computing inter-rater reliability and its variance in the presence of high agreement",
Br J Math Stat Psychol 61 (2008): AC1, which does not fall where one class is common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.labels.intervals import Groups, Interval, effective_number, group_codes, jackknife_interval

VOTE_GROUPS = (2, 3, 4, 6, 8, 10, 15, 20, 30)
"""Smallest number of votes of each group in which disagreement is shown."""

Floats = NDArray[np.float64]


# --- pairs of votes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairCounts:
    """What agreement is made of; adding rows adds the items, so that patients can be left out.

    Attributes
    ----------
    together : float64, shape (n_rows, n_classes, n_classes), pairs of votes on one item by their two
        classes, each item's pairs weighing as much as its votes (Krippendorff's coincidences)
    agreeing : float64, shape (n_rows,), sum over items of the share of its pairs that agree
    shares : float64, shape (n_rows, n_classes), sum over items of the share of votes of each class
    items : float64, shape (n_rows,)
    """

    together: Floats
    agreeing: Floats
    shares: Floats
    items: Floats

    @property
    def votes(self) -> Floats:
        """Votes of each class on items with two votes or more: shape (n_rows, n_classes)."""
        return np.asarray(self.together.sum(axis=-1))

    def total(self) -> PairCounts:
        """Return all rows in one."""
        return PairCounts(*(part.sum(axis=0, keepdims=True) for part in self._parts()))

    def without_each(self) -> PairCounts:
        """Return, for each row, all rows but that one."""
        return PairCounts(*(part.sum(axis=0, keepdims=True) - part for part in self._parts()))

    def class_against_rest(self, number: int) -> PairCounts:
        """Return the same items with two classes: the one, and all others."""
        one = self.together[:, number, number]
        mixed = self.together[:, number].sum(axis=-1) - one
        rest = self.together.sum(axis=(1, 2)) - one - 2 * mixed
        pair = np.stack([np.stack([one, mixed], -1), np.stack([mixed, rest], -1)], -2)
        return replace(self, together=pair)

    def _parts(self) -> tuple[Floats, Floats, Floats, Floats]:
        return self.together, self.agreeing, self.shares, self.items


def count_pairs(votes: ArrayLike, codes: ArrayLike | None = None) -> PairCounts:
    """Return the pairs of votes, one row per patient.

    Raises `ValueError` if votes are negative or no whole numbers: averaged votes have no pairs.

    Parameters
    ----------
    votes : whole numbers, shape (n_items, n_classes)
    codes : int64, shape (n_items,), number of each item's patient; all one without
    """
    counts = np.asarray(votes, dtype=np.float64)
    if counts.ndim != 2 or not np.all(np.isfinite(counts) & (counts >= 0) & (counts == np.rint(counts))):
        raise ValueError(
            f"agreement needs whole numbers of votes, shape (n_items, n_classes); got {counts.shape}"
            f" with values such as {_odd(counts)}"
        )
    patient = np.zeros(len(counts), np.int64) if codes is None else np.asarray(codes)
    n_rows = int(patient.max(initial=-1)) + 1
    m = counts.sum(axis=1)
    counts, patient, m = counts[m >= 2], patient[m >= 2], m[m >= 2]
    n_classes = counts.shape[1]
    others = m - 1
    agreeing, together = np.zeros(len(m)), np.empty((n_rows, n_classes, n_classes))

    def summed(values: Floats) -> Floats:
        return np.asarray(np.bincount(patient, weights=values, minlength=n_rows), np.float64)

    # One column at a time: those of a hundred thousand items together take 100 MB.
    for one in range(n_classes):
        for other in range(n_classes):
            pairs = counts[:, one] * counts[:, other]
            if one == other:
                pairs -= counts[:, one]
            pairs /= others
            together[:, one, other] = summed(pairs)
            if one == other:
                agreeing += pairs
    shares = [summed(counts[:, one] / m) for one in range(n_classes)]
    return PairCounts(together, summed(agreeing / m), np.stack(shares, axis=1), summed(np.ones(len(m))))


def _odd(counts: Floats) -> str:
    flat = counts.ravel()
    odd = flat[~((flat >= 0) & (flat == np.rint(flat)))]
    return f"{odd[0]:g}" if odd.size else "none"


# --- figures -------------------------------------------------------------------------------------


def krippendorff_alpha(pairs: PairCounts) -> Floats:
    """Return alpha of each row, 1 - observed / expected disagreement: shape (n_rows,).

    1 where all agree, 0 by chance, below 0 where they agree less than by chance; NaN without
    pairs, and where every vote is of one class, so that chance alone would agree as well.
    """
    n_class = pairs.votes
    n = n_class.sum(axis=1)
    observed = n - np.trace(pairs.together, axis1=1, axis2=2)
    expected = n**2 - (n_class**2).sum(axis=1)
    ratio = np.full(n.shape, np.nan)
    np.divide((n - 1) * observed, expected, out=ratio, where=expected > 1e-9 * n**2)
    return np.asarray(1 - ratio)


def gwet_ac1(pairs: PairCounts) -> Floats:
    """Return AC1 of each row: shape (n_rows,); NaN without pairs.

    Chance is taken as sum q (1 - q) / (n_classes - 1), q the mean share of each class.
    """
    agreed = _ratio(pairs.agreeing, pairs.items)
    shares = _ratio(pairs.shares, pairs.items[:, None])
    chance = (shares * (1 - shares)).sum(axis=1) / (shares.shape[1] - 1)
    return np.asarray((agreed - chance) / (1 - chance))


def _agreed(pairs: PairCounts) -> Floats:
    return _ratio(pairs.agreeing, pairs.items)


def _confirmed(number: int) -> Callable[[PairCounts], Floats]:
    """Return the share of other votes that say the class where one vote says it, as a function."""
    return lambda pairs: _ratio(pairs.together[:, number, number], pairs.votes[:, number])


def _ratio(part: Floats, whole: Floats) -> Floats:
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


# --- the summary ---------------------------------------------------------------------------------


def agreement(
    votes: ArrayLike, patient_id: Groups, *, classes: Sequence[str], strata: dict[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    """Return agreement by stratum and class with intervals over patients, and by number of votes.

    Parameters
    ----------
    votes : whole numbers, shape (n_items, n_classes)
    patient_id : n_items ids
    classes : names of the columns of votes
    strata : items of each stratum, see `hms.labels.summary.vote_strata`

    Returns
    -------
    dict
        Ready for JSON. ``strata``: by name, ``items`` with two votes or more, ``agree`` (share of
        pairs of votes that agree), ``alpha``, ``ac1`` and ``by_class``: ``alpha`` of the class
        against the rest, ``confirmed`` (where one vote says the class, the share of the others
        that do) and ``instead`` (what the others say). ``by_votes``: the same figures by number
        of votes. A figure is that of `Interval.to_dict`, None in it for what is undefined.
        ``reason``, and nothing in the others, where votes are shares: they have no pairs.
    """
    counts, patients = np.asarray(votes), np.asarray(patient_id, dtype=object)
    if np.any(counts != np.rint(counts)):
        return {"strata": {}, "by_votes": [], "reason": "votes are shares, so pairs cannot be counted"}
    return {
        "strata": {name: _stratum(counts[mask], patients[mask], classes) for name, mask in strata.items()},
        "by_votes": [
            {"votes": name, **_stratum(counts[mask], patients[mask], classes)}
            for name, mask in votes_in_groups(counts.sum(axis=1)).items()
        ],
    }


def votes_in_groups(vote_sum: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """Return the items of each group of vote totals that has any, from 2 votes on, by its name."""
    total = np.asarray(vote_sum)
    ends = [*VOTE_GROUPS[1:], np.inf]
    groups = {}
    for first, end in zip(VOTE_GROUPS, ends, strict=True):
        inside = (total >= first) & (total < end)
        if inside.any():
            name = f"{first}+" if end == np.inf else f"{first}" if end == first + 1 else f"{first}-{end - 1}"
            groups[name] = np.asarray(inside)
    return groups


def _stratum(votes: NDArray[Any], patients: NDArray[Any], classes: Sequence[str]) -> dict[str, Any]:
    pairs = count_pairs(votes, group_codes(patients.tolist()))
    voted = PairCounts(*(part[pairs.items > 0] for part in pairs._parts()))

    def figure(statistic: Callable[[PairCounts], Floats], masses: Floats) -> dict[str, Any]:
        return _figure(voted, statistic, masses).to_dict()

    by_class = {}
    for number, name in enumerate(classes):
        masses = voted.votes[:, number]
        by_class[name] = {
            "alpha": figure(_alpha_of(number), masses),
            "confirmed": figure(_confirmed(number), masses),
            "instead": _instead(voted, number, classes),
        }
    return {
        "items": int(voted.items.sum()),
        "agree": figure(_agreed, voted.items),
        "alpha": figure(krippendorff_alpha, voted.items),
        "ac1": figure(gwet_ac1, voted.items),
        "by_class": by_class,
    }


def _alpha_of(number: int) -> Callable[[PairCounts], Floats]:
    return lambda pairs: krippendorff_alpha(pairs.class_against_rest(number))


def _figure(pairs: PairCounts, statistic: Callable[[PairCounts], Floats], masses: Floats) -> Interval:
    """Return a figure with its interval; it counts as few patients as have the class voted."""
    n_items = int(pairs.items.sum())
    if not n_items:
        return Interval(np.nan, np.nan, np.nan, 0, 0, 0.0)
    value = float(statistic(pairs.total())[0])
    seen = masses if effective_number(masses) < effective_number(pairs.items) else pairs.items
    return jackknife_interval(value, statistic(pairs.without_each()), seen, n_items=n_items)


def _instead(pairs: PairCounts, number: int, classes: Sequence[str]) -> dict[str, float | None]:
    """Return, where one vote says the class, the share of the other votes that say each class."""
    row = pairs.together.sum(axis=0)[number]
    shares = _ratio(row, row.sum(keepdims=True))
    return {
        name: round(float(share), 6) if np.isfinite(share) else None
        for name, share in zip(classes, shares.tolist(), strict=True)
    }
