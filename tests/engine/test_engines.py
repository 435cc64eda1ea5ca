"""Engines: the same bytes from loky and Dask, whatever is killed, and one message where it cannot work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import forked
import pytest
from clusters import DASK, cluster, environment, finish, overrides_of, paced_plugin, start, tree, wait_for
from conftest import ROOT, Prepared, skip_without

import hms
from hms.engine.pools.base import Setting
from hms.engine.pools.dask import Dask, DaskWorkers, open_dask
from hms.engine.pools.remote import Shared, check_worker, stamp_here
from hms.errors import ConfigError, EngineError
from hms.results.run import Run
from hms.store.folders import StageFolder
from hms.store.locks import is_held, lock

pytestmark = pytest.mark.slow

skip_without("distributed", "distributed is not installed: engines beyond loky are NOT tested")

Command = Callable[..., Prepared]


@pytest.fixture
def paced(tmp_path: Path) -> list[str]:
    """Return overrides that choose a scaling which takes a while and can kill its worker."""
    return paced_plugin(tmp_path / "plugin")


@pytest.fixture(scope="module")
def plain(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finish the run that every engine is compared with, by loky."""
    folder = tmp_path_factory.mktemp("plain")
    arguments = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={folder}", "n_jobs=1")
    return hms.run(hms.compose(*arguments, *overrides_of()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Start a cluster that tests leave whole; give address, overrides that take a while, environment."""
    folder = tmp_path_factory.mktemp("shared")
    overrides = paced_plugin(folder / "plugin")
    env = environment(folder, HMS_TEST_PAUSE="0.2", HMS_TEST_BEGUN=str(folder / "begun"))
    with cluster("--no-nanny", env=env, folder=folder) as (address, _):
        yield address, overrides, env


# --- the same bytes ------------------------------------------------------------------------------


def test_local_dask_workers_give_the_bytes_of_loky(
    small_set: Path, outputs: Path, plain: Run, tmp_path: Path
) -> None:
    code, err = finish(start(small_set, outputs, "engine=dask", "n_jobs=2", env=environment(tmp_path)))
    assert code == 0, err
    assert re.search(r"dask: scheduler tcp://127\.0\.0\.1:\d+, dashboard http", err)
    assert hms.load(outputs=outputs).hash == plain.hash
    assert tree(outputs / "latest") == tree(plain.path)


def test_shards_that_dask_workers_fill_together_are_those_of_loky(
    small_set: Path, outputs: Path, tmp_path: Path
) -> None:
    """Workers write rows of one file at a time, and the client seals it."""
    arguments = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={tmp_path / 'plain'}", "n_jobs=1")
    plain = hms.run(hms.compose(*arguments, *overrides_of("shards")))
    more = ("engine=dask", "n_jobs=2")
    code, err = finish(start(small_set, outputs, *more, env=environment(tmp_path), form="shards"))
    assert code == 0, err
    assert hms.load(outputs=outputs).hash == plain.hash
    assert tree(outputs / "latest") == tree(plain.path)
    assert not list(outputs.glob("store/*/open-*"))


def test_local_dask_workers_keep_memory_from_their_start(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C library looks at the environment that a process starts with, not at what is set later."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "to be replaced")
    with forked.started_children():
        pool = open_dask(Dask("dask", None, 10.0), Setting(1, outputs / "store", lambda text: None))
    try:
        (found,) = pool.client.run(lambda: Path("/proc/self/environ").read_bytes()).values()
    finally:
        pool.close()
    assert b"MALLOC_MMAP_THRESHOLD_=33554432" in found.split(b"\0")


@pytest.mark.parametrize("nanny", [["--nanny"], ["--no-nanny"]], ids=["nanny", "no nanny"])
def test_a_worker_killed_at_an_address_costs_nothing(
    small_set: Path, outputs: Path, tmp_path: Path, paced: list[str], nanny: list[str]
) -> None:
    env = environment(tmp_path, HMS_TEST_MARKER=str(tmp_path / "marker"))
    workers = 1 if nanny == ["--nanny"] else 2
    with cluster(*nanny, env=env, folder=tmp_path, workers=workers) as (address, _):
        code, err = finish(
            start(small_set, outputs, "engine=dask", f"engine.address={address}", *paced, env=env)
        )
    assert code == 0, err
    assert (tmp_path / "marker").exists()
    run = hms.load(outputs=outputs)
    assert (len(run.meta), len(run.excluded)) == (10, 0)


def test_a_recording_that_kills_every_worker_is_the_one_that_is_blamed(
    small_set: Path, outputs: Path, tmp_path: Path, paced: list[str], plain: Run
) -> None:
    victim = plain.meta["item_id"].iloc[3]
    power = float(plain.evaluate(victim, "scalograms").power.sum())
    env = environment(tmp_path, HMS_TEST_VICTIM=repr(power))
    code, err = finish(start(small_set, outputs, "engine=dask", "n_jobs=2", *paced, env=env))
    assert code == 0, err
    assert "a worker was lost" in err
    run = hms.load(outputs=outputs)
    assert run.excluded["item_id"].tolist() == [victim]
    assert "lost twice" in run.excluded["reason"].iloc[0]


# --- what dies -----------------------------------------------------------------------------------


def test_a_scheduler_that_dies_is_one_message_and_the_same_command_finishes(
    small_set: Path, outputs: Path, tmp_path: Path, paced: list[str]
) -> None:
    begun = tmp_path / "begun"
    env = environment(tmp_path, HMS_TEST_PAUSE="0.2", HMS_TEST_BEGUN=str(begun))
    with cluster("--no-nanny", env=env, folder=tmp_path, workers=1) as (address, processes):
        run = start(small_set, outputs, "engine=dask", f"engine.address={address}", *paced, env=env)
        wait_for(begun.exists)
        processes[0].kill()
        code, err = finish(run)
    assert code == 4, err
    assert "the Dask scheduler at" in err
    assert "Traceback" not in err
    assert not (outputs / "latest").exists()
    code, err = finish(start(small_set, outputs, "n_jobs=1", *paced, env=environment(tmp_path)))
    assert code == 0, err
    assert len(hms.load(outputs=outputs).meta) == 10


def test_ctrl_c_ends_with_130_and_leaves_no_worker(
    small_set: Path, outputs: Path, tmp_path: Path, paced: list[str]
) -> None:
    begun = tmp_path / "begun"
    env = environment(tmp_path, HMS_TEST_PAUSE="0.2", HMS_TEST_BEGUN=str(begun))
    process = start(small_set, outputs, "engine=dask", "n_jobs=2", *paced, env=env)
    wait_for(begun.exists)
    os.killpg(process.pid, signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert "Traceback" not in err
    wait_for(lambda: not _members(process.pid))


def _members(group: int) -> list[str]:
    """Return the processes of a group, without those that ended and nobody has asked how."""
    done = subprocess.run(["ps", "-o", "stat=,pid=", "-g", str(group)], capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("Z")]


def test_a_killed_client_leaves_what_the_same_command_finishes(
    small_set: Path, outputs: Path, plain: Run, shared: tuple[str, list[str], dict[str, str]]
) -> None:
    """Its workers may write for a while longer; what they write is what would have been written."""
    address, paced, env = shared
    given = ("engine=dask", f"engine.address={address}", *paced)
    process = start(small_set, outputs, *given, env=env)
    wait_for(Path(env["HMS_TEST_BEGUN"]).exists)
    process.kill()
    process.communicate()
    code, err = finish(start(small_set, outputs, *given, env=env))
    assert code == 0, err
    assert len(hms.load(outputs=outputs).meta) == 10


def test_two_clients_on_one_store_take_turns_and_compute_once(
    small_set: Path, outputs: Path, plain: Run, shared: tuple[str, list[str], dict[str, str]]
) -> None:
    address, _, env = shared
    two = [start(small_set, outputs, "engine=dask", f"engine.address={address}", env=env) for _ in "ab"]
    ended = [finish(process) for process in two]
    assert [code for code, _ in ended] == [0, 0], ended
    assert tree(outputs / "latest") == tree(plain.path)
    (folder,) = outputs.glob("store/scalograms-*")
    assert StageFolder(folder).load().computed == 10


# --- what cannot work ----------------------------------------------------------------------------


def test_an_address_where_nobody_listens_is_refused(command: Command, small_set: Path) -> None:
    ended = command(
        "data=kaggle", f"data.root={small_set}", *overrides_of(), "engine=dask", "engine.address=tcp://127.0.0.1:9",
        "engine.timeout_s=0.3", n_jobs=-1,
    )  # fmt: skip
    assert ended.code == 2
    assert "engine.address=tcp://127.0.0.1:9: no Dask scheduler answers there within 0.3 s" in ended.err
    assert "Traceback" not in ended.err


def test_an_address_that_is_none_is_refused_at_once(command: Command, small_set: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", *overrides_of(), "engine=dask")
    ended = command(*base, "engine.address=nonsense", n_jobs=-1)
    assert ended.code == 2
    assert "engine.address=nonsense is not an address like tcp://HOST:8786" in ended.err


@pytest.mark.parametrize("engine", [["engine=dask", "engine.address=tcp://127.0.0.1:9"], ["engine=slurm"]])
def test_workers_that_are_counted_elsewhere_are_not_counted_here(
    command: Command, small_set: Path, engine: list[str]
) -> None:
    ended = command("data=kaggle", f"data.root={small_set}", *overrides_of(), *engine, n_jobs=2)
    assert ended.code == 2
    assert "n_jobs=2 counts workers of this machine" in ended.err


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'hms-eeg\[dask\]'"):
        open_dask(Dask("dask", None, 1.0), Setting(2, tmp_path, print))


def test_workers_with_another_source_are_refused(small_set: Path, outputs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "hms", other / "hms", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", other / "conf")
    with (other / "hms/competition.py").open("a") as file:
        file.write("\nNOTE = 'another source'\n")
    env = {**os.environ, "PYTHONPATH": str(other)}
    with cluster("--no-nanny", env=env, folder=tmp_path, workers=1, apart=True) as (address, _):
        code, err = finish(
            start(small_set, outputs, "engine=dask", f"engine.address={address}", env=environment(tmp_path))
        )
    assert code == 2, err
    assert re.search(r"client and worker differ: the source of hms [0-9a-f]{12} and [0-9a-f]{12}", err)


def test_workers_that_are_refused_are_left_and_the_store_is_free_again(tmp_path: Path) -> None:
    class Refusing(DaskWorkers):
        def _wait_for_a_worker(self) -> None:
            raise EngineError("no worker will come")

    client = Mock()
    with pytest.raises(EngineError, match="no worker will come"):
        Refusing(client, None, Setting(2, tmp_path, str))
    client.close.assert_called_once()
    assert not is_held(tmp_path / "locks/client.lock")
    assert not list(tmp_path.glob("running/*.nonce"))


def test_a_client_whose_source_changed_since_it_was_loaded_hands_out_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamp_here.cache_clear()
    with monkeypatch.context() as updated:
        updated.setattr("hms.config.code._loaded", "as it was")
        with pytest.raises(EngineError, match="changed since this process loaded it"):
            stamp_here()
    assert stamp_here()


def test_a_worker_says_which_versions_differ() -> None:
    here = stamp_here()
    names = dict(here.versions)
    there = replace(here, versions=tuple((n, "0.1" if n == "numpy" else v) for n, v in here.versions))
    assert there.differences(here) == [f"numpy 0.1 and {names['numpy']}"]


def test_a_worker_that_sees_another_store_or_no_lock_refuses(tmp_path: Path) -> None:
    file, guard = tmp_path / "x.nonce", tmp_path / "client.lock"
    missing = check_worker(stamp_here(), Shared(str(file), "abc", str(guard)))
    assert missing is not None
    assert "cannot read" in missing.text
    file.write_text("another")
    wrong = check_worker(stamp_here(), Shared(str(file), "abd", str(guard)))
    assert wrong is not None
    assert "does not read in" in wrong.text
    file.write_text("abe")
    free = check_worker(stamp_here(), Shared(str(file), "abe", str(guard)))
    assert free is not None
    assert "does not see the lock" in free.text
    file.write_text("abf")
    with lock(guard):
        code = (
            "from hms.engine.pools.remote import Shared, check_worker, stamp_here;"
            f"print(check_worker(stamp_here(), Shared({str(file)!r}, 'abf', {str(guard)!r})))"
        )
        done = forked.run(["-c", code], modules=DASK)
    assert done.stdout.strip() == "None", done.stderr
