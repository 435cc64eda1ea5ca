"""What the page knows of all items: columns to filter and sort by, and everything said of one item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.errors import ConfigError
from hms.labels.classes import Classes
from hms.labels.summary import entropy_nats
from hms.labels.votes import consensus
from hms.quality.grading import GRADES, measures_of_flags
from hms.registry import did_you_mean
from hms.report.page import numbered
from hms.store.package import Package
from hms.store.parquet import read_table
from hms.training.metric import row_divergence
from hms.training.predictions import Predictions, out_of_fold, read_predictions
from hms.training.selection import LABELS, folds_of

if TYPE_CHECKING:
    import pandas as pd

LEDGER, CHANNELS, ISSUES = "qc/qc.csv", "qc/channels.parquet", "qc/label_issues.csv"

UNITS = (("_uv", "µV"), ("_db", "dB"), ("_s", "s"))
"""Endings of measures and their units; shares are told in percent."""


@dataclass(frozen=True)
class Listing:
    """All items of a run, those left out included, in the order of the ledger.

    Parameters
    ----------
    predictions : a file of predictions that takes the place of the baseline's
    blind : whether votes, grades, flags and predictions are hidden
    """

    run: Package
    predictions: Path | None = None
    blind: bool = False

    @cached_property
    def item_ids(self) -> list[str]:
        """Ids of all items."""
        if self._ledger is not None:
            return self._ledger["item_id"].tolist()
        return [*self.run.meta["item_id"].tolist(), *self.run.excluded["item_id"].tolist()]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each item by its id."""
        return {name: row for row, name in enumerate(self.item_ids)}

    @cached_property
    def used(self) -> NDArray[np.intp]:
        """Rows of the items used, in the order of meta_use.csv."""
        return np.array([self.row_of[name] for name in self.run.meta["item_id"]], np.intp)

    @cached_property
    def classes(self) -> Classes:
        """The classes that are voted on."""
        return Classes(tuple(self.run.config.at("labels.classes")))

    @cached_property
    def _ledger(self) -> pd.DataFrame | None:
        return self.run.qc if LEDGER in self.run.manifest["files"] else None

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Share of the votes of each class, shape (n_items, n_classes); NaN without votes."""
        found = np.full((len(self.item_ids), len(self.classes)), np.nan)
        if LABELS in self.run.manifest["files"]:
            labels = self.run.labels
            found[self.used[labels.has_label]] = labels.y_soft[labels.has_label]
        return found

    @cached_property
    def predicted(self) -> NDArray[np.float64]:
        """Predicted share of each class, shape (n_items, n_classes); NaN without a prediction."""
        found = np.full((len(self.item_ids), len(self.classes)), np.nan)
        read = self._predictions()
        if read is not None:
            found[self.used[read.rows]] = read.shares
        return found

    def _predictions(self) -> Predictions | None:
        meta = self.run.meta
        if self.predictions is not None:
            return read_predictions(
                self.predictions,
                item_ids=meta["item_id"].tolist(),
                eeg_ids=meta["eeg_id"].astype(str).tolist(),
                classes=self.classes.names,
            )
        return out_of_fold(self.run)

    # --- all items -------------------------------------------------------------------------------

    def columns(self) -> dict[str, Any]:
        """Return what the page filters and sorts by; texts that repeat are numbered."""
        told: dict[str, Any] = {
            "id": self.item_ids,
            "patient": numbered(self._patients),
            "fold": self._folds(),
        }
        if self.blind:
            return told
        return told | {
            "class": consensus(np.nan_to_num(self.shares)).tolist(),
            "total": self._totals,
            "shares": numbered(_listed(row) for row in self.shares.tolist()),
            "entropy": _rounded(entropy_nats(np.nan_to_num(self.shares)), self.has_votes),
            "predicted": np.where(
                self.is_predicted, np.argmax(np.nan_to_num(self.predicted), axis=1), -1
            ).tolist(),
            "divergence": _rounded(self._divergence, self.has_votes & self.is_predicted),
            "issue": self._issues,
            "grade": [GRADES.index(name) if name in GRADES else -1 for name in self._grades],
            "flags": numbered(self._raised),
            "reason": numbered(self.reasons),
        }

    @cached_property
    def has_votes(self) -> NDArray[np.bool_]:
        """Which items have votes."""
        return np.isfinite(self.shares[:, 0])

    @cached_property
    def is_predicted(self) -> NDArray[np.bool_]:
        """Which items have a prediction."""
        return np.isfinite(self.predicted[:, 0])

    @cached_property
    def reasons(self) -> list[str]:
        """Why each item was left out, empty for those used."""
        found = [""] * len(self.item_ids)
        for entry in self.run.excluded.fillna("").astype(str).to_dict("records"):
            found[self.row_of[entry["item_id"]]] = f"{entry['stage']}: {entry['reason']}"
        return found

    def _of_used(self, column: str, absent: Any) -> list[Any]:
        found = [absent] * len(self.item_ids)
        for row, value in zip(self.used.tolist(), self.run.meta[column].tolist(), strict=True):
            found[row] = value
        return found

    @cached_property
    def _totals(self) -> list[float]:
        return [0.0 if math.isnan(v) else v for v in map(float, self._of_used("vote_sum", 0.0))]

    def _folds(self) -> list[int]:
        fold = np.full(len(self.item_ids), -1)
        fold[self.used] = folds_of(self.run)
        return fold.tolist()

    @cached_property
    def _divergence(self) -> NDArray[np.float64]:
        found, both = np.zeros(len(self.item_ids)), self.has_votes & self.is_predicted
        found[both] = row_divergence(self.shares[both], self.predicted[both])
        return found

    @cached_property
    def _issues(self) -> list[int]:
        """Return the rank of each item among the votes to look at again, 0 for none."""
        found = [0] * len(self.item_ids)
        if ISSUES in self.run.manifest["files"]:
            table = self.run.table(ISSUES, "item_id", "rank")
            for item_id, rank in zip(table["item_id"], table["rank"], strict=True):
                found[self.row_of[item_id]] = int(rank)
        return found

    @cached_property
    def _grades(self) -> list[str]:
        return self._texts("grade")

    @cached_property
    def _raised(self) -> list[str]:
        return self._texts("raised")

    def _texts(self, name: str) -> list[str]:
        if self._ledger is None or name not in self._ledger:
            return [""] * len(self.item_ids)
        return self._ledger[name].fillna("").astype(str).tolist()

    # --- one item --------------------------------------------------------------------------------

    def about(self, row: int) -> dict[str, Any]:
        """Describe one item, its signal apart."""
        item_id = self.item_ids[row]
        told: dict[str, Any] = {"id": item_id, "patient": self._patients[row]}
        if self.blind:
            return told
        return told | {
            "shares": _or_none(self.shares[row]),
            "predicted": _or_none(self.predicted[row]),
            "total": self._totals[row] if self.has_votes[row] else 0,
            "divergence": float(self._divergence[row]) if self.has_votes[row] else None,
            "grade": self._grades[row],
            "reason": self.reasons[row],
            "flags": self._item_flags(row),
            "channels": self._channel_flags(item_id),
            "issue": self._issues[row],
        }

    @cached_property
    def _patients(self) -> list[str]:
        return self._of_used("patient_id", "")

    def _item_flags(self, row: int) -> list[tuple[str, str]]:
        """Return the flags of an item, those of no electrode with the value that raised them."""
        if self._ledger is None:
            return []
        measures, entry = measures_of_flags(self.run.config.at("qc").item), self._ledger.iloc[row]
        flags = filter(None, self._raised[row].split(";"))
        return [(flag, _value(entry, measures.get(flag, ""))) for flag in flags]

    @cached_property
    def _flagged(self) -> tuple[pd.DataFrame, dict[str, NDArray[np.intp]]]:
        """Return the rows of the table of channels that carry a flag, and which are an item's."""
        import pandas as pd

        if CHANNELS not in self.run.manifest["files"]:
            return pd.DataFrame(), {}
        table = read_table(self.run.file(CHANNELS).read_bytes())
        table = table[table["raised"].notna() & (table["raised"] != "")].reset_index(drop=True)
        rows = table.groupby("item_id", observed=True).indices
        return table, {str(name): np.asarray(found, np.intp) for name, found in rows.items()}

    def _channel_flags(self, item_id: str) -> dict[str, list[tuple[str, str]]]:
        """Return the flags of each flagged electrode, each with the value that raised it."""
        measures = measures_of_flags(self.run.config.at("qc").channel)
        table, rows_of = self._flagged
        entries = table.iloc[rows_of.get(item_id, [])].to_dict("records") if rows_of else []
        return {
            str(entry["channel"]): [
                (flag, _value(entry, measures.get(flag, ""))) for flag in str(entry["raised"]).split(";")
            ]
            for entry in entries
        }

    def check(self, item_id: str) -> None:
        """Raise ConfigError if the run has no such item."""
        if item_id not in self.row_of:
            raise ConfigError(
                f"run {self.run.hash} has no item '{item_id}'{did_you_mean(item_id, self.item_ids)}"
            )


