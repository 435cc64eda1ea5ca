"""What a worker does: prepare recordings, encode their results, write them, report small records.

`evaluate` is the one way from a recording's samples to a result. The run, `hms.transform`
and the tests all go through it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from hms.engine.evaluate import derived_rows, evaluate, evaluate_together
from hms.engine.job import ChunkResult, Job, StageResult, Task, Work, item_key
from hms.errors import Unusable, machine_fault
from hms.pipeline.stage import ItemStage, registered_order
from hms.registry import fault_of_plugin
from hms.sources.base import RECORDING, open_part
from hms.store.columns import Reason, Record
from hms.store.files import Files, digest_bytes, sync_folder
from hms.store.folders import StageFolder
from hms.store.npz import npz_bytes
from hms.store.shards import Records, is_shard, record_of, record_type
from hms.terminal import printable

SYNCERS = 2
"""Threads that sync: while one waits for the disk, the other's files go with its own."""

MOST_UNDER_WAY = 6
"""Batches of files that may wait for the disk; a worker whose disk is slower waits too."""

LARGEST_KEPT_BUFFER = 32 << 20
"""Bytes: glibc keeps none that is larger."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's settings, see mallopt(3)."""

# --- one chunk -----------------------------------------------------------------------------------


def process_chunk(job: Job, tasks: Sequence[Task]) -> ChunkResult:
    """Prepare the recordings of a chunk and write what is due; the files are on disk on return."""
    if job.own_process:
        _prepare_process()
    chunk = _Chunk(job, _syncers(os.getpid()))
    try:
        for batch in job.batches(chunk.open(tasks)):
            # What float32 cannot hold is infinite or NaN then, which scaling refuses and measures count.
            with np.errstate(over="ignore", invalid="ignore"):
                chunk.prepare(batch)
        return chunk.finish()
    finally:
        chunk.clean_up()


@cache
def _syncers(process: int) -> Executor:
    """Return the threads that sync for a process; they outlive a chunk, as starting one takes long."""
    return ThreadPoolExecutor(SYNCERS)


@cache
def _prepare_process() -> None:
    """Prepare a new worker process, once.

    The parent handles Ctrl-C. A worker ends soon after its parent, so that a killed one leaves none behind.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@cache
def keep_memory() -> None:
    """Let a worker process keep its memory, once.

    The C library keeps large buffers instead of returning them after every recording, which makes the CWT a
    quarter faster; Dask tells its workers the opposite. Imported modules are never garbage and are not looked
    at again; the rest, a thousand small objects per recording, is looked at every ten recordings.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BUFFER)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * LARGEST_KEPT_BUFFER)
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@dataclass(frozen=True, slots=True)
class _Item:
    """An item whose samples are read: its identity, what is due of it, and what its stages gave."""

    work: Work
    key: str
    segment: Any
    due: tuple[ItemStage, ...]
    memo: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, tuple[str, Exception]] = field(default_factory=dict)
    """By the key of a stage that has no result: the name of the one that failed, and why."""


def _steps(due: Sequence[ItemStage]) -> tuple[tuple[ItemStage, ItemStage], ...]:
    """Return every stage that the due ones need, in running order, with the due one that each is for."""
    steps: dict[str, tuple[ItemStage, ItemStage]] = {}
    for stage in due:
        for key, needed in stage.chain().items():
            if isinstance(needed, ItemStage):
                steps.setdefault(key, (needed, stage))
        steps[stage.key] = stage, stage
    order = registered_order()
    return tuple(sorted(steps.values(), key=lambda step: order.index(step[0].name)))


