"""The report's part about agreement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.labels.classes import Classes
from hms.pipeline.stage import register_stage
from hms.pipeline.tables import View
from hms.report.agreement import agreement_cards
from hms.stages.agreement import Agreement
from hms.stages.report_part import ReportPart
from hms.store.files import Content


@register_stage
@dataclass(frozen=True)
class ReportAgreement(ReportPart):
    """How far experts agree beyond chance, by stratum, class and number of votes."""

    name = "report_agreement"
    version = 4
    inputs: ClassVar[tuple[str, ...]] = ("used", *Agreement.files)
    files: ClassVar[tuple[str, ...]] = ("qc/parts/agreement.html",)
    sections: ClassVar[Mapping[str, str]] = {"agreement": "Agreement"}

    agreement: Agreement

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        found = json.loads(tables.file(Agreement.files[0]).read_bytes())
        classes = Classes.of_columns(tables.used.columns)
        return self.part(agreement=agreement_cards(found, classes))
