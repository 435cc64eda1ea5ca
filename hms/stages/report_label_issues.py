"""The report's part about votes to look at again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hms.config.schema import Config
from hms.labels.classes import Classes
from hms.pipeline.stage import register_stage
from hms.pipeline.tables import View
from hms.report.issues import about_issue, issue_cards
from hms.stages.drawing import draw_examples
from hms.stages.heart import Heart
from hms.stages.label_issues import LabelIssues
from hms.stages.quality import Quality, read_ledger
from hms.stages.report_part import ReportPart
from hms.stages.scalograms import Scalograms
from hms.stages.sketches import Sketches
from hms.store.files import Content

SHOWN = 12


@register_stage
@dataclass(frozen=True)
class ReportLabelIssues(ReportPart):
    """Recordings whose votes are the most improbable, with traces."""

    name = "report_label_issues"
    version = 4
    inputs: ClassVar[tuple[str, ...]] = ("items", *LabelIssues.files, *Quality.files, "rows:sketches")
    files: ClassVar[tuple[str, ...]] = ("qc/parts/label_issues.html",)
    sections: ClassVar[Mapping[str, str]] = {"label-issues": "Votes to look at again"}

    label_issues: LabelIssues
    sketches: Sketches
    scalograms: Scalograms
    quality: Quality
    heart: Heart

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether there is a page, and a model whose predictions votes are held against."""
        return super().implied_by(cfg) and cfg.baseline.kind != "none"

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        import pandas as pd

        table = pd.read_csv(tables.file(LabelIssues.files[0]), dtype={"item_id": str, "patient_id": str})
        classes = Classes.of_columns(tables.items.columns)
        place = {str(name): row for row, name in enumerate(tables.items["item_id"].tolist())}
        first = table.head(SHOWN)
        about = {place[row["item_id"]]: about_issue(row, classes) for _, row in first.iterrows()}
        flags = read_ledger(tables)["raised"].tolist()
        examples = draw_examples(tables, self.scalograms, self.heart, about, flags, {})
        return self.part(**{"label-issues": issue_cards(list(examples.values()), table)})
