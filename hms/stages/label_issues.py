"""Label issues: items whose votes are worth a second look, the most improbable first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hms.config.schema import Config
from hms.config.threads import one_thread
from hms.labels.classes import Classes
from hms.labels.issues import doubt
from hms.labels.items import votes_cast
from hms.labels.votes import consensus, high_confidence
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.stages.baseline import Baseline
from hms.store.csvs import csv_bytes
from hms.store.files import Content

if TYPE_CHECKING:
    import pandas as pd


@register_stage
@dataclass(frozen=True)
class LabelIssues(TableStage):
    """qc/label_issues.csv: every predicted item by how improbable its votes are; nothing is left out."""

    name = "label_issues"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("votes", "used", Baseline.files[0])
    files: ClassVar[tuple[str, ...]] = ("qc/label_issues.csv",)

    baseline: Baseline
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether there is a model whose predictions votes can be held against."""
        return cfg.baseline.kind != "none"

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the table; without a prediction, its header alone."""
        prediction = tables.arrays(Baseline.files[0])["prediction"]
        cast = votes_cast(tables.votes.frame, tables.used)
        known = np.flatnonzero(np.isfinite(prediction).all(axis=1) & (cast.sum(axis=1) > 0))
        used, votes = tables.used.iloc[known].reset_index(drop=True), cast[known]
        classes = Classes.of_columns(tables.used.columns)
        with one_thread():  # the order of sums, and the last digits with it, must not depend on load
            table = _table(used, votes, prediction[known], classes, self.high_confidence_votes)
        return {self.files[0]: csv_bytes(table, float_format="%.6g")}


def _table(
    used: pd.DataFrame,
    votes: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    prediction: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    classes: Classes,
    threshold: int,
) -> pd.DataFrame:
    """Return a row per predicted item, the most improbable first."""
    import pandas as pd

    total = votes.sum(axis=1)
    doubts = doubt(votes, prediction, many=high_confidence(total, threshold))
    names = classes.array()
    columns = {
        "item_id": used["item_id"],
        "eeg_id": used["eeg_id"],
        "patient_id": used["patient_id"],
        "tail_probability": doubts.tail,
        "times_as_probable_elsewhere": doubts.elsewhere,
        "expected_by_chance": doubts.expected,
        "false_discovery_rate": doubts.false_rate,
        "voted": names[consensus(votes)],
        "predicted": names[prediction.argmax(axis=1)],
        "vote_sum": total,
        **dict(zip(classes.vote_columns, votes.T, strict=True)),
        **{f"{name}_predicted": shares for name, shares in zip(names, doubts.calibrated.T, strict=True)},
    }
    table = pd.DataFrame(columns).iloc[doubts.order].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table
