"""The run's own folder, which points at what the store holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hms.config.reading import names_in
from hms.engine.account import Account
from hms.engine.manifest import write_manifest
from hms.engine.plan import Plan
from hms.errors import StorageError
from hms.pipeline.selection import config_of
from hms.pipeline.stage import ItemStage
from hms.pipeline.tables import Tables
from hms.store.files import Stored, commit_files, make_folder, remove_temporaries, sync_folder
from hms.store.folders import Record
from hms.store.links import commit_links
from hms.store.manifests import unfinish
from hms.store.npz import npz_file
from hms.store.places import set_latest
from hms.store.shards import INDEX

LINKERS = 2
"""Threads that make a run's links, a folder each: the system does most of it."""


def assemble(plan: Plan, tables: Tables, account: Account, began: float) -> None:
    """Point the run's folder at its files; the manifest comes last and makes it finished."""
    folder = plan.outputs.run(plan.run_hash)
    make_folder(folder)
    unfinish(folder)
    for place in (folder, plan.outputs.root):
        remove_temporaries(place)
    linked: dict[str, dict[str, str]] = {}
    digests: dict[str, list[Any]] = {}
    for key, stage in plan.item_stages.items():
        if stage.folder is not None:
            names = _shards(plan, tables, stage) if plan.in_shards else _item_files(plan, tables, stage)
            base = plan.folders[key].path
            linked[stage.folder] = {name: f"{base}/{stored.name}" for name, stored in names.items()}
            digests |= {f"{stage.folder}/{name}": [s.size, s.digest] for name, s in names.items()}
    for path, (target, stored) in account.files.items():
        parent, _, name = path.rpartition("/")
        linked.setdefault(parent, {})[name] = str(target)
        digests[path] = [stored.size, stored.digest]
    with ThreadPoolExecutor(LINKERS) as pool:
        list(pool.map(lambda parent: commit_links(folder / parent, linked[parent], plan.way), linked))
    for stage in plan.item_stages.values() if plan.in_shards else ():
        if stage.folder is not None:
            index = npz_file(_index(plan, tables, stage))
            (written,) = commit_files(folder / stage.folder, {INDEX: index})
            digests[f"{stage.folder}/{INDEX}"] = [written.size, written.digest]
    (written,) = commit_files(folder, {"config.yaml": yaml_of(plan).encode()})
    digests["config.yaml"] = [written.size, written.digest]
    _check_there(linked)
    linked.clear()
    for place in (plan.outputs.store, plan.outputs.root):  # another run may have made folders there
        sync_folder(place)
    write_manifest(plan, tables, account, digests, began)
    set_latest(plan.outputs, plan.run_hash, plan.way)


def _check_there(linked: Mapping[str, Mapping[str, str]]) -> None:
    """Raise if a file of the store that the run names disappeared during the run."""
    wanted: dict[str, set[str]] = {}
    for targets in linked.values():
        for target in targets.values():
            folder, _, name = target.rpartition("/")
            wanted.setdefault(folder, set()).add(name)
    for folder, names in wanted.items():
        lost = names.difference(names_in(folder))
        if lost:
            raise StorageError(
                f"{len(lost)} files of {folder} disappeared during the run, {min(lost)} among them; no run "
                "is marked finished, and the same command computes them again"
            )


def yaml_of(plan: Plan) -> str:
    """Return config.yaml: the settings that the run's results depend on."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.create(config_of(plan.cfg, plan.products))))


def _item_files(plan: Plan, tables: Tables, stage: ItemStage) -> dict[str, Stored]:
    """Return the stored file of every used item by its name in the run."""
    found, folder, records = {}, plan.folders[stage.key], plan.records_of(stage.key)
    item_ids = plan.items["item_id"].tolist()
    for row in np.flatnonzero(tables.is_used).tolist():
        record = records.get(row)
        assert record is not None, f"item {item_ids[row]} is used but not recorded"
        assert record.file is not None, f"item {item_ids[row]} is used but has no file"
        found[f"{item_ids[row]}_{stage.suffix}.npz"] = folder.files[record.file]
    return found


def _shards(plan: Plan, tables: Tables, stage: ItemStage) -> dict[str, Stored]:
    """Return the stored shards that hold used items, by their names in the run."""
    files, used = plan.folders[stage.key].files, np.flatnonzero(tables.is_used).tolist()
    numbers = _numbers(plan.records_of(stage.key), used)
    return {f"{number:05d}.npy": files[name] for name, number in numbers.items()}


def _numbers(records: Mapping[int, Record], used: Sequence[int]) -> dict[str, int]:
    """Return the number in the run of every stored shard that holds a used item."""
    names = dict.fromkeys(str(records[row].file) for row in used)
    return {name: number for number, name in enumerate(names)}


def _index(plan: Plan, tables: Tables, stage: ItemStage) -> dict[str, Any]:
    """Return which row of which shard of a run each used item has."""
    records = plan.records_of(stage.key)
    used = np.flatnonzero(tables.is_used).tolist()
    number = _numbers(records, used)
    return {
        "item_id": np.array(tables.used["item_id"].tolist(), np.str_),
        "shard": np.array([number[str(records[row].file)] for row in used], np.int32),
        "row": np.array([records[row].row for row in used], np.int64),
    }
