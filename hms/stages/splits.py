"""Splits: folds that keep every patient whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hms.errors import ConfigError
from hms.labels.extra import extra_mask
from hms.labels.folds import assign_folds, check_no_leak, fold_warnings, split_rows
from hms.labels.own_folds import FileFolds, content_of
from hms.pipeline.stage import TableStage, register_stage
from hms.pipeline.tables import View
from hms.registry import Params
from hms.sources.patients import CHOICES
from hms.sources.tables import VotesTable
from hms.stages.meta import Meta
from hms.store.files import Content
from hms.store.npz import npz_file
from hms.terminal import say


@register_stage
@dataclass(frozen=True)
class Splits(TableStage):
    """Rows of meta_use.csv with a label per fold; patients are assigned from all recordings with votes."""

    name = "splits"
    version = 2
    inputs: ClassVar[tuple[str, ...]] = ("votes", "used")
    files: ClassVar[tuple[str, ...]] = ("data_package/splits.npz",)
    needs_votes: ClassVar[bool] = True

    meta: Meta
    folds: Params

    def check(self, votes: VotesTable) -> None:
        """Raise ConfigError if recordings lack patients, or patients are too few; warn of uneven folds."""
        if self.folds.kind != "none" and not votes.patients_declared:
            raise ConfigError(
                "folds keep every patient whole, but nothing says whose the recordings are; choose "
                f"{CHOICES}; folds=none makes no folds"
            )
        for line in fold_warnings(votes.frame, self.folds):
            say(line)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings by path; of a file of folds the content is in the key, not the path."""
        found = super().settings
        if isinstance(self.folds, FileFolds):
            return found | {"folds.path": content_of(self.folds)}
        return found

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return splits.npz after checking that no patient is on both sides of a fold."""
        patients = tables.used["patient_id"].to_numpy(object)
        assignment = assign_folds(tables.votes.frame, self.folds)
        if isinstance(self.folds, FileFolds) and content_of(self.folds) != self.settings["folds.path"]:
            raise ConfigError(f"folds.path={self.folds.path} changed during the run; run it again")
        labelled = np.flatnonzero(tables.used["vote_sum"].to_numpy() > 0)
        extra = extra_mask(tables.used)[labelled]
        splits = split_rows(patients[labelled], assignment, extra)
        check_no_leak(splits, patients[labelled], extra)
        arrays = {}
        for fold, (train, valid) in enumerate(splits):
            arrays[f"train_{fold}"], arrays[f"valid_{fold}"] = labelled[train], labelled[valid]
        return {self.files[0]: npz_file(arrays)}
