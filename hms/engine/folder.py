"""The run's own folder, which points at what the store holds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

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
from hms.store.links import Linking, commit_links
from hms.store.manifests import NAME, unfinish
from hms.store.npz import npz_file
from hms.store.places import set_latest
from hms.store.shards import INDEX


@dataclass
class RunFolder:
    """The folder of a run that is being made.

    Attributes
    ----------
    results : by folder, the stored files of item stages by their names in it
    linking : the links to them that are being made already
    """

    plan: Plan
    results: dict[str, dict[str, Stored]] = field(default_factory=dict)
    linking: Linking | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.plan.outputs.run(self.plan.run_hash)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take links away that no run will have: one that was refused leaves no folder."""
        if self.linking is not None and kind is not None:
            self.linking.stop()
            if issubclass(kind, Exception) and not (self.path / NAME).exists():
                shutil.rmtree(self.path, ignore_errors=True)

    def begin(self, tables: Tables) -> None:
        """Find what belongs into it and begin with the links, as soon as the items used are known."""
        plan = self.plan
        find = _shards if plan.in_shards else _item_files
        for stage in plan.item_stages.values():
            if stage.folder is not None:
                self.results[stage.folder] = find(plan, tables, stage)
        if plan.way == "symlink" and not (self.path / NAME).exists():
            self.linking = Linking(self._targets())

    def _targets(self) -> dict[Path, dict[str, str]]:
        """Return the stored file that each name of the results stands for, by folder."""
        places = {stage.folder: self.plan.folders[key].path for key, stage in self.plan.item_stages.items()}
        return {
            self.path / folder: {name: f"{places[folder]}/{stored.name}" for name, stored in names.items()}
            for folder, names in self.results.items()
        }

    def assemble(self, tables: Tables, account: Account, began: float) -> None:
        """Point the folder at its files; the manifest comes last and makes it finished."""
        plan, folder = self.plan, self.path
        make_folder(folder)
        unfinish(folder)
        for place in (folder, plan.outputs.root):
            remove_temporaries(place)
        linked = {} if self.linking is not None and self.linking.is_done() else self._targets()
        digests: dict[str, list[Any]] = {
            f"{parent}/{name}": [stored.size, stored.digest]
            for parent, names in self.results.items()
            for name, stored in names.items()
        }
        for path, (target, stored) in account.files.items():
            linked.setdefault((folder / path).parent, {})[path.rpartition("/")[2]] = str(target)
            digests[path] = [stored.size, stored.digest]
        for parent, targets in linked.items():
            commit_links(parent, targets, plan.way)
        for stage in plan.item_stages.values() if plan.in_shards else ():
            if stage.folder is not None:
                index = npz_file(_index(plan, tables, stage))
                (written,) = commit_files(folder / stage.folder, {INDEX: index})
                digests[f"{stage.folder}/{INDEX}"] = [written.size, written.digest]
        (written,) = commit_files(folder, {"config.yaml": yaml_of(plan).encode()})
        digests["config.yaml"] = [written.size, written.digest]
        self._check_there(account)
        del linked
        for place in (plan.outputs.store, plan.outputs.root):  # another run may have made folders there
            sync_folder(place)
        write_manifest(plan, tables, account, digests, began)
        set_latest(plan.outputs, plan.run_hash, plan.way)

    def _check_there(self, account: Account) -> None:
        """Raise if a file of the store that the run names disappeared during the run."""
        wanted: dict[Path, set[str]] = {}
        for key, stage in self.plan.item_stages.items():
            stored = self.results.get(stage.folder or "", {}).values()
            wanted[self.plan.folders[key].path] = {file.name for file in stored}
        for target, _ in account.files.values():
            wanted.setdefault(target.parent, set()).add(target.name)
        for place, names in wanted.items():
            lost = names.difference(names_in(place)) if names else ()
            if lost:
                raise StorageError(
                    f"{len(lost)} files of {place} disappeared during the run, {min(lost)} among them; no "
                    "run is marked finished, and the same command computes them again"
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
