"""A made-up run without recordings on disk: the report's stages computed from fabricated tables."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

import hms
from hms.competition import CHANNELS, CLASS_NAMES, VOTE_COLUMNS
from hms.config.identity import digest_of
from hms.config.schema import Config
from hms.engine.evaluate import evaluate
from hms.labels.votes import consensus
from hms.pipeline.stage import TableStage
from hms.pipeline.tables import Tables
from hms.quality.sketches import HISTOGRAM_BINS, RASTER_BINS
from hms.sources.base import Segment
from hms.stages.labels import Labels
from hms.stages.report import (
    Report,
    ReportExamples,
    ReportQuality,
    ReportSignals,
    ReportVotes,
    ReportWeights,
)
from hms.stages.splits import Splits
from hms.store.columns import Reason
from hms.store.files import Content
from hms.store.npz import npz_bytes
from hms.store.rows import PackedRows

STAGES = (ReportQuality, ReportVotes, ReportWeights, ReportSignals, ReportExamples, Report)
FLAGS = ("", "", "", "", "nan", "line_noise", "flat;line_noise", "clipped", "high_amplitude")
GRADES = ("good", "usable", "poor", "unusable")


def make_items(
    n: int,
    *,
    seed: int = 0,
    patients: int = 40,
    only_class: int | None = None,
    voted: bool = True,
    ids: Sequence[str] = (),
) -> pd.DataFrame:
    """Return items with votes as the competition has them: few or many, none with 8 or 9."""
    rng = np.random.default_rng(seed)
    totals = np.where(rng.random(n) < 0.35, rng.integers(10, 20, n), rng.integers(1, 8, n))
    if only_class is None:
        votes = np.array([rng.multinomial(t, rng.dirichlet(np.full(6, 0.4))) for t in totals]).reshape(n, 6)
    else:
        votes = np.zeros((n, 6), int)
        votes[:, only_class] = totals
    votes *= voted
    names = list(ids) or [str(1_000_000 + 37 * i) for i in range(n)]
    items = pd.DataFrame({"item_id": names, "recording": names, "eeg_id": np.arange(n)})
    items["patient_id"] = [str(20_000 + i) for i in rng.integers(0, max(patients, 1), n)]
    items["vote_sum"] = votes.sum(axis=1)
    items["expert_consensus"] = [CLASS_NAMES[k] for k in consensus(votes)] if n else []
    for column, counts in zip(VOTE_COLUMNS, votes.T, strict=True):
        items[column] = counts
    return items


def make_ledger(items: pd.DataFrame, reasons: Sequence[Reason | None]) -> pd.DataFrame:
    """Return a ledger with grades, flags and a few measures."""
    rng = np.random.default_rng(1)
    n = len(items)
    ledger = items[["item_id", "eeg_id"]].copy()
    ledger["used"] = [r is None for r in reasons]
    ledger["reason"] = ["" if r is None else r.text for r in reasons]
    flags = rng.choice(FLAGS, n) if n else np.array([], str)
    ledger["grade"] = [GRADES[min(len([p for p in f.split(";") if p]), 3)] for f in flags]
    ledger["raised"] = flags
    ledger["nan_share"] = np.where(rng.random(n) < 0.05, rng.random(n) * 0.1, 0)
    ledger["max_abs_uv"] = rng.lognormal(5, 0.6, n)
    ledger["x_share_0"], ledger["x_share_1"] = 0.01, 0.0125
    return ledger


def write_sketches(folder: Path, rows: np.ndarray) -> PackedRows:
    """Return the sketches of prepared items, in a file."""
    rng = np.random.default_rng(2)
    n = len(rows)
    gaps = np.zeros((n, RASTER_BINS), np.uint8)
    gaps[::20, 10:13] = 40
    gaps[::31, -6:] = 255
    sketches = {
        "spectrum": rng.normal(0, 0.2, (n, 99)).astype(np.float32) - np.log10(np.arange(1, 100)),
        "gaps": gaps,
        "power": rng.normal(0, 0.5, (n, 4, 16, 10)).astype(np.float16),
        "histogram": rng.integers(1, 50, (n, HISTOGRAM_BINS + 2)).astype(np.int32),
    }
    folder.mkdir(exist_ok=True)
    (folder / "rows.npz").write_bytes(npz_bytes(sketches))
    return PackedRows(folder, ["rows.npz"], rows, np.zeros(n, np.int64), np.arange(n))


def fabricate(
    folder: Path,
    items: pd.DataFrame,
    *,
    overrides: Sequence[str] = (),
    reasons: Sequence[Reason | None] | None = None,
    prepared: bool = True,
    has_votes: bool = True,
) -> dict[str, bytes]:
    """Return the files of the report's stages, by their paths in a run."""
    cfg = hms.compose(*overrides)
    why = list(reasons) if reasons is not None else [None] * len(items)
    rows = np.flatnonzero([prepared and (r is None or r.stage == "quality") for r in why])
    tables = MadeUp(cfg, items, why, write_sketches(folder, rows))
    ledger = make_ledger(items, why).to_csv(index=False).encode()
    _add(folder, tables, {"qc/qc.csv": ledger, "qc/duplicates.csv": b"item_id,same_as,kind,correlation\n"})
    _add(
        folder, tables, {path: _channels(items) for path in ReportQuality.inputs if path.endswith(".parquet")}
    )
    written: dict[str, bytes] = {}
    for cls in (Labels, Splits, *STAGES):
        whole: TableStage = cls.from_config(cfg)
        stage = whole if has_votes else whole.without_votes()
        if stage is None:
            continue
        contents = {path: _bytes(content) for path, content in stage.compute(tables).items()}
        _add(folder, tables, contents)
        written |= contents
    return written


