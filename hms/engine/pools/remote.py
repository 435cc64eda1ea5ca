"""A worker that another program started: it is checked once, before it prepares anything.

A worker may run other library versions or another source, which would write other numbers under the same
key; and its store may be another folder, or one whose locks it does not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from hms.config.code import check_as_loaded
from hms.config.reading import walked
from hms.engine.job import ChunkResult, PackedJob, Task
from hms.engine.workers import keep_memory, process_chunk
from hms.errors import StorageError
from hms.store.files import digest_bytes
from hms.store.locks import is_held
from hms.store.manifests import NUMERIC, versions


@dataclass(frozen=True)
class Stamp:
    """What can change numbers on a machine: versions of libraries, and the digest of the package's source."""

    versions: tuple[tuple[str, str], ...]
    source: str

    def differences(self, other: Stamp) -> list[str]:
        """Return what differs, with both values: first this one's, then the other's."""
        theirs = dict(other.versions)
        found = [f"{n} {v} and {theirs.get(n)}" for n, v in self.versions if theirs.get(n) != v]
        if self.source != other.source:
            found.append(f"the source of hms {self.source[:12]} and {other.source[:12]}")
        return found


@dataclass(frozen=True)
class Shared:
    """How a worker knows the client's store: a file, what is in it, and a lock that the client holds."""

    file: str
    nonce: str
    lock: str


@dataclass(frozen=True)
class Request:
    """One chunk, with what the worker is to check first."""

    job: PackedJob
    tasks: tuple[Task, ...]
    stamp: Stamp
    shared: Shared


@dataclass(frozen=True)
class Refused:
    """Why a worker prepares nothing: its versions or source differ, or it does not see the store."""

    text: str
    is_configuration: bool


@cache
def stamp_here() -> Stamp:
    """Return the stamp of this process; raises EngineError if it loaded another source than is there now."""
    check_as_loaded()
    known = versions()
    names = ("python", "hms", *NUMERIC)
    root = Path(__file__).resolve().parents[2]
    files = sorted(Path(base, n) for base, _, names in walked(root) for n in names if n.endswith(".py"))
    content = b"".join(f"{f.relative_to(root).as_posix()}\0".encode() + f.read_bytes() for f in files)
    return Stamp(tuple((name, known[name]) for name in names), digest_bytes(content))


@lru_cache(maxsize=8)
def check_worker(stamp: Stamp, shared: Shared) -> Refused | None:
    """Return why this process may not work for a client, or None."""
    if different := stamp.differences(stamp_here()):
        return Refused(f"client and worker differ: {'; '.join(different)}", is_configuration=True)
    problem = _store_problem(shared)
    return None if problem is None else Refused(problem, is_configuration=False)


def _store_problem(shared: Shared) -> str | None:
    try:
        nonce = Path(shared.file).read_text("utf-8")
    except OSError as error:
        return f"the worker cannot read {shared.file}, which the client wrote: {error.strerror}"
    if nonce != shared.nonce:
        return f"the worker does not read in {shared.file} what the client wrote"
    try:
        is_seen = is_held(Path(shared.lock))
    except (OSError, StorageError) as error:
        return f"the worker cannot use locks on {shared.lock}: {error}"
    return None if is_seen else f"the worker does not see the lock that the client holds on {shared.lock}"


def run_chunk(request: Request) -> ChunkResult | Refused:
    """Prepare a chunk in a worker, or say why not."""
    from threadpoolctl import threadpool_limits

    refused = check_worker(request.stamp, request.shared)
    if refused is not None:
        return refused
    keep_memory()
    with threadpool_limits(1):
        return process_chunk(request.job.opened(), request.tasks)
