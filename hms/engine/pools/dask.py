"""Workers of a Dask cluster: at an address, or started here.

Through distributed's own client: joblib's Dask backend hangs on a task that kills its worker. Dask blames a
task for whatever else was lost with it, so chunks that it gives up are tried again alone, by joblib, here.

References
----------
Dask documentation, "Worker resilience" and "Futures" (distributed 2026.8).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hms.config.schema import n_workers
from hms.engine.job import ChunkResult, Job, PackedJob
from hms.engine.pools.base import IN_FLIGHT, Chunks, Lost, Pool, Setting
from hms.engine.pools.remote import Refused, Request, Shared, check_worker, run_chunk, stamp_here
from hms.errors import ConfigError, EngineError, StorageError, needs_extra
from hms.registry import Params, PositiveFloat, register
from hms.store.files import Stored, commit_files
from hms.store.locks import lock
from hms.terminal import interrupts_held

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""In a worker's environment, so that it keeps memory before its first task, see `keep_memory`."""

SAY_EVERY_S = 60.0


@dataclass(frozen=True)
class Dask(Params):
    """Settings of a Dask cluster.

    Attributes
    ----------
    address : address of a scheduler, for example ``tcp://10.0.0.1:8786``; None: ``n_jobs`` workers on this
        machine
    timeout_s : how long to wait for the scheduler to answer
    """

    address: str | None
    timeout_s: PositiveFloat


@register("engine", "dask", Dask)
def open_dask(params: Dask, setting: Setting) -> Pool:
    """Return the workers of a cluster.

    Raises `ConfigError` if distributed is not installed, nobody answers at the address, or ``n_jobs`` is
    typed next to one.
    """
    if params.address is not None:
        refuse_n_jobs(setting, f"the cluster at {params.address} has its own workers")
        if "://" not in params.address:
            raise ConfigError(f"engine.address={params.address} is not an address like tcp://HOST:8786")
    distributed = import_distributed("dask")
    if params.address is None:
        with interrupts_held():
            cluster = _local_cluster(distributed, n_workers(setting.n_jobs))
            client = distributed.Client(cluster)
        return DaskWorkers(client, cluster, setting)
    try:
        client = distributed.Client(params.address, timeout=params.timeout_s, set_as_default=False)
    except (OSError, ValueError, ImportError, TimeoutError) as error:
        why = type(error).__name__
    else:
        return DaskWorkers(client, None, setting)
    raise ConfigError(
        f"engine.address={params.address}: no Dask scheduler answers there within "
        f"{params.timeout_s:g} s ({why}); dask scheduler starts one"
    )


def import_distributed(extra: str) -> Any:
    """Return distributed, or raise ConfigError that says how to install it."""
    with needs_extra(f"engine={extra} needs distributed", extra):
        import distributed
    loud = ("distributed", "tornado", "asyncio")
    for name in (*loud, *logging.root.manager.loggerDict):
        if name.partition(".")[0] in loud:  # what matters is said in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed


def refuse_n_jobs(setting: Setting, why: str) -> None:
    """Raise ConfigError if workers are counted that are not this program's to count."""
    if setting.n_jobs != -1:
        raise ConfigError(f"n_jobs={setting.n_jobs} counts workers of this machine, but {why}; leave it out")


def _local_cluster(distributed: Any, count: int) -> Any:
    """Start workers here that other machines cannot reach.

    What they inherit is set in this process: ``env`` of the cluster comes after the C library has looked.
    Nobody asks them for a profile, which is taken a hundred times a second otherwise.
    """
    import dask

    os.environ.update(KEEP_MEMORY)
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        return distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )


