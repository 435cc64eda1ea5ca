"""Splits: folds that keep every patient whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.labels.folds import assign_folds, check_no_leak, split_rows
from hms.npz import npz_bytes
from hms.registry import Params
from hms.stage import Content, TableStage, register_stage
from hms.stages.meta import Meta
from hms.tables import Tables


@register_stage
@dataclass(frozen=True)
class Splits(TableStage):
    """Rows of meta_use.csv per fold; patients are assigned from the whole votes table."""

    name = "splits"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("votes", "used")
    files: ClassVar[tuple[str, ...]] = ("data_package/splits.npz",)
    needs_votes: ClassVar[bool] = True

    meta: Meta
    folds: Params

    def compute(self, tables: Tables) -> Mapping[str, Content]:
        """Return splits.npz after checking that no patient stands on both sides of a fold."""
        patients = tables.used["patient_id"].to_numpy(object)
        assignment = assign_folds(tables.votes.frame, self.folds)
        splits = split_rows(patients, assignment)
        check_no_leak(splits, patients)
        arrays = {}
        for fold, (train, valid) in enumerate(splits):
            arrays[f"train_{fold}"], arrays[f"valid_{fold}"] = train, valid
        return {self.files[0]: npz_bytes(arrays)}
