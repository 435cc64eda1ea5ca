"""What every pool of workers gives, and what the pass does with what comes back.

A pool takes chunks of tasks and gives their results as they come. A chunk whose worker was lost is given as
`Lost`; its recordings are then tried again one after another, each alone in a worker of joblib's on this
machine: then it is certain which one kills, and none is left out for another's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hms.config.paths import Address
from hms.engine.job import ChunkResult, Job, Task, Tasks
from hms.terminal import counted

CHUNK_ITEMS = 128
SMALLEST_CHUNK = 8
AFAR = 4
"""How many times larger chunks are if recordings come from object storage: each begins with a wait."""

CHUNKS_LEFT = 2
"""Chunks per worker that the rest is cut into, so that all workers end at about the same time."""

IN_FLIGHT = 2
"""Chunks handed out per worker at a time."""

Chunks = Mapping[int, Sequence[Task]]


@dataclass(frozen=True)
class Setting:
    """What a pool is opened for.

    Attributes
    ----------
    n_jobs : as configured; -1 where nothing was typed
    store : where results are written, which every worker must see
    say : prints one line for the user
    """

    n_jobs: int
    store: Path
    say: Callable[[str], None]


@dataclass(frozen=True)
class Lost:
    """Chunks that were in flight when a worker was lost, by number."""

    chunks: tuple[int, ...]


class Pool(Protocol):
    """Workers that prepare chunks."""

    @property
    def n_workers(self) -> int:
        """How many chunks are prepared at a time."""
        ...

    @property
    def own_process(self) -> bool:
        """Whether a worker is a process of its own that serves this run alone, and may be set up for it."""
        ...

    def run(self, job: Job, chunks: Chunks) -> Iterator[tuple[int, ChunkResult] | Lost]:
        """Prepare chunks; give number and result of each as it ends, and once each that is lost."""
        ...

    def stop(self) -> None:
        """End what is under way at once; used when a run is interrupted or fails."""
        ...

    def close(self) -> None:
        """Give back what the pool holds, at the end of a pass."""
        ...


def run_tasks(
    pool: Pool,
    job: Job,
    tasks: Sequence[Task],
    *,
    alone: Callable[[Job, Task], ChunkResult],
    say: Callable[[str], None],
) -> Iterator[tuple[Sequence[Task], ChunkResult]]:
    """Process tasks in chunks; yield the tasks and the result of each chunk as it ends.

    ``alone`` processes one recording in a worker that does nothing else.
    """
    larger = AFAR if isinstance(job.source.root, Address) else 1
    chunks = dict(enumerate(chunks_of(tasks, pool.n_workers, larger)))
    for found in pool.run(job, chunks):
        if not isinstance(found, Lost):
            number, result = found
            yield chunks[number], result
            continue
        again = [task for number in found.chunks for task in chunks[number]]
        say(f"a worker was lost; trying {counted(len(again), 'recording')} again, each alone")
        for task in again:
            yield [task], alone(job, task)


def run_again(
    pool: Pool, job: Job, tasks: Sequence[Task], *, alone: Callable[[Job, Task], ChunkResult]
) -> Iterator[tuple[Sequence[Task], ChunkResult]]:
    """Process tasks one after another while nothing else is at work; see `run_tasks`."""
    for task in tasks:
        if pool.n_workers > 1:
            yield [task], alone(job, task)
        else:
            yield from run_tasks(pool, job, [task], alone=alone, say=lambda text: None)


def chunks_of(tasks: Sequence[Task], n_workers: int, larger: int = 1) -> list[Sequence[Task]]:
    """Group tasks: chunks of `CHUNK_ITEMS` items times ``larger``, and ever smaller ones towards the end."""
    sizes = tasks.sizes.tolist() if isinstance(tasks, Tasks) else [len(task.items) for task in tasks]
    left = sum(sizes)
    smallest = min(SMALLEST_CHUNK * larger, -(-left // (CHUNKS_LEFT * n_workers)))
    firsts: list[int] = []
    room = 0
    for number, size in enumerate(sizes):
        if room <= 0:
            firsts.append(number)
            room = max(smallest, min(CHUNK_ITEMS * larger, -(-left // (CHUNKS_LEFT * n_workers))))
        room -= size
        left -= size
    return [tasks[first:end] for first, end in zip(firsts, [*firsts[1:], len(sizes)], strict=True)]
