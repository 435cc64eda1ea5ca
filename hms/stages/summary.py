"""Summary: votes, classes, strata and folds of the package in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.quality.summary import summarise
from hms.stage import Content, TableStage, register_stage
from hms.stages.labels import Labels
from hms.stages.splits import Splits
from hms.tables import Tables


@register_stage
@dataclass(frozen=True)
class Summary(TableStage):
    """qc/summary.json."""

    name = "summary"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = (
        "used",
        "excluded",
        "data_package/labels.npz",
        "data_package/splits.npz",
    )
    files: ClassVar[tuple[str, ...]] = ("qc/summary.json",)

    labels: Labels
    splits: Splits

    def compute(self, tables: Tables) -> Mapping[str, Content]:
        """Return summary.json."""
        summary = summarise(
            tables.used,
            tables.excluded,
            tables.arrays(Labels.files[0]),
            tables.arrays(Splits.files[0]),
            high_confidence_votes=self.labels.high_confidence_votes,
        )
        return {self.files[0]: (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()}
