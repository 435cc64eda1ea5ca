"""Workers of joblib on this machine, or this process alone with one job."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from hms.config.schema import n_workers
from hms.config.threads import one_thread
from hms.engine.job import ChunkResult, Job, PackedJob, Task
from hms.engine.pools.base import IN_FLIGHT, Chunks, Lost, Pool, Setting
from hms.engine.workers import process_chunk
from hms.registry import Params, register
from hms.store.columns import Reason
from hms.terminal import interrupts_held


@register("engine", "loky")
def open_loky(params: Params, setting: Setting) -> Pool:
    """Return joblib's workers, as many as ``n_jobs``; with one, everything happens in this process."""
    jobs = n_workers(setting.n_jobs)
    return ThisProcess() if jobs == 1 else LokyWorkers(jobs, setting.say)


class ThisProcess:
    """Chunks one after another in this process."""

    n_workers = 1
    own_process = False

    def run(self, job: Job, chunks: Chunks) -> Iterator[tuple[int, ChunkResult] | Lost]:
        """Prepare chunks in their order."""
        with one_thread():
            for number, tasks in chunks.items():
                yield number, process_chunk(job, tasks)

    def stop(self) -> None:
        """Do nothing: there is no other process."""

    def close(self) -> None:
        """Do nothing: there is no other process."""


class LokyWorkers:
    """Joblib's processes. A killed one takes the others down: those are started again for what is left."""

    own_process = True

    def __init__(self, count: int, say: Callable[[str], None]) -> None:
        self.n_workers, self._say = count, say
        self._turn = ExitStack()

    def _take_turn(self) -> None:
        """Wait until no other thread uses joblib's workers: a process has one set, and ends all of it."""
        if not _turns.acquire(blocking=False):
            self._say("waiting for another run of this process, which has the workers")
            _turns.acquire()
        self._turn.callback(_turns.release)

    def run(self, job: Job, chunks: Chunks) -> Iterator[tuple[int, ChunkResult] | Lost]:
        """Prepare chunks; those in flight when a worker is killed are lost, all others go on."""
        from joblib import delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        self._take_turn()
        pending, packed = dict(chunks), job.packed()
        while pending:
            handed_out: list[int] = []

            def calls(handed_out: list[int] = handed_out) -> Iterator[Any]:
                for number in list(pending):
                    handed_out.append(number)
                    yield delayed(_numbered)(number, packed, pending[number])

            try:
                with interrupts_held():
                    results = _parallel(self.n_workers)(calls())
                self._turn.callback(_end_quietly, results)
                for number, result in results:
                    del pending[number]
                    yield number, result
            except TerminatedWorkerError:
                lost = tuple(number for number in handed_out if number in pending)
                for number in lost:
                    del pending[number]
                yield Lost(lost)

    def stop(self) -> None:
        """End the workers at once."""
        from joblib.externals.loky import get_reusable_executor

        with self._turn:
            get_reusable_executor(max_workers=1, kill_workers=True).shutdown(wait=True, kill_workers=True)

    def close(self) -> None:
        """Leave the workers to the next pass, as joblib ends idle ones; a child process ends them now.

        At its own end it would wait for them, for minutes.
        """
        from joblib.externals.loky import get_reusable_executor

        with self._turn:
            if multiprocessing.parent_process() is not None:
                get_reusable_executor().shutdown(wait=True)


_turns = threading.RLock()


def _end_quietly(results: Any) -> None:
    """End results that nobody waits for any more, as when too many recordings failed; joblib would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        results.close()


def _parallel(jobs: int) -> Any:
    from joblib import Parallel, parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        return Parallel(
            n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=IN_FLIGHT * jobs
        )


def _numbered(number: int, packed: PackedJob, tasks: Any) -> tuple[int, ChunkResult]:
    return number, process_chunk(packed.opened(), tasks)


def alone(job: Job, task: Task) -> ChunkResult:
    """Process one recording in a worker that does nothing else; if it is lost, say so."""
    from joblib import delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    made: ChunkResult
    try:
        with interrupts_held():
            results = _parallel(2)([delayed(_numbered)(0, job.packed(), [task])])
        ((_, made),) = results
    except TerminatedWorkerError:
        reason = Reason(
            "read", "the worker that prepared it was lost twice (out of memory, or killed)", failure=True
        )
        return ChunkResult(transient={work.index: reason for work in task.items})
    return made
