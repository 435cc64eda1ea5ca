"""Packed: all scalograms, waveforms ... in one array each, for fast random reads in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

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
from hms.store.shards import Place, write_rows


class PackedArray(TableStage):
    """A shard of one array of each used item, without the rows of others, and the item_id of each row.

    Attributes
    ----------
    of : the item stage, and the field that holds it
    asked_by : the setting that asks for the array
    remedy : what to do about a value that the array cannot hold
    """

    of: ClassVar[str]
    asked_by: ClassVar[str]
    remedy: ClassVar[str]

    def __init_subclass__(cls, *, of: str, array: str, asked_by: str) -> None:
        super().__init_subclass__()
        cls.of, cls.asked_by, cls.inputs = of, asked_by, ("used", f"rows:{of}")
        cls.files = (f"data_package/{array}.npy", f"data_package/{array}_ids.npz")

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
        """Return the bytes of the array."""
        return int(n_items * getattr(self, self.of).n_values() * np.dtype(self.dtype).itemsize)

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids.

        The ids come with ``alive`` of each row if rows of an item can be dead.
        """
        places = tables.item_places(self.of)
        described: dict[str, NDArray[Any]] = {"item_id": np.array(tables.used["item_id"].tolist(), np.str_)}
        first = places[0].read() if places else {"x": np.zeros((0, 0, 0), self.dtype)}
        if "alive" in first:
            described["alive"] = np.stack([place.read("alive")["alive"] for place in places])
        kind = np.dtype((self.dtype, first["x"].shape))
        array, ids = self.files
        return {
            array: lambda file: write_rows(file, kind, len(places), self._values(places)),
            ids: npz_bytes(described),
        }

    def _values(self, places: list[Place]) -> Iterator[NDArray[Any]]:
        """Yield the items' values in the type of the array."""
        for place in places:
            x = place.read("x")["x"]
            with np.errstate(over="ignore"):
                cast = x.astype(self.dtype, copy=False)
            if not np.isfinite(cast).all():
                raise ConfigError(
                    f"the packed array stores float16, which ends at 65504, but {place.name} has values up "
                    f"to {np.abs(x).max():g}; {self.remedy}, or choose {self.asked_by}=false"
                )
            yield cast


@register_stage
@dataclass(frozen=True)
class Packed(PackedArray, of="scalograms", array="spec_pack", asked_by="package.pack"):
    """One memory-mapped array of all scalograms."""

    name = "packed"
    version = 1
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


@register_stage
@dataclass(frozen=True)
class PackedWaveforms(PackedArray, of="waveforms", array="wave_pack", asked_by="package.waveforms"):
    """One memory-mapped array of all waveforms."""

    name = "packed_waveforms"
    version = 1
    remedy = "limit electrodes with filter.clip_uv"

    waveforms: Waveforms
    pack: bool = setting("package.waveforms")


@register_stage
@dataclass(frozen=True)
class PackedSpectrograms(PackedArray, of="spectrograms", array="lr_pack", asked_by="package.spectrograms"):
    """One memory-mapped array of all the competition's spectrograms."""

    name = "packed_spectrograms"
    version = 1
    remedy = "choose a scaling that ends below 65504"

    spectrograms: Spectrograms
    pack: bool = setting("package.spectrograms")


@register_stage
@dataclass(frozen=True)
class PackedTraces(PackedArray, of="traces", array="deriv_pack", asked_by="package.derivations"):
    """One memory-mapped array of all derivations with their context, and which are alive in each row."""

    name = "packed_traces"
    version = 1
    remedy = "choose package.derivations_dtype=float32"

    traces: Traces
    pack: bool = setting("package.derivations")

    @property
    def dtype(self) -> str:
        """Type of the array, that of the derivations."""
        return np.dtype(self.traces.dtype).str
