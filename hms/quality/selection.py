"""Selection: which classes an exclusion costs items, and whether that is more than chance.

A limit that takes a disease for an artifact leaves a clean set without the disease. So whatever
leaves items out by grade is counted by class, with intervals, and tested by patient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import Classes
from hms.labels.votes import consensus
from hms.quality.grading import GRADES

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

N_DRAWS = 1999
"""Ways in which exclusions are dealt out again; the smallest p is 0.0005."""

MOST_DEALT = 500
"""Items of patients with some left out and some not, up to which these are dealt out one by one."""

MOST_KEPT = 4096
"""Patients up to which the orders that are drawn, 16 MB, are kept: several exclusions of a run use them."""

UNEQUAL_P = 0.05
"""Below it, an exclusion takes classes unequally beyond chance, and that is said."""


def wilson(found: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval of a share, 95 % by default; 0 to 1 without items."""
    if n == 0:
        return 0.0, 1.0
    share = found / n
    centre, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def graded_from(grades: Sequence[str] | NDArray[np.str_], worst: str) -> Mask:
    """Return which items have a grade or a worse one."""
    return np.isin(np.asarray(grades, dtype=str), GRADES[GRADES.index(worst) :])


@dataclass(frozen=True)
class Selection:
    """An exclusion, of items that have a class.

    Attributes
    ----------
    classes : int64, shape (n,); number of each item's class in ``names``
    patients : shape (n,); patient of each item
    taken : bool, shape (n,); whether the item is left out
    names : of the classes
    """

    classes: NDArray[np.int64]
    patients: NDArray[Any]
    taken: Mask
    names: tuple[str, ...]

    @cached_property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Return for each class how many items are left out, and of how many."""
        of = [self.classes == i for i in range(len(self.names))]
        return {
            name: (int(self.taken[m].sum()), int(m.sum())) for name, m in zip(self.names, of, strict=True)
        }

    @cached_property
    def test(self) -> tuple[float | None, str | None]:
        """Return the p of an equal share in all classes, and the class that is farthest from it.

        Notes
        -----
        Exclusions are dealt out again `N_DRAWS` times: each patient gets another's share of items left out,
        and within a patient its exclusions fall on other items of it. So many items of one patient count as
        one draw, and with one item of each patient the test is the permutation test. The statistic is the
        largest deviation of a class from the count expected, in its standard deviations over the draws; p is
        of all classes together. None where nothing or everything is left out, or one class is there.
        """
        if self.taken.all() or not self.taken.any() or len(np.unique(self.classes)) < 2:
            return None, None
        drawn = self._drawn()
        spread = drawn.std(axis=0)
        deviation = self.taken.astype(float) @ self._member
        is_known = spread > 0
        if not is_known.any():
            return 1.0, None
        scale = np.where(is_known, spread, np.inf)
        found, by_chance = np.abs(deviation) / scale, (np.abs(drawn) / scale).max(axis=1)
        p = (1 + np.count_nonzero(by_chance >= found.max() - 1e-9)) / (1 + N_DRAWS)
        return float(p), self.names[int(found.argmax())]

    @cached_property
    def _member(self) -> NDArray[np.float64]:
        """Membership in each class less its share of all items, shape (n, n_classes)."""
        member = (self.classes[:, np.newaxis] == np.arange(len(self.names))).astype(float)
        member -= member.mean(axis=0)
        return np.asarray(member)

    def _drawn(self) -> NDArray[np.float64]:
        """Return the deviations of `N_DRAWS` exclusions dealt out again, shape (n_draws, n_classes)."""
        _, patient = np.unique(self.patients.astype(str), return_inverse=True)
        size = np.bincount(patient)
        share = np.bincount(patient, weights=self.taken) / size
        by_patient = np.zeros((len(size), len(self.names)))
        np.add.at(by_patient, patient, self._member)
        rng = np.random.default_rng(0)
        drawn = np.array([share[order] @ by_patient for order in _orders(len(size), rng)])
        is_mixed = np.isin(patient, np.flatnonzero((share > 0) & (share < 1) & (size > 1)))
        if not is_mixed.any():
            return drawn
        member, of = self._member[is_mixed], patient[is_mixed]
        excess = self.taken[is_mixed] - share[of]
        draw = _dealt_within if len(of) <= MOST_DEALT else _normal_within
        return np.asarray(drawn + draw(member, excess, of, rng))

    @property
    def is_unequal(self) -> bool:
        """Whether classes are taken unequally beyond chance."""
        p, _ = self.test
        return p is not None and p < UNEQUAL_P

    def sentence(self) -> str:
        """Say how many items are excluded of the class farthest from an equal share, and of the others."""
        _, worst = self.test
        if worst is None:
            return f"{int(self.taken.sum())} of {self.taken.size} items"
        out, n = self.counts[worst]
        return f"{out} of {n} {worst} and {int(self.taken.sum()) - out} of {self.taken.size - n} others"

    @classmethod
    def of_marks(cls, items: pd.DataFrame, stages: Sequence[str]) -> Selection | None:
        """Return what marks exclude of the prepared items with votes; None if they exclude none.

        Parameters
        ----------
        items : one row per item, with its votes
        stages : per item, the stage that leaves it out, empty for none
        """
        kinds, why = Classes.of_columns(items.columns), np.array(stages, dtype=np.str_)
        classes = consensus(items[list(kinds.vote_columns)].to_numpy(np.float64))
        rows = np.flatnonzero((classes >= 0) & np.isin(why, ("", "marks", "quality")))
        taken = why[rows] == "marks"
        if not taken.any():
            return None
        return cls(classes[rows], items["patient_id"].to_numpy(object)[rows], taken, tuple(kinds.names))

    def lines(self, setting: str) -> list[str]:
        """Return sentences about an exclusion that is unequal, or that takes all of a class."""
        p, _ = self.test
        said = []
        if self.is_unequal:
            said.append(
                f"{setting} leaves out {self.sentence()}, more unequally than chance explains "
                f"(p = {p:.2g}, by patient)"
            )
        gone = [name for name, (out, n) in self.counts.items() if n and out == n]
        if gone:
            said.append(f"{setting} leaves no item of {', '.join(gone)}")
        return said

    def summary(self) -> dict[str, Any]:
        """Return counts with Wilson's intervals by class, and the test, as JSON takes them."""
        p, worst = self.test
        return {
            "classes": {
                name: {"left_out": out, "items": n, "interval": [round(v, 4) for v in wilson(out, n)]}
                for name, (out, n) in self.counts.items()
            },
            "patients": len(np.unique(self.patients.astype(str))),
            "p": p,
            "farthest": worst,
        }