class DaskWorkers:
    """Chunks as tasks with keys of their own, at most two a worker at a time."""

    own_process = False

    def __init__(self, client: Any, cluster: Any, setting: Setting) -> None:
        self.client, self.cluster, self.setting = client, cluster, setting
        self._held = ExitStack()
        try:
            self._shared = self._mark_store()
            setting.say(f"dask: {self._where()}")
            self._wait_for_a_worker()
            self._check_workers()
        except BaseException:  # a process that lives on would keep the lock, and workers that wait
            self.close()
            raise

    def _where(self) -> str:
        link = self.client.dashboard_link or "none"
        return f"scheduler {self.client.scheduler.address}, dashboard {link}"

    def _mark_store(self) -> Shared:
        """Take the store for this client, and write what workers are to find there."""
        store = self.setting.store
        guard = store / "locks" / "client.lock"
        waiting = "waiting for another client whose workers write into this store"
        self._held.enter_context(lock(guard, waiting=waiting, say=self.setting.say))
        nonce, folder = uuid.uuid4().hex, store / "running"
        name = f"{nonce}.nonce"
        commit_files(folder, {name: nonce.encode()})
        self._held.callback((folder / name).unlink, missing_ok=True)
        return Shared(str((folder / name).absolute()), nonce, str(guard.absolute()))

    def _wait_for_a_worker(self) -> None:
        said = time.monotonic()
        while not self._threads():
            self._check_waiting()
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                self.setting.say("waiting for the first worker")
            time.sleep(0.2)

    def _check_waiting(self) -> None:
        """Raise EngineError if no worker will come."""

    def _check_workers(self) -> None:
        with self._scheduler_errors():
            answers = self.client.run(check_worker, stamp_here(), self._shared, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, Refused):
                _raise_refused(worker, answer)
            if isinstance(answer, BaseException):
                raise ConfigError(
                    f"worker {worker} cannot run hms ({type(answer).__name__}: {answer}); install the same "
                    f"hms-eeg there: {stamp_here().versions[1][1]}"
                )

    def _threads(self) -> int:
        with self._scheduler_errors():
            return sum(self.client.nthreads().values())

    @property
    def n_workers(self) -> int:
        """Threads of the workers there are now."""
        return max(1, self._threads())

    def run(self, job: Job, chunks: Chunks) -> Iterator[tuple[int, ChunkResult] | Lost]:
        """Prepare chunks; Dask tries those of a lost worker again, what it gives up is lost."""
        from distributed import as_completed

        token, packed, waiting = uuid.uuid4().hex, job.packed(), iter(chunks.items())
        numbers: dict[str, int] = {}
        with self._scheduler_errors():
            futures = as_completed(loop=self.client.loop)
            for _ in range(IN_FLIGHT * self.n_workers):
                self._hand_out(packed, waiting, token, numbers, futures.add)
        while numbers:
            with self._scheduler_errors():
                future = next(futures)
                number = numbers.pop(future.key)
                found = self._result(number, future, job)
                future.release()
                self._hand_out(packed, waiting, token, numbers, futures.add)
            yield found

    def _hand_out(
        self,
        packed: PackedJob,
        waiting: Iterator[tuple[int, Any]],
        token: str,
        numbers: dict[str, int],
        add: Callable[[Any], None],
    ) -> None:
        """Submit the next chunk, if there is one."""
        for number, tasks in waiting:
            request = Request(packed, tuple(tasks), stamp_here(), self._shared)
            future = self.client.submit(run_chunk, request, key=f"hms-{token}-{number}", pure=False)
            numbers[future.key] = number
            add(future)
            return

    def _result(self, number: int, future: Any, job: Job) -> tuple[int, ChunkResult] | Lost:
        from distributed import KilledWorker

        if future.status == "cancelled":
            raise EngineError(self._gone())
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return Lost((number,))
            raise error
        answer = future.result()
        if isinstance(answer, Refused):
            _raise_refused("a worker that came later", answer)
        return number, _as_seen_here(answer, job)

    @contextlib.contextmanager
    def _scheduler_errors(self) -> Iterator[None]:
        """Turn what the client raises when the scheduler is gone into one message."""
        from asyncio import CancelledError as TaskCancelled
        from concurrent.futures import CancelledError

        from distributed.comm.core import CommClosedError

        try:
            yield
        except (CommClosedError, CancelledError, TaskCancelled, TimeoutError, ConnectionError) as error:
            raise EngineError(self._gone()) from error

    def _gone(self) -> str:
        return (
            f"the Dask scheduler at {self.client.scheduler.address} is gone; finished results are kept, and "
            "the same command continues"
        )

    def stop(self) -> None:
        """Take back what was submitted; a chunk under way in a worker ends there and changes nothing."""
        self.close()

    def close(self) -> None:
        """Leave the cluster, and end the workers that were started here."""
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)
        if self.cluster is not None:
            with contextlib.suppress(Exception):
                self.cluster.close(timeout=10)
        self._held.close()


def _raise_refused(worker: str, answer: Refused) -> None:
    text = f"worker {worker}: {answer.text}"
    raise ConfigError(text) if answer.is_configuration else EngineError(text)


def _as_seen_here(result: ChunkResult, job: Job) -> ChunkResult:
    """Return a result with the times of its files as this machine sees them.

    Raises `StorageError` if a file that a worker wrote is not here, or has another size.
    """
    folders = {stage.key: folder for stage, folder in zip(job.stages, job.folders, strict=True)}
    for key, made in result.stages.items():
        made.files[:] = [_seen(f"{folders[key]}/{stored.name}", stored) for stored in made.files]
    return result


def _seen(path: str, stored: Stored) -> Stored:
    try:
        descriptor = os.open(path, os.O_RDONLY)  # opening it makes a network file system ask again
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"a worker wrote {path}, which cannot be read here: {error.strerror}") from error
    if status.st_size != stored.size:
        raise StorageError(f"a worker wrote {stored.size} bytes to {path}, here it has {status.st_size}")
    return stored._replace(mtime_ns=status.st_mtime_ns)
