"""A process that lives on: a notebook's kernel, a server, a training script."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

import hms
from hms.config.schema import n_workers
from hms.engine.pools import loky
from hms.errors import ConfigError, EngineError, TooManyFailures
from hms.results.run import Run

Prepare = Callable[..., Run]


def test_a_run_is_read_from_whichever_folder_the_process_is_in(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    set_ = os.path.relpath(tiny_set)
    stages = "stages=[waveforms,labels]"
    run = hms.run(hms.compose("data=kaggle", f"data.root={set_}", stages, "n_jobs=1"))
    assert dict(run.overview())["folder"] == f"outputs/{run.hash}"
    dataset = run.dataset(signal="wave")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    item_id = run.meta["item_id"].iloc[0]
    np.testing.assert_array_equal(dataset[0]["x"], run.wave(item_id))
    np.testing.assert_array_equal(run.evaluate(item_id, "waveforms").x, run.wave(item_id))
    assert pickle.loads(pickle.dumps(run)).labels.item_id.tolist() == run.meta["item_id"].tolist()
    assert not list(Path().iterdir()), "nothing is written where the process is by now"


def test_a_run_that_was_made_again_is_opened_again_not_mixed(own_set: Path, prepare: Prepare) -> None:
    """Corrected samples leave names and sizes, and so the run's hash, as they were."""
    first = prepare(own_set, "stages=[waveforms,labels]")
    item_id = first.meta["item_id"].iloc[0]
    before = first.wave(item_id)
    same = prepare(own_set, "stages=[waveforms,labels]")
    assert same.reused
    recording = own_set / "train_eegs" / f"{first.meta['recording'].iloc[0]}.parquet"
    table = pd.read_parquet(recording)
    for part in (1, 2):  # first uncompressed, to be of one size then
        (table * part).to_parquet(recording, compression=None, use_dictionary=False)
        made = prepare(own_set, "stages=[waveforms,labels]")
        if part == 1:
            opened = made
    assert made.hash == opened.hash
    assert not np.array_equal(made.wave(item_id), before)
    with pytest.raises(ConfigError, match="was made again since it was opened here"):
        opened.wave(item_id)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).wave(item_id), made.wave(item_id))


def test_a_process_that_may_start_no_workers_computes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert n_workers(2) == 2
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.warns(UserWarning, match="setting n_jobs=1"):
        assert n_workers(2) == 1


def test_a_child_of_a_program_does_not_wait_for_idle_workers_at_its_end(
    tiny_set: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a process")
    prepare(tiny_set, "stages=[waveforms]", n_jobs=2)
    assert not [child.name for child in multiprocessing.active_children() if "Loky" in child.name]


@pytest.mark.filterwarnings("ignore:Loky-backed parallel loops cannot be nested")
def test_a_run_within_a_thread_of_another_pool_computes_by_itself(tiny_set: Path, prepare: Prepare) -> None:
    """A worker's own preparation would be refused there, or leave the user's process deaf to Ctrl-C."""
    prepared = joblib.delayed(prepare)(tiny_set, "stages=[waveforms]", n_jobs=2)
    (run,) = joblib.Parallel(n_jobs=2, backend="threading")([prepared])
    assert run.manifest["counts"]["used"] == 5


def test_runs_of_two_threads_take_turns_with_the_workers(
    tiny_set: Path, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has one set of them: the end of a run that fails would be the end of the other's."""
    waits, has_them = threading.Event(), threading.Event()
    monkeypatch.setattr("hms.engine.runner.say", lambda text: waits.set() if "waiting" in text else None)

    def use_workers() -> bool:
        with loky._turns:
            has_them.set()
            return waits.wait(20)

    def are_free() -> bool:
        is_free = loky._turns.acquire(blocking=False)
        if is_free:
            loky._turns.release()
        return is_free

    broken = Path(shutil.copytree(tiny_set, tmp_path / "broken"))
    for recording in (broken / "train_eegs").iterdir():
        recording.write_bytes(b"no recording")
    with ThreadPoolExecutor(1) as other:
        has_waited = other.submit(use_workers)
        has_them.wait(20)
        with pytest.raises(TooManyFailures):
            prepare(broken, "stages=[waveforms]", n_jobs=2)
        assert has_waited.result()
        assert other.submit(are_free).result(), "the failed run still has them"


def test_workers_with_another_source_of_hms_than_the_process_compute_nothing(
    tiny_set: Path, prepare: Prepare, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update beside a kernel that is open: keys would be of the old source, numbers of the new one."""
    with monkeypatch.context() as before_the_update:
        before_the_update.setattr("hms.engine.job.code_stamp", lambda: "as it was")
        with pytest.raises(EngineError, match=r"changed since this process loaded it.*restart the kernel"):
            prepare(tiny_set, "stages=[waveforms]", n_jobs=2)
    assert not list(outputs.glob("store/waveforms-*/*.npz"))
    assert prepare(tiny_set, "stages=[waveforms]", n_jobs=2).manifest["counts"]["used"] == 5
