"""Agreement: how far experts agree beyond chance about the items used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.labels.agreement import agreement
from hms.labels.classes import Classes
from hms.labels.items import votes_cast
from hms.labels.summary import vote_strata
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.stages.meta import Meta
from hms.store.files import Content


@register_stage
@dataclass(frozen=True)
class Agreement(TableStage):
    """qc/agreement.json, of the votes as cast: weights and folds leave it as it is."""

    name = "agreement"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("votes", "used")
    files: ClassVar[tuple[str, ...]] = ("qc/agreement.json",)
    needs_votes: ClassVar[bool] = True

    meta: Meta
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return agreement.json."""
        votes = votes_cast(tables.votes.frame, tables.used)
        found = agreement(
            votes,
            tables.used["patient_id"].tolist(),
            classes=Classes.of_columns(tables.used.columns).names,
            strata=vote_strata(votes.sum(axis=1), self.high_confidence_votes),
        )
        return {self.files[0]: (json.dumps(found, indent=2, allow_nan=False) + "\n").encode()}
