"""Recordings of hours and days: flat memory, shared filtering, identity of what was read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
from recordings import noise, patched, write_edf

import hms
from hms.competition import CHANNELS, EEG_CHANNELS
from hms.results.run import Run
from hms.sources.base import Reader
from hms.stages.signal import Signal

pytestmark = pytest.mark.slow

pytest.importorskip("edfio")

TEN_MINUTES = 600 * 200
Prepare = Callable[..., Run]


@pytest.fixture(scope="module")
def long_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes of 19 channels."""
    folder = tmp_path_factory.mktemp("long")
    write_edf(folder / "long.edf", noise(TEN_MINUTES, names=EEG_CHANNELS), data_record_duration=1)
    return folder


@pytest.fixture
def prepare_long(tmp_path: Path) -> Prepare:
    """Prepare a folder of EDF files into outputs of its own per name."""

    def call(root: Path, name: str, *overrides: str) -> Run:
        base = ("data=edf", f"data.root={root}", f"outputs_dir={tmp_path / name}", "n_jobs=1", "unit=per_row")
        stages = () if any(o.startswith("stages=") for o in overrides) else ("stages=[scalograms,waveforms]",)
        return hms.run(hms.compose(*base, *stages, *overrides))

    return call


def test_shared_blocks_equal_windows_alone_within_1e_4(long_set, prepare_long):
    """Sliding by 10 s through blocks of 120 s, and each window filtered on its own."""
    shared = prepare_long(long_set, "shared", "data.step_s=10", "scaling=none")
    alone = prepare_long(long_set, "alone", "data.step_s=10", "scaling=none", "data.block_s=null")
    assert len(shared.meta) == 56
    for item_id in shared.meta["item_id"]:
        one, two = shared.spec(item_id), alone.spec(item_id)
        np.testing.assert_allclose(one, two, atol=1e-4 * two.max())
        np.testing.assert_allclose(shared.wave(item_id), alone.wave(item_id), atol=1e-3)


def test_a_window_does_not_depend_on_which_others_are_due(long_set, prepare_long, tmp_path):
    """The same bytes whether it is prepared with all windows of its block, alone, or for one stage only."""
    together = prepare_long(long_set, "together", "data.step_s=10")
    (tmp_path / "one.csv").write_text("recording,patient_id,start_s\nlong,long,170\n")
    table = f"data.windows={tmp_path / 'one.csv'}"
    alone = prepare_long(long_set, "alone", table)
    later = prepare_long(long_set, "later", table, "stages=[waveforms]")
    assert alone.meta["window_start_s"].tolist() == [190.0]
    assert np.array_equal(together.spec("long_17"), alone.spec("long_0"))
    assert np.array_equal(together.wave("long_17"), alone.wave("long_0"))
    assert np.array_equal(together.wave("long_17"), later.wave("long_0"))


def test_a_block_is_filtered_once(long_set, prepare_long, monkeypatch):
    """56 windows start in 5 blocks of 120 s: 5 results, not 56."""
    made = []
    real = Signal._cleaned

    def counted(*args, **settings):
        made.append(args)
        return real(*args, **settings)

    monkeypatch.setattr(Signal, "_cleaned", counted)
    assert len(prepare_long(long_set, "counted", "data.step_s=10", "stages=[scalograms]").meta) == 56
    assert len(made) == 5


def test_a_change_makes_only_the_windows_near_it_due(long_set, prepare_long, tmp_path):
    """One sample at 300 s: windows whose own block or a neighbour holds it, not those of the first block."""
    import shutil

    own = Path(shutil.copytree(long_set, tmp_path / "own"))
    first = prepare_long(own, "out")
    starts, begins = first.meta["window_start_s"].to_numpy(), first.spec("long_0")
    data = bytearray((own / "long.edf").read_bytes())
    at = 256 * 20 + 300 * 19 * 200 * 2
    data[at : at + 2] = b"\x10\x10"
    (own / "long.edf").write_bytes(data)
    second = prepare_long(own, "out")
    blocks = np.floor(starts / 120)
    assert second.manifest["stages"]["scalograms"]["computed"] == np.isin(blocks, (1, 2, 3)).sum()
    assert np.array_equal(begins, second.spec("long_0"))


class Counter:
    """A recording in memory that notes what is read of it."""

    sfreq = 200.0
    channels = ("Fp1",)
    n_samples = 100_000

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []

    def digest_of(self, part: str) -> str:
        return part

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> np.ndarray:
        self.reads.append((start, stop))
        return np.arange(start, stop, dtype=np.float32)[None]


def test_a_reader_reads_a_block_once_and_cuts_windows_from_it():
    """A window at 130 s of 10 s with 2 s around it is samples 25,600 to 28,400, from the block at 120 s."""
    recording = Counter()
    reader = Reader(recording, 10.0, 2.0, ("Fp1",), 120.0)
    segment = reader.segment(130.0)
    assert segment.eeg[0, [0, -1]].tolist() == [25_600, 28_399]
    assert segment.n_window == 2000
    reader.segment(239.9)
    assert recording.reads == [(24_000 - 400, 48_000 + 2_000 + 400)]
    narrow = reader.segment(130.0).narrowed(100)
    doubled = narrow.block.then("key", lambda eeg: eeg * 2, narrow.n_context)
    assert narrow.cut_of(doubled)[0, [0, -1]].tolist() == [2 * 25_900, 2 * 28_099]


MEASURE = """
import resource, sys
import hms
base = ("data=edf", f"data.root={sys.argv[1]}", f"outputs_dir={sys.argv[2]}", "unit=per_row", "n_jobs=1")
run = hms.run(hms.compose(*base, "stages=[scalograms,waveforms]", *sys.argv[3:]))
print(len(run.meta), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_long(folder: Path, ten_minutes: bytes, hours: int) -> Path:
    """Write a recording of 20 channels that repeats ten minutes."""
    folder.mkdir()
    with (folder / "long.edf").open("wb") as file:
        file.write(ten_minutes)
        for _ in range(6 * hours - 1):
            file.write(ten_minutes[256 * (len(CHANNELS) + 1) :])
    return patched(folder / "long.edf", 236, str(3600 * hours), 8).parent


def peak_mb(root: Path, outputs: Path, *overrides: str) -> tuple[int, float]:
    """Return the number of items and the peak of resident memory of a run in a process of its own."""
    done = forked.run(["-c", MEASURE, root, outputs, *overrides])
    assert done.returncode == 0, done.stderr
    count, peak = done.stdout.split()[-2:]
    return int(count), float(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured in Linux's units")
def test_memory_does_not_grow_with_the_length_of_a_recording(tmp_path):
    """Five hours of 20 channels (144 MB) take within 60 MB of the memory of one hour."""
    ten_minutes = write_edf(tmp_path / "part.edf", noise(TEN_MINUTES), data_record_duration=1).read_bytes()
    one = write_long(tmp_path / "one", ten_minutes, 1)
    night = write_long(tmp_path / "night", ten_minutes, 5)
    _, peak_of_one = peak_mb(one, tmp_path / "outputs_one", "data.step_s=120")
    count, peak_of_night = peak_mb(night, tmp_path / "outputs_night", "data.step_s=600")
    assert count == 30
    assert peak_of_night < peak_of_one + 60
    (night / "long.edf").unlink()
