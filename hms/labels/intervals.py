"""Intervals that know of patients, for one figure, a paired difference and many at once.

Items of one patient resemble each other, so that a patient, not an item, is what is left out and counted. All
intervals here stand on one thing: what the figure would be without each patient. Their spread is the variance
(for a mean it is the cluster-robust variance called CR3), and how unevenly patients add to it gives the
degrees of freedom of Student's t. Percentiles of drawn patients cover less with few or uneven patients;
docs/decisions/intervals.md has the measurement.

References
----------
Efron B, Stein C, "The jackknife estimate of variance", Ann Stat 9 (1981).
Bell RM, McCaffrey DF, "Bias reduction in standard errors for linear regression with
multi-stage samples", Survey Methodology 28 (2002): CR3 is the jackknife over clusters.
Satterthwaite FE, "An approximate distribution of estimates of variance components",
Biometrics Bulletin 2 (1946): degrees of freedom from the variance of the variance.
Chernozhukov V, Chetverikov D, Kato K, "Gaussian approximations and multiplier bootstrap
for maxima of sums of high-dimensional random vectors", Ann Stat 41 (2013): max-t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.terminal import listed

LEVEL = 0.95

HOLDS_FROM = 20
"""Effective patients from which intervals cover as they say: measured, docs/decisions/intervals.md."""

REFITTED = 1.15
"""Variance of an out-of-fold score over what its patients show, given the fitted models.

Models fitted on other patients would score otherwise, and no figure of one run shows by
how much: 1.09 to 1.27 in the simulations of benchmarks/coverage.py.
"""

N_DRAWS = 4000
"""Draws of patients' multipliers for what is simultaneous: its quantiles are good to 1 %."""

Floats = NDArray[np.float64]
Groups = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """A figure with its interval over patients.

    Attributes
    ----------
    value : NaN without items
    low, high : NaN where the interval does not hold: below `HOLDS_FROM` effective patients
    n_items, n_groups : items, and the patients whom they belong to
    effective : how many patients of equal size would tell as much, 1 / sum of squared shares
    """

    value: float
    low: float
    high: float
    n_items: int
    n_groups: int
    effective: float

    @property
    def holds(self) -> bool:
        """Whether there are enough patients for the interval to cover as it says."""
        return bool(np.isfinite(self.low))

    @property
    def reason(self) -> str:
        """Say why there is no interval, or nothing where there is one."""
        if self.holds:
            return ""
        if np.isnan(self.value):
            return "not defined" if self.n_items else "no items"
        return f"no interval holds: {self.effective:.0f} effective patients of {HOLDS_FROM} needed"

    def to_dict(self) -> dict[str, Any]:
        """Return the interval for JSON, None in the place of NaN and ``reason`` where it does not hold."""
        numbers = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "effective_patients": self.effective,
        }
        finite = {name: float(x) if np.isfinite(x) else None for name, x in numbers.items()}
        counts = {"n_items": self.n_items, "n_groups": self.n_groups}
        return {**finite, **counts, **({} if self.holds else {"reason": self.reason})}

    def __str__(self) -> str:
        if self.holds:
            return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
        return self.reason if np.isnan(self.value) else f"{self.value:.3f} ({self.reason})"


# --- one figure ----------------------------------------------------------------------------------


def mean_interval(values: ArrayLike, groups: Groups, *, factor: float = REFITTED) -> Interval:
    """Return the mean of values with its interval over patients.

    Raises `ValueError` if the lengths differ or a value is not finite.

    Parameters
    ----------
    values : shape (n_items,)
    groups : n_items ids, those of the patients
    factor : variance over what patients show; 1 where nothing was fitted to other patients
    """
    totals, masses = _sums(values, groups)
    value = float(totals[0].sum() / masses.sum()) if masses.sum() > 0 else np.nan
    half = _half_widths(_pulls(totals, masses), factor)[0]
    return _interval(value, half, masses, len(groups))


