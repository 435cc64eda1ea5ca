"""Folds that keep every patient whole, the same for every configuration of a data set.

Patients, not items, are given folds, and from all recordings with votes: the unit, labels, exclusions and the
order of rows change no patient's fold. The two ways to balance are scikit-learn's ideas in exact arithmetic
and with stated ties, so that no version of a library changes a fold. A kind of your own is a registered
function of ``(patients, params)`` that returns a fold number per row of `patient_table`.

References
----------
scikit-learn: GroupKFold (largest group to the smallest fold), StratifiedGroupKFold (each group to the fold
where the classes stay most even).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.labels.items import row_with_most_votes, vote_array
from hms.labels.votes import consensus
from hms.registry import Limits, Params, added, lookup, register

if TYPE_CHECKING:
    import pandas as pd


class Split(NamedTuple):
    """Training and validation rows of a package."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"<Split: {len(self.train)} training items, {len(self.valid)} validation items>"


@dataclass(frozen=True)
class Folds(Params):
    """Settings of folds: how many, and which of the many ways to make them.

    Attributes
    ----------
    n_splits : number of folds
    seed : None: one fixed way; each number gives other folds, for repeated cross-validation
    """

    n_splits: Annotated[int, Limits(at_least=2)]
    seed: Annotated[int, Limits(at_least=0)] | None = added(before=None)


@dataclass(frozen=True)
class OwnFolds(Params):
    """Base of the settings of ready-made folds.

    The function of such a kind takes the votes table itself and returns the fold of each patient,
    in the order of `patient_table`; see `hms.labels.own_folds`.
    """


def assign_folds(frame: pd.DataFrame, params: Params) -> pd.Series:
    """Return the fold of every patient of a whole votes table (`hms.sources.tables.VotesTable.frame`).

    Raises `ConfigError` if there are too few patients; both numbers are named.

    Returns
    -------
    Series
        int64 fold 0 ... n_splits - 1, named ``fold``, by patient_id in the order of the text; -1 for a
        patient who is validated on in no fold.
    """
    return _fold_of(patient_table(frame), frame, params)


def _fold_of(patients: pd.DataFrame, frame: pd.DataFrame, params: Params) -> pd.Series:
    import pandas as pd

    given = frame if isinstance(params, OwnFolds) else patients
    fold = np.asarray(lookup("folds", params.kind).function(given, params))
    if fold.shape != (len(patients),) or fold.dtype.kind not in "iu" or fold.min(initial=0) < -1:
        raise ConfigError(
            f"folds '{params.kind}' must give whole numbers, -1 or more, for {len(patients)} patients"
        )
    return pd.Series(fold.astype(np.int64), index=patients.index, name="fold")


