"""Windows that are prepared together: nothing of it shows in what comes out, and little is held open."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, tree_bytes

import hms.engine.job
import hms.engine.workers
from hms.config.schema import build_config
from hms.engine.plan import make_plan
from hms.errors import StorageError
from hms.quality import inspection
from hms.quality.inspection import inspect
from hms.results.run import Run

pytestmark = pytest.mark.slow

STAGES = "stages=[scalograms,waveforms,labels,splits,quality]"
Prepare = Callable[..., Run]


def n_open() -> int:
    """Count this process's open files."""
    return len(os.listdir("/proc/self/fd"))


def temporaries(outputs: Path) -> list[Path]:
    return [path for path in outputs.rglob(".tmp-*") if path.is_file()]


@pytest.fixture(scope="module")
def plain(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finish a run with these stages, once; tests compare with it."""
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path_factory.mktemp('plain')}")
    return hms.run(hms.compose(*base, "n_jobs=1", STAGES))


@pytest.mark.parametrize("seconds", [1.0, 34.0 * 3, 1e6])
def test_how_many_windows_are_prepared_together_changes_nothing(
    seconds: float, small_set: Path, prepare: Prepare, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hms.engine.job, "SECONDS_TOGETHER", seconds)
    assert tree_bytes(prepare(small_set, STAGES).path) == tree_bytes(plain.path)


def test_a_window_that_fails_takes_none_of_those_beside_it_along(
    small_set: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def fails(eegs: Sequence[np.ndarray], **given: Any) -> Any:
        """Fail for the third recording that is inspected, in company and alone."""
        seen.extend(eeg.tobytes() for eeg in eegs)
        if any(eeg.tobytes() in seen[2:3] for eeg in eegs):
            raise ValueError("made to fail")
        return inspect(eegs, **given)

    monkeypatch.setattr(inspection, "inspect", fails)
    run = prepare(small_set, STAGES, "max_failed_share=0.2")
    assert len(run.meta) == 9
    (reason,) = run.excluded["reason"]
    assert "made to fail" in reason
    # The stages before it did not fail, and their files are kept for the next run.
    assert len(list(run.path.parent.glob("store/scalograms-*/*.npz"))) == 10


def test_a_disk_that_fails_while_files_are_synced_ends_the_run_and_leaves_nothing_open(
    small_set: Path, prepare: Prepare, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, main = os.fsync, threading.get_ident()

    def fails(descriptor: int) -> None:
        if threading.get_ident() != main:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    still_open = []
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        for _ in range(2):  # the first run of a process opens what stays open
            with pytest.raises(StorageError, match="cannot write to"):
                prepare(small_set, STAGES)
            still_open.append(n_open())
    assert still_open[1] <= still_open[0]
    assert temporaries(outputs) == []
    assert not list(outputs.glob("store/scalograms-*/*.npz"))
    assert len(prepare(small_set, STAGES).meta) == 10


def test_a_slow_disk_is_waited_for_before_too_many_files_are_open(
    small_set: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, most = os.fsync, [0]

    def slow(descriptor: int) -> None:
        most[0] = max(most[0], n_open())
        time.sleep(0.01)
        sync(descriptor)

    monkeypatch.setattr(hms.engine.job, "SECONDS_TOGETHER", 1.0)
    monkeypatch.setattr(hms.engine.workers, "MOST_UNDER_WAY", 2)
    monkeypatch.setattr(os, "fsync", slow)
    before = n_open()
    prepare(small_set, "stages=[scalograms,waveforms,labels,splits]")
    # Files of one window each: two that wait, the one just written, and what the program opens besides.
    assert most[0] <= before + 3 + 5


@dataclass
class Windows:
    """What stands for an item here: its segment is itself, and holds its block."""

    block: object = None

    @property
    def segment(self) -> Windows:
        return self


@pytest.mark.parametrize(
    ("overrides", "n_of_a_block", "expected"),
    [
        ((), 0, [17, 17, 16]),
        (("data.block_s=300",), 1, [2] * 25),
        (("data.block_s=3600",), 1, [1] * 50),
        (("data.block_s=120",), 30, [38, 12]),  # 120 + 29 * 10 s, then 120 + 7 * 10 s
    ],
)
def test_what_is_in_memory_together_does_not_grow_with_windows_or_blocks(
    overrides: tuple[str, ...], n_of_a_block: int, expected: list[int], small_set: Path, outputs: Path
) -> None:
    """A block counts once, and each further window of it as its own 10 s, up to 600 s in all."""
    cfg = hms.compose("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", *overrides)
    job = (plan := make_plan(build_config(cfg))).job(plan.due(), token="", own_process=False)
    blocks = [object() for _ in range(50)]
    items = [Windows(blocks[n // n_of_a_block] if n_of_a_block else None) for n in range(50)]
    assert [len(batch) for batch in job.batches(items)] == expected


@pytest.mark.parametrize("overrides", [("filter=none",), ("filter.clip_uv=null",)])
def test_what_float32_cannot_hold_leaves_one_item_out_and_warns_of_nothing(
    overrides: tuple[str, ...], own_set: Path, prepare: Prepare
) -> None:
    """Samples at the end of float32's range, where nothing limits them; warnings are errors here."""
    file = sorted((own_set / "train_eegs").iterdir())[0]
    eeg = pd.read_parquet(file)
    eeg.loc[::400, "C3"] = np.float32(3.4e38)
    eeg.to_parquet(file)
    run = prepare(own_set, STAGES, *overrides)
    assert len(run.meta) == 9
    assert run.excluded["reason"].str.contains("power must be finite").all()


FAULTS = """
import resource
from threading import Thread
import numpy as np
from hms.engine.workers import keep_memory
keep_memory()
def work():
    for _ in range(50):
        np.ones(1 << 21, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_worker_keeps_large_buffers_even_where_it_was_started_to_give_them_back() -> None:
    """As Dask's nanny starts it, in a thread: 50 buffers of 512 pages are little more than one."""
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5 * 512
