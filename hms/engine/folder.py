"""The run's own folder, which points at what the store holds."""

from __future__ import annotations

import heapq
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hms.config.pages import yaml_of
from hms.config.reading import names_in
from hms.engine.account import Account
from hms.engine.manifest import write_manifest
from hms.engine.plan import Plan
from hms.engine.plan import Results as Found
from hms.errors import StorageError
from hms.pipeline.selection import config_of
from hms.pipeline.stage import ItemStage
from hms.pipeline.tables import Tables
from hms.store.columns import OWN, TOGETHER, Files
from hms.store.files import commit_files, make_folder, remove_temporaries, sync_folder
from hms.store.links import Linking, commit_links
from hms.store.manifests import NAME, unfinish
from hms.store.npz import npz_file
from hms.store.package import Package
from hms.store.places import set_latest
from hms.store.shards import INDEX


@dataclass(frozen=True)
class Results:
    """The stored files of an item stage that belong into a run.

    Attributes
    ----------
    files : of the stage's folder
    places : of those in the run among them
    named : makes their names in the run; those of a hundred thousand items are not in memory for long
    """

    files: Files
    places: NDArray[np.int64]
    named: Callable[[], list[str]]

    def ordered(self, folder: str) -> Iterator[tuple[str, list[Any]]]:
        """Yield name, behind a folder's, with size and digest of each, in the order of names."""
        names = self.named()
        order = sorted(range(len(names)), key=names.__getitem__)
        for first in range(0, len(order), TOGETHER):
            some = order[first : first + TOGETHER]
            yield from zip(
                [folder + names[at] for at in some], self.files.digests_at(self.places[some]), strict=True
            )


