"""Workers that are jobs of a real SLURM, of one machine: the bytes of loky, and what a lost job costs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import forked
import pytest
from clusters import (
    DASK,
    environment,
    finish,
    jobs_of,
    overrides_of,
    paced_plugin,
    slurm,
    start,
    tree,
    wait_for,
    why_no_slurm,
)
from conftest import skip_without

import hms

skip_without("dask_jobqueue", "dask-jobqueue is not installed: engine=slurm is NOT tested")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_no_slurm() is not None, reason=f"NO SLURM, NOT tested: {why_no_slurm()}"),
]

LOOK_OFTEN = "from hms.engine.pools import jobs; jobs.LOOK_S = (0.2, 0.2)"
"""At jobs that ended, instead of after 2, 4, 8 ... 30 s."""

SLURM = ("engine=slurm", "engine.interface=lo", "engine.memory=400MB", "engine.jobs=2")


@pytest.fixture(scope="module")
def batch_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        try:
            env = stack.enter_context(slurm(tmp_path_factory.mktemp("slurm") / "own"))
        except (AssertionError, OSError) as error:
            pytest.skip(f"SLURM is installed and does not start here, NOT tested: {error}")
        yield env


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what the jobs call in the place of Python."""
    return forked.listen(DASK, tmp_path_factory.mktemp("python") / "asked")


@pytest.fixture
def env(batch_system: dict[str, str], python: str, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a client that finds SLURM, with job scripts that find hms."""
    return environment(tmp_path, **batch_system, DASK_JOBQUEUE__SLURM__PYTHON=python)


def test_jobs_give_the_bytes_of_loky_and_are_gone_afterwards(
    small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    code, err = finish(start(small_set, outputs, *SLURM, env=env))
    assert code == 0, err
    arguments = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path / 'plain'}", "n_jobs=1")
    assert tree(outputs / "latest") == tree(hms.run(hms.compose(*arguments, *overrides_of())).path)
    wait_for(lambda: jobs_of(env) == [])


def test_a_killed_jobs_worker_costs_nothing(
    small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    marker = tmp_path / "marker"
    paced = paced_plugin(tmp_path / "plugin")
    prologue = f"engine.prologue=['export HMS_TEST_MARKER={marker}']"
    code, err = finish(start(small_set, outputs, *SLURM, prologue, *paced, env=env))
    assert code == 0, err
    assert marker.exists()
    run = hms.load(outputs=outputs)
    assert (len(run.meta), len(run.excluded)) == (10, 0)


def slowly(tmp_path: Path) -> str:
    """Return the prologue of jobs that take a while over each recording, and say that they have begun."""
    return f"engine.prologue=['export HMS_TEST_PAUSE=0.2 HMS_TEST_BEGUN={tmp_path}/begun']"


def test_ctrl_c_cancels_the_jobs(small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]) -> None:
    paced = paced_plugin(tmp_path / "plugin")
    process = start(small_set, outputs, *SLURM, slowly(tmp_path), *paced, env=env)
    wait_for((tmp_path / "begun").exists)
    os.killpg(process.pid, signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    wait_for(lambda: jobs_of(env) == [])


def test_a_cancelled_job_is_asked_for_again(
    small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    """Both are cancelled while they work, as at the end of their walltime; the run finishes all the same."""
    paced = paced_plugin(tmp_path / "plugin")
    process = start(small_set, outputs, *SLURM, slowly(tmp_path), *paced, env=env, before=LOOK_OFTEN)
    wait_for((tmp_path / "begun").exists)
    subprocess.run(["scancel", *jobs_of(env)], env={**os.environ, **env}, check=True)
    code, err = finish(process)
    assert code == 0, err
    run = hms.load(outputs=outputs)
    assert (len(run.meta), len(run.excluded)) == (10, 0)


def test_a_queue_that_is_not_there_is_refused(
    small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    code, err = finish(start(small_set, outputs, *SLURM, "engine.queue=nosuch", env=env))
    assert code == 2, err
    assert "no job can be submitted: sbatch: error: " in err
    assert "invalid partition specified: nosuch" in err
    assert "Traceback" not in err


def test_jobs_that_end_before_their_worker_is_there_are_not_handed_in_for_ever(
    small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    ends = "engine.prologue=['exit 1']"
    sooner = f"{LOOK_OFTEN}; jobs.GIVE_UP_AFTER = 2"
    code, err = finish(start(small_set, outputs, *SLURM, ends, env=env, before=sooner))
    assert code == 4, err
    assert "jobs ended before a worker started" in err
    assert f"their output is in {outputs / 'jobs'}" in err
    assert list((outputs / "jobs").iterdir())
    assert "Traceback" not in err


def test_a_batch_system_without_its_commands_is_refused(
    small_set: Path, outputs: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    code, err = finish(start(small_set, outputs, *SLURM, env={**env, "PATH": ""}))
    assert code == 2, err
    assert "sbatch" in err
    assert "Traceback" not in err
