"""The summary of a package in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hms.labels.classes import Classes
from hms.labels.folds import Split, far_from_even, items_in_folds, splits_of
from hms.labels.summary import class_agreement, per_patient, summarise_labels
from hms.labels.votes import consensus, has_label, only_labelled
from hms.quality.duplicates import pairs_across_folds
from hms.quality.grading import FLAGS, GRADES
from hms.quality.selection import Graded

if TYPE_CHECKING:
    import pandas as pd


SHOWN = 10
"""Examples that a summary lists."""


def summarise(
    used: pd.DataFrame,
    excluded: pd.DataFrame,
    labels: Mapping[str, np.ndarray[Any, Any]],
    splits: Mapping[str, np.ndarray[Any, Any]],
    *,
    high_confidence_votes: int,
) -> dict[str, Any]:
    """Return what is used and left out, and the figures of the labels; undefined ones are None."""
    reasons = Counter(excluded["reason"].tolist())
    recordings = np.flatnonzero(~used["eeg_id"].duplicated().to_numpy())
    label = np.where(labels["vote_sum"] > 0, consensus(labels["y_soft"]), -1)
    patients = used["patient_id"].to_numpy(object)
    labelled = has_label(labels)
    place = np.cumsum(labelled) - 1
    folds = [Split(place[train], place[valid]) for train, valid in splits_of(splits)]
    known = only_labelled(labels)
    return {
        "items_used": len(used),
        **({} if labelled.all() else {"items_without_label": int((~labelled).sum())}),
        "items_excluded": len(excluded),
        "excluded_reasons": dict(sorted(reasons.items())),
        **summarise_labels(
            known["y_soft"],
            known["vote_sum"],
            known["w_conf"],
            patients[labelled],
            classes=Classes.of_labels(labels),
            threshold=high_confidence_votes,
            splits=folds,
        ),
        "recordings_per_patient": per_patient(patients[recordings]),
        "class_agreement": class_agreement(label[recordings], patients[recordings]),
        "folds_far_from_even": [
            uneven._asdict() | {"share": round(uneven.share, 6)}
            for uneven in far_from_even(
                items_in_folds(label, splits_of(splits), len(labels["classes"])), labels["classes"].tolist()
            )
        ],
    }


@dataclass(frozen=True)
class Leaks:
    """What is in both the training and the validation part of a fold.

    Attributes
    ----------
    patients : how many patients
    pairs : rows of duplicates.csv
    checked : whether some fold has items on both sides at all
    """

    patients: int
    pairs: pd.DataFrame
    checked: bool

    @property
    def passed(self) -> bool | None:
        """Whether there are none; None where nothing could be checked."""
        return not (self.patients or len(self.pairs)) if self.checked else None


def find_leaks(duplicates: pd.DataFrame, used: pd.DataFrame, splits: list[Split]) -> Leaks:
    """Look for patients and duplicates in both parts of a fold."""
    patients = used["patient_id"].to_numpy(object)
    shared = {p for train, valid in splits for p in set(patients[train]) & set(patients[valid])}
    return Leaks(
        len(shared),
        pairs_across_folds(duplicates, used["item_id"].tolist(), splits),
        any(len(train) and len(valid) for train, valid in splits),
    )


def count_unusable_used(ledger: pd.DataFrame) -> int:
    """Return how many items are used although they are graded unusable."""
    return int((ledger["used"].to_numpy(bool) & (ledger["grade"] == GRADES[-1])).sum())


def grade_counts(ledger: pd.DataFrame) -> dict[str, int]:
    """Return how many items have each grade."""
    return {grade: int((ledger["grade"] == grade).sum()) for grade in GRADES}


def flag_counts(flags: pd.Series) -> Counter[str]:
    """Return how many items have each flag of a column such as ``flat;line``."""
    found: Counter[str] = Counter()
    for text, n_items in Counter(flags.fillna("").tolist()).items():
        found.update({name: n_items for name in str(text).split(";") if name})
    return found


def summarise_quality(
    ledger: pd.DataFrame,
    duplicates: pd.DataFrame,
    used: pd.DataFrame,
    splits: list[Split],
    *,
    graded: Graded,
    exclude_from: str | None,
) -> dict[str, Any]:
    """Return grades, flags, whom exclusions cost, duplicates and the leakage check.

    Returns
    -------
    dict
        quality : items by grade and, of the measured ones, by flag; those graded unusable but used;
            items whose recording's file was mended, by flag
        selection : see `Graded.summary`
        duplicates : items that repeat an earlier recording or window, with the first few
        leakage : patients and duplicates that some fold has on both of its sides, and whether
            there are none; ``passed`` is None where no fold has items on both
    """
    flags, of_files = (flag_counts(ledger[column]) for column in ("raised", "file_flags"))
    leaks = find_leaks(duplicates, used, splits)
    kinds = Counter(duplicates.drop_duplicates("item_id")["kind"].tolist())
    return {
        "quality": {
            "items": len(ledger),
            "measured": int(ledger["outside_share"].notna().sum()),
            "grades": grade_counts(ledger),
            "flags": {name: flags[name] for name in FLAGS},
            "file_flags": dict(sorted(of_files.items())),
            "unusable_but_used": count_unusable_used(ledger),
        },
        "selection": graded.summary(exclude_from),
        "duplicates": {
            "recordings": kinds["recording"],
            "windows": kinds["window"],
            "examples": duplicates[["item_id", "same_as", "kind"]].head(SHOWN).to_dict("records"),
        },
        "leakage": {
            "patients_on_both_sides": leaks.patients,
            "duplicates_on_both_sides": len(leaks.pairs),
            "examples": leaks.pairs[["item_id", "same_as"]].head(SHOWN).to_numpy(object).tolist(),
            "passed": leaks.passed,
        },
    }
