"""Items of a run for a training loop: signals, labels and weights joined by item_id.

The dataset is map-style and knows nothing of torch: it has a length, gives dictionaries
that torch's default collate takes, and can be pickled, so that a DataLoader works with
any number of workers. Nothing is open when it is pickled; each worker opens its own.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from hms.npz import read_npz
from hms.registry import ConfigError, Params, did_you_mean
from hms.training.augment import augment_sample
from hms.training.mirror import mirrored_outputs

if TYPE_CHECKING:
    from hms.results import Run

__all__ = ["Sample", "SpecDataset", "from_float16"]

Sample = dict[str, Any]
"""``x`` (and ``wave``, ``spec_lr``), ``y``, ``weight`` and ``item_id`` of one item."""

PACK, PACK_IDS = "data_package/spec_pack.npy", "data_package/spec_pack_ids.npz"
LOW_RESOLUTION = "spec_lr_out"
FOLDERS = {"spec": ("spec_hr_out",), "wave": ("wave_hr_out",), "both": ("spec_hr_out", "wave_hr_out")}
_SHOWN = 5
_SIGN_EXPONENT_MANTISSA = 0x8FFFE000 - 2**32
"""Bits of a float16 in the places of a float32, without the copies of its sign; as int32."""


class SpecDataset:
    """Scalograms, waveforms or both of a run's items, with soft labels and weights.

    ``dataset[i]`` is a dictionary of ``x`` (float32; the scalogram, or the waveform where
    only that is asked for), ``wave`` (float32, only with ``signal="both"``), ``y`` (float32,
    shape (6,), sums to 1), ``weight`` (float32) and ``item_id`` (text).

    Parameters
    ----------
    run : Run
        A finished run with labels.
    split : ``train``, ``valid`` or None
        Part of the fold; None: all items of the run.
    fold : int
        Which fold; only with a split.
    stage : 1, 2 or None
        Two-stage training. 1: high-confidence items only, 2: all; None: all.
    stage_order : ``confident_first`` or ``all_first``
        ``all_first`` turns it round, as most medal solutions train: 1 is all, 2 is
        high-confidence only.
    signal : ``spec``, ``wave`` or ``both``
    spectrogram : bool
        Whether samples also have ``spec_lr``, the competition's ten minutes around the item
        (float32, shape (4, n_freqs, 300)), which a run with ``spectrograms=kaggle`` has. It is
        not augmented: ten minutes and ten seconds have no masks or shifts in common.
    augment : Params, name of an option of the config group ``augment``, or None
    seed : int
        With the epoch and the index it determines what augmentation does.
    dtype : ``float32`` or ``float16``
        Of the signals; ``float16`` doubles the rate at which packed items are read, for a
        training loop that converts on its own device. Augmentation needs ``float32``.
    packed : bool or None
        Whether to read the packed array; None: where the run has one.
    items : list of item_id, optional
        Only these, in this order; they must be in the split and stage.
    labels_from : Run, optional
        Another run that gives the labels, weights and splits: it must have exactly the same items.

    Raises
    ------
    ConfigError
        If the run lacks what is asked for, or signals and labels are not of the same items.
    """

    def __init__(
        self,
        run: Run,
        split: Literal["train", "valid"] | None = None,
        *,
        fold: int | None = None,
        stage: Literal[1, 2] | None = None,
        stage_order: Literal["confident_first", "all_first"] = "confident_first",
        signal: Literal["spec", "wave", "both"] = "spec",
        spectrogram: bool = False,
        augment: Params | str | None = None,
        seed: int = 0,
        dtype: Literal["float32", "float16"] = "float32",
        packed: bool | None = None,
        items: Sequence[Any] | None = None,
        labels_from: Run | None = None,
    ) -> None:
        _check_choice("signal", signal, tuple(FOLDERS))
        owner = run if labels_from is None else labels_from
        labels = owner.labels
        _check_same_items(run, labels.item_id.tolist(), owner)
        rows = _split_rows(owner, split, fold)
        rows = rows[_stage_mask(owner, rows, stage, stage_order)]
        ids = labels.item_id[rows].tolist()
        order = range(len(ids)) if items is None else _places(ids, [str(name) for name in items])
        self.item_ids: list[str] = [ids[place] for place in order]
        chosen = rows[np.asarray(order, dtype=np.int64)]
        self.y: NDArray[np.float32] = labels.y_soft[chosen].astype(np.float32)
        self.weights: NDArray[np.float32] = labels.w_conf[chosen].astype(np.float32)
        self.signal, self.seed, self.epoch = signal, seed, 0
        self.augment = _augmentation(augment)
        self.dtype = _checked_dtype(dtype, self.augment)
        self._folders = _item_folders(run, signal, self.item_ids)
        self._lr_folder = _spectrogram_folder(run, self.item_ids, self.augment) if spectrogram else None
        self._mirror = mirrored_outputs(run.config.at("montage.chains"), run.config.at("montage.output"))
        self._pack_path, rows_of_pack = _find_pack(run, self.item_ids, signal, packed)
        self._pack_rows: list[int] = rows_of_pack.tolist()

    def __len__(self) -> int:
        return len(self.item_ids)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        position, n_items = operator.index(index), len(self.item_ids)
        if position < 0:
            position += n_items
        if not 0 <= position < n_items:
            raise IndexError(f"item {operator.index(index)} of a dataset of {n_items}")
        if self.augment.kind == "none":
            return self.plain(position)
        return augment_sample(
            self.plain(position),
            self.augment,
            seed=self.seed,
            epoch=self.epoch,
            index=position,
            mirror=self._mirror,
            partner=self.plain,
            n_items=n_items,
        )

    def plain(self, position: int) -> Sample:
        """Return an item without augmentation."""
        item_id = self.item_ids[position]
        if self._pack_path is None:
            x = _read_x(self._folders[0], item_id, self.dtype)
        else:
            half = self._pack[self._pack_rows[position]]
            x = half.copy() if self.dtype == "float16" else from_float16(half)
        sample: Sample = {
            "x": x,
            "y": self.y[position].copy(),
            "weight": self.weights[position],
            "item_id": item_id,
        }
        if self.signal == "both":
            sample["wave"] = _read_x(self._folders[1], item_id, self.dtype)
        if self._lr_folder is not None:
            sample["spec_lr"] = _read_x(self._lr_folder, item_id, self.dtype, "lr")
        return sample

    @cached_property
    def _pack(self) -> NDArray[np.float16]:
        assert self._pack_path is not None
        array: NDArray[np.float16] = np.load(self._pack_path, mmap_mode="r", allow_pickle=False)
        # A plain array over the same memory: numpy's memmap class costs microseconds per index.
        return array.view(np.ndarray)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pack"}

    def set_epoch(self, epoch: int) -> None:
        """Let augmentation draw anew; call it before each epoch.

        A DataLoader with ``persistent_workers=True`` keeps copies that do not see it.
        """
        self.epoch = epoch

    def weights_for_sampler(self) -> list[float]:
        """Return the confidence weights as torch's WeightedRandomSampler takes them."""
        return [float(weight) for weight in self.weights]

    def __repr__(self) -> str:
        source = "packed array" if self._pack_path is not None else "one file per item"
        return f"<SpecDataset: {len(self)} items, {self.signal}, {source}, augment {self.augment.kind}>"


