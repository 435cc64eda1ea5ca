"""Quality: the ledger, one row per item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.quality.ledger import make_ledger
from hms.registry import Params
from hms.stage import Content, TableStage, register_stage
from hms.stages.measures import Measures
from hms.tables import Tables


@register_stage
@dataclass(frozen=True)
class Quality(TableStage):
    """The ledger of all items, those left out included."""

    name = "quality"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("items", "reasons", "rows:measures")
    files: ClassVar[tuple[str, ...]] = ("qc/qc.csv",)

    measures: Measures
    qc: Params

    def compute(self, tables: Tables) -> Mapping[str, Content]:
        """Return qc.csv."""
        ledger = make_ledger(tables.items, tables.reasons, tables.rows("measures"), self.qc)
        return {self.files[0]: ledger.to_csv(index=False, lineterminator="\n").encode()}