def _orders(n_patients: int, rng: np.random.Generator) -> Iterable[NDArray[np.integer]]:
    """Yield `N_DRAWS` orders of patients, drawn at random."""
    if n_patients > MOST_KEPT:
        return (rng.permutation(n_patients) for _ in range(N_DRAWS))
    orders, rng.bit_generator.state = _kept_orders(n_patients)
    return orders


@lru_cache(maxsize=1)
def _kept_orders(n_patients: int) -> tuple[NDArray[np.uint16], Mapping[str, Any]]:
    """Return `N_DRAWS` orders of patients, and the state of their generator after them."""
    rng = np.random.default_rng(0)
    orders = np.empty((N_DRAWS, n_patients), np.uint16)
    for order in orders:
        order[:] = rng.permutation(n_patients)
    return orders, rng.bit_generator.state


def _dealt_within(
    member: NDArray[np.float64], excess: NDArray[np.float64], of: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return deviations with each patient's exclusions dealt out anew, shape (n_draws, n_classes)."""
    inside = member[np.argsort(of, kind="stable")]
    dealt = np.argsort(of + rng.random((N_DRAWS, len(of))), axis=1)  # at random within a patient
    return np.asarray(excess[dealt] @ inside)


def _normal_within(
    member: NDArray[np.float64], excess: NDArray[np.float64], of: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return normal deviations with the covariance of `_dealt_within`, their limit for many items."""
    _, of = np.unique(of, return_inverse=True)
    size = np.bincount(of)
    mean = np.zeros((len(size), member.shape[1]))
    np.add.at(mean, of, member)
    weight = np.bincount(of, weights=excess**2) / (size - 1)
    centred = (mean / size[:, np.newaxis])[of]
    np.subtract(member, centred, out=centred)
    centred *= np.sqrt(weight)[of, np.newaxis]
    zero = np.zeros(member.shape[1])
    return rng.multivariate_normal(zero, centred.T @ centred, size=N_DRAWS, method="svd")


@dataclass(frozen=True)
class Graded:
    """The items that a grade can leave out: those with votes that nothing else left out.

    Attributes
    ----------
    classes : int64, shape (n,); number of each item's consensus in ``names``
    patients, grades : shape (n,)
    used : bool, shape (n,); False where its grade left it out
    names : of the classes
    """

    classes: NDArray[np.int64]
    patients: NDArray[Any]
    grades: NDArray[np.str_]
    used: Mask
    names: tuple[str, ...]

    @classmethod
    def of(cls, items: pd.DataFrame, ledger: pd.DataFrame, by_others: Mask) -> Graded:
        """Return the ones among all items.

        Parameters
        ----------
        items : one row per item, with its votes
        ledger : qc.csv, in the same order
        by_others : bool, shape (n_items,); left out for another reason than a grade
        """
        kinds = Classes.of_columns(items.columns)
        classes = consensus(items[list(kinds.vote_columns)].to_numpy(np.float64))
        rows = np.flatnonzero((classes >= 0) & ~by_others)
        return cls(
            classes[rows],
            items["patient_id"].to_numpy(object)[rows],
            ledger["grade"].fillna("").to_numpy(str)[rows],
            ledger["used"].to_numpy(bool)[rows],
            tuple(kinds.names),
        )

    def exclusion(self, worst: str | None = None) -> Selection:
        """Return the exclusion that was made, or the one that ``qc.exclude_from`` would make at a grade."""
        taken = ~self.used if worst is None else graded_from(self.grades, worst)
        return Selection(self.classes, self.patients, taken, self.names)

    def by_class(self) -> dict[str, dict[str, int]]:
        """Return how many items of each class have each grade."""
        return {
            name: {grade: int(((self.classes == i) & (self.grades == grade)).sum()) for grade in GRADES}
            for i, name in enumerate(self.names)
        }

    def summary(self, exclude_from: str | None) -> dict[str, Any]:
        """Return grades by class, what each exclusion takes or would take, and sentences about it.

        Returns
        -------
        dict
            grades : items by class and grade
            exclude_from : the grade from which on items are left out, or None
            taken : the exclusion that was made, None without one
            would_take : by grade, what leaving out that grade and worse ones would take
            lines : sentences for the terminal
        """
        made = None if exclude_from is None else self.exclusion()
        return {
            "grades": self.by_class(),
            "exclude_from": exclude_from,
            "taken": None if made is None else made.summary(),
            "would_take": {grade: self.exclusion(grade).summary() for grade in GRADES[:0:-1]},
            "lines": [] if made is None else made.lines(f"qc.exclude_from={exclude_from}"),
        }
