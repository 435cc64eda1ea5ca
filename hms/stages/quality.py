"""Quality: the ledger of all items, the table of channels, and duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

import numpy as np

from hms.config.memory import give_back
from hms.config.schema import Config
from hms.pipeline.stage import TableStage, register_stage
from hms.pipeline.tables import View
from hms.quality.duplicates import find_duplicates
from hms.quality.grading import QualityControl
from hms.quality.ledger import TOGETHER, LedgerFiles
from hms.quality.selection import Graded, Selection
from hms.signal.montage import electrodes
from hms.stages.measures import Measures
from hms.store.columns import Reason
from hms.store.csvs import csv_bytes, read_csv
from hms.store.files import Content

if TYPE_CHECKING:
    import pandas as pd

SIGNATURE = "signature"
"""The measure by which windows are compared, as large as a third of all others."""


@register_stage
@dataclass(frozen=True)
class Quality(TableStage):
    """Flags and grades of all items, those left out included; may leave out the worst."""

    name = "quality"
    version = 8
    inputs: ClassVar[tuple[str, ...]] = ("items", "reasons", "recordings", "file_flags", "rows:measures")
    files: ClassVar[tuple[str, ...]] = ("qc/qc.csv", "qc/channels.parquet", "qc/duplicates.csv")

    measures: Measures
    qc: QualityControl

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether grades leave items out."""
        return cfg.at("qc.exclude_from") is not None

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return qc.csv, channels.parquet and duplicates.csv."""
        measures = tables.packed("measures")
        ledger = LedgerFiles(
            tables.items,
            tables.reasons,
            measures.blocks(lambda name: name != SIGNATURE, len(tables.items), TOGETHER),
            self.qc,
            electrodes=electrodes(self.measures.derivations.chains),
            file_flags=tables.file_flags,
        )

        def write_duplicates(file: IO[bytes]) -> None:
            give_back()
            duplicates = find_duplicates(
                tables.items["item_id"].tolist(),
                tables.items["recording"].tolist(),
                tables.recording_digests,
                measures.row,
                measures.column(SIGNATURE) if len(measures) else np.empty((0, 1), np.float32),
                threshold=self.qc.duplicate_corr,
                used=ledger.used,
            )
            file.write(csv_bytes(duplicates))

        items, channels, duplicates = self.files
        return {channels: ledger.write_channels, items: ledger.write_items, duplicates: write_duplicates}

    @property
    def chooses(self) -> bool:
        """Whether a grade leaves items out."""
        return self.qc.exclude_from is not None

    def exclusions(self, tables: View) -> Mapping[int, Reason]:
        """Return the items whose grade leaves them out; they are not used in qc.csv either."""
        if self.qc.exclude_from is None:
            return {}
        ledger = read_ledger(tables)
        left_out = np.flatnonzero(~ledger["used"].to_numpy(bool))
        reasons = ledger["reason"].tolist()
        return {
            int(row): Reason("quality", reasons[row], failure=False)
            for row in left_out
            if tables.reasons[row] is None
        }


def graded_items(tables: View, ledger: pd.DataFrame) -> Graded:
    """Return the items by grade; declared as ``items`` and ``reasons``."""
    by_others = [reason is not None and reason.stage != Quality.name for reason in tables.reasons]
    return Graded.of(tables.items, ledger, np.array(by_others, bool))


def marked_items(tables: View) -> Selection | None:
    """Return what marks exclude, None if nothing; declared as ``items`` and ``reasons``."""
    stages = ["" if reason is None else reason.stage for reason in tables.reasons]
    return Selection.of_marks(tables.items, stages)


def read_ledger(tables: View) -> pd.DataFrame:
    """Return what others `READ` of qc.csv as `Quality` wrote it; an empty text is empty."""
    return tables.read(Quality.files[0], _ledger)


READ = {
    **dict.fromkeys(("grade", "raised", "reason", "file_flags"), str),
    "used": bool,
    **dict.fromkeys(("outside_share", "nan_share", "max_abs_uv", "x_share_0", "x_share_1"), np.float64),
}
"""Columns of qc.csv that other stages read, of sixty, with their types."""


def _ledger(path: Path) -> pd.DataFrame:
    texts = [name for name, kind in READ.items() if kind is str]
    found = read_csv(path, dtype=READ, usecols=lambda name: name in READ, low_memory=True)
    return found.fillna(dict.fromkeys(texts, ""))


def read_duplicates(tables: View) -> pd.DataFrame:
    """Return duplicates.csv as `Quality` wrote it."""
    return read_csv(tables.file(Quality.files[2]), dtype={"item_id": str, "same_as": str})
