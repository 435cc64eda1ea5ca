"""How much a pass does for each recording: calls, files and syncs counted, not timed."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import ROOT

import hms
from hms.engine.plan import Plan, make_plan
from hms.engine.workers import process_chunk
from hms.store.files import make_folder

ITEMS = 10
OWN = str(ROOT / "hms")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count calls of Python functions in this thread, and files opened and synced in any."""
    counts: Counter[str] = Counter()
    open_file, sync = os.open, os.fsync

    def counted_open(*given: Any, **named: Any) -> int:
        counts["opened"] += 1
        return open_file(*given, **named)

    def counted_sync(descriptor: int) -> None:
        counts["syncs"] += 1
        sync(descriptor)

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            counts["own calls" if frame.f_code.co_filename.startswith(OWN) else "other calls"] += 1

    monkeypatch.setattr(os, "open", counted_open)
    monkeypatch.setattr(os, "fsync", counted_sync)
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield counts
    finally:
        sys.setprofile(before)
        monkeypatch.undo()


def prepared(data: Path, outputs: Path, *overrides: str) -> Plan:
    plan = make_plan(hms.compose("data=kaggle", f"data.root={data}", f"outputs_dir={outputs}", *overrides))
    for folder in plan.folders.values():
        make_folder(folder.path)
    return plan


def chunk(plan: Plan) -> None:
    due = plan.due()
    job = plan.job(due, token="", own_process=False)
    result = process_chunk(job, plan.tasks(due))
    assert result.n_items == ITEMS
    assert not result.failed


@pytest.mark.parametrize(("form", "files", "syncs"), [("files", 3, 2), ("shards", 1, 0)])
def test_a_pass_takes_few_calls_files_and_syncs_a_recording(
    form: str, files: int, syncs: int, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording is read, and two files are written and synced, or none where rows go into shards."""
    chunk(prepared(small_set, tmp_path / "imports", f"package.format={form}"))
    plan = prepared(small_set, tmp_path / "counted", f"package.format={form}")
    threads = threading.active_count()
    with counted(monkeypatch) as counts:
        chunk(plan)
    assert threading.active_count() <= threads
    # Of the chunk: two files of rows or four, a folder for each of four stages.
    assert counts["opened"] <= files * ITEMS + 10
    assert counts["syncs"] <= syncs * ITEMS + 10
    # As measured, and up to a sixth more.
    assert counts["own calls"] <= 510 * ITEMS
    assert counts["other calls"] <= 490 * ITEMS
