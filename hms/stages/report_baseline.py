"""The report's part about the baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.config.schema import Config
from hms.pipeline.stage import register_stage
from hms.pipeline.tables import View
from hms.report.baseline import baseline_cards
from hms.stages.baseline import Baseline
from hms.stages.report_part import ReportPart
from hms.store.files import Content


@register_stage
@dataclass(frozen=True)
class ReportBaseline(ReportPart):
    """Divergence against the class prior, confusion and reliability."""

    name = "report_baseline"
    version = 5
    inputs: ClassVar[tuple[str, ...]] = (Baseline.files[1],)
    files: ClassVar[tuple[str, ...]] = ("qc/parts/baseline.html",)
    sections: ClassVar[Mapping[str, str]] = {"baseline": "Baseline"}

    baseline: Baseline

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether there is a page, and a model to show on it."""
        return super().implied_by(cfg) and cfg.baseline.kind != "none"

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        metrics = json.loads(tables.file(self.inputs[0]).read_bytes())
        return self.part(baseline=baseline_cards(metrics))
