"""Workers as jobs of a batch system: SLURM or PBS, through dask-jobqueue."""

from __future__ import annotations

import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hms.engine.pools.base import Pool, Setting
from hms.engine.pools.dask import KEEP_MEMORY, DaskWorkers, import_distributed, refuse_n_jobs
from hms.errors import ConfigError, EngineError, needs_extra
from hms.registry import Params, PositiveFloat, PositiveInt, register

LOOK_S = (2.0, 30.0)
"""Seconds between looks at the jobs: the first, doubled each time up to the second.

dask-jobqueue does not replace jobs that end (its issues 611 and 691).
"""

GIVE_UP_AFTER = 3
"""How often each job may end before any worker has started."""

ASK_FOR_JOB = {"slurm": ("squeue", "--noheader", "--format=%A", "--jobs"), "pbs": ("qstat",)}
"""Commands that, with a job's number, print it while the job waits or runs."""

UNKNOWN_JOB = ("Invalid job id", "Unknown Job", "has finished")


@dataclass(frozen=True)
class Jobs(Params):
    """Settings of a cluster whose workers are jobs.

    Attributes
    ----------
    system : the batch system
    jobs : workers, each a job with one core
    queue : partition or queue; None: the batch system's default
    account : account that is charged; None: the batch system's default
    walltime : how long a job may last, for example ``02:00:00``; None: the batch system's default
    memory : memory of each job, for example ``4GB``
    interface : network interface through which workers reach the client
    prologue : shell commands that a job runs first, for example ``module load python``
    timeout_s : how long to wait for the scheduler to answer
    """

    system: Literal["slurm", "pbs"]
    jobs: PositiveInt
    queue: str | None
    account: str | None
    walltime: str | None
    memory: str
    interface: str | None
    prologue: tuple[str, ...]
    timeout_s: PositiveFloat


@register("engine", "slurm", Jobs)
def open_jobs(params: Jobs, setting: Setting) -> Pool:
    """Return workers that a batch system starts.

    Raises `ConfigError` if dask-jobqueue or the batch system's commands are not there, or ``n_jobs`` is
    typed.
    """
    refuse_n_jobs(setting, "engine.jobs sets the number of jobs")
    distributed = import_distributed("slurm")
    dask_jobqueue = _import_jobqueue()
    cls = {"slurm": dask_jobqueue.SLURMCluster, "pbs": dask_jobqueue.PBSCluster}[params.system]
    exports = [f"export {name}={value}" for name, value in KEEP_MEMORY.items()]
    chosen = {"queue": params.queue, "account": params.account, "walltime": params.walltime}
    try:
        cluster = cls(
            cores=1,
            processes=1,
            memory=params.memory,
            interface=params.interface,
            log_directory=str(_logs(setting)),
            job_script_prologue=[*exports, *params.prologue],
            **{name: value for name, value in chosen.items() if value is not None},
        )
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(f"engine=slurm: the cluster cannot be started: {error}") from None
    try:
        cluster.scale(jobs=params.jobs)
        cluster.sync(_settled, cluster)
    except (OSError, RuntimeError) as error:
        cluster.sync(_forget_unstarted, cluster)
        cluster.close()
        raise ConfigError(f"engine=slurm: no job can be submitted: {_said(error)}") from None
    return JobWorkers(distributed.Client(cluster), cluster, setting, params)


def _logs(setting: Setting) -> Path:
    """Return the folder of what jobs print, next to the runs."""
    return setting.store.parent.absolute() / "jobs"


async def _settled(cluster: Any) -> None:
    """Wait until all jobs are handed in; raise what the batch system says against one.

    The cluster itself only logs that; handing the job in once more raises it.
    """
    await cluster
    for job in cluster.workers.values():
        if job.job_id is None:
            await job.start()


async def _forget_unstarted(cluster: Any) -> None:
    """Mark jobs that could not be handed in as failed, so that the cluster can be closed."""
    from distributed.core import Status

    for job in cluster.workers.values():
        if job.job_id is None:
            job.status = Status.failed


def _said(error: Exception) -> str:
    """Return what the batch system said, without the script that was handed in."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return "; ".join(line for line in lines if "error" in line.lower()) or lines[-1]


def _import_jobqueue() -> Any:
    """Return dask-jobqueue, without the handler that importing it installs: Ctrl-C would end with code 0."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with needs_extra("engine=slurm needs dask-jobqueue", "slurm"):
        import dask_jobqueue
    if threading.current_thread() is threading.main_thread():
        for number, handler in kept.items():
            signal.signal(number, handler)
    return dask_jobqueue


class JobWorkers(DaskWorkers):
    """Workers whose jobs are asked for again when they end."""

    def __init__(self, client: Any, cluster: Any, setting: Setting, params: Jobs) -> None:
        self._params, self._n_lost, self._trouble = params, 0, ""
        self._ended = threading.Event()
        threading.Thread(target=self._keep, args=(cluster,), daemon=True).start()
        super().__init__(client, cluster, setting)

    def _keep(self, cluster: Any) -> None:
        """Hand in a job again for each that ended, until the pool is closed."""
        pause, longest = LOOK_S
        while not self._ended.wait(pause):
            pause = min(2 * pause, longest)
            try:
                there = {worker["name"] for worker in cluster.scheduler_info["workers"].values()}
                absent = {
                    name: job.job_id for name, job in dict(cluster.workers).items() if name not in there
                }
                gone = [name for name, number in absent.items() if not self._is_known(number)]
                self._n_lost += len(gone)
                if gone:
                    cluster.sync(cluster.scale_down, gone)
                cluster.scale(jobs=self._params.jobs)
                cluster.sync(_settled, cluster)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                self._trouble = _said(error)

    def _is_known(self, number: str) -> bool:
        """Tell whether a job waits or runs; where the batch system does not answer, it does."""
        command = [*ASK_FOR_JOB[self._params.system], str(number)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if answer.returncode:
            return not any(text in answer.stderr for text in UNKNOWN_JOB)
        return str(number) in answer.stdout

    def _check_waiting(self) -> None:
        if self._trouble:
            raise EngineError(f"engine=slurm: no further job can be submitted: {self._trouble}")
        if self._n_lost >= GIVE_UP_AFTER * self._params.jobs:
            raise EngineError(
                f"engine=slurm: {self._n_lost} jobs ended before a worker started; their output is in "
                f"{_logs(self.setting)}, and engine.prologue sets what they run first"
            )

    def close(self) -> None:
        """Leave the cluster and cancel its jobs."""
        self._ended.set()
        super().close()
