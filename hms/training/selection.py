"""Which items a dataset has: the part of a fold, the stage of two-stage training, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hms.errors import ConfigError
from hms.registry import did_you_mean
from hms.terminal import listed
from hms.training.reading import places

if TYPE_CHECKING:
    from hms.store.package import Package

LABELS, SPLITS = "data_package/labels.npz", "data_package/splits.npz"


class Selected(NamedTuple):
    """Items of a dataset.

    Attributes
    ----------
    item_ids : their names, in order
    y : float32, shape (n_items, n_classes), rows sum to 1; None where the run has no labels
    weights : float32, shape (n_items,); None likewise
    """

    item_ids: list[str]
    y: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None


def select_items(
    run: Package,
    owner: Package,
    split: str | None,
    fold: int | None,
    stage: int | None,
    stage_order: str,
    items: Sequence[Any] | None,
) -> Selected:
    """Return the items of a split and a stage, or the named ones among them, with their labels.

    Raises `ConfigError` if there is no such part or item, or the run has no labels and a part of it is asked
    for.

    Parameters
    ----------
    run : whose signals are read
    owner : whose labels and splits count
    split, fold, stage, stage_order, items : see `hms.training.SpecDataset`
    """
    has_labels = LABELS in owner.manifest["files"]
    if has_labels:
        check_same_items(run, owner.labels.item_id.tolist(), owner)
        rows = select_rows(owner, split, fold, stage, stage_order)
        ids = owner.labels.item_id[rows].tolist()
    elif split is not None or stage is not None or owner is not run:
        raise ConfigError(
            f"run {owner.hash} has no labels, so it has no splits and stages; "
            "for its items alone, as with a test set, leave out split, fold, stage and labels_from"
        )
    else:
        ids = run.meta["item_id"].tolist()
    order = np.arange(len(ids)) if items is None else places(ids, [str(name) for name in items])
    item_ids = [ids[place] for place in order.tolist()]
    if not has_labels:
        return Selected(item_ids, None, None)
    labels, chosen = owner.labels, rows[order]
    return Selected(item_ids, labels.y_soft[chosen], labels.weights(fold)[chosen])


def select_rows(
    run: Package, split: str | None, fold: int | None, stage: int | None, stage_order: str
) -> NDArray[np.int64]:
    """Return the rows of a part of a fold that belong to a stage.

    Raises `ConfigError` if there is no such part or fold, or no item in it.
    """
    rows = _split_rows(run, split, fold)
    return rows[_stage_mask(run, rows, stage, stage_order)]


def folds_of(run: Package) -> NDArray[np.int64]:
    """Return for each item the fold that validates it, -1 where none does."""
    fold = np.full(len(run.meta), -1, dtype=np.int64)
    for number, split in enumerate(run.splits if SPLITS in run.manifest["files"] else ()):
        fold[split.valid] = number
    return fold


def check_same_items(run: Package, label_ids: list[str], owner: Package) -> None:
    """Refuse labels whose items are not those of the signals: a shifted join trains on noise."""
    meta_ids = run.meta["item_id"].tolist()
    if sorted(meta_ids) == sorted(label_ids):
        return
    lacking = [name for name in meta_ids if name not in set(label_ids)]
    extra = [name for name in label_ids if name not in set(meta_ids)]
    raise ConfigError(
        f"the signals of run {run.hash} and the labels of run {owner.hash} have different items: "
        f"{len(lacking)} have no label ({listed(lacking)}), "
        f"{len(extra)} have no signal ({listed(extra)}); use one run for both"
    )


def check_choice(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Refuse a value that is not among the options."""
    if value not in options:
        raise ConfigError(
            f"{name}={value} is not allowed{did_you_mean(str(value), options)}; "
            f"it is one of {', '.join(options)}"
        )


def _split_rows(run: Package, split: str | None, fold: int | None) -> NDArray[np.int64]:
    if split is None:
        if fold is not None:
            raise ConfigError("fold is given without a split; choose split='train' or split='valid'")
        return np.flatnonzero(run.labels.has_label).astype(np.int64)
    check_choice("split", split, ("train", "valid"))
    if fold is None:
        raise ConfigError(f"split='{split}' needs a fold; there are {_folds(run)}")
    if not 0 <= fold < len(run.splits):
        raise ConfigError(f"fold {fold} does not exist; run {run.hash} has {_folds(run)}")
    rows: NDArray[np.int64] = getattr(run.splits[fold], split)
    return rows


def _folds(run: Package) -> str:
    n = len(run.splits)
    return f"the folds 0 to {n - 1}" if n else "no folds (it was made with folds=none)"


def _stage_mask(
    run: Package, rows: NDArray[np.int64], stage: int | None, stage_order: str
) -> NDArray[np.bool_]:
    check_choice("stage_order", stage_order, ("confident_first", "all_first"))
    if stage not in (None, 1, 2):
        raise ConfigError(f"stage={stage} is not allowed; it is 1, 2 or None")
    confident_stage = 1 if stage_order == "confident_first" else 2
    mask = run.labels.hc_mask[rows] if stage == confident_stage else np.ones(len(rows), dtype=np.bool_)
    if len(rows) and not mask.any():
        raise ConfigError(
            f"stage={stage} has no items: none of the {len(rows)} items of this split has enough votes for "
            "high confidence; lower labels.high_confidence_votes or use stage=None"
        )
    if not len(rows):
        raise ConfigError(f"this split of run {run.hash} has no items")
    return np.asarray(mask, dtype=np.bool_)
