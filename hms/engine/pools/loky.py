"""Chunks over workers, and what happens when a worker is lost.

A killed worker takes its pool down. The chunks that had not come back are then tried
again: those that were in flight item by item, each alone in a worker, so that the one
that kills is known for sure; all others as before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from hms.engine.job import ChunkResult, Job, Task
from hms.engine.workers import process_chunk
from hms.store.folders import Reason

__all__ = ["run_tasks", "stop_workers"]

CHUNK_ITEMS = 128
SMALLEST_CHUNK = 8
CHUNKS_LEFT = 2
"""Chunks per worker that what is left is cut into, so that all workers end at about the same time."""

IN_FLIGHT = 2
"""Chunks handed out per worker at a time."""


def run_tasks(
    job: Job, tasks: Sequence[Task], *, n_jobs: int, say: Callable[[str], None]
) -> Iterator[tuple[Sequence[Task], ChunkResult]]:
    """Process tasks in chunks; yield the tasks and the result of each chunk as it ends.

    With ``n_jobs=1`` everything happens in this process, else in joblib's workers.
    """
    chunks = _chunks(tasks, n_jobs)
    if n_jobs == 1:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            for chunk in chunks:
                yield chunk, process_chunk(job.plugins, job, chunk)
        return
    pending = dict(enumerate(chunks))
    while pending:
        lost = yield from _run_pool(job, pending, n_jobs)
        if not lost:
            return
        say(f"a worker was lost; trying {sum(len(pending[i]) for i in lost)} recordings again, each alone")
        for number in lost:
            for task in pending.pop(number):
                yield [task], _alone(job, task)


def _chunks(tasks: Sequence[Task], n_jobs: int) -> list[list[Task]]:
    """Group tasks: chunks of `CHUNK_ITEMS` items, and ever smaller ones towards the end."""
    left = sum(len(task.items) for task in tasks)
    smallest = min(SMALLEST_CHUNK, -(-left // (CHUNKS_LEFT * n_jobs)))
    chunks: list[list[Task]] = []
    room = 0
    for task in tasks:
        if room <= 0:
            chunks.append([])
            room = max(smallest, min(CHUNK_ITEMS, -(-left // (CHUNKS_LEFT * n_jobs))))
        chunks[-1].append(task)
        room -= len(task.items)
        left -= len(task.items)
    return chunks


def _run_pool(
    job: Job, pending: dict[int, list[Task]], n_jobs: int
) -> Generator[tuple[Sequence[Task], ChunkResult], None, list[int]]:
    """Run the pending chunks, remove those that come back, return those in flight if a worker is lost."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    handed_out: list[int] = []

    def calls() -> Iterator[Any]:
        for number in list(pending):
            handed_out.append(number)
            yield delayed(_numbered)(number, job.plugins, job, pending[number])

    try:
        for number, result in _pool(n_jobs, Parallel)(calls()):
            yield pending.pop(number), result
    except TerminatedWorkerError:
        return [number for number in handed_out if number in pending]
    return []


def _pool(n_jobs: int, parallel: Any) -> Any:
    from joblib import parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        return parallel(
            n_jobs=n_jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=IN_FLIGHT * n_jobs
        )


def _numbered(
    number: int, plugins: tuple[str, ...], job: Job, tasks: Sequence[Task]
) -> tuple[int, ChunkResult]:
    return number, process_chunk(plugins, job, tasks)


def _alone(job: Job, task: Task) -> ChunkResult:
    """Process one recording in a worker that does nothing else; if it is lost, say so."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        (result,) = _pool(2, Parallel)([delayed(process_chunk)(job.plugins, job, [task])])
    except TerminatedWorkerError:
        reason = Reason(
            "read", "the worker that prepared it was lost twice (out of memory, or killed)", failure=True
        )
        return ChunkResult(transient={work.index: reason for work in task.items})
    assert isinstance(result, ChunkResult)
    return result


def stop_workers() -> None:
    """End joblib's workers at once; used when a run is interrupted or fails."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(max_workers=1, kill_workers=True).shutdown(wait=True, kill_workers=True)
