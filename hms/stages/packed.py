"""Packed: all scalograms, waveforms ... in one array each, for fast random reads in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.stages.scalograms import Scalograms
from hms.stages.spectrograms import Spectrograms
from hms.stages.traces import Traces
from hms.stages.waveforms import Waveforms
from hms.store.files import Content
from hms.store.npz import npz_bytes
from hms.store.shards import Place


class PackedArray(TableStage):
    """An array of what an item stage keeps of each used item, with the item_id of each row next to it.

    Attributes
    ----------
    of : the item stage, and the field that holds it
    asked_by : the setting that asks for the array
    remedy : what to do about a value that the array cannot hold
    """

    of: ClassVar[str]
    asked_by: ClassVar[str]
    remedy: ClassVar[str]

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the package has the array."""
        return bool(cfg.at(cls.asked_by))

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration that asks for it."""
        if not cfg.at(cls.asked_by):
            raise ConfigError(f"stages: '{cls.name}' is made by {cls.asked_by}=true; leave it out of stages")
        return super().from_config(cfg)

    @property
    def dtype(self) -> str:
        """Type of the array."""
        return "<f2"

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array, which has two for each float32 of an item."""
        return int(n_items * getattr(self, self.of).item_bytes() // 2)

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids."""
        remedy = f"{self.remedy}, or choose {self.asked_by}=false"
        return _files(tables, self.of, self.files, dtype=self.dtype, remedy=remedy)


@register_stage
@dataclass(frozen=True)
class Packed(PackedArray):
    """One memory-mapped array of all scalograms."""

    name = "packed"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:scalograms")
    files: ClassVar[tuple[str, ...]] = ("data_package/spec_pack.npy", "data_package/spec_pack_ids.npz")
    of = "scalograms"
    asked_by = "package.pack"
    remedy = "choose a scaling that ends below 65504"

    scalograms: Scalograms
    pack: bool = setting("package.pack")

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration; power that is not scaled does not fit into float16."""
        if cfg.package.pack and cfg.scaling.kind == "none":
            raise ConfigError(
                "package.pack=true stores float16, which ends at 65504, and scaling=none keeps power in µV²; "
                "choose scaling=log1p_percentile or package.pack=false"
            )
        return super().from_config(cfg)

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array."""
        return n_items * self.scalograms.n_values() * np.dtype(np.float16).itemsize


@register_stage
@dataclass(frozen=True)
class PackedWaveforms(PackedArray):
    """One memory-mapped array of all waveforms."""

    name = "packed_waveforms"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:waveforms")
    files: ClassVar[tuple[str, ...]] = ("data_package/wave_pack.npy", "data_package/wave_pack_ids.npz")
    of = "waveforms"
    asked_by = "package.waveforms"
    remedy = "limit electrodes with filter.clip_uv"

    waveforms: Waveforms
    pack: bool = setting("package.waveforms")


@register_stage
@dataclass(frozen=True)
class PackedSpectrograms(PackedArray):
    """One memory-mapped array of all the competition's spectrograms."""

    name = "packed_spectrograms"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:spectrograms")
    files: ClassVar[tuple[str, ...]] = ("data_package/lr_pack.npy", "data_package/lr_pack_ids.npz")
    of = "spectrograms"
    asked_by = "package.spectrograms"
    remedy = "choose a scaling that ends below 65504"

    spectrograms: Spectrograms
    pack: bool = setting("package.spectrograms")


@register_stage
@dataclass(frozen=True)
class PackedTraces(PackedArray):
    """One memory-mapped array of all derivations with their context, and which are alive in each row."""

    name = "packed_traces"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:traces")
    files: ClassVar[tuple[str, ...]] = ("data_package/deriv_pack.npy", "data_package/deriv_pack_ids.npz")
    of = "traces"
    asked_by = "package.derivations"
    remedy = "choose package.derivations_dtype=float32"

    traces: Traces
    pack: bool = setting("package.derivations")

    @property
    def dtype(self) -> str:
        """Type of the array, that of the derivations."""
        return np.dtype(self.traces.dtype).str

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array."""
        return n_items * self.traces.item_bytes()


def _files(
    tables: View, stage: str, files: tuple[str, ...], *, dtype: str, remedy: str
) -> dict[str, Content]:
    """Return a packed array of what a stage keeps of each used item, and what belongs to its rows.

    Parameters
    ----------
    stage : name of an item stage whose files hold ``x``, and ``alive`` where rows can be dead
    files : paths of the array and of its ids
    dtype : of the array
    remedy : what to do where ``dtype`` cannot hold a value
    """
    places = tables.item_places(stage)
    described: dict[str, NDArray[Any]] = {"item_id": np.array(tables.used["item_id"].tolist(), np.str_)}
    if places and "alive" in places[0].read():
        described["alive"] = np.stack([place.read("alive")["alive"] for place in places])
    array, ids = files
    return {array: lambda file: _write_array(file, places, dtype, remedy), ids: npz_bytes(described)}


def _write_array(file: IO[bytes], places: list[Place], dtype: str, remedy: str) -> None:
    """Write one .npy array, an item a row."""
    shape = places[0].read("x")["x"].shape if places else (0, 0, 0)
    header = {"descr": dtype, "fortran_order": False, "shape": (len(places), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for place in places:
        file.write(np.ascontiguousarray(_as_dtype(place.read("x")["x"], dtype, place, remedy)).data)


def _as_dtype(x: NDArray[Any], dtype: str, place: Place, remedy: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        cast = x.astype(dtype, copy=False)
    if not np.isfinite(cast).all():
        raise ConfigError(
            f"the packed array stores float16, which ends at 65504, but {place.name} has values up to "
            f"{np.abs(x).max():g}; {remedy}"
        )
    return cast
