"""Scores of a sweep's members: who can be compared, who can be told apart, and what luck alone would do.

Members may be trained on other labels, weights and items. They are scored on the items
that all of them have, against one target: the votes of the labelled window. Folds belong
to patients and are the same for all, or the member is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.labels.intervals import (
    Interval,
    luck_of_the_best,
    mean_interval,
    paired_interval,
    simultaneous_intervals,
)
from hms.labels.items import choose_items
from hms.store.places import Outputs
from hms.training.baseline import SET_ASIDE
from hms.training.metric import row_divergence
from hms.training.predictions import OOF

if TYPE_CHECKING:
    from hms.store.package import Package

OBJECTIVES = ("kl_all", "kl_high", "kl_low")
"""Divergence of all items, of those with at least `labels.high_confidence_votes`, and of the others."""


# --- divergences ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowVotes:
    """What members are scored against: the votes of each item's own labelled window.

    Attributes
    ----------
    y : float64, shape (n_items, n_classes), rows sum to 1
    vote_sum : shape (n_items,)
    row : row of each item by its id; items without votes are left out
    digest : of the votes table
    threshold : number of votes from which an item is high-confidence
    """

    y: NDArray[np.float64]
    vote_sum: NDArray[np.int64]
    patient_id: NDArray[np.str_]
    row: dict[str, int]
    digest: str
    threshold: int


def window_votes(cfg: Config) -> WindowVotes:
    """Return the votes of a configuration's items as ``labels=window`` reads them.

    Raises `ConfigError` if the votes table cannot be read.
    """
    from hms.engine.plan import open_source

    votes = open_source(cfg, Outputs(Path(cfg.outputs_dir))).votes(cfg.at("labels.ballot"))
    items = choose_items(votes.frame, cfg.unit, replace(cfg.labels, kind="window"), cfg.window)
    items = items[items["vote_sum"] > 0]
    counts = items[list(votes.classes.vote_columns)].to_numpy(np.float64)
    return WindowVotes(
        y=counts / counts.sum(axis=1, keepdims=True),
        vote_sum=items["vote_sum"].to_numpy(),
        patient_id=np.array(items["patient_id"].tolist(), dtype=np.str_),
        row={str(name): row for row, name in enumerate(items["item_id"].tolist())},
        digest=str(votes.digest),
        threshold=int(cfg.at("labels.high_confidence_votes")),
    )


@dataclass(frozen=True)
class Scored:
    """Out-of-fold predictions of a run, by item.

    Attributes
    ----------
    prediction : class shares of each item that has one, by its id
    fold : the fold that predicted it
    digest : of the run's votes table
    """

    prediction: dict[str, NDArray[np.float64]]
    fold: dict[str, int]
    digest: str


def read_scored(run: Package, *, set_aside: bool = False) -> Scored | None:
    """Return the out-of-fold predictions of a run, or None if it has no baseline or none of an item.

    With ``set_aside``, those of patients whom no fold learned from.
    """
    if OOF not in run.manifest["files"]:
        return None
    arrays = run.arrays(OOF)
    fold = arrays["fold"]
    covered = np.flatnonzero(fold == SET_ASIDE if set_aside else fold >= 0).tolist()
    if not covered:
        return None
    ids = [str(name) for name in arrays["item_id"].tolist()]
    return Scored(
        prediction={ids[row]: arrays["prediction"][row] for row in covered},
        fold={ids[row]: int(fold[row]) for row in covered},
        digest=str(run.manifest["votes"]["digest"]),
    )


def divergences(scored: Scored, target: WindowVotes, items: Sequence[str]) -> NDArray[np.float64]:
    """Return the divergence of each item, shape (n_items,)."""
    rows = [target.row[name] for name in items]
    return row_divergence(target.y[rows], np.stack([scored.prediction[name] for name in items]))


def patients_of(target: WindowVotes, items: Sequence[str]) -> NDArray[np.str_]:
    """Return the patient of each item."""
    return target.patient_id[[target.row[name] for name in items]]


def masks_of(target: WindowVotes, items: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which of the items each objective is about."""
    votes = target.vote_sum[[target.row[name] for name in items]]
    high = np.asarray(votes >= target.threshold)
    return {"kl_all": np.ones(len(items), bool), "kl_high": high, "kl_low": ~high}


def objective_of(run: Package, cfg: Config) -> float:
    """Return what a search minimises: a run's divergence from the votes of the labelled windows.

    Raises `ConfigError` if the run has no baseline, or no item of the kind that the objective is about.
    """
    name = cfg.sweep.objective
    scored = read_scored(run)
    if scored is None:
        if OOF in run.manifest["files"]:
            raise ConfigError(f"sweep.objective={name}: the baseline predicted no item; none is in use")
        raise ConfigError(f"sweep.objective={name} needs a baseline; add baseline=logreg")
    target = window_votes(cfg)
    items = [item for item in scored.prediction if item in target.row]
    mask = masks_of(target, items)[name]
    if not mask.any():
        raise ConfigError(f"sweep.objective={name}: no item has that many votes; kl_all uses all items")
    return float(divergences(scored, target, items)[mask].mean())


