"""What differs between two runs: settings, then stages, then numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.engine.explain import changes, flat_content
from hms.errors import ConfigError
from hms.store.package import Package
from hms.terminal import columns
from hms.training.selection import SPLITS, folds_of


@dataclass(frozen=True)
class FolderDifference:
    """How one kind of item file differs between two runs, over the items both have.

    Attributes
    ----------
    differing : items whose files differ
    largest, median : of the largest absolute difference of x per differing item;
        None where no item differs, or the shapes do
    by_item : largest absolute difference per differing item whose shapes agree
    """

    folder: str
    common: int
    differing: int
    other_shape: int
    largest: float | None
    median: float | None
    by_item: dict[str, float]


@dataclass(frozen=True)
class RunDifference:
    """Everything that differs between two runs."""

    a: Package
    b: Package
    settings: list[str]
    stages: dict[str, str]
    only_a: list[str]
    only_b: list[str]
    folders: list[FolderDifference]
    labels: int | None
    weights: int | None
    folds: int | None
    common: int

    def __repr__(self) -> str:
        return f"<RunDifference of {self.a.hash} and {self.b.hash}: {len(self.settings)} settings>"


def compare(a: Package, b: Package) -> RunDifference:
    """Compare two runs; items are joined by item_id."""
    import pandas as pd

    ids_a, ids_b = a.meta["item_id"].tolist(), b.meta["item_id"].tolist()
    common = sorted(set(ids_a) & set(ids_b))
    rows_a, rows_b = (pd.Index(ids).get_indexer(common) for ids in (ids_a, ids_b))
    return RunDifference(
        a=a,
        b=b,
        settings=changes(_settings(a), _settings(b)),
        stages=_stages(a, b),
        only_a=sorted(set(ids_a) - set(ids_b)),
        only_b=sorted(set(ids_b) - set(ids_a)),
        folders=[_folder(a, b, name, common) for name in _item_folders(a, b)],
        labels=_changed(a, b, "y_soft", rows_a, rows_b),
        weights=_changed(a, b, "w_conf", rows_a, rows_b),
        folds=_moved(a, b, rows_a, rows_b),
        common=len(common),
    )


def diff_text(a: Package, b: Package) -> str:
    """Return the comparison as text."""
    found = compare(a, b)
    lines = [f"a {a.hash}  {a.manifest['command']}", f"b {b.hash}  {b.manifest['command']}", "", "settings"]
    lines += [f"  {text}" for text in found.settings] or ["  the same"]
    lines += ["", "stages", columns([(f"  {name}", state) for name, state in found.stages.items()])]
    lines += ["", "items"]
    lines += [f"  {found.common} in both, {len(found.only_a)} only in a, {len(found.only_b)} only in b"]
    lines += [f"  {_folder_text(folder)}" for folder in found.folders]
    if found.labels is not None:
        lines.append(f"  labels changed: {found.labels}, weights changed: {found.weights}")
    if found.folds is not None:
        lines.append(f"  items that moved to another fold: {found.folds}")
    return "\n".join(lines)


def _folder_text(folder: FolderDifference) -> str:
    text = f"{folder.folder}: {folder.differing} of {folder.common} differ"
    if folder.largest is not None:
        text += f"; largest difference of x {folder.largest:.3g}, median over items {folder.median:.3g}"
    return text + (f"; {folder.other_shape} of another shape" if folder.other_shape else "")


def _settings(run: Package) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for stage in run.manifest["stages"].values():
        flat |= flat_content(stage["content"])
    return flat | {"votes table": run.manifest["votes"]["digest"][:12]}


def _stages(a: Package, b: Package) -> dict[str, str]:
    states = {}
    keys_a, keys_b = ({n: stage["key"] for n, stage in run.manifest["stages"].items()} for run in (a, b))
    for name in dict.fromkeys([*keys_a, *keys_b]):
        if name not in keys_b:
            states[name] = "only in a"
        elif name not in keys_a:
            states[name] = "only in b"
        else:
            states[name] = "shared" if keys_a[name] == keys_b[name] else "differs"
    return states


def _item_folders(a: Package, b: Package) -> list[str]:
    names_a, names_b = ({n.partition("/")[0] for n in run.manifest["files"]} for run in (a, b))
    return sorted(name for name in names_a & names_b if name.endswith("_out"))


def _folder(a: Package, b: Package, folder: str, common: list[str]) -> FolderDifference:
    suffix = "lr" if folder.startswith("spec_lr") else "hr"
    digests = [{} if run.shards(folder) else run.manifest["files"] for run in (a, b)]
    differing, by_item, other_shape = 0, {}, 0
    for item in common:
        path = f"{folder}/{item}_{suffix}.npz"
        if not all(run.has_item(folder, item, suffix) for run in (a, b)):
            raise ConfigError(f"one of the runs has no {path}, which its tables name; hms verify says more")
        if path in digests[0] and digests[0][path] == digests[1].get(path):
            continue
        x, y = (run.item(folder, item, suffix)["x"] for run in (a, b))
        if x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes():
            continue
        if x.shape != y.shape:
            differing, other_shape = differing + 1, other_shape + 1
            continue
        by_item[item] = float(np.abs(x.astype(np.float64) - y).max(initial=0.0))
        differing += 1
    sizes = list(by_item.values())
    largest, median = (max(sizes), float(np.median(sizes))) if sizes else (None, None)
    return FolderDifference(folder, len(common), differing, other_shape, largest, median, by_item)


def _changed(
    a: Package, b: Package, name: str, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]
) -> int | None:
    if not all("data_package/labels.npz" in run.manifest["files"] for run in (a, b)):
        return None
    if name == "y_soft" and a.labels.classes.tolist() != b.labels.classes.tolist():
        return len(rows_a)
    x, y = getattr(a.labels, name)[rows_a], getattr(b.labels, name)[rows_b]
    return int((x != y).reshape(len(x), -1).any(axis=1).sum()) if len(x) else 0


def _moved(a: Package, b: Package, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> int | None:
    if not all(SPLITS in run.manifest["files"] for run in (a, b)):
        return None
    return int((folds_of(a)[rows_a] != folds_of(b)[rows_b]).sum())
