"""The form in which results are kept, a file per item or shards of many; changing it computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hms.engine.plan import TASK_ITEMS, Plan
from hms.store.files import commit_files, digest_bytes
from hms.store.folders import Record, StageFolder
from hms.store.locks import lock
from hms.store.npz import npz_bytes
from hms.store.shards import Layout, Records, is_shard, read_record, record_of, record_type, seal, sealed_name
from hms.terminal import say


def settle(plan: Plan) -> None:
    """Bring every prepared item into the form that the plan asks for.

    Nothing is computed: records are copied between files, and shards whose rows are all there sealed. Raises
    `StorageError` if the store cannot be written.
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
    if not plan.in_shards:
        return not any(is_shard(str(record.file)) for record in plan.records_of(key).values())
    return all(sealed_name(keys) in folder.files for _, keys in _shards(plan, key))


# --- files ---------------------------------------------------------------------------------------


def _into_files(plan: Plan, key: str) -> None:
    """Give every item that is in a shard a file of its own."""
    folder = plan.folders[key]
    packed = [r for r in plan.records_of(key).values() if r.file is not None and is_shard(r.file)]
    there = [record for record in packed if f"{record.item}.npz" in folder.files]
    lacking = [record for record in packed if f"{record.item}.npz" not in folder.files]
    folder.append([], [Record(record.item, f"{record.item}.npz") for record in there], 0.0, 0)
    for first in range(0, len(lacking), TASK_ITEMS):
        some = lacking[first : first + TASK_ITEMS]
        contents = {f"{record.item}.npz": npz_bytes(folder.place(record).read()) for record in some}
        stored = commit_files(folder.path, contents)
        folder.append(stored, [Record(record.item, f"{record.item}.npz") for record in some], 0.0, 0)


# --- shards --------------------------------------------------------------------------------------


def _shards(plan: Plan, key: str) -> Iterator[tuple[range, list[str | None]]]:
    """Yield the rows of the items of every shard, with the identities of those that are prepared."""
    records = {row: record for row, record in plan.records_of(key).items() if record.file is not None}
    if not records:
        return
    layout, n_items = plan.layout(key), len(plan.items)
    arrays = plan.folders[key].place(next(iter(records.values()))).read()
    step = layout.rows(record_type(arrays, layout.text_ids))
    for first in range(0, n_items, step):
        rows = range(first, min(first + step, n_items))
        keys = [records[row].item if row in records else None for row in rows]
        if any(keys):
            yield rows, keys


def _into_shards(plan: Plan, key: str) -> None:
    """Fill every shard that is not sealed, from wherever its records are, and seal it."""
    folder, layout = plan.folders[key], plan.layout(key)
    for rows, keys in list(_shards(plan, key)):
        if sealed_name(keys) in folder.files:
            _point(folder, keys)
            continue
        _fill(folder, layout, rows, keys)
        items = {slot: item for slot, item in enumerate(keys) if item is not None}
        name = next(str(folder.records[item].file) for item in items.values())
        digests = {slot: folder.records[item].digest for slot, item in items.items()}
        stored = seal(folder.path, name, keys, digests)
        folder.drop([name])
        folder.append([stored], _records(stored.name, items, digests), 0.0, 0)


def _point(folder: StageFolder, keys: Sequence[str | None]) -> None:
    """Let the records of items name a shard that is sealed already, where they name another place."""
    name = sealed_name(keys)
    moved = {slot: item for slot, item in enumerate(keys) if item and folder.records[item].file != name}
    if moved:
        digests = {slot: digest_bytes(read_record(folder.path / name, slot).tobytes()) for slot in moved}
        folder.append([], _records(name, moved, digests), 0.0, 0)


def _records(name: str, items: Mapping[int, str], digests: Mapping[int, str]) -> list[Record]:
    return [Record(item, name, slot, None, digests[slot]) for slot, item in items.items()]


def _fill(folder: StageFolder, layout: Layout, rows: range, keys: Sequence[str | None]) -> None:
    """Copy records that are elsewhere into their rows of an open shard."""
    kind = None
    for first in range(0, len(rows), TASK_ITEMS):
        found, made = {}, []
        for row, item in zip(rows[first : first + TASK_ITEMS], keys[first : first + TASK_ITEMS], strict=True):
            if item is None:
                continue
            record = folder.records[item]
            if kind is None:
                kind = record_type(folder.place(record).read(), layout.text_ids)
            name, slot = layout.place(row, kind)
            if (record.file, record.row) == (name, slot):
                continue
            found[row] = record_of(folder.place(record).read(), kind)
            made.append((item, name, slot, row))
        if found and kind is not None:
            written = Records(folder.path, layout, kind, found)
            try:
                written.sync()
                stored = written.name()
            finally:
                written.close()
            records = [Record(i, n, s, None, digest_bytes(found[r])) for i, n, s, r in made]
            folder.append(stored, records, 0.0, 0)
