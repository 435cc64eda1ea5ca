"""Faults while a run works: what is lost is work, never truth.

Half of the tests prepare files and half shards; with HMS_TEST_FORMAT=files or shards all prepare the one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import ROOT, TESTS, form_of, tree_bytes

import hms
from hms.main import main
from hms.pipeline.selection import TRANSFORM_S
from hms.results.run import Run

pytestmark = pytest.mark.slow

RUN = str(ROOT / "run.py")


def torment(fault: str, root: Path, work: Path) -> dict[str, Any]:
    process = forked.start([TESTS / "crash_driver.py", fault, root, work])
    out, err = process.communicate(timeout=900)
    assert process.wait() == 0, err[-2000:]
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_killed_at_any_write_the_same_command_finishes_with_the_same_bytes(
    tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = torment("kill", tiny_set, tmp_path)
    with capsys.disabled():
        print(f"\nkills survived: {found['faults']}")
    assert found["bad"] == []
    assert {"write items .tmp", "replace table .npz", "pwrite items .npy", "replace latest"} <= {
        *found["kinds"]
    }
    assert found["faults"] >= len(found["kinds"])


def test_a_disk_full_at_any_write_stops_with_exit_code_4_and_can_be_finished(
    tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = torment("full", tiny_set, tmp_path)
    with capsys.disabled():
        print(f"\nfull disks survived: {found['faults']}")
    assert found["bad"] == []
    assert {"write items .tmp", "pwrite items .npy", "write table .log"} <= set(found["kinds"])
    assert found["faults"] >= len(found["kinds"])


QUICK = ("stages=[scalograms,waveforms,labels]", "cwt.n_freqs=4", "cwt.hop=40")
"""For runs of which only the order of events matters."""


def start(root: Path, outputs: Path, *overrides: str, **options: object) -> forked.Process:
    return forked.start(
        [RUN, "data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", *overrides],
        has_children=True,
        **options,
    )


def again(root: Path, outputs: Path, *overrides: str) -> Run:
    """Finish in this process what the command of `start` left."""
    base = ("data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, *overrides))


def finish(process: forked.Process) -> tuple[int, str]:
    _, err = process.communicate()
    return process.wait(), err


def here(capfd: pytest.CaptureFixture[str], root: Path, outputs: Path, *overrides: str) -> tuple[int, str]:
    """Give the command in this process; return its exit status and what it said."""
    code = main(["data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1", *overrides])
    return code, capfd.readouterr().err


KILLER = '''
import os, pathlib, signal
import numpy as np
from dataclasses import dataclass
from hms.registry import register
from hms.signal.scaling import Log1pPercentile, log1p_percentile

@register("scaling", "deadly", Log1pPercentile)
def deadly(power, params):
    """Kill the worker: always on recording VICTIM, or once."""
    marker = pathlib.Path(os.environ["HMS_TEST_MARKER"])
    if os.environ["HMS_TEST_MODE"] == "once":
        if not marker.exists():
            marker.write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    elif abs(float(power.sum()) / float(os.environ["HMS_TEST_VICTIM"]) - 1) < 1e-6:
        os.kill(os.getpid(), signal.SIGKILL)
    return log1p_percentile(power, params)
'''


@pytest.fixture
def killer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    folder = tmp_path / "plugin"
    (folder / "conf" / "scaling").mkdir(parents=True)
    (folder / "deadly_scaling.py").write_text(KILLER)
    (folder / "conf" / "scaling" / "deadly.yaml").write_text(
        "kind: deadly\nlow_percent: 1\nhigh_percent: 99\n"
    )
    return {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "HMS_TEST_MARKER": str(tmp_path / "marker"),
        "CONF": str(folder / "conf"),
    }


def deadly_run(
    root: Path, outputs: Path, environment: dict[str, str], form: str, n_jobs: int = 2
) -> tuple[int, str]:
    overrides = [
        form,
        f"n_jobs={n_jobs}",
        "stages=[scalograms,labels]",
        "plugins=[deadly_scaling]",
        "scaling=deadly",
        "--config-dir",
        environment["CONF"],
    ]
    return finish(start(root, outputs, *overrides, env=environment))


def test_a_worker_killed_once_costs_nothing(small_set: Path, outputs: Path, killer: dict[str, str]) -> None:
    code, err = deadly_run(small_set, outputs, {**killer, "HMS_TEST_MODE": "once"}, form_of("shards"))
    assert code == 0, err
    assert "a worker was lost" in err
    run = hms.load(outputs=outputs)
    assert len(run.meta) == 10
    assert len(run.excluded) == 0


def test_a_recording_that_kills_every_worker_is_left_out_with_the_reason(
    small_set: Path, outputs: Path, killer: dict[str, str], finished: Run
) -> None:
    victim = finished.meta["item_id"].iloc[3]
    power = finished.evaluate(victim, "scalograms").power
    environment = {**killer, "HMS_TEST_MODE": "victim", "HMS_TEST_VICTIM": repr(float(power.sum()))}
    code, err = deadly_run(small_set, outputs, environment, form_of("files"))
    assert code == 0, err
    run = hms.load(outputs=outputs)
    assert run.excluded["item_id"].tolist() == [victim]
    assert "worker" in run.excluded["reason"].iloc[0]
    assert sorted(run.meta["item_id"]) == sorted(set(finished.meta["item_id"]) - {victim})
    # It is tried again by the next run, and found whole once it no longer kills.
    code, err = deadly_run(
        small_set, outputs, {**environment, "HMS_TEST_VICTIM": "1e-30"}, form_of("files"), n_jobs=1
    )
    assert code == 0, err
    assert len(hms.load(outputs=outputs).meta) == 10


def test_a_limit_on_file_sizes_ends_with_exit_code_4(small_set: Path, outputs: Path) -> None:
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    program = f"{limited}; runpy.run_path({RUN!r}, run_name='__main__')"
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", form_of("shards"))
    code, err = finish(forked.start(["-c", program, *base, "n_jobs=2"], has_children=True))
    assert code == 4, err
    assert "limit on file size" in err
    assert "Traceback" not in err
    assert not again(small_set, outputs, form_of("shards")).reused


def workers_of(process: forked.Process) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture(params=[200])
def larger_set(small_set: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give the same recordings so many names, so that a run lasts long enough to meet others or a signal.

    A recording has the first rows that it has there.
    """
    import pandas as pd

    folder = tmp_path / "larger"
    (folder / "train_eegs").mkdir(parents=True)
    votes = pd.read_csv(small_set / "train.csv").groupby("eeg_id", sort=False).head(2)
    copies = []
    for copy in range(request.param // 10):
        for eeg_id in votes["eeg_id"].unique():
            (folder / "train_eegs" / f"{eeg_id * 100 + copy}.parquet").symlink_to(
                small_set / "train_eegs" / f"{eeg_id}.parquet"
            )
        copies.append(votes.assign(eeg_id=votes["eeg_id"] * 100 + copy))
    pd.concat(copies).to_csv(folder / "train.csv", index=False)
    return folder


def wait_for_items(outputs: Path, process: forked.Process, count: int = 20) -> None:
    """Wait until so many items are written, or all of one chunk into a shard."""
    deadline = time.monotonic() + 60

    def shards() -> bool:
        journals = outputs.glob("store/scalograms-*/records.log")
        return any('"open-' in path.read_text() for path in journals)

    while len([*outputs.glob("store/scalograms-*/*.npz")]) < count and not shards():
        assert process.poll() is None, "the run ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_ends_with_130_and_leaves_no_worker(larger_set: Path, outputs: Path) -> None:
    process = start(larger_set, outputs, "n_jobs=2", *QUICK, form_of("files"), start_new_session=True)
    wait_for_items(outputs, process)
    workers = workers_of(process)
    assert len(workers) >= 2
    os.killpg(process.pid, signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in workers)


@pytest.mark.parametrize("larger_set", [120], indirect=True)
def test_the_parent_killed_with_workers_at_work_the_next_run_finishes_the_rest(
    larger_set: Path, outputs: Path, tmp_path: Path
) -> None:
    """With windows that overlap and share transforms; undisturbed, one process prepares them."""
    settings = (*QUICK, form_of("shards"), "unit=per_row")
    process = start(larger_set, outputs, "n_jobs=2", *settings)
    wait_for_items(outputs, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    finished = again(larger_set, outputs, *settings)
    undisturbed = again(larger_set, tmp_path / "undisturbed", *settings)
    assert finished.config.at("data.transform_s") == TRANSFORM_S
    assert len(finished.meta) > 132
    assert tree_bytes(finished.path) == tree_bytes(undisturbed.path)


def at_once(*runs: Sequence[str]) -> list[int]:
    """Run configurations in processes of their own at the same time; return how they ended."""
    from crash_driver import begin, status_of

    return [status_of(child) for child in [begin(hms.compose(*overrides)) for overrides in runs]]


@pytest.mark.parametrize("larger_set", [60], indirect=True)
def test_two_processes_with_the_same_command_end_well_and_compute_once(
    larger_set: Path, outputs: Path
) -> None:
    outputs_dir = f"outputs_dir={outputs}"
    base = ("data=kaggle", f"data.root={larger_set}", outputs_dir, "n_jobs=1", *QUICK, form_of("shards"))
    assert at_once(base, base) == [0, 0]
    run = hms.load(outputs=outputs)
    assert len(run.meta) == 60
    from hms.store.folders import StageFolder

    (folder,) = outputs.glob("store/scalograms-*")
    assert StageFolder(folder).load().computed == 60


@pytest.mark.parametrize("larger_set", [60], indirect=True)
def test_two_runs_that_share_a_stage_compute_it_once(larger_set: Path, outputs: Path) -> None:
    base = ("data=kaggle", f"data.root={larger_set}", f"outputs_dir={outputs}", "n_jobs=1", *QUICK)
    assert at_once(base, (*base, "montage.waveform.kind=anterior", "weight=log")) == [0, 0]
    from hms.store.folders import StageFolder

    (folder,) = outputs.glob("store/scalograms-*")
    assert StageFolder(folder).load().computed == 60
    assert len(list(outputs.glob("store/waveforms-*"))) == 2


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None,
    reason="mounting needs root: full and read-only disks NOT tested",
)
class TestMounted:
    """Real small and read-only file systems."""

    @pytest.fixture
    def mounted(self, tmp_path: Path) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(
                f"mounting is not permitted here: full and read-only disks NOT tested ({made.stderr})"
            )
        yield place  # type: ignore[misc]
        subprocess.run(["umount", str(place)], check=True)

    def test_a_full_disk_stops_cleanly_and_says_how_much_is_needed(
        self, small_set: Path, mounted: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        form = form_of("shards")
        code, err = here(capfd, small_set, mounted / "outputs", form)
        assert code == 4, err
        assert "MB to write" in err
        assert not list((mounted / "outputs").glob("store/*-*"))
        code, err = here(capfd, small_set, mounted / "outputs", form, "disk_check=false")
        assert code == 4, err
        assert "disk is full" in err
        assert "MB" in err
        assert "Traceback" not in err
        subprocess.run(["mount", "-o", "remount,size=64m", str(mounted)], check=True)
        assert not again(small_set, mounted / "outputs", form).reused

    def test_a_read_only_place_is_told_before_any_work(
        self, small_set: Path, mounted: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (mounted / "outputs").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        code, err = here(capfd, small_set, mounted / "outputs")
        assert code == 4, err
        assert "read-only" in err
        assert "items/s" not in err


def test_a_file_in_the_place_of_the_outputs_folder_is_refused(
    small_set: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    code, err = here(capfd, small_set, tmp_path / "file")
    assert code == 2, err
    assert "needs a folder" in err
    assert "Traceback" not in err
    assert (tmp_path / "file").read_text() == "x"
