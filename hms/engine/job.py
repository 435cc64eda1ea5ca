"""What a pass over recordings hands to workers, and what comes back."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from hms.config.code import CHANGED, code_stamp
from hms.config.identity import canonical_json, digest_of
from hms.errors import ConfigError, EngineError
from hms.pipeline.stage import ItemStage
from hms.registry import discover, folders_of, forget_plugin, import_plugins
from hms.sources.base import RECORDING, Margins, Openable, Part, Reader, Source
from hms.store.columns import Keys, Reason, Record
from hms.store.files import Stored
from hms.store.shards import Layout

SECONDS_TOGETHER = 600.0
"""Seconds of recordings, context included, that are in memory together: 17 windows of 10 s.

The files of a stage are synced together too, while the next ones are computed.
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One item to prepare: its row, where its window starts, its ids, and which stages are due."""

    index: int
    start_s: float
    eeg_id: int
    patient_id: int | str
    due: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A recording, a part of a long one, or a companion file, with the items that come from it."""

    part: Part
    items: tuple[Work, ...]


class Tasks(Sequence[Task]):
    """Tasks that are made when they are asked for: those of ten million items are never there together.

    Attributes
    ----------
    sizes : int64, shape (n_tasks,), the items of each
    """

    def __init__(self, sizes: NDArray[np.int64], make: Callable[[int], Task]) -> None:
        self.sizes, self._make = sizes, make

    def __len__(self) -> int:
        return self.sizes.size

    @overload
    def __getitem__(self, number: int) -> Task: ...
    @overload
    def __getitem__(self, number: slice) -> Tasks: ...
    def __getitem__(self, number: int | slice) -> Task | Tasks:
        if not isinstance(number, slice):
            return self._make(range(len(self))[number])
        numbers = range(len(self))[number]
        return Tasks(self.sizes[number], lambda place: self._make(numbers[place]))

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker is given the tasks, and not what makes them.
        return list, (list(self),)


class Read(Protocol):
    """An item whose samples, or whose crop of a companion file, are in memory."""

    @property
    def segment(self) -> Any:
        """What was read."""
        ...


I = TypeVar("I", bound=Read)  # noqa: E741 - the items are the caller's own


@dataclass(frozen=True)
class Job:
    """What all tasks of a pass share."""

    source: Source
    stages: tuple[ItemStage, ...]
    folders: tuple[Path, ...]
    channels: tuple[str, ...]
    window_s: float
    context_s: float
    block_s: float | None
    margins_s: Margins | None
    plugins: tuple[str, ...]
    look_up: str
    """A name of this pass if items may be in the store although their recordings' digests
    were not known before it; empty if the store cannot hold any."""

    own_process: bool
    layouts: dict[str, Layout] = field(default_factory=dict)
    """By the key of a stage whose results go into shards, where each item's row is."""

    def batches(self, items: Iterable[I]) -> Iterator[list[I]]:
        """Yield items that are prepared together, see `SECONDS_TOGETHER`; a block counts once."""
        alone_s = max(self.window_s + 2 * self.context_s, self.block_s or 0.0)
        batch: list[I] = []
        seconds, block = 0.0, None
        for item in items:
            own = getattr(item.segment, "block", None)
            more = self.window_s if own is not None and own is block else alone_s
            if batch and seconds + more > SECONDS_TOGETHER:
                yield batch
                batch, seconds, more = [], 0.0, alone_s
            batch.append(item)
            seconds, block = seconds + more, own
        if batch:
            yield batch

    def packed(self) -> PackedJob:
        """Return the job in a form that another process opens."""
        paths = (os.getcwd(), *filter(None, sys.path)) if self.plugins else ()
        code = code_stamp() if self.own_process else ""
        return PackedJob(self.plugins, folders_of(self.plugins), paths, code, pickle.dumps(self))

    def reader(self, opened: Openable, kind: str) -> Any:
        """Return what reads items from an open file: from a recording, with the context that stages need."""
        if kind != RECORDING:
            return opened
        return Reader(
            cast(Any, opened), self.window_s, self.context_s, self.channels, self.block_s, self.margins_s
        )