def paired_interval(
    values: ArrayLike, reference: ArrayLike, groups: Groups, *, factor: float = REFITTED
) -> Interval:
    """Return the mean of ``values - reference``, item by item, with its interval over patients.

    Row i of both is the same item: what makes an item hard for both cancels, so that the interval is narrower
    than those of the two means. Below 0, ``values`` are the lower. Raises ValueError as `mean_interval`, and
    if the shapes differ.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values have one shape, not {first.shape} and {second.shape}")
    return mean_interval(first - second, groups, factor=factor)


def jackknife_interval(value: float, without: ArrayLike, masses: ArrayLike, *, n_items: int) -> Interval:
    """Return the interval of any figure, from what it would be without each patient.

    Parameters
    ----------
    value : of all patients
    without : shape (n_patients,), the figure without each patient
    masses : shape (n_patients,), how much each patient counts: items, votes or weights
    n_items : items in all
    """
    pulls = value - np.asarray(without, dtype=np.float64)
    mass = np.asarray(masses, dtype=np.float64)
    half = _half_widths(pulls[None], factor=1.0)[0]
    return _interval(value, half, mass, n_items)


def _interval(value: float, half: float, masses: Floats, n_items: int) -> Interval:
    """Return the interval of a half-width, NaN where there are too few patients for it to hold."""
    half = half if _enough(masses) and np.isfinite(value) else np.nan
    effective = effective_number(masses)
    return Interval(float(value), float(value - half), float(value + half), n_items, masses.size, effective)


def _enough(masses: Floats) -> bool:
    return effective_number(masses) >= HOLDS_FROM - 1e-9


def _half_widths(pulls: Floats, factor: float) -> Floats:
    """Return half of the width of each figure's own interval from its pulls: shape (n_figures,)."""
    from scipy.special import stdtrit

    if pulls.shape[1] < 2:
        return np.full(len(pulls), np.nan)
    quantile = stdtrit(_freedom(pulls), (1 + LEVEL) / 2)
    return np.asarray(quantile * np.sqrt(factor * (pulls**2).sum(axis=1)))


def effective_number(masses: ArrayLike) -> float:
    """Return how many patients of equal size tell as much: 1 / sum of squared shares; 0 without any.

    References
    ----------
    Kish L, Survey Sampling (1965), the effective sample size of unequal weights.
    """
    mass = np.asarray(masses, dtype=np.float64)
    return float(mass.sum() ** 2 / (mass**2).sum()) if np.any(mass) else 0.0


def group_codes(groups: Groups) -> NDArray[np.int64]:
    """Return the number of each item's patient, patients in the order of their ids as text."""
    _, codes = np.unique(np.asarray([str(name) for name in groups]), return_inverse=True)
    return codes.astype(np.int64)


