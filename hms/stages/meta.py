"""Meta: the tables of what is used and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.registry import Params
from hms.stage import Content, TableStage, register_stage
from hms.tables import Tables

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

    def compute(self, tables: Tables) -> Mapping[str, Content]:
        """Return both tables as UTF-8 text with LF line ends."""
        used = tables.used[list(COLUMNS)].to_csv(index=False, lineterminator="\n")
        excluded = tables.excluded.to_csv(index=False, lineterminator="\n")
        return dict(zip(self.files, (used.encode(), excluded.encode()), strict=True))
