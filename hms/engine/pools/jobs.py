"""Workers as jobs of a batch system: SLURM or PBS, through dask-jobqueue."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

from hms.engine.pools.base import Pool, Setting
from hms.engine.pools.dask import KEEP_MEMORY, DaskWorkers, import_distributed, refuse_n_jobs
from hms.errors import ConfigError, EngineError
from hms.registry import Params, PositiveFloat, PositiveInt, register

__all__ = ["Jobs", "open_jobs"]

LOOK_EVERY_S = 30.0
"""Jobs end with their walltime and are not replaced by themselves (dask-jobqueue issues 611 and 691)."""


@dataclass(frozen=True)
class Jobs(Params):
    """Settings of a cluster whose workers are jobs.

    Attributes
    ----------
    system : the batch system
    jobs : workers, each a job with one core
    queue : partition or queue; None: the batch system's default
    account : that is charged; None: the batch system's default
    walltime : how long a job may last, for example ``02:00:00``; None: the batch system's default
    memory : memory of each job, for example ``4GB``
    interface : network interface through which workers reach the client
    prologue : lines of shell that a job runs first, for example ``module load python``
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

    Raises
    ------
    ConfigError
        If dask-jobqueue or the batch system's commands are not there, or ``n_jobs`` is typed.
    """
    refuse_n_jobs(setting, "engine.jobs says how many jobs there are")
    distributed = import_distributed("slurm")
    try:
        import dask_jobqueue
    except ImportError:
        raise ConfigError(
            "engine=slurm needs dask-jobqueue, which is not installed: pip install 'hms-eeg[slurm]'"
        ) from None
    cls = {"slurm": dask_jobqueue.SLURMCluster, "pbs": dask_jobqueue.PBSCluster}[params.system]
    exports = [f"export {name}={value}" for name, value in KEEP_MEMORY.items()]
    chosen = {"queue": params.queue, "account": params.account, "walltime": params.walltime}
    try:
        cluster = cls(
            cores=1,
            processes=1,
            memory=params.memory,
            interface=params.interface,
            job_script_prologue=[*exports, *params.prologue],
            **{name: value for name, value in chosen.items() if value is not None},
        )
        cluster.scale(jobs=params.jobs)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(f"engine=slurm: the cluster cannot be started: {error}") from None
    return JobWorkers(distributed.Client(cluster), cluster, setting, jobs=params.jobs)


class JobWorkers(DaskWorkers):
    """Workers whose jobs are asked for again when they end."""

    def __init__(self, client: Any, cluster: Any, setting: Setting, *, jobs: int) -> None:
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, args=(cluster, jobs), daemon=True)
        self._keeper.start()
        super().__init__(client, cluster, setting)

    def _keep(self, cluster: Any, jobs: int) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                cluster.scale(jobs=jobs)
            except (OSError, RuntimeError, EngineError):
                return

    def close(self) -> None:
        """Leave the cluster and cancel its jobs."""
        self._ended.set()
        super().close()