def patient_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how many recordings with votes each patient has, in all and by class.

    int64 columns ``recordings`` and one per class; index patient_id, sorted as text. The class of a recording
    is the consensus of its row with most votes. A recording without votes is in no fold and does not count:
    of many files, few of them labelled, the labelled ones are balanced.
    """
    import pandas as pd

    rows = row_with_most_votes(frame)
    names, patient = np.unique(frame["patient_id"].to_numpy(dtype=object)[rows], return_inverse=True)
    label = consensus(vote_array(frame.iloc[rows]))
    counts = {"recordings": np.bincount(patient[label >= 0], minlength=names.size)}
    for number, name in enumerate(Classes.of_columns(frame.columns).names):
        counts[name] = np.bincount(patient[label == number], minlength=names.size)
    return pd.DataFrame(counts, index=pd.Index(names, dtype=object, name="patient_id"), dtype=np.int64)


@register("folds", "group", Folds)
def group_folds(patients: pd.DataFrame, params: Folds) -> NDArray[np.int64]:
    """Return folds of nearly equal numbers of recordings.

    The patient with most recordings goes first, each to the fold that has fewest. Ties:
    patients in the order of their id's text, the fold with the lower number. With a seed,
    patients of about the same size (the same power of two) come in a random order.
    """
    _check_enough_patients(patients, params.n_splits)
    size = patients["recordings"].to_numpy()
    fold = np.empty(size.size, dtype=np.int64)
    loads = [(0, number) for number in range(params.n_splits)]
    heapify(loads)
    for patient in _in_order(patients.index, [int(n) for n in size], params.seed):
        load, number = loads[0]
        fold[patient] = number
        heapreplace(loads, (load + int(size[patient]), number))
    return fold


@register("folds", "stratified", Folds)
def stratified_folds(patients: pd.DataFrame, params: Folds) -> NDArray[np.int64]:
    """Return folds in which every class has nearly its share of recordings.

    Each patient goes to the fold where the sum over the classes of the squared share of the class in each
    fold grows least; the patient whose recordings are the largest shares goes first. Ties: the fold with
    fewer recordings, then the lower number; patients in the order of their id's text. Shares are whole
    numbers over a common denominator, so that no rounding decides. With a seed, patients of about the same
    shares (the same power of two) come in a random order. A class that fewer patients have than there are
    folds is spread as far as it goes; `fold_warnings` says so.
    """
    _check_enough_patients(patients, params.n_splits)
    counts = patients.drop(columns="recordings").to_numpy()
    worth = _worth_of_one(counts.sum(axis=0))
    shares = [[int(n) * w for n, w in zip(row, worth, strict=True)] for row in counts]
    sizes = patients["recordings"].tolist()
    squares = [sum(s * s for s in share) for share in shares]
    order = (
        sorted(range(len(sizes)), key=lambda p: (-squares[p], -sizes[p], p))
        if params.seed is None
        else _in_order(patients.index, squares, params.seed)
    )
    return _most_even(shares, sizes, params.n_splits, order)


def _in_order(names: Iterable[str], sizes: Sequence[int], seed: int | None) -> list[int]:
    """Return the places of patients, the largest first; with a seed, the largest power of two first.

    Random is a digest of seed and id: no library's generator, and no other patient, moves anybody.
    """
    if seed is None:
        return sorted(range(len(sizes)), key=lambda p: -sizes[p])
    drawn = [blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in names]
    return sorted(range(len(sizes)), key=lambda p: (-sizes[p].bit_length(), drawn[p]))


def _most_even(
    shares: list[list[int]], sizes: list[int], n_splits: int, order: Sequence[int]
) -> NDArray[np.int64]:
    """Return the fold of each patient, given share of each class, recordings, and the order of turns."""
    held = [[0] * len(shares[0]) for _ in range(n_splits)]
    loads = [0] * n_splits
    fold = np.empty(len(sizes), dtype=np.int64)
    for patient in order:
        share = shares[patient]
        # (h + s)^2 - h^2 differs between folds only by 2 h s.
        growth = [sum(h * s for h, s in zip(row, share, strict=True)) for row in held]
        best = min(range(n_splits), key=lambda f: (growth[f], loads[f], f))
        fold[patient] = best
        loads[best] += sizes[patient]
        held[best] = [h + s for h, s in zip(held[best], share, strict=True)]
    return fold


@register("folds", "none")
def no_folds(patients: pd.DataFrame, params: Params) -> NDArray[np.int64]:
    """Return -1 for every patient: all items are for training."""
    return np.full(len(patients), -1, dtype=np.int64)


def _worth_of_one(totals: NDArray[np.int64]) -> list[int]:
    """Return what one recording of each class is worth, so that every class is worth the same in all."""
    present = [int(total) for total in totals if total]
    whole = math.lcm(*present)
    return [whole // int(total) if total else 0 for total in totals]


def _check_enough_patients(patients: pd.DataFrame, n_splits: int) -> None:
    n_voted = int((patients["recordings"] > 0).sum())
    if 0 < n_voted < n_splits:
        raise ConfigError(
            f"folds.n_splits={n_splits} needs at least {n_splits} patients with votes, but the votes table "
            f"has {n_voted}; lower folds.n_splits or choose folds=none"
        )


def set_aside(patient_id: ArrayLike, share: float) -> NDArray[np.bool_]:
    """Return which items are of patients set aside, about a share of them: bool, shape (n_items,).

    It follows from a patient's id alone, so that members of a sweep that leave other items out set the same
    patients aside.
    """
    patients, place = np.unique(np.asarray(patient_id, dtype=object).astype(str), return_inverse=True)
    numbers = [int.from_bytes(blake2b(f"set aside {p}".encode(), digest_size=8).digest()) for p in patients]
    return np.asarray([number < share * 2.0**64 for number in numbers], dtype=np.bool_)[place]


# --- how even the folds are ----------------------------------------------------------------------

FAR_ABOVE, FAR_BELOW = 1.5, 0.5
"""Times the even share of a class, beyond which a fold is far from even."""

NONE_AT_ALL = 1e-3
"""Times the even share that a fold without a class counts as."""

ENOUGH_FOR_EACH = 5
"""Recordings of a class for each fold; with fewer no division of whole patients is even."""


class Uneven(NamedTuple):
    """A class whose recordings lie unevenly in the folds: the worst fold and its share of them."""

    name: str
    fold: int
    share: float
    even: float


def far_from_even(counts: ArrayLike, names: Sequence[str]) -> list[Uneven]:
    """Return the classes of which a fold has more than 1.5 times its share or less than half, worst first.

    Parameters
    ----------
    counts : shape (n_folds, n_classes); recordings or items to validate
    names : of the classes
    """
    table = np.asarray(counts, dtype=np.float64)
    n_folds, total = len(table), table.sum(axis=0)
    if n_folds < 2:
        return []
    times = table / np.maximum(total, 1) * n_folds
    badness = np.maximum(times / FAR_ABOVE, FAR_BELOW / np.maximum(times, NONE_AT_ALL))
    found = [
        (float(badness[:, k].max()), Uneven(name, fold, float(times[fold, k]) / n_folds, 1 / n_folds))
        for k, name in enumerate(names)
        if total[k] >= ENOUGH_FOR_EACH * n_folds and badness[(fold := int(badness[:, k].argmax())), k] > 1
    ]
    return [uneven for _, uneven in sorted(found, key=lambda pair: -pair[0])]


def items_in_folds(label: ArrayLike, splits: Sequence[Split], n_classes: int) -> NDArray[np.int64]:
    """Return how many items of each class each fold validates, shape (n_folds, n_classes).

    ``label``: int, shape (n_items,); class of each item, -1 without votes.
    """
    labels = np.asarray(label, dtype=np.int64)
    found = [np.bincount(labels[s.valid][labels[s.valid] >= 0], minlength=n_classes) for s in splits]
    return np.stack(found) if found else np.zeros((0, n_classes), dtype=np.int64)


def fold_warnings(frame: pd.DataFrame, params: Params) -> list[str]:
    """Return what to know of folds that are as good as patients allow, and not even.

    A line where a fold is far from even in a class, with what to do, and a line where fewer patients have a
    class than there are folds.
    """
    patients = patient_table(frame)
    names = patients.columns.drop("recordings").tolist()
    counts = _in_folds(patients, _fold_of(patients, frame, params).to_numpy())
    lines = []
    if uneven := far_from_even(counts, names):
        worst, others = uneven[0], len(uneven) - 1
        more = f" {others} more class{'es' * (others > 1)} in folds are uneven too." if others else ""
        lines.append(
            f"fold {worst.fold} has {worst.share:.0%} of the recordings of '{worst.name}'; an even split "
            f"would have {worst.even:.0%}.{more} {_remedy(patients, params, len(counts))}"
        )
    n_patients = (patients[names] > 0).sum().to_dict()
    few = [f"'{name}' ({n})" for name, n in n_patients.items() if 0 < n < len(counts)]
    if few:
        lines.append(
            f"classes with fewer patients than the {len(counts)} folds: {', '.join(few)}; some folds have "
            "none of them; lower folds.n_splits if every fold must have all classes"
        )
    return lines


def _in_folds(patients: pd.DataFrame, fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many recordings of each class are in each fold, shape (n_folds, n_classes)."""
    of_class = patients.drop(columns="recordings").to_numpy()
    counts = np.zeros((int(fold.max(initial=-1)) + 1, of_class.shape[1]), dtype=np.int64)
    np.add.at(counts, fold[fold >= 0], of_class[fold >= 0])
    return counts