@dataclass
class RunFolder:
    """The folder of a run that is being made.

    Attributes
    ----------
    results : by folder, the stored files of an item stage
    linking : the links to them that are being made already
    is_new : whether nothing stood in its place before
    """

    plan: Plan
    results: dict[str, Results] = field(default_factory=dict)
    linking: Linking | None = None
    is_new: bool = False

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
            if issubclass(kind, Exception) and self.is_new and not (self.path / NAME).exists():
                shutil.rmtree(self.path, ignore_errors=True)

    def begin(self, tables: Tables) -> None:
        """Find what belongs into it and begin with the links, as soon as the items used are known."""
        plan = self.plan
        find = _shards if plan.in_shards else _item_files
        for stage in plan.item_stages.values():
            if stage.folder is not None:
                self.results[stage.folder] = find(plan, tables, stage)
        self.is_new = not self.path.exists()
        if plan.way == "symlink" and not (self.path / NAME).exists():
            self.linking = Linking(self._targets())

    def _targets(self) -> dict[Path, dict[str, str]]:
        """Return the stored file that each name of the results stands for, by folder."""
        places = {
            stage.folder: str(self.plan.folders[key].path) for key, stage in self.plan.item_stages.items()
        }
        return {
            self.path / folder: dict(
                zip(of.named(), [f"{places[folder]}/{n}" for n in of.files.names_at(of.places)], strict=True)
            )
            for folder, of in self.results.items()
        }

    def assemble(self, tables: Tables, account: Account, began: float) -> Package:
        """Point the folder at its files; the manifest comes last and makes it finished. Return the run."""
        plan, folder = self.plan, self.path
        make_folder(folder)
        unfinish(folder)
        for place in (folder, plan.outputs.root):
            remove_temporaries(place)
        linked: dict[Path, dict[str, str]] = {}
        digests: dict[str, list[Any]] = {}
        for path, (target, stored) in account.files.items():
            linked.setdefault((folder / path).parent, {})[path.rpartition("/")[2]] = str(target)
            digests[path] = [stored.size, stored.digest]
        for parent, targets in linked.items():
            commit_links(parent, targets, plan.way)
        for parent, targets in self._unlinked().items():
            commit_links(parent, targets, plan.way)
        for stage in plan.item_stages.values() if plan.in_shards else ():
            if stage.folder is not None:
                index = npz_file(_index(plan, tables, stage))
                (written,) = commit_files(folder / stage.folder, {INDEX: index})
                digests[f"{stage.folder}/{INDEX}"] = [written.size, written.digest]
        (written,) = commit_files(
            folder, {"config.yaml": yaml_of(config_of(plan.cfg, plan.products)).encode()}
        )
        digests["config.yaml"] = [written.size, written.digest]
        self._check_there(account)
        for place in (plan.outputs.store, plan.outputs.root):  # another run may have made folders there
            sync_folder(place)
        run = Package.written(folder, write_manifest(plan, tables, account, self._all(digests), began))
        set_latest(plan.outputs, plan.run_hash, plan.way)
        return run

    def _unlinked(self) -> dict[Path, dict[str, str]]:
        """Wait for the links to results that are being made; return what is still to be linked, by folder."""
        done = set() if self.linking is None else self.linking.done()
        if done.issuperset(self.path / folder for folder in self.results):
            return {}
        return {folder: names for folder, names in self._targets().items() if folder not in done}

    def _all(self, others: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return size and digest of every file by its name, in the order of names."""
        found: dict[str, list[Any]] = {}
        left = sorted(others.items())
        for folder, of in sorted(self.results.items()):
            first, end = (bisect_left(left, (f"{folder}{mark}",)) for mark in "/0")  # 0 is next to /
            found |= left[:first]
            found |= heapq.merge(left[first:end], of.ordered(f"{folder}/"))
            left = left[end:]
        found |= left
        return found

    def _check_there(self, account: Account) -> None:
        """Raise if a file of the store that the run names disappeared during the run."""
        wanted: dict[Path, Iterable[str]] = {}
        for key, stage in self.plan.item_stages.items():
            if stage.folder is not None:
                of = self.results[stage.folder]
                wanted[self.plan.folders[key].path] = of.files.names_at(of.places)
        for target, _ in account.files.values():
            wanted[target.parent] = chain(wanted.get(target.parent, ()), [target.name])
        for place, names in wanted.items():
            present = set(names_in(place))
            if lost := [name for name in names if name not in present]:
                raise StorageError(
                    f"{len(lost)} files of {place} disappeared during the run, {min(lost)} among them; no "
                    "run is marked finished, and the same command computes them again"
                )


def _item_files(plan: Plan, tables: Tables, stage: ItemStage) -> Results:
    """Return the stored file of every used item."""
    names, folder, used = plan.items["item_id"], plan.folders[stage.key], np.flatnonzero(tables.is_used)
    keys = plan.keys_of(stage.key)[used]
    places = folder.files.find(keys)
    lost = used[(places < 0) | (folder.records.files_of(folder.records.find(keys))[0] != OWN)]
    assert not lost.size, f"item {names.iloc[lost[0]]} is used but has no file"
    ids = (names if used.size == len(names) else names.iloc[used]).tolist()
    return Results(folder.files, places, lambda: [f"{name}_{stage.suffix}.npz" for name in ids])


def _shards(plan: Plan, tables: Tables, stage: ItemStage) -> Results:
    """Return the stored shards that hold used items."""
    files, (numbers, _) = plan.folders[stage.key].files, _numbers(plan, tables, stage)
    places = np.array([files.place_of(name) for name in numbers], np.int64)
    return Results(files, places, lambda: [f"{number:05d}.npy" for number in numbers.values()])


def _numbers(plan: Plan, tables: Tables, stage: ItemStage) -> tuple[dict[str, int], Found]:
    """Return the number in the run of every stored shard that holds a used item, and where used items are."""
    found = plan.results_of(stage.key)
    is_used = tables.is_used[found.rows]
    assert is_used.sum() == tables.is_used.sum(), f"an item is used but has no result of {stage.name}"
    used = Found(*(column[is_used] for column in found))
    assert (used.file != OWN).all(), f"an item's result of {stage.name} is in no shard"
    distinct, first = np.unique(used.file, return_index=True)
    names = plan.folders[stage.key].records.names
    in_order = distinct[np.argsort(first)].tolist()
    return {names[place]: number for number, place in enumerate(in_order)}, used


def _index(plan: Plan, tables: Tables, stage: ItemStage) -> dict[str, Any]:
    """Return which row of which shard of a run each used item has."""
    number, used = _numbers(plan, tables, stage)
    names = plan.folders[stage.key].records.names
    of_file = np.array([number.get(name, -1) for name in names], np.int32)
    return {
        "item_id": np.array(tables.used["item_id"].tolist(), np.str_),
        "shard": of_file[used.file],
        "row": used.inside,
    }
