"""Clusters on loopback: Dask's scheduler and workers, and a SLURM of one machine; runs that go on them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import forked
from conftest import ROOT

FORMAT = os.environ.get("HMS_TEST_FORMAT", "files")
"""Of the packages that are made: with ``shards``, every test of engines is about those."""


def overrides_of(form: str = FORMAT) -> list[str]:
    """Return what is prepared of every set, in a format."""
    return ["stages=[scalograms,waveforms,labels,splits]", f"package.format={form}"]


DASK = ("distributed", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker")
"""What the processes of a cluster find imported."""

Process = forked.Process | subprocess.Popen[str]

PLUGIN = '''
import os, pathlib, signal, time
from hms.registry import register
from hms.signal.scaling import Log1pPercentile, log1p_percentile

@register("scaling", "paced", Log1pPercentile)
def paced(power, params):
    """Say that work has begun; take a while; kill the worker once, or always on one recording."""
    if begun := os.environ.get("HMS_TEST_BEGUN"):
        pathlib.Path(begun).touch()
    time.sleep(float(os.environ.get("HMS_TEST_PAUSE", "0")))
    marker = pathlib.Path(os.environ.get("HMS_TEST_MARKER", "/nowhere"))
    if marker.parent.is_dir() and not marker.exists():
        marker.write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)
    victim = os.environ.get("HMS_TEST_VICTIM")
    if victim and abs(float(power.sum()) / float(victim) - 1) < 1e-6:
        os.kill(os.getpid(), signal.SIGKILL)
    return log1p_percentile(power, params)
'''


def paced_plugin(folder: Path) -> list[str]:
    """Write the plugin; return overrides for a scaling that takes a while and can kill its worker."""
    (folder / "conf/scaling").mkdir(parents=True)
    (folder / "paced_scaling.py").write_text(PLUGIN)
    (folder / "conf/scaling/paced.yaml").write_text("kind: paced\nlow_percent: 1\nhigh_percent: 99\n")
    return ["plugins=[paced_scaling]", "scaling=paced", "--config-dir", str(folder / "conf")]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{tmp_path / 'plugin'}{os.pathsep}{ROOT}", **more}


def start(
    root: Path,
    outputs: Path,
    *overrides: str,
    env: dict[str, str],
    before: str = "pass",
    form: str = FORMAT,
) -> forked.Process:
    """Start run.py on a set, after a statement of Python."""
    program = f"import runpy; {before}; runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"
    base = ("data=kaggle", f"data.root={root}", f"outputs_dir={outputs}", *overrides_of(form))
    arguments = ["-c", program, *base, *overrides]
    return forked.start(arguments, env=env, start_new_session=True, modules=DASK, has_children=True)


def finish(process: forked.Process) -> tuple[int, str]:
    """Return how a process ended and what it said."""
    _, err = process.communicate()
    return process.wait(), err


def tree(run: Path) -> dict[str, bytes]:
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened in time"
        time.sleep(0.05)


@contextmanager
def cluster(
    *options: str, env: dict[str, str], folder: Path, workers: int = 2, apart: bool = False
) -> Iterator[tuple[str, list[Process]]]:
    """Start a scheduler and workers on loopback; yield its address and all processes, the scheduler first.

    Parameters
    ----------
    options : of the workers
    folder : where the scheduler leaves its address
    apart : Pythons of their own, which import hms from where `env` says
    """
    file = folder / "scheduler.json"

    def begin(what: str, *more: str) -> Process:
        arguments = ["-m", f"distributed.cli.dask_{what}", "--host", "127.0.0.1", "--no-dashboard", *more]
        arguments += ["--scheduler-file", str(file)]
        if not apart:
            return forked.start(arguments, env=env, cwd="/", modules=DASK, has_children=what == "worker")
        python = [sys.executable, *arguments]
        return subprocess.Popen(python, env=env, cwd="/", text=True, stderr=subprocess.DEVNULL)

    processes: list[Process] = []
    with ExitStack() as stack:
        stack.callback(_end, processes)
        processes.append(begin("scheduler", "--port", "0", "--no-jupyter"))
        wait_for(lambda: file.exists() and file.stat().st_size > 0)
        processes.extend(begin("worker", "--nthreads", "1", *options) for _ in range(workers))
        yield json.loads(file.read_text())["address"], processes


def _end(processes: list[Process]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


SLURM_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
KillWait=1
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str | None:
    """Return why SLURM cannot be started here, or None."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "its daemons need root"


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start SLURM on loopback, with its own keys, ports and files; yield the environment that reaches it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(host=socket.gethostname(), folder=folder, ports=_free_ports(2)))
    env = {"SLURM_CONF": str(conf)}
    own = [f"--{name}={folder}/{file}" for name, file in
           (("socket", "munge.socket"), ("key-file", "key"), ("pid-file", "munge.pid"),
            ("log-file", "munge.log"), ("seed-file", "munge.seed"))]  # fmt: skip
    with ExitStack() as stack:
        processes: list[Process] = []
        stack.callback(_end, processes)
        for command in (["munged", "--foreground", "--force", *own], ["slurmctld", "-D"], ["slurmd", "-D"]):
            processes.append(
                subprocess.Popen(
                    command, env={**os.environ, **env}, text=True,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
            wait_for(lambda: (folder / "munge.socket").exists())
        wait_for(lambda: "idle" in _slurm(env, "sinfo", "--noheader", "--format=%T"))
        assert _slurm(env, "srun", "--immediate=30", "echo", "ready") == "ready\n"
        yield env


def jobs_of(env: dict[str, str], state: str = "pending,running,completing") -> list[str]:
    """Return the numbers of the jobs in a state, or that wait or run."""
    return _slurm(env, "squeue", "--noheader", "--format=%A", f"--states={state}").split()


def _slurm(env: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True).stdout


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