class _Chunk:
    """Items are prepared and written here; other threads sync, so that nothing waits for the disk.

    Threads take turns in the interpreter, and each turn costs both: the others do nothing but wait.
    """

    def __init__(self, job: Job, syncer: Executor) -> None:
        self.job, self.syncer = job, syncer
        self.folders = {stage.key: folder for stage, folder in zip(job.stages, job.folders, strict=True)}
        self.under_way: deque[tuple[str, Files | Records, Future[None]]] = deque()
        self.records: dict[str, dict[int, bytes]] = {}
        self.kinds: dict[str, np.dtype[Any]] = {}
        self.result = ChunkResult(stages={stage.key: StageResult() for stage in job.stages})
        self.contents: dict[str, dict[str, bytes]] = {}
        self.rows: dict[str, list[tuple[Work, str, Mapping[str, Any]]]] = {s.key: [] for s in job.stages}
        self.steps: dict[tuple[str, ...], tuple[tuple[ItemStage, ItemStage], ...]] = {}

    def open(self, tasks: Sequence[Task]) -> Iterator[_Item]:
        """Read one recording after another, and yield the items that something is due of."""
        self.job.source.ahead([task.part for task in tasks])
        for task in tasks:
            yield from self._items_of(task)

    def _items_of(self, task: Task) -> Iterator[_Item]:
        try:
            opened = self._timed("read", partial(open_part, self.job.source, task.part))
            digest = self._timed("read", partial(opened.digest_of, task.part.part))
        except Exception as error:  # whatever a damaged file leads to
            for work in task.items:
                self._blame(work, None, "read", error)
            return
        self.result.digests[task.part.name] = digest
        if task.part.kind == RECORDING:
            self._note(task.part.place.recording, opened)
        reader = self.job.reader(opened, task.part.kind)
        for work in sorted(task.items, key=lambda work: work.start_s):
            key = item_key(digest, work.start_s, work.eeg_id, work.patient_id)
            due = tuple(s for s in self.job.stages if s.key in work.due and not self._known(s, key))
            if not due:
                continue
            self.result.n_items += 1
            try:
                segment = self._timed("read", partial(reader.segment, work.start_s))
            except Exception as error:
                self._blame(work, key, "read", error, due)
                continue
            yield _Item(work, key, segment, due)

    def _note(self, recording: str, opened: Any) -> None:
        """Keep what a reader had to mend; a file that cannot be used says so elsewhere."""
        try:
            notes = [list(note) for note in getattr(opened, "notes", ())]
        except Unusable:
            notes = []
        self.result.notes[recording] = notes

    def prepare(self, batch: Sequence[_Item]) -> None:
        """Compute what is due, stage by stage rather than item by item.

        A stage's code is still in the processor's cache when the next item comes.
        """
        for due, items in groupby(batch, key=lambda item: item.due):
            together = list(items)
            keys = tuple(stage.key for stage in due)
            if keys not in self.steps:
                self.steps[keys] = _steps(due)
            for stage, for_stage in self.steps[keys]:
                began = time.perf_counter()
                evaluate_together(stage, [item.memo for item in together], self.result.seconds)
                self.result.stages[for_stage.key].seconds += time.perf_counter() - began
                for item in together:
                    self._compute(stage, for_stage, item)
                self._write(stage.key)

    def _compute(self, stage: ItemStage, for_stage: ItemStage, item: _Item) -> None:
        """Compute a stage of an item, and keep what it gives, or why it gives nothing, if it is due."""
        began = time.perf_counter()
        failed = None
        if item.failed:
            failed = next((item.failed[read.key] for read in stage.reads if read.key in item.failed), None)
        if failed is None:
            try:
                result = evaluate(stage, item.segment, item.memo, self.result.seconds)
                if stage is for_stage:
                    self._add(stage, item, stage.arrays(result))
            except Exception as error:  # a plugin raises what it likes
                failed = stage.name, _without_traceback(stage.name, error)
        self.result.stages[for_stage.key].seconds += time.perf_counter() - began
        if failed is not None:
            item.failed[stage.key] = failed
            if stage is for_stage or machine_fault(failed[1]):
                self._blame(item.work, item.key, *failed, [stage])

    def _add(self, stage: ItemStage, item: _Item, arrays: Mapping[str, Any]) -> None:
        """Hold what a stage gave of an item until it is written."""
        work, key = item.work, item.key
        if stage.rows:
            self.rows[stage.key].append((work, key, arrays))
            return
        whole = {**arrays, "eeg_id": np.int64(work.eeg_id), "patient_id": work.patient_id}
        made = self.result.stages[stage.key]
        layout = self.job.layouts.get(stage.key)
        if layout is None:
            made.records.append(Record(key, f"{key}.npz"))
            content = self._timed("encode", partial(npz_bytes, whole))
            self.contents.setdefault(stage.key, {})[f"{key}.npz"] = content
            return
        if stage.key not in self.kinds:
            self.kinds[stage.key] = record_type(whole, layout.text_ids)
        kind = self.kinds[stage.key]
        record = self._timed("encode", partial(record_of, whole, kind))
        made.records.append(Record(key, *layout.place(work.index, kind), None, digest_bytes(record)))
        self.records.setdefault(stage.key, {})[work.index] = record

    def _known(self, stage: ItemStage, key: str) -> bool:
        look_up = self.job.look_up
        return bool(look_up) and _recorded(self.folders[stage.key], look_up).holds(key)

    def _blame(
        self, work: Work, key: str | None, stage_name: str, error: Exception, due: Sequence[ItemStage] = ()
    ) -> None:
        """Keep why an item has no result: a fault of the machine is not a reason, anything else is one.

        In the store if it follows from the recording's bytes, else for this run.
        """
        if fault := machine_fault(error):
            self.result.faults.setdefault(work.index, fault)
        if work.index in self.result.faults:
            return
        unusable = error if isinstance(error, Unusable) else _unexpected(stage_name, error)
        reason = Reason(stage_name, printable(unusable.reason), unusable.failure)
        if unusable.failure:
            self.result.failed.add(work.index)
        if key is None or not unusable.permanent:
            self.result.transient.setdefault(work.index, reason)
            return
        for stage in due:
            self.result.stages[stage.key].records.append(Record(key, None, 0, reason))

    def _timed(self, name: str, function: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return function()
        finally:
            self.result.seconds[name] = self.result.seconds.get(name, 0.0) + time.perf_counter() - began

    def _write(self, stage_key: str) -> None:
        """Write what is held of a stage and have it synced; name what was synced meanwhile."""
        files: Files | Records
        if contents := self.contents.pop(stage_key, None):
            files = self._timed("write", partial(Files, self.folders[stage_key], contents))
        elif records := self.records.pop(stage_key, None):
            layout, kind = self.job.layouts[stage_key], self.kinds[stage_key]
            folder = self.folders[stage_key]
            files = self._timed("write", partial(Records, folder, layout, kind, records))
        else:
            return
        self.under_way.append((stage_key, files, self.syncer.submit(files.sync)))
        while self.under_way and (self.under_way[0][2].done() or len(self.under_way) > MOST_UNDER_WAY):
            self._name()

    def _name(self) -> None:
        """Give the files that were written first their names, once they are synced."""
        stage_key, files, synced = self.under_way[0]
        self._timed("wait", synced.result)
        self.result.stages[stage_key].files += self._timed("write", files.name)
        files.close()
        self.under_way.popleft()

    def finish(self) -> ChunkResult:
        """Write what is left, and wait until everything the chunk made is on disk."""
        for stage in self.job.stages:
            if self.rows[stage.key]:
                self._finish_rows(stage)
                self._write(stage.key)
        while self.under_way:
            self._name()
        written = [self.folders[key] for key, made in self.result.stages.items() if made.files]
        self._timed("wait", lambda: list(self.syncer.map(sync_folder, written)))
        return self.result

    def _finish_rows(self, stage: ItemStage) -> None:
        """Put the rows of all items into one file."""
        works, keys, rows = zip(*self.rows[stage.key], strict=True)
        began = time.perf_counter()
        try:
            derived = self._timed(stage.name, lambda: derived_rows(stage, rows))
            content = self._timed("encode", partial(npz_bytes, derived))
        except Exception as error:
            for work, key in zip(works, keys, strict=True):
                self._blame(work, key, stage.name, error, [stage])
            return
        name = f"rows-{digest_bytes(''.join(keys).encode())[:16]}.npz"
        self.contents[stage.key] = {name: content}
        made = self.result.stages[stage.key]
        made.records.extend(Record(key, name, row) for row, key in enumerate(keys))
        made.seconds += time.perf_counter() - began

    def clean_up(self) -> None:
        """Leave no file without a name and no thread at work, whatever happened."""
        wait([synced for _, _, synced in self.under_way])
        for _, files, _ in self.under_way:
            files.close()


def _unexpected(stage_name: str, error: Exception) -> Unusable:
    told = fault_of_plugin(error) or f"{type(error).__name__} in stage {stage_name}: {error}"
    return Unusable(told, permanent=False)


def _without_traceback(stage_name: str, error: Exception) -> Exception:
    """Return an error whose frames hold no arrays; where a plugin failed, it names the line."""
    if not isinstance(error, Unusable) and not machine_fault(error) and fault_of_plugin(error):
        return _unexpected(stage_name, error)
    return error.with_traceback(None)


@lru_cache(maxsize=8)
def _recorded(folder: Path, look_up: str) -> StageFolder:
    """Return a stage's folder as it was when the pass of that name began, without its bad files."""
    loaded = StageFolder(folder).load()
    needed = {record.file for record in loaded.records.values() if record.file is not None}
    loaded.reconcile(name for name in needed if name in loaded.files or is_shard(name))
    return loaded