# --- what can be compared ------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Members that can be compared, the items they share, and why the others cannot."""

    reference: int
    items: tuple[str, ...]
    scored: dict[int, Scored]
    refused: dict[int, str]
    target: WindowVotes


def compare(scored: Mapping[int, Scored], target: WindowVotes, reference: int) -> Comparison:
    """Return which members can be compared with the reference, and on which items.

    Parameters
    ----------
    scored : predictions by the member's number
    target : the votes of the reference
    """
    base = scored[reference]
    items = [name for name in base.prediction if name in target.row]
    fit, refused = {reference: base}, {}
    for number, other in scored.items():
        if number == reference:
            continue
        shared = [name for name in items if name in other.prediction]
        problem = _problem(base, other, shared)
        if problem:
            refused[number] = f"not compared: {problem} (reference: member {reference})"
        else:
            fit[number], items = other, shared
    return Comparison(reference, tuple(items), fit, refused, target)


def _problem(base: Scored, other: Scored, shared: Sequence[str]) -> str:
    """Return why two members cannot be compared, or an empty text."""
    if other.digest != base.digest:
        return "it has another votes table"
    if not shared:
        return "it has no item in common with the others"
    moved = sum(base.fold[name] != other.fold[name] for name in shared)
    return f"it has other folds: {moved} of {len(shared)} common items moved" if moved else ""


# --- who can be told apart -----------------------------------------------------------------------


@dataclass(frozen=True)
class Standings:
    """What can be said of members that are compared, all at once.

    Attributes
    ----------
    best : member with the lowest score, of several the first
    winner : the best, where it can be told from the reference; None where luck may have chosen it
    to_reference : each other member's difference to the reference; intervals hold for all of them at once
    to_best : each other member's difference to the best; intervals hold for all pairs of members at once,
        as who is best was not known before
    luck : by how much the best would beat the reference if all were equal; NaN with too few patients
    """

    best: int
    winner: int | None
    to_reference: dict[int, Interval]
    to_best: dict[int, Interval]
    luck: float


def stand(values: Mapping[int, NDArray[np.float64]], reference: int, patients: NDArray[np.str_]) -> Standings:
    """Return how members compare.

    Parameters
    ----------
    values : losses of each member by its number, shape (n_items,), the same items for all
    reference : number of one of them
    patients : shape (n_items,)
    """
    numbers = sorted(values)
    table = np.stack([values[number] for number in numbers])
    at = numbers.index(reference)
    others = [k for k in range(len(numbers)) if k != at]
    told = simultaneous_intervals(table, [(k, at) for k in others], patients)
    to_reference = {numbers[k]: one for k, one in zip(others, told, strict=True)}
    top = int(table.mean(axis=1).argmin()) if table.size else at
    best = numbers[top]
    above = best in to_reference and to_reference[best].high < 0
    return Standings(
        best=best,
        winner=best if above else None,
        to_reference=to_reference,
        to_best=_to_best(table, numbers, top, patients),
        luck=luck_of_the_best(table, at, patients),
    )


def _to_best(
    table: NDArray[np.float64], numbers: Sequence[int], top: int, patients: NDArray[np.str_]
) -> dict[int, Interval]:
    pairs = [(a, b) if b == top else (b, a) for a, b in combinations(range(len(numbers)), 2)]
    found = simultaneous_intervals(table, pairs, patients)
    return {numbers[a]: one for (a, b), one in zip(pairs, found, strict=True) if b == top}


@dataclass(frozen=True)
class Confirmation:
    """Scores on patients whom the sweep did not see.

    Attributes
    ----------
    scores : of the best and of the reference, by their numbers
    difference : of the best to the reference; None where they are one
    """

    scores: dict[int, Interval]
    difference: Interval | None


def confirm(
    scored: Mapping[int, Scored | None],
    target: WindowVotes,
    objective: str,
    *,
    best: int,
    reference: int,
) -> Confirmation | None:
    """Return how the best and the reference score on patients set aside; None where there are none.

    Parameters
    ----------
    scored : predictions of patients set aside, by the number of a member that has any
    target : the votes of the reference
    objective : one of `OBJECTIVES`
    """
    of_reference, of_best = scored.get(reference), scored.get(best)
    if of_reference is None or of_best is None:
        return None
    known = (of_reference.prediction, of_best.prediction, target.row)
    items = [name for name in of_reference.prediction if all(name in table for table in known)]
    if not items:
        return None
    mask = masks_of(target, items)[objective]
    patients = patients_of(target, items)[mask]
    first, second = (divergences(one, target, items)[mask] for one in (of_reference, of_best))
    scores = {reference: mean_interval(first, patients), best: mean_interval(second, patients)}
    return Confirmation(scores, paired_interval(second, first, patients) if best != reference else None)
