"""Meta: the tables of the items used and of those left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.config.schema import Config
from hms.labels.items import keeps_unlabelled, own_columns
from hms.pipeline.stage import TableStage, register_stage
from hms.pipeline.tables import View
from hms.registry import Params
from hms.store.csvs import csv_bytes
from hms.store.files import Content

COLUMNS = (
    "item_id", "recording", "eeg_id", "patient_id", "spectrogram_id", "eeg_sub_id", "label_id",
    "window_start_s", "window_length_s", "vote_sum", "expert_consensus",
)  # fmt: skip


@register_stage
@dataclass(frozen=True)
class Meta(TableStage):
    """One row per item used, in first-appearance order of the votes table; one per item left out."""

    name = "meta"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "excluded")
    files: ClassVar[tuple[str, ...]] = ("data_package/meta_use.csv", "data_package/meta_excluded.csv")

    unit: Params
    labels: Params
    window: Params

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Return True: every run has the tables of its items."""
        return True

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return both tables as UTF-8 text with LF line ends."""
        table = tables.used[[*COLUMNS, *own_columns(tables.used)]]
        if keeps_unlabelled(self.labels):
            table = table.assign(has_label=tables.used["vote_sum"] > 0)
        contents = csv_bytes(table), csv_bytes(tables.excluded)
        return dict(zip(self.files, contents, strict=True))
