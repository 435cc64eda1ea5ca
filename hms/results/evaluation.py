"""Predictions of a run's items, judged: figures by group, calibration, and a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.errors import ConfigError
from hms.labels.intervals import HOLDS_FROM, Interval
from hms.report.evaluation import evaluation_page, plain_table
from hms.report.examples import Example, scalogram_picture, trace_picture
from hms.signal.filters import described
from hms.store.files import commit_files
from hms.terminal import columns, counted
from hms.training.evaluation import Judged, Scores, compare, score
from hms.training.metric import plain_groups, row_divergence
from hms.training.predictions import Predictions, out_of_fold, read_predictions
from hms.training.selection import folds_of

if TYPE_CHECKING:
    from hms.store.package import Package

SHOWN = ("all", "stratum", "class")
"""Kinds of groups that a short text shows."""


@dataclass(frozen=True)
class Judgement:
    """One or two files of predictions for a run, judged on the items that they have in common.

    Attributes
    ----------
    files : names of the files
    items : what is known of the items
    shares : predicted class shares of each file, shape (n_items, n_classes)
    n_unpredicted : labelled items of the run that are not judged
    """

    run: Package
    files: tuple[str, ...]
    items: Judged
    shares: tuple[NDArray[np.float64], ...]
    n_unpredicted: int

    @cached_property
    def scores(self) -> list[Scores]:
        """How good each file is."""
        return [score(self.items, shares) for shares in self.shares]

    @cached_property
    def difference(self) -> dict[str, dict[str, Interval]] | None:
        """First minus second divergence by group, item by item; None with one file."""
        return compare(self.items, *self.shares) if len(self.shares) == 2 else None

    @cached_property
    def yardsticks(self) -> dict[str, float]:
        """Divergence of simple predictions: the class prior of these items, and the run's baseline."""
        target = self.items.target
        even = np.broadcast_to(target.mean(axis=0), target.shape)
        found = {"the class prior of these items": float(row_divergence(target, even).mean())}
        baseline = out_of_fold(self.run)
        if baseline is not None:
            shares = dict(zip(self.run.labels.item_id[baseline.rows].tolist(), baseline.shares, strict=True))
            ids = self.items.item_id.tolist()
            if all(item in shares for item in ids):
                own = row_divergence(target, np.array([shares[item] for item in ids]))
                found["the run's baseline, out of fold"] = float(own.mean())
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON takes them."""
        return {
            "run": self.run.hash,
            "predictions": list(self.files),
            "classes": list(self.items.classes),
            "n_items": len(self.items),
            "n_patients": len(set(self.items.patient_id.tolist())),
            "n_without_prediction": self.n_unpredicted,
            "yardsticks": self.yardsticks,
            "scores": [self._scores(found) for found in self.scores],
            "difference": None if self.difference is None else plain_groups(self.difference),
        }

    def _scores(self, found: Scores) -> dict[str, Any]:
        errors = [each["expected_calibration_error"] for each in found.calibration.values()]
        return {
            "divergence": plain_groups(found.groups),
            "expected_calibration_error": float(np.mean(errors)),
            "calibration": found.calibration,
            "confusion": found.confusion.tolist(),
            "worst": [self._item(found, row) for row in found.worst],
            "surprising": [self._item(found, row) for row in found.surprising],
        }

    def _item(self, found: Scores, row: int) -> dict[str, Any]:
        return {
            "item_id": str(self.items.item_id[row]),
            "divergence": float(found.divergence[row]),
            "votes": float(self.items.vote_sum[row]),
            "target": self.items.target[row].tolist(),
            "prediction": found.shares[row].tolist(),
        }

    def page(self) -> bytes:
        """Return the page with pictures; it needs no other file."""
        return evaluation_page(
            run=self.run.hash,
            files=self.files,
            items=self.items,
            scores=self.scores,
            difference=self.difference,
            n_unpredicted=self.n_unpredicted,
            picture=lambda row: pictures(self.run, str(self.items.item_id[row])),
        )

    def write(self, folder: Path) -> Path:
        """Write page and figures into a folder and return the path of the page."""
        stems = "-".join(re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).stem) for name in self.files)
        name = f"evaluate-{self.run.hash[:8]}-{stems}"
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        commit_files(folder, {f"{name}.json": text.encode(), f"{name}.html": self.page()})
        return folder / f"{name}.html"

    def __str__(self) -> str:
        return self.text(all_groups=False)

    __repr__ = __str__

    def text(self, *, all_groups: bool) -> str:
        """Return the divergence by votes and class, or by every group, beside simple yardsticks."""
        groups = [found.groups for found in self.scores] + ([self.difference] if self.difference else [])
        heads = [*self.files, *(["difference"] if self.difference else [])]
        rows = [("items", "n", *heads), *plain_table(groups, self.items, None if all_groups else SHOWN)]
        errors = [each["expected_calibration_error"] for each in self.to_dict()["scores"]]
        said = ", ".join(f"{error:.3f}" for error in errors)
        lines = ["KL divergence of predictions from votes, mean of the items: lower is better, 0 is perfect"]
        lines += [columns(rows)]
        lines += ["for comparison: " + "; ".join(f"{v:.3f} by {name}" for name, v in self.yardsticks.items())]
        kinds = [kind for kind in groups[0] if all_groups or kind in SHOWN]
        holds = [each.holds for kind in kinds for each in groups[0][kind].values()]
        if not all(holds):
            lines.append(f"without an interval: fewer than {HOLDS_FROM} patients' worth of items")
        lines.append(f"expected calibration error, mean of the classes, 0 is perfect: {said}")
        if self.n_unpredicted:
            lines.append(f"no prediction for {counted(self.n_unpredicted, 'item')} of the run")
        if not all_groups:
            lines.append("--all prints folds, grades and flags too, as the page does")
        return "\n".join(lines)


def judge(run: Package, predictions: str | Path, other: str | Path | None = None) -> Judgement:
    """Judge a file of predictions by item_id, or two against each other.

    Raises `ConfigError` if a file cannot be read, is not of this run's items, or two have no item in common.

    Parameters
    ----------
    run : a finished run with labels
    predictions, other : csv or npz, see `hms.training.predictions.read_predictions`
        Two files are judged on the items that both predict.
    """
    if "data_package/labels.npz" not in run.manifest["files"]:
        raise ConfigError(
            f"run {run.hash} has no votes to judge predictions by; data.votes or data.events gives some"
        )
    labels = run.labels
    classes = tuple(str(name) for name in labels.classes.tolist())
    ids, eegs = labels.item_id.tolist(), run.meta["eeg_id"].astype(str).tolist()
    paths = [path for path in (predictions, other) if path is not None]
    found = [read_predictions(path, item_ids=ids, eeg_ids=eegs, classes=classes) for path in paths]
    labelled = labels.has_label
    rows = _common_rows(found, labelled, run.hash)
    shares = tuple(each.shares[np.searchsorted(each.rows, rows)] for each in found)
    names = tuple(each.name for each in found)
    return Judgement(run, names, _judged(run, rows, classes), shares, int(labelled.sum()) - len(rows))


def _common_rows(
    found: Sequence[Predictions], labelled: NDArray[np.bool_], run_hash: str
) -> NDArray[np.int64]:
    rows = found[0].rows
    for other in found[1:]:
        rows = np.intersect1d(rows, other.rows)
        if not len(rows):
            raise ConfigError(f"{found[0].name} and {other.name} predict no item in common")
    rows = rows[labelled[rows]]
    if not len(rows):
        raise ConfigError(f"{found[0].name}: no item that it predicts has a label in run {run_hash}")
    return rows


def _judged(run: Package, rows: NDArray[np.int64], classes: tuple[str, ...]) -> Judged:
    labels = run.labels
    ids = labels.item_id[rows]
    patients = run.meta.set_index("item_id")["patient_id"].astype(str)
    fold = [str(number) if number >= 0 else "none" for number in folds_of(run)[rows].tolist()]
    grade, flags = _quality(run, ids.tolist())
    target = labels.y_soft[rows].astype(np.float64)
    return Judged(
        item_id=ids,
        patient_id=np.array(patients.loc[ids.tolist()].tolist(), dtype=np.str_),
        target=target / target.sum(axis=1, keepdims=True),  # to 1 in float64 too
        vote_sum=labels.vote_sum[rows],
        fold=np.array(fold),
        grade=grade,
        flags=flags,
        classes=classes,
        threshold=run.config.at("labels.high_confidence_votes"),
    )


def _quality(run: Package, ids: Sequence[str]) -> tuple[NDArray[np.str_], list[list[str]]]:
    """Return grade and flags of items; empty where the run did not look at quality."""
    if "qc/qc.csv" not in run.manifest["files"]:
        return np.full(len(ids), "", dtype=np.str_), [[] for _ in ids]
    ledger = run.qc.set_index("item_id").loc[list(ids)]
    flags = [text.split(";") if text else [] for text in ledger["raised"].fillna("").astype(str).tolist()]
    return np.array(ledger["grade"].fillna("").astype(str).tolist(), dtype=np.str_), flags


def pictures(run: Package, item_id: str) -> str:
    """Draw an item's waveforms and scalograms, as far as the package has them."""
    has_wave, has_spec = (run.has_item(folder, item_id) for folder in ("wave_hr_out", "spec_hr_out"))
    if not (has_wave or has_spec):
        return ""
    outputs = run.outputs
    length_s = float(run.config.at("window.length_s"))
    empty = np.zeros((len(outputs), round(length_s * SFREQ_HZ)), np.float32)
    example = Example(
        item_id=item_id,
        about="",
        traces=run.wave(item_id) if has_wave else empty,
        alive=np.ones(len(outputs), np.bool_),
        chains=tuple((name, (name,)) for name in outputs),
        x=run.spec(item_id) if has_spec else np.zeros((len(outputs), 1, 1), np.float32),
        freqs_hz=run.freqs if has_spec else np.ones(1, np.float32),
        outputs=outputs,
        sfreq=SFREQ_HZ,
        band=described(run.config.at("filter")),
    )
    drawn = (trace_picture(example) if has_wave else "", scalogram_picture(example) if has_spec else "")
    return "".join(drawn)
