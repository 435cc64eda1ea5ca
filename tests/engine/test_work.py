"""How much work a run does, counted instead of timed: files, bytes, syncs and FFT points."""

from __future__ import annotations

import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hms
import hms.stages
from hms.results.run import Run
from hms.signal.cwt import FftPlan, plan_cwt
from hms.sources import archive
from hms.store import files as store_files
from hms.store import journal
from hms.store.npz import npz_bytes

pytestmark = pytest.mark.slow

ITEMS = 10
STAGES = "stages=[scalograms,waveforms,labels,splits,quality]"
Prepare = Callable[..., Run]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count recordings opened, their bytes, bytes written and syncs in this process."""
    counts: Counter[str] = Counter()
    read, write, sync = archive.read_bytes, store_files.write_content, os.fsync

    def counted_read(*arguments: object) -> bytes:
        data = read(*arguments)  # type: ignore[arg-type]
        counts["recordings"] += 1
        counts["bytes read"] += len(data)
        return data

    def counted_write(descriptor: int, content: store_files.Content) -> tuple[int, str]:
        size, digest = write(descriptor, content)
        counts["writes"] += 1
        counts["bytes written"] += size
        return size, digest

    def counted_sync(descriptor: int) -> None:
        counts["syncs"] += 1
        sync(descriptor)

    monkeypatch.setattr(archive, "read_bytes", counted_read)
    monkeypatch.setattr(store_files, "write_content", counted_write)
    monkeypatch.setattr(journal, "write_content", counted_write)
    monkeypatch.setattr(os, "fsync", counted_sync)
    return counts


def test_every_recording_is_opened_once_and_read_once(
    small_set: Path, prepare: Prepare, work: Counter[str]
) -> None:
    prepare(small_set, STAGES)
    sizes = [path.stat().st_size for path in (small_set / "train_eegs").iterdir()]
    assert work["recordings"] == len(sizes) == ITEMS
    assert work["bytes read"] == sum(sizes)


def test_a_second_run_opens_no_recording_and_writes_next_to_nothing(
    small_set: Path, prepare: Prepare, work: Counter[str]
) -> None:
    prepare(small_set, STAGES)
    work.clear()
    assert prepare(small_set, STAGES).reused
    assert work["recordings"] == 0
    assert work["bytes written"] < 1000


def test_another_weight_opens_no_recording(small_set: Path, prepare: Prepare, work: Counter[str]) -> None:
    prepare(small_set, STAGES)
    work.clear()
    prepare(small_set, STAGES, "weight=log")
    assert work["recordings"] == 0


def test_what_is_written_is_what_is_kept(
    small_set: Path, prepare: Prepare, outputs: Path, work: Counter[str]
) -> None:
    """Nothing is written twice: the bytes written are those of the files, but for a few notes."""
    prepare(small_set, STAGES)
    kept = sum(
        path.lstat().st_size for path in outputs.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert kept <= work["bytes written"] < kept + 2000


def test_a_chunk_syncs_every_file_once_and_what_names_it_a_few_times(
    small_set: Path, prepare: Prepare, work: Counter[str]
) -> None:
    """Ten items in two chunks: 20 files; per chunk two folders, a packed file in one more, four journals."""
    prepare(small_set, STAGES)
    files, chunks, tables = 2 * ITEMS, 2, 6
    per_chunk = 2 + 2 + 4
    # A table: its file or files, their folder, journal, key and folders made; the run: links, notes.
    assert work["syncs"] <= files + chunks * per_chunk + tables * 8 + 40
    assert work["syncs"] >= files + chunks * per_chunk


@pytest.mark.parametrize(
    ("option", "most"), [("morlet", 22_500), ("gmw", 22_200), ("ricker", 32_300), ("superlet", 49_700)]
)
def test_the_transform_takes_no_more_fft_points_than_measured(option: str, most: int) -> None:
    """Direct convolution at full length would take 48 transforms of 6,800 points: 326,400 per derivation."""
    cfg = hms.compose(f"cwt={option}")
    plan = plan_cwt(cfg.cwt, sfreq=200.0, n_context=2400, n_window=2000)
    assert isinstance(plan, FftPlan)
    assert plan.n_fft_points <= most


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "patient_id": "p1", "eeg_id": np.int64(7)},
        {"f": np.asfortranarray(np.eye(3)), "empty": np.empty((0, 3)), "text": np.array(["a", "bcd"])},
        {"é": np.array([True, False]), "strided": np.arange(6)[::2], "big_endian": np.array([1], ">i4")},
        {},
    ],
)
def test_npz_bytes_are_those_of_savez(arrays: dict[str, object]) -> None:
    expected = io.BytesIO()
    np.savez(expected, **arrays)  # type: ignore[arg-type]
    expected.seek(0)
    written = npz_bytes(arrays)
    assert zipfile.ZipFile(io.BytesIO(written)).testzip() is None
    with np.load(io.BytesIO(written), allow_pickle=False) as ours, np.load(expected) as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