def _remedy(patients: pd.DataFrame, params: Params, n_splits: int) -> str:
    """Return what makes folds more even: classes taken into account, or fewer folds."""
    if params.kind == "group":
        other = _in_folds(patients, stratified_folds(patients, Folds("stratified", n_splits, None)))
        choice = "folds=stratified5" + ("" if n_splits == 5 else f" folds.n_splits={n_splits}")
        share = (other / np.maximum(other.sum(axis=0), 1)).max()
        return f"With {choice} no fold would hold more than {share:.0%} of a class"
    return "Lower folds.n_splits: patients with many recordings prevent even folds"


# --- from patients to rows -----------------------------------------------------------------------


def split_rows(
    patient_id: ArrayLike, patient_fold: pd.Series, extra: NDArray[np.bool_] | None = None
) -> list[Split]:
    """Return the training and the validation rows of each fold.

    Rows are int64 and ascend. Where no patient has a fold, there is one pair, with all rows and none. A fold
    whose patients have no used item validates nothing.

    Parameters
    ----------
    patient_id : shape (n_items,), patient of each used item
    patient_fold : what `assign_folds` returned
    extra : bool, shape (n_items,), items of a second table (`hms.labels.extra`)
        They are validated in no fold, and are in no part of the fold in which their patient is; a patient of
        theirs alone is always trained on.
    """
    patients = np.asarray(patient_id, dtype=object)
    aside = np.zeros(patients.size, dtype=np.bool_) if extra is None else extra
    fold = np.full(patients.size, -1, dtype=np.int64)
    known = ~aside | np.isin(patients.astype(str), patient_fold.index.to_numpy().astype(str))
    fold[known] = patient_fold.loc[patients[known]].to_numpy()
    n_splits = max(int(patient_fold.max()) + 1, 1)
    return [Split(np.flatnonzero(fold != k), np.flatnonzero((fold == k) & ~aside)) for k in range(n_splits)]


