"""The room on the disk that a run is likely to need, before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path

from hms.engine.plan import Plan
from hms.errors import StorageError
from hms.pipeline.stage import ItemStage
from hms.store.folders import StageFolder
from hms.store.shards import is_shard

ITEM_BYTES = 4_000
"""What tables, journals and the manifest take of one item; measured over a run of 60 items, rounded up."""

ROW_BYTES = 5_000
"""What a row of a stage takes at most; measured for `measures`, the longest."""

RUN_BYTES = 200_000
"""What a run takes besides its items."""


@dataclass(frozen=True)
class Need:
    """Room that is needed: bytes, and names of files and links."""

    n_bytes: int = 0
    n_names: int = 0

    def __add__(self, other: Need) -> Need:
        return Need(self.n_bytes + other.n_bytes, self.n_names + other.n_names)


@dataclass(frozen=True)
class Free:
    """Free room; ``n_names`` is None where a file system has no limit."""

    n_bytes: int
    n_names: int | None
    block: int


def free_space(folder: Path) -> Free:
    """Return the room on the disk of a folder, which need not be there yet."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    status = os.statvfs(place)
    names = int(status.f_favail) if status.f_files else None
    return Free(int(status.f_bavail * status.f_frsize), names, int(status.f_frsize or 4096))


def needed(plan: Plan, due: Mapping[str, Sized] | None = None) -> dict[str, Need]:
    """Return what a plan is likely to write, by the key of the stage, and by ``""`` for the run's own folder.

    Nothing for what is done; other plans have shared results under the same key. ``due`` is what `Plan.due`
    returned a moment ago.
    """
    block = free_space(plan.outputs.root).block
    due = plan.due() if due is None else due
    found = {}
    for key, stage in plan.item_stages.items():
        found[key] = _of_items(stage, plan.folders[key], len(due.get(key, ())), block)
    for table in plan.tables:
        n_bytes = table.table_bytes(len(plan.items))
        done = StageFolder(plan.outputs.stage(table)).load().computed
        found[table.key] = Need() if done else Need(n_bytes, len(table.files))
    found[""] = _of_run(plan, block)
    return found


def _of_items(stage: ItemStage, folder: StageFolder, n_due: int, block: int) -> Need:
    if stage.rows or not n_due:
        return Need(n_due * ROW_BYTES)
    known = [file.size for file in folder.files.values() if not is_shard(file.name)]
    size = sum(known) / len(known) if known else stage.item_bytes()
    return Need(n_due * _in_blocks(size, block), n_due)


def _of_run(plan: Plan, block: int) -> Need:
    """Return what the run's folder takes: names for the files, and their content where they are copies."""
    kept = [stage for stage in plan.item_stages.values() if stage.folder is not None]
    n_items, copied = len(plan.items), 0
    if plan.way == "copy":
        copied = n_items * sum(_in_blocks(stage.item_bytes(), block) for stage in kept)
    return Need(RUN_BYTES + n_items * ITEM_BYTES + copied, n_items * len(kept))


def _in_blocks(size: float, block: int) -> int:
    return -(-int(size) // block) * block


def space_text(needs: Iterable[Need], root: Path) -> str:
    """Say what is likely to be written and what is free, in one line."""
    need, free = sum(needs, Need()), free_space(root)
    return f"about {_told(need.n_bytes)} to write, {_told(free.n_bytes)} are free"


def _told(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"


def check_space(needs: Iterable[Need], root: Path) -> None:
    """Raise StorageError if what is likely to be written does not fit."""
    needs = list(needs)
    need, free = sum(needs, Need()), free_space(root)
    remedy = "free some space, choose another outputs_dir, or start anyway with disk_check=false"
    if need.n_bytes > free.n_bytes:
        raise StorageError(f"{root}: {space_text(needs, root)}; {remedy}")
    if free.n_names is not None and need.n_names > free.n_names:
        raise StorageError(
            f"{root}: about {need.n_names:,} files and links to write, and the disk has room for "
            f"{free.n_names} more; {remedy}"
        )
