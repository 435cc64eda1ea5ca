"""Items of a run for a training loop: signals, labels and weights joined by item_id.

The dataset is map-style and knows nothing of torch: it has a length, gives dictionaries
that torch's default collate takes, and can be pickled, so that a DataLoader works with
any number of workers. Nothing is open when it is pickled; each worker opens its own.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.errors import ConfigError
from hms.registry import Params
from hms.training.augment import Around, augment_sample
from hms.training.draw import draw_window, group_by_recording, shifted
from hms.training.epoch import SharedEpoch
from hms.training.mirror import mirrored_outputs
from hms.training.reading import SIGNALS, SPECTROGRAMS, SignalReader
from hms.training.selection import check_choice, select_items

if TYPE_CHECKING:
    from hms.store.package import Package

Sample = dict[str, Any]
"""``x`` (and ``wave``, ``spec_lr``, ``alive``), ``y``, ``weight`` and ``item_id`` of one item."""


class DatasetChoices(TypedDict, total=False):
    """The arguments of `SpecDataset` besides the split."""

    fold: int | None
    stage: Literal[1, 2] | None
    stage_order: Literal["confident_first", "all_first"]
    signal: Literal["spec", "wave", "both", "derivations"]
    spectrogram: bool
    draw: Literal["item", "window"]
    shift_s: float
    augment: Params | str | None
    seed: int
    dtype: Literal["float32", "float16"]
    packed: bool | None
    items: Sequence[Any] | None
    labels_from: Package | None


class SpecDataset:
    """Scalograms, waveforms or derivations of a run's items, with soft labels and weights.

    ``dataset[i]`` is a dictionary of ``x`` (float32; the scalogram, or what else ``signal`` asks
    for), ``wave`` (float32, only with ``signal="both"``), ``y`` (float32, shape (n_classes,), sums
    to 1), ``weight`` (float32) and ``item_id`` (text). Of a run without labels, such as one of a test
    set, it has neither ``y`` nor ``weight``.

    Parameters
    ----------
    run : a finished run
    split : ``train``, ``valid`` or None
        Part of the fold; None: all items of the run.
    fold : which fold; only with a split
    stage : 1, 2 or None
        Two-stage training. 1: high-confidence items only, 2: all; None: all.
    stage_order : ``confident_first`` or ``all_first``
        ``all_first`` turns it round, as most medal solutions train: 1 is all, 2 is
        high-confidence only.
    signal : ``spec``, ``wave``, ``both`` or ``derivations``
        ``derivations``: x is in µV with the context that the transform needs, and ``alive`` (bool)
        tells which rows are; `hms.training.torch.Scalogram` makes scalograms of them.
    spectrogram : whether samples also have ``spec_lr``, the competition's ten minutes around the item
        (float32, shape (4, n_freqs, 300)), which a run with ``spectrograms=kaggle`` has
    draw : ``item`` or ``window``
        ``window``: an index is a recording, and each epoch draws one of its items; see
        `hms.training.draw`. With one item per recording there is nothing to draw but shifts.
    shift_s : with ``draw="window"`` and derivations: the window is moved by up to so many seconds to either
        side, along the recording as far as ``package.shift_s`` reaches, then into the context
    augment : Params, name of an option of the config group ``augment``, or None
    seed : with the epoch and the index it determines what augmentation does
    dtype : ``float32`` or ``float16``
        Of the signals; ``float16`` doubles the rate at which packed items are read, for a
        training loop that converts on its own device. Augmentation needs ``float32``.
    packed : bool or None
        Whether to read the packed arrays; None: where the run has them.
    items : list of item_id, optional
        Only these, in this order; they must be in the split and stage.
    labels_from : another run that gives the labels, weights and splits: it must have exactly the same items

    Raises
    ------
    ConfigError
        If the run lacks what is asked for, or signals and labels are not of the same items.

    Examples
    --------
    >>> train = run.dataset("train", fold=0)
    >>> sample = train[0]
    >>> sample["x"].shape, sample["y"].shape, sample["item_id"] == train.item_ids[0]
    ((4, 48, 250), (6,), True)
    """

    def __init__(
        self,
        run: Package,
        split: Literal["train", "valid"] | None = None,
        *,
        fold: int | None = None,
        stage: Literal[1, 2] | None = None,
        stage_order: Literal["confident_first", "all_first"] = "confident_first",
        signal: Literal["spec", "wave", "both", "derivations"] = "spec",
        spectrogram: bool = False,
        draw: Literal["item", "window"] = "item",
        shift_s: float = 0.0,
        augment: Params | str | None = None,
        seed: int = 0,
        dtype: Literal["float32", "float16"] = "float32",
        packed: bool | None = None,
        items: Sequence[Any] | None = None,
        labels_from: Package | None = None,
    ) -> None:
        check_choice("signal", signal, tuple(SIGNALS))
        check_choice("draw", draw, ("item", "window"))
        owner = run if labels_from is None else labels_from
        selected = select_items(run, owner, split, fold, stage, stage_order, items)
        self.item_ids = selected.item_ids
        self.y, self.weights = selected.y, selected.weights
        self.signal, self.draw, self.seed = signal, draw, seed
        self._epoch = SharedEpoch()
        self.augment = find_augmentation(augment)
        if self.augment.kind != "none" and self.y is None:
            raise ConfigError(f"run {run.hash} has no labels to train on; leave augment out")
        self.dtype = _checked_dtype(dtype, self.augment)
        wanted = SIGNALS[signal] | ({"spec_lr": SPECTROGRAMS} if spectrogram else {})
        self._readers = {
            name: SignalReader(run, kind, self.item_ids, packed=packed, dtype=self.dtype)
            for name, kind in wanted.items()
        }
        output = "derivations" if signal == "derivations" else run.config.at("montage.output")
        self.mirror: NDArray[np.int64] = mirrored_outputs(run.config.at("montage.chains"), output)
        self.n_context, self._n_spare = context_samples(run) if signal == "derivations" else (0, 0)
        self._most_shift = _checked_shift(shift_s, draw, signal, self.n_context + self._n_spare)
        self._recordings: dict[str, list[int]] = {}
        if draw == "window":
            recordings = run.meta.set_index("item_id")["eeg_id"].astype(str)
            self._recordings = group_by_recording(recordings[self.item_ids].tolist())
        self._names = list(self._recordings)
        self._freqs_hz = _frequencies(self._readers) if self.augment.kind != "none" else {}

    def __len__(self) -> int:
        return len(self._names) if self.draw == "window" else len(self.item_ids)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        position, n = operator.index(index), len(self)
        if position < 0:
            position += n
        if not 0 <= position < n:
            raise IndexError(f"item {operator.index(index)} of a dataset of {n}")
        plain = self._drawn if self.draw == "window" else self.plain
        sample = plain(position)
        if self.augment.kind != "none":
            around = Around(self.mirror, plain, n, self.n_context + self._n_spare, self._freqs_hz)
            sample = augment_sample(
                sample, self.augment, seed=self.seed, epoch=self.epoch, index=position, around=around
            )
        if self._n_spare:
            x = sample["x"]
            sample["x"] = np.ascontiguousarray(x[:, self._n_spare : x.shape[1] - self._n_spare])
        return sample

    def plain(self, position: int) -> Sample:
        """Return the item at a place of ``item_ids`` without augmentation, with all of its context.

        Examples
        --------
        >>> run.dataset(augment="strong").plain(0)["x"].shape
        (4, 48, 250)
        """
        sample: Sample = {"x": None}
        for name, reader in self._readers.items():
            reader.read(sample, name, position)
        if self.y is not None and self.weights is not None:
            sample["y"] = self.y[position].copy()
            sample["weight"] = self.weights[position]
        sample["item_id"] = self.item_ids[position]
        return sample

    def _drawn(self, number: int) -> Sample:
        """Return the item that this epoch draws of a recording, its window shifted."""
        name = self._names[number]
        members = self._recordings[name]
        drawn = draw_window(len(members), seed=self.seed, epoch=self.epoch, recording=name)
        sample = self.plain(members[drawn.member])
        if self._most_shift:
            sample["x"] = shifted(sample["x"], round(drawn.shift * self._most_shift))
        return sample

    @property
    def epoch(self) -> int:
        """The epoch set last, in this process or in the one that this copy comes from.

        Examples
        --------
        >>> run.dataset().epoch
        0
        """
        return self._epoch.value

    def set_epoch(self, epoch: int) -> None:
        """Draw windows and augmentation again; call it before each epoch.

        Workers of a DataLoader see it, persistent ones as well.

        Examples
        --------
        >>> train = run.dataset("train", fold=0, augment="strong")
        >>> for epoch in range(2):
        ...     train.set_epoch(epoch)
        ...     batch = [train[i] for i in range(len(train))]
        """
        self._epoch.value = operator.index(epoch)

    def weights_for_sampler(self) -> list[float]:
        """Return the confidence weights as torch's WeightedRandomSampler takes them.

        With ``draw="window"`` one for each recording, the mean of its items'.

        Examples
        --------
        >>> train = run.dataset("train", fold=0)
        >>> len(train.weights_for_sampler()) == len(train)
        True
        """
        if self.weights is None:
            raise ConfigError("items without labels have no weights")
        if self.draw == "item":
            return [float(weight) for weight in self.weights]
        weights = self.weights
        return [float(weights[members].mean()) for members in self._recordings.values()]

    def __repr__(self) -> str:
        source = " and ".join(dict.fromkeys(reader.source for reader in self._readers.values()))
        what = f"{len(self)} recordings" if self.draw == "window" else f"{len(self)} items"
        return f"<SpecDataset: {what}, {self.signal}, {source}, augment {self.augment.kind}>"


def context_samples(run: Package) -> tuple[int, int]:
    """Return the samples on either side of the window that the transform is given, and those beyond.

    Raises `ConfigError` if the run has none.
    """
    made = run.manifest["stages"].get("traces")
    if made is None:
        raise ConfigError(f"run {run.hash} has no derivations; run it again with package.derivations=true")
    settings = made["settings"]
    spare_s: float = settings.get("package.shift_s", 0.0)
    return round((settings["derived.context_s"] - spare_s) * SFREQ_HZ), round(spare_s * SFREQ_HZ)


def _checked_shift(shift_s: float, draw: str, signal: str, n_context: int) -> int:
    """Return by how many samples a window may be shifted."""
    if not shift_s:
        return 0
    if draw != "window" or signal != "derivations":
        raise ConfigError(
            f"shift_s={shift_s:g} moves a drawn window into its context, which only derivations have; "
            "choose draw='window' and signal='derivations' (a run with package.derivations=true)"
        )
    if not 0 < shift_s * SFREQ_HZ <= n_context:
        raise ConfigError(
            f"shift_s={shift_s:g} is out of range; it must be above 0 and at most {n_context / SFREQ_HZ:g}, "
            "what the package has on each side (package.shift_s=30 reads 30 s more)"
        )
    return round(shift_s * SFREQ_HZ)


def _frequencies(readers: dict[str, SignalReader]) -> dict[str, NDArray[np.float32]]:
    """Return the frequencies of scalograms and spectrograms, as the first item has them."""
    found = {name: reader.arrays(0).get("freqs") for name, reader in readers.items()}
    return {name: freqs for name, freqs in found.items() if freqs is not None}


def _checked_dtype(dtype: str, augment: Params) -> str:
    check_choice("dtype", dtype, ("float32", "float16"))
    if dtype == "float16" and augment.kind != "none":
        raise ConfigError(f"dtype=float16 cannot be augmented ({augment.kind}); choose dtype='float32'")
    return dtype


def find_augmentation(augment: Params | str | None) -> Params:
    """Return the settings of an option of the group ``augment``; None means no change."""
    from hms.config.compose import compose

    return augment if isinstance(augment, Params) else compose(f"augment={augment or 'none'}").augment