# --- reading -------------------------------------------------------------------------------------


def _read_x(folder: Path, item_id: str, dtype: str, suffix: str = "hr") -> NDArray[Any]:
    with open(f"{folder}/{item_id}_{suffix}.npz", "rb") as file:
        return np.asarray(read_npz(file.read(), "x")["x"], dtype=dtype)


def from_float16(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite float16 values as float32, exactly, in half the time that NumPy takes.

    The bits are moved to their places in float32, where the exponent is too small by the
    difference of the two formats' biases, 127 - 15: a factor of 2**112.
    """
    bits = half.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(_SIGN_EXPONENT_MANTISSA)
    values = bits.view(np.float32)
    values *= np.float32(2.0**112)
    return values


def _item_folders(run: Run, signal: str, item_ids: Sequence[str]) -> tuple[Path, ...]:
    """Return the folders to read from, after checking that the run has a file for every item."""
    files = run.manifest["files"]
    for folder in FOLDERS[signal]:
        missing = [name for name in item_ids if f"{folder}/{name}_hr.npz" not in files]
        if missing:
            stage = {"spec_hr_out": "scalograms", "wave_hr_out": "waveforms"}[folder]
            raise ConfigError(
                f"run {run.hash} has no {folder}/{missing[0]}_hr.npz ({len(missing)} items lack it); "
                f"run it again with {stage} among stages"
            )
    return tuple(run.path / folder for folder in FOLDERS[signal])


def _spectrogram_folder(run: Run, item_ids: Sequence[str], augment: Params) -> Path:
    """Return the folder of the competition's spectrograms, after checking that it has every item."""
    if augment.kind != "none":
        raise ConfigError(
            "spectrogram=True gives samples that augmentation would tear apart; choose augment=None"
        )
    files = run.manifest["files"]
    if missing := [name for name in item_ids if f"{LOW_RESOLUTION}/{name}_lr.npz" not in files]:
        raise ConfigError(
            f"run {run.hash} has no {LOW_RESOLUTION}/{missing[0]}_lr.npz ({len(missing)} items lack it); "
            f"run it again with spectrograms=kaggle"
        )
    return run.path / LOW_RESOLUTION


def _find_pack(
    run: Run, item_ids: Sequence[str], signal: str, packed: bool | None
) -> tuple[Path | None, NDArray[np.int64]]:
    """Return the packed array and the row of each item in it, joined by item_id."""
    present = PACK in run.manifest["files"]
    if packed and signal == "wave":
        raise ConfigError("packed=True, but only scalograms are packed; choose signal='spec' or 'both'")
    if packed and not present:
        raise ConfigError(f"run {run.hash} has no packed array; run it again with package.pack=true")
    if signal == "wave" or not present or packed is False:
        return None, np.empty(0, dtype=np.int64)
    return run.path / PACK, _places(run.arrays(PACK_IDS)["item_id"].tolist(), item_ids)


# --- joining -------------------------------------------------------------------------------------


def _places(ids: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Return where each wanted item_id stands among ``ids``."""
    place = {name: row for row, name in enumerate(ids)}
    missing = [name for name in wanted if name not in place]
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        raise ConfigError(
            f"{len(missing)} items are not in this split and stage: {shown}"
            f"{did_you_mean(missing[0], ids)}; there are {len(ids)}"
        )
    return np.array([place[name] for name in wanted], dtype=np.int64)


def _check_same_items(run: Run, label_ids: list[str], owner: Run) -> None:
    """Refuse labels whose items are not those of the signals: a shifted join trains on noise."""
    meta_ids = run.meta["item_id"].tolist()
    if sorted(meta_ids) == sorted(label_ids):
        return
    lacking = [name for name in meta_ids if name not in set(label_ids)]
    extra = [name for name in label_ids if name not in set(meta_ids)]
    raise ConfigError(
        f"the signals of run {run.hash} and the labels of run {owner.hash} are of different items: "
        f"{len(lacking)} have no label ({', '.join(lacking[:_SHOWN])}), "
        f"{len(extra)} have no signal ({', '.join(extra[:_SHOWN])}); use one run for both"
    )


def _split_rows(run: Run, split: str | None, fold: int | None) -> NDArray[np.int64]:
    if split is None:
        if fold is not None:
            raise ConfigError("fold is given without a split; choose split='train' or split='valid'")
        return np.arange(len(run.labels.item_id), dtype=np.int64)
    _check_choice("split", split, ("train", "valid"))
    if fold is None:
        raise ConfigError(f"split='{split}' needs a fold; there are {_folds(run)}")
    if not 0 <= fold < len(run.splits):
        raise ConfigError(f"fold {fold} does not exist; run {run.hash} has {_folds(run)}")
    rows: NDArray[np.int64] = getattr(run.splits[fold], split)
    return rows


def _folds(run: Run) -> str:
    n = len(run.splits)
    return f"the folds 0 to {n - 1}" if n else "no folds (it was made with folds=none)"


def _stage_mask(run: Run, rows: NDArray[np.int64], stage: int | None, stage_order: str) -> NDArray[np.bool_]:
    _check_choice("stage_order", stage_order, ("confident_first", "all_first"))
    if stage not in (None, 1, 2):
        raise ConfigError(f"stage={stage} is not allowed; it is 1, 2 or None")
    confident_stage = 1 if stage_order == "confident_first" else 2
    mask = run.labels.hc_mask[rows] if stage == confident_stage else np.ones(len(rows), dtype=np.bool_)
    if len(rows) and not mask.any():
        raise ConfigError(
            f"stage={stage} has no items: none of the {len(rows)} items of this split has enough votes to be "
            "of high confidence; lower labels.high_confidence_votes or use stage=None"
        )
    if not len(rows):
        raise ConfigError(f"this split of run {run.hash} has no items")
    return np.asarray(mask, dtype=np.bool_)


def _check_choice(name: str, value: Any, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ConfigError(
            f"{name}={value} is not allowed{did_you_mean(str(value), options)}; "
            f"it is one of {', '.join(options)}"
        )


def _checked_dtype(dtype: str, augment: Params) -> str:
    _check_choice("dtype", dtype, ("float32", "float16"))
    if dtype == "float16" and augment.kind != "none":
        raise ConfigError(f"dtype=float16 cannot be augmented ({augment.kind}); choose dtype='float32'")
    return dtype


def _augmentation(augment: Params | str | None) -> Params:
    return augment if isinstance(augment, Params) else _named_augmentation(augment or "none")


@lru_cache(maxsize=8)
def _named_augmentation(name: str) -> Params:
    from hms.config import compose

    return compose(f"augment={name}").augment
