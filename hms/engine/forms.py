"""The form in which results are kept, a file per item or shards of many; changing it computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.engine.job import ChunkResult, Task
from hms.engine.plan import TASK_ITEMS, Plan
from hms.store.columns import OWN, Record, number_of, text_of
from hms.store.files import Damaged, commit_files, digest_bytes
from hms.store.folders import StageFolder
from hms.store.locks import lock
from hms.store.npz import npz_bytes
from hms.store.shards import (
    Layout,
    Records,
    is_sealed,
    is_shard,
    read_record,
    record_of,
    record_type,
    seal,
    sealed_name,
)
from hms.terminal import say


def settle(plan: Plan) -> None:
    """Bring every prepared item into the form that the plan asks for.

    Nothing is computed: records are copied between files, and shards whose rows are all there sealed. Raises
    `StorageError` if the store cannot be written, or what is to be copied is damaged.
    """
    for key, folder in plan.folders.items():
        if _is_settled(plan, key):
            continue
        name = folder.path.name
        with lock(plan.outputs.lock(name), waiting=f"waiting for another run that writes {name}", say=say):
            folder.load()
            plan.reconcile_files()
            settle_stage(plan, key)


def settle_stage(plan: Plan, key: str) -> None:
    """Do what `settle` does for one stage; only under its lock, with its folder just loaded."""
    if _is_settled(plan, key):
        return
    if plan.in_shards:
        _into_shards(plan, key)
        plan.folders[key].compact()  # it says twice where each record is: in an open shard, and sealed
    else:
        _into_files(plan, key)


def _is_settled(plan: Plan, key: str) -> bool:
    folder = plan.folders[key]
    if plan.item_stages[key].folder is None:
        return True
    results, names = plan.results_of(key), folder.records.names
    if not plan.in_shards:
        return not any(is_shard(names[n]) for n in np.unique(results.file).tolist() if n != OWN)
    for rows, keys in _shards(plan, key):
        name = sealed_name(keys)
        if name not in folder.files or name not in names:
            return False
        part = slice(*np.searchsorted(results.rows, (rows.start, rows.stop)))
        is_there = results.file[part] == names.index(name)
        if not (is_there & (results.inside[part] == results.rows[part] - rows.start)).all():
            return False  # a run of the other form, or of other items, came between
    return True


def _read_again(folder: StageFolder, records: Iterable[Record]) -> None:
    """Read the sealed shards that hold items; a row's digest does not vouch for the header."""
    names = {str(record.file) for record in records if record.file in folder.files}
    for name in folder.reconcile([name for name in names if is_sealed(name)], reread=True):
        raise Damaged(folder.path / name)


# --- files ---------------------------------------------------------------------------------------


def _into_files(plan: Plan, key: str) -> None:
    """Give every item that is in a shard a file of its own."""
    folder = plan.folders[key]
    packed = [r for _, r in plan.records_of(key) if r.file is not None and is_shard(r.file)]
    there = [record for record in packed if f"{record.item}.npz" in folder.files]
    lacking = [record for record in packed if f"{record.item}.npz" not in folder.files]
    folder.append([], [Record(record.item, f"{record.item}.npz") for record in there], 0.0, 0)
    _read_again(folder, lacking)
    for first in range(0, len(lacking), TASK_ITEMS):
        some = lacking[first : first + TASK_ITEMS]
        contents = {f"{record.item}.npz": npz_bytes(folder.place(record).read()) for record in some}
        stored = commit_files(folder.path, contents)
        folder.append(stored, [Record(record.item, f"{record.item}.npz") for record in some], 0.0, 0)


# --- shards --------------------------------------------------------------------------------------


def _shards(plan: Plan, key: str) -> Iterator[tuple[range, list[str | None]]]:
    """Yield the rows of the items of every shard, with the identities of those that are prepared."""
    folder, results = plan.folders[key], plan.results_of(key)
    if not results.rows.size:
        return
    layout, n_items, found = plan.layout(key), len(plan.items), plan.keys_of(key)
    first_item = text_of(int(found[results.rows[0]]))
    step = layout.rows(record_type(folder.place(folder.records[first_item]).read(), layout.text_ids))
    is_there = np.zeros(n_items, np.bool_)
    is_there[results.rows] = True
    for first in range(0, n_items, step):
        rows = range(first, min(first + step, n_items))
        part = slice(rows.start, rows.stop)
        keys = np.where(is_there[part], found[part], 0).tolist()
        if any(keys):
            yield rows, [text_of(item) if item else None for item in keys]


def _into_shards(plan: Plan, key: str) -> None:
    """Fill every shard that is not sealed, from wherever its records are, and seal it."""
    folder, layout = plan.folders[key], plan.layout(key)
    for rows, keys in _shards(plan, key):
        name = sealed_name(keys)
        if name in folder.files and not folder.reconcile([name], reread=True):
            _point(folder, keys)
            continue
        _fill(folder, layout, rows, keys)
        records = _found(folder, keys)
        name = next(str(record.file) for record in records.values())
        _seal(folder, name, keys, records)