@dataclass(frozen=True)
class PackedJob:
    """A job on its way to another process, which imports plugins before it can read the rest.

    Attributes
    ----------
    plugins : modules with functions and stages of a user's own
    homes : folders from which they were imported
    paths : where the process that sends the job looks for modules
    code : stamp of the source of hms that this process loaded; empty for another machine
    content : the job
    """

    plugins: tuple[str, ...]
    homes: tuple[str, ...]
    paths: tuple[str, ...]
    code: str
    content: bytes

    def opened(self) -> Job:
        """Return the job.

        Raises `ConfigError` if a plugin cannot be imported, or its source is not that which the job's keys
        were made of; `EngineError` if the source of hms is not.
        """
        if self.code and self.code != code_stamp():
            raise EngineError(CHANGED)
        with _opening:
            return _opened(self)


_opening = threading.Lock()


@lru_cache(maxsize=1)
def _opened(packed: PackedJob) -> Job:
    sys.path += [path for path in packed.paths if path not in sys.path]
    discover()
    import_plugins(packed.plugins)
    job: Job = pickle.loads(packed.content)
    if _is_as_planned(job):
        return job
    # This process imported them long ago, or from another folder.
    for name in packed.plugins:
        forget_plugin(name)
    sys.path[:] = dict.fromkeys([*packed.homes, *sys.path])
    import_plugins(packed.plugins)
    job = pickle.loads(packed.content)
    if not _is_as_planned(job):
        named = ", ".join(packed.plugins) or "of an installed package"
        raise ConfigError(
            f"the source of a plugin ({named}) changed while the run went on, or is another where "
            "the workers are; run the same command again, in a notebook after a restart of its kernel"
        )
    return job


def _is_as_planned(job: Job) -> bool:
    return all(stage.is_as_planned() for stage in job.stages)


@dataclass
class StageResult:
    """What a chunk brought for one stage."""

    files: list[Stored] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class ChunkResult:
    """What comes back from a chunk: no arrays, only records."""

    stages: dict[str, StageResult] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """Digests of what was read, by the name of the part."""

    transient: dict[int, Reason] = field(default_factory=dict)
    """Reasons that may not hold next time, by item row."""

    failed: set[int] = field(default_factory=set)
    """Rows of items that could not be read or computed, for whatever reason."""

    notes: dict[str, list[list[str]]] = field(default_factory=dict)
    """What was mended of a recording: a flag and a text each."""

    faults: dict[int, str] = field(default_factory=dict)
    """What of the machine failed while an item was prepared, by item row; such items have no result."""

    seconds: dict[str, float] = field(default_factory=dict)
    n_items: int = 0


def item_key(recording_digest: str, start_s: float, eeg_id: int, patient_id: int | str) -> str:
    """Return the identity of an item within a stage: what it was read from and the ids in its file."""
    return digest_of([recording_digest, float(start_s), eeg_id, patient_id], 8)


def item_keys(
    digests: Sequence[str | None],
    part_of: Iterable[int],
    starts: Iterable[float],
    eeg_ids: Iterable[int],
    patients: Iterable[int | str],
) -> Keys:
    """Return what `item_key` returns of many items, as numbers, 0 where the digest of an item's part is None.

    ``digests`` are of the parts that items are made from, ``part_of`` says which of them each item is made
    from.
    """
    openings = [None if digest is None else f"[{canonical_json(digest)}," for digest in digests]
    texts: dict[int | str, str] = {}

    def found() -> Iterator[bytes]:
        for part, start, eeg_id, patient in zip(part_of, starts, eeg_ids, patients, strict=True):
            opening = openings[part]
            if opening is None:
                yield _UNKNOWN
                continue
            ending = texts.get(patient)
            if ending is None:
                ending = texts[patient] = canonical_json(patient)
            text = f"{opening}{start!r},{eeg_id},{ending}]"
            yield blake2b(text.encode(), digest_size=8).digest()

    return np.frombuffer(b"".join(found()), ">u8").astype(np.uint64)


_UNKNOWN = bytes(8)