_COMBINED = {
    "line_db": lambda e: np.fmax(e["line50_db"], e["line60_db"]),
    "abs_offset_uv": lambda e: e["offset_uv"],
    "abs_left_right_db": lambda e: e["left_right_db"],
    "chain_corr": lambda e: np.fmax(e["corr_ll_lp"], e["corr_rl_rp"]),
    "x_share_01": lambda e: e["x_share_0"] + e["x_share_1"],
}
"""Measures that the tables hold in parts."""


def _value(entry: Any, measure: str) -> str:
    """Return the value of a measure with its unit, nothing where a table has none."""
    try:
        value = float(_COMBINED[measure](entry) if measure in _COMBINED else entry[measure])
    except (KeyError, TypeError, ValueError):
        return ""
    if math.isnan(value):
        return ""
    if "_share" in measure and measure != "muscle_share":
        return f"{100 * value:.3g} %"
    unit = next((unit for ending, unit in UNITS if measure.endswith(ending)), "")
    return f"{value:.3g}{f' {unit}' if unit else ''}"


def _listed(row: Sequence[float]) -> str:
    return "" if math.isnan(row[0]) else " ".join(f"{value:.3g}" for value in row)


def _rounded(values: NDArray[np.float64], known: NDArray[np.bool_]) -> list[float]:
    return [round(v, 3) if k else -1 for v, k in zip(values.tolist(), known.tolist(), strict=True)]


def _or_none(row: NDArray[np.float64]) -> list[float] | None:
    return None if np.isnan(row[0]) else [round(value, 4) for value in row.tolist()]
