"""Reading a package's signals in training: from rows of files that items share, or from a file per item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.errors import ConfigError
from hms.registry import did_you_mean
from hms.store.inside import find_inside
from hms.store.npz import read_npz
from hms.store.shards import rows_in
from hms.terminal import counted, listed

if TYPE_CHECKING:
    from hms.store.package import Package

LARGEST_HALF = float(np.finfo(np.float16).max)
_SIGN_EXPONENT_MANTISSA = 0x8FFFE000 - 2**32
"""Bits of a float16 in the places of a float32, without the copies of its sign; as int32."""


@dataclass(frozen=True)
class SignalKind:
    """Where a package holds a signal, and the settings that make a run hold it.

    Attributes
    ----------
    folder, suffix : one file per item, ``folder/<item_id>_<suffix>.npz``
    setting : what to ask for where a run lacks it
    pack : name in ``data_package`` of the packed array, and with ``_ids`` of its items
    packed_by : what to ask for where a run lacks that
    """

    folder: str
    suffix: str
    setting: str
    pack: str
    packed_by: str

    def file(self, item_id: str) -> str:
        """Return the path of an item's file in a run."""
        return f"{self.folder}/{item_id}_{self.suffix}.npz"

    @property
    def array(self) -> str:
        """Path in a run of the packed array."""
        return f"data_package/{self.pack}.npy"

    @property
    def ids(self) -> str:
        """Path in a run of what belongs to the rows of the packed array."""
        return f"data_package/{self.pack}_ids.npz"


SCALOGRAMS = SignalKind("spec_hr_out", "hr", "scalograms in stages", "spec_pack", "package.pack=true")
WAVEFORMS = SignalKind("wave_hr_out", "hr", "waveforms in stages", "wave_pack", "package.waveforms=true")
SPECTROGRAMS = SignalKind("spec_lr_out", "lr", "spectrograms=kaggle", "lr_pack", "package.spectrograms=true")
DERIVATIONS = SignalKind(
    "deriv_hr_out", "hr", "package.derivations=true", "deriv_pack", "package.derivations=true"
)

SIGNALS: dict[str, dict[str, SignalKind]] = {
    "spec": {"x": SCALOGRAMS},
    "wave": {"x": WAVEFORMS},
    "both": {"x": SCALOGRAMS, "wave": WAVEFORMS},
    "derivations": {"x": DERIVATIONS},
}
"""What ``signal`` of a dataset may be, and which entries of a sample hold what."""


class SignalReader:
    """Reads one kind of signal by the position of an item.

    Nothing is open when it is pickled; each process opens its own. Raises `ConfigError` if the run lacks the
    signal of an item, or the packed array that is asked for.

    Parameters
    ----------
    run : Package
    kind : SignalKind
    item_ids : the items by position
    packed : whether to read the packed array; None: where the run has one
    dtype : ``float32`` or ``float16``, of what is returned
    """

    def __init__(
        self, run: Package, kind: SignalKind, item_ids: Sequence[str], *, packed: bool | None, dtype: str
    ) -> None:
        self.kind, self.dtype = kind, dtype
        self._run_path = run.path
        self._item_ids = item_ids
        self._entries = ("x", "alive") if kind is DERIVATIONS else ("x",)
        self._check_files(run)
        shards = run.shards(kind.folder)
        self._places = None if shards is None else [shards[item_id] for item_id in item_ids]
        self.is_packed = packed is not False and kind.array in run.manifest["files"]
        if packed and not self.is_packed:
            raise ConfigError(
                f"run {run.hash} has no packed array {kind.array}; run it again with {kind.packed_by}"
            )
        self._beside: dict[str, NDArray[Any]] = {}
        self._files: list[Path] = []
        self._rows: list[tuple[int, Any]] | None = None
        if self.is_packed:
            self._beside = run.arrays(kind.ids)
            self._files = [find_inside(run.path, kind.array)[0]]
            rows = places(self._beside["item_id"].tolist(), item_ids)
            self._rows = [(0, row) for row in rows.tolist()]
        elif self._places is not None:
            self._files = list(dict.fromkeys(place.path for place in self._places))
            numbers = {path: number for number, path in enumerate(self._files)}
            self._rows = [(numbers[place.path], place.row) for place in self._places]

    @property
    def source(self) -> str:
        """Where it reads, in words."""
        if self.is_packed:
            return "packed array"
        return "one file per item" if self._rows is None else "shards"

    def _check_files(self, run: Package) -> None:
        missing = [i for i in self._item_ids if not run.has_item(self.kind.folder, i, self.kind.suffix)]
        if missing:
            raise ConfigError(
                f"run {run.hash} has no {self.kind.file(missing[0])} "
                f"({counted(len(missing), 'item')} without it); run it again with {self.kind.setting}"
            )

    def read(self, sample: dict[str, Any], name: str, position: int) -> None:
        """Put an item's signal into a sample, and ``alive`` next to derivations."""
        found = self._found(position)
        sample[name] = self._converted(found["x"], position)
        if "alive" in found:
            sample["alive"] = found["alive"].copy()

    def signal(self, position: int) -> NDArray[Any]:
        """Return an item's signal."""
        return self._converted(self._found(position)["x"], position)

    def _found(self, position: int) -> dict[str, NDArray[Any]]:
        """Return an item's signal as it is kept, and which of its derivations are alive."""
        if self._rows is None:
            return self.arrays(position, *self._entries)
        file, row = self._rows[position]
        return {entry: values[row] for entry, values in (self._open.get(file) or self._opened(file))}

    def arrays(self, position: int, *names: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of an item's own file, all of them or those named."""
        item_id = self._item_ids[position]
        if self._places is not None:
            return self._places[position].read(*names)
        path, _ = find_inside(self._run_path, self.kind.file(item_id))
        with open(path, "rb") as file:
            return read_npz(file.read(), *names)

    def _opened(self, number: int) -> list[tuple[str, NDArray[Any]]]:
        """Return what the rows of a file hold, which stays open."""
        rows = rows_in(self._files[number])
        of = {"x": rows, **self._beside} if self.is_packed else rows
        self._open[number] = [(entry, of[entry]) for entry in self._entries]
        return self._open[number]

    @cached_property
    def _open(self) -> dict[int, list[tuple[str, NDArray[Any]]]]:
        return {}

    def _converted(self, x: NDArray[Any], position: int) -> NDArray[Any]:
        """Return a copy in the dtype asked for."""
        if x.dtype == self.dtype:
            return x.copy()
        return from_float16(x) if self.dtype == "float32" else as_float16(x, self._item_ids[position])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}


def places(ids: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Return where each wanted item_id is among ``ids``.

    Raises `ConfigError`, naming those that are not there.
    """
    place = {name: row for row, name in enumerate(ids)}
    missing = [name for name in wanted if name not in place]
    if missing:
        raise ConfigError(
            f"{counted(len(missing), 'item')} outside this split and stage: {listed(missing)}"
            f"{did_you_mean(missing[0], ids)}; there are {len(ids)}"
        )
    return np.array([place[name] for name in wanted], dtype=np.int64)


# --- half precision ------------------------------------------------------------------------------


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


def as_float16(x: NDArray[Any], item_id: str) -> NDArray[np.float16]:
    """Return values in half precision; refuse those beyond its range."""
    largest = float(np.abs(x).max(initial=0.0))
    if not largest <= LARGEST_HALF:
        raise ConfigError(
            f"dtype=float16 ends at {LARGEST_HALF:g}, but item {item_id} has values up to {largest:g}; "
            "choose dtype='float32'"
        )
    return x.astype(np.float16)