def _seal(folder: StageFolder, name: str, keys: Sequence[str | None], records: Mapping[int, Record]) -> None:
    """Seal an open shard, and record where its items, by their row in it, are now."""
    stored = seal(folder.path, name, keys, {slot: record.digest for slot, record in records.items()})
    folder.drop([name])
    folder.append([stored], [r._replace(file=stored.name) for r in records.values()], 0.0, 0)


def _found(folder: StageFolder, keys: Sequence[str | None]) -> dict[int, Record]:
    """Return the records of the items of a shard by their row in it."""
    items = {slot: number_of(item) for slot, item in enumerate(keys) if item is not None}
    places = folder.records.find(np.fromiter(items.values(), np.uint64, len(items)))
    return dict(zip(items, folder.records.some(places), strict=True))


def _point(folder: StageFolder, keys: Sequence[str | None]) -> None:
    """Let the records of items name a shard that is sealed and whole, where they name another place."""
    name = sealed_name(keys)
    moved = [(slot, record.item) for slot, record in _found(folder, keys).items() if record.file != name]
    digests = (digest_bytes(read_record(folder.path / name, slot).tobytes()) for slot, _ in moved)
    records = [Record(i, name, slot, None, d) for (slot, i), d in zip(moved, digests, strict=True)]
    if records:
        folder.append([], records, 0.0, 0)


def _fill(folder: StageFolder, layout: Layout, rows: range, keys: Sequence[str | None]) -> None:
    """Copy records that are elsewhere into their rows of an open shard."""
    kind, records = None, _found(folder, keys)
    _read_again(folder, records.values())
    for first in range(0, len(rows), TASK_ITEMS):
        found, made = {}, []
        for slot, row in enumerate(rows[first : first + TASK_ITEMS], first):
            if slot not in records:
                continue
            record = records[slot]
            if kind is None:
                kind = record_type(folder.place(record).read(), layout.text_ids)
            name, at = layout.place(row, kind)
            if (record.file, record.row) == (name, at):
                continue
            found[row] = record_of(folder.place(record).read(), kind)
            made.append((record.item, name, at, row))
        if found and kind is not None:
            written = Records(folder.path, layout, kind, found)
            try:
                written.sync()
                stored = written.name()
            finally:
                written.close()
            moved = [Record(i, n, s, None, digest_bytes(found[r])) for i, n, s, r in made]
            folder.append(stored, moved, 0.0, 0)


# --- while a pass goes on ------------------------------------------------------------------------


@dataclass
class _Filling:
    """The shards of a stage that are being filled.

    Attributes
    ----------
    layout : which row of which shard each item has
    is_done : bool, shape (n_items,); items that are prepared or left out
    records : of prepared items, by the name of the open shard and the row in it
    kind : type of the records, None until there is one
    """

    layout: Layout
    is_done: NDArray[np.bool_]
    records: dict[str, dict[int, Record]] = field(default_factory=dict)
    kind: np.dtype[Any] | None = None


class Sealer:
    """Seals each shard as soon as its last item is done: what is read back then is still in memory.

    Only of stages that held nothing before the pass; `settle_stage` seals what this leaves.
    """

    def __init__(self, plan: Plan, due: Iterable[str]) -> None:
        """Watch the stages that are due."""
        left_out = np.zeros(len(plan.items), np.bool_)
        left_out[[*plan.unread]] = True
        self._plan, self._sealed = plan, set[str]()
        self._filling = {
            key: _Filling(plan.layout(key), left_out.copy())
            for key in due
            if plan.in_shards and plan.item_stages[key].folder is not None and not plan.folders[key].records
        }

    def add(self, tasks: Sequence[Task], result: ChunkResult) -> None:
        """Seal the shards that a chunk, which is recorded, was the last of."""
        works = [work for task in tasks for work in task.items if work.index not in result.faults]
        for key, filling in self._filling.items():
            rows = [work.index for work in works if key in work.due]
            filling.is_done[rows] = True
            for record in result.stages[key].records if key in result.stages else ():
                if record.file is not None:
                    filling.records.setdefault(record.file, {})[record.row] = record
                    filling.kind = filling.kind or self._kind(key, record)
            if filling.kind is not None:
                self._seal_whole(key, filling, filling.kind, rows)

    def _kind(self, key: str, record: Record) -> np.dtype[Any]:
        arrays = self._plan.folders[key].place(record).read()
        return record_type(arrays, self._filling[key].layout.text_ids)

    def _seal_whole(self, key: str, filling: _Filling, kind: np.dtype[Any], rows: Iterable[int]) -> None:
        step = filling.layout.rows(kind)
        for first in sorted({row // step * step for row in rows}):
            if not filling.is_done[first : first + step].all():
                continue
            name, _ = filling.layout.place(first, kind)
            made = filling.records.pop(name, {})
            kept = {slot: made[slot] for slot in sorted(made) if first + slot not in self._plan.transient}
            if kept:
                keys = [
                    kept[slot].item if slot in kept else None
                    for slot in range(filling.layout.count(first, kind))
                ]
                _seal(self._plan.folders[key], name, keys, kept)
                self._sealed.add(key)

    def close(self) -> None:
        """Write journals anew that say twice where each record is: in an open shard, and sealed."""
        for key in sorted(self._sealed):
            self._plan.folders[key].compact()