class MadeUp(Tables):
    """Tables of a run that never was: rows and recordings come from random numbers."""

    def __init__(
        self, cfg: Config, items: pd.DataFrame, why: list[Reason | None], sketches: PackedRows
    ) -> None:
        frame = items.assign(offset_s=0.0, eeg_sub_id=0)
        votes: Any = SimpleNamespace(frame=frame, digest="0" * 32)
        self.votes, self.items, self.reasons = votes, items, why
        self.facts = {
            "run": "0123456789abcdef",
            "config": {"weight": {"kind": cfg.weight.kind, "reference_count": 10.0, "cap": 1.5}},
            "stages": list(cfg.stages),
            "votes": "0" * 32,
            "versions": {"python": "3.11.0", "hms": "0.1.0"},
        }
        self.packed = {"sketches": sketches}.__getitem__
        self._places: dict[str, Path] = {}
        self._read = {}

    def evaluate(self, row: int, *stages: Any) -> list[Any]:
        return _evaluate(row, stages)

    def once(self, what: Sequence[Any], names: Sequence[str], make: Callable[[Any], Any]) -> dict[str, Any]:  # type: ignore[override]
        return dict(json.loads(json.dumps(make(self))))

    def add_file(self, path: str, stored: Path, digest: str) -> None:
        self._places[path] = stored

    def has(self, path: str) -> bool:
        return path in self._places

    def file(self, path: str) -> Path:
        return self._places[path]


def _evaluate(row: int, stages: Sequence[Any]) -> list[Any]:
    """Prepare noise with a gap, by the stages' own functions; every fourth row has the same."""
    segment, memo = _noise(row % 4)
    return [evaluate(stage, segment, memo) for stage in stages]


@cache
def _noise(number: int) -> tuple[Segment, dict[str, Any]]:
    """Return noise with a gap, and what stages have made of it so far, by their keys."""
    rng = np.random.default_rng(number)
    eeg = rng.normal(0, 30, (len(CHANNELS), 2000 + 2 * 4000)).astype(np.float32)
    eeg[2, 4500:4503] = np.nan
    return Segment(eeg, CHANNELS, 200.0, 4000, (0, 0)), {}


def _channels(items: pd.DataFrame) -> bytes:
    names = CHANNELS
    table = pd.DataFrame(
        {
            "item_id": np.repeat(items["item_id"].to_numpy(object), len(names)),
            "channel": np.tile(names, len(items)),
        }
    )
    table["raised"] = np.where(np.arange(len(table)) % 17 == 0, "flat", "")
    return table.to_parquet(index=False)


def _bytes(content: Content) -> bytes:
    """Return what a file will hold."""
    if isinstance(content, bytes):
        return content
    buffer = io.BytesIO()
    content(buffer)
    return buffer.getvalue()


def _add(folder: Path, tables: Tables, contents: dict[str, bytes]) -> None:
    for path, content in contents.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        tables.add_file(path, place, digest_of(path))