def splits_of(arrays: Mapping[str, NDArray[np.int64]]) -> list[Split]:
    """Return the parts of each fold of a splits.npz."""
    return [Split(arrays[f"train_{i}"], arrays[f"valid_{i}"]) for i in range(len(arrays) // 2)]


def check_no_leak(
    splits: Sequence[Split], patient_id: ArrayLike, extra: NDArray[np.bool_] | None = None
) -> None:
    """Raise if folds share a patient, lose a row or validate on one twice.

    Items of a second table (``extra``) may be lacking, and are never validated on. Raises `ValueError`,
    naming the fold and the patient or the row.
    """
    patients = np.asarray(patient_id, dtype=object)
    aside = np.zeros(patients.size, dtype=np.bool_) if extra is None else extra
    n_validated = np.zeros(patients.size, dtype=np.int64)
    for number, (train, valid) in enumerate(splits):
        both = np.sort(np.concatenate([train[~aside[train]], valid]))
        if not np.array_equal(both, np.flatnonzero(~aside)):
            raise ValueError(f"fold {number} does not have each of {(~aside).sum()} rows once")
        shared = set(patients[train]) & set(patients[valid])
        if shared:
            raise ValueError(f"fold {number} has patient '{min(shared)}' in both parts")
        n_validated[valid] += 1
    n_validated = n_validated[~aside]
    wrong = np.flatnonzero(n_validated != n_validated.max(initial=0))
    if n_validated.max(initial=0) > 1 or wrong.size:
        raise ValueError(
            f"rows are validated on {n_validated.min()} to {n_validated.max()} times, not once each"
        )