def _sums(values: ArrayLike, groups: Groups) -> tuple[Floats, Floats]:
    """Return the sum of each figure by patient, (n_figures, n_patients), and the items of each patient."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if rows.shape[1] != len(groups):
        raise ValueError(f"{rows.shape[1]} values and {len(groups)} groups do not match")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=0))
    if bad.size:
        raise ValueError(f"values must be finite (rows {listed(bad)})")
    codes = group_codes(groups)
    n = int(codes.max(initial=-1)) + 1
    totals = np.array([np.bincount(codes, weights=row, minlength=n) for row in rows], dtype=np.float64)
    return totals, np.bincount(codes, minlength=n).astype(np.float64)


def _pulls(totals: Floats, masses: Floats) -> Floats:
    """Return how far each patient pulls the mean: the mean less the mean without the patient."""
    mass = masses.sum()
    value = totals.sum(axis=-1, keepdims=True) / mass if mass > 0 else 0.0
    rest = mass - masses
    pulls = np.zeros_like(totals)
    np.divide(totals - value * masses, rest, out=pulls, where=rest > 0)
    return pulls


def _freedom(pulls: Floats) -> Floats:
    """Return Satterthwaite's degrees of freedom of the sum of squared pulls: shape (n_figures,).

    2 v^2 / var(v), where v is a sum over patients and var(v) is seen in the patients' own shares of
    it; never above the number of patients less one.
    """
    squares = pulls**2
    total, n = squares.sum(axis=-1), pulls.shape[-1]
    spread = (squares**2).sum(axis=-1) - total**2 / n
    most = float(n - 1)
    freedom = np.full(total.shape, most)
    np.divide(2 * total**2, spread, out=freedom, where=spread > 2 * total**2 / most)
    return np.maximum(freedom, 1.0)


# --- many figures at once ------------------------------------------------------------------------


def simultaneous_intervals(
    values: ArrayLike, pairs: Sequence[tuple[int, int]], groups: Groups
) -> list[Interval]:
    """Return the mean of ``values[a] - values[b]`` for each pair, with intervals that hold all at once.

    Where nothing differs, one pair or more of them excludes 0 in a share of 1 - `LEVEL` of data sets. Every
    interval that would stand alone (`paired_interval`) is widened by one factor: the quantile of the largest
    of all studentised differences when patients are drawn, here by normal multipliers, as far as the members'
    own losses go together. Raises `ValueError` as `mean_interval`.

    Parameters
    ----------
    values : shape (n_members, n_items), row k that of member k
    pairs : numbers of the members whose difference is asked for
    groups : n_items ids, those of the patients
    """
    totals, masses = _sums(values, groups)
    first, second = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    apart = totals[first] - totals[second]
    pulls = _pulls(apart, masses)
    means = apart.sum(axis=1) / (masses.sum() or np.nan)
    halves = _half_widths(pulls, REFITTED)
    widening = _widening(pulls) if _enough(masses) else 1.0
    return [
        _interval(mean, widening * half, masses, len(groups))
        for mean, half in zip(means, halves, strict=True)
    ]


def _widening(apart: Floats) -> float:
    """Return by which factor single intervals are widened so that all hold at once, 1 or more."""
    from scipy.special import stdtrit

    error = np.sqrt((apart**2).sum(axis=1))
    differs = error > 0
    if differs.sum() < 2:
        return 1.0
    freedom = _freedom(apart[differs])
    single = stdtrit(freedom, (1 + LEVEL) / 2)
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((N_DRAWS, apart.shape[1])) @ (apart[differs] / error[differs, None]).T
    # The variance of each difference is itself uncertain: all of them high or low together.
    luck = rng.standard_normal((N_DRAWS, 1))
    largest = np.abs(drawn / _chi(luck, freedom) / single).max(axis=1)
    return max(float(np.quantile(largest, LEVEL)), 1.0)


def _chi(normal: Floats, freedom: Floats) -> Floats:
    """Return the square root of chi-squared over its degrees of freedom, from standard normals.

    References
    ----------
    Wilson EB, Hilferty MM, "The distribution of chi-square", PNAS 17 (1931): within 1 % from 3
    degrees of freedom on.
    """
    ninth = 2 / (9 * freedom)
    cube = np.maximum(1 - ninth + normal * np.sqrt(ninth), 0.05)
    return np.asarray(np.sqrt(cube**3))


def luck_of_the_best(values: ArrayLike, reference: int, groups: Groups, *, factor: float = REFITTED) -> float:
    """Return by how much the best of as many members would beat the reference if all were equal.

    0 or more, in the unit of the values; NaN with too few patients or no other member.

    Parameters
    ----------
    values : shape (n_members, n_items), losses: the lower the better
    reference : row of the reference
    groups : n_items ids, those of the patients
    """
    totals, masses = _sums(values, groups)
    if len(totals) < 2 or not _enough(masses):
        return float("nan")
    pulls = _pulls(totals, masses)
    apart = np.sqrt(factor) * (np.delete(pulls, reference, axis=0) - pulls[reference])
    drawn = np.random.default_rng(0).standard_normal((N_DRAWS, apart.shape[1])) @ apart.T
    return float(np.maximum(-drawn.min(axis=1), 0).mean())
