"""Summary: votes, agreement, strata, folds, grades, duplicates and leaks of the package in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.labels.folds import splits_of
from hms.pipeline.stage import TableStage, register_stage
from hms.pipeline.tables import View
from hms.quality.summary import summarise, summarise_quality
from hms.stages.agreement import Agreement
from hms.stages.labels import Labels
from hms.stages.quality import Quality, graded_items, marked_items, read_duplicates, read_ledger
from hms.stages.splits import Splits
from hms.store.files import Content

OF_QUALITY = ("items", "reasons", "used", Quality.files[0], Quality.files[2], Splits.files[0])
"""What the figures of quality follow from, whatever items weigh."""


def _quality(exclude_from: str | None, tables: View) -> Mapping[str, Any]:
    ledger, splits = read_ledger(tables), splits_of(tables.arrays(Splits.files[0]))
    graded, duplicates = graded_items(tables, ledger), read_duplicates(tables)
    summary = summarise_quality(
        ledger, duplicates, tables.used, splits, graded=graded, exclude_from=exclude_from
    )
    marked = marked_items(tables)
    if marked is not None:
        summary["marks"] = marked.summary()
        summary["selection"]["lines"] += marked.lines("marks=file")
    return summary


@register_stage
@dataclass(frozen=True)
class Summary(TableStage):
    """qc/summary.json."""

    name = "summary"
    version = 8
    inputs: ClassVar[tuple[str, ...]] = (
        "items",
        "reasons",
        "used",
        "excluded",
        *Agreement.files,
        Quality.files[0],
        Quality.files[2],
        *Labels.files,
        *Splits.files,
    )
    files: ClassVar[tuple[str, ...]] = ("qc/summary.json",)

    labels: Labels
    splits: Splits
    quality: Quality
    agreement: Agreement

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether a leak is an error, which is found here."""
        return bool(cfg.at("qc.leak") == "error")

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return summary.json.

        Raises `ConfigError` if the same window is on both sides of a fold and ``qc.leak`` is error.
        """
        splits, labels = tables.arrays(Splits.files[0]), tables.arrays(Labels.files[0])
        threshold = self.labels.high_confidence_votes
        summary = summarise(tables.used, tables.excluded, labels, splits, high_confidence_votes=threshold)
        summary["agreement"] = json.loads(tables.file(Agreement.files[0]).read_bytes())
        worst = self.quality.qc.exclude_from
        summary |= tables.once(["quality", worst], OF_QUALITY, partial(_quality, worst))
        by_fold = labels.get("w_class_fold")
        if by_fold is not None:
            names = Classes.of_labels(labels).names
            summary["class_weights"] = [
                {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)}
                for weights in by_fold
            ]
        self._refuse_leak(summary["leakage"])
        return {self.files[0]: (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()}

    def _refuse_leak(self, leakage: Mapping[str, Any]) -> None:
        count = leakage["duplicates_on_both_sides"]
        if count and self.quality.qc.leak == "error":
            shown = ", ".join(f"{first} and {second}" for first, second in leakage["examples"])
            raise ConfigError(
                f"the same window stands on both sides of a fold {count} times: {shown}; give the "
                "recordings one patient_id, remove one of each pair, or set qc.leak=report "
                "(qc/duplicates.csv then lists all)"
            )
