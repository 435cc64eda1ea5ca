"""Packed waveforms: all of them in one array, for fast random reads in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.stages.packed import packed_files
from hms.stages.waveforms import Waveforms
from hms.store.files import Content


@register_stage
@dataclass(frozen=True)
class PackedWaveforms(TableStage):
    """One memory-mapped array of all waveforms, with the item_id of each row beside it."""

    name = "packed_waveforms"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:waveforms")
    files: ClassVar[tuple[str, ...]] = ("data_package/wave_pack.npy", "data_package/wave_pack_ids.npz")

    waveforms: Waveforms
    pack: bool = setting("package.waveforms")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the package is to have the array."""
        return cfg.package.waveforms

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration that asks for it."""
        if not cfg.package.waveforms:
            raise ConfigError(
                "stages: 'packed_waveforms' is made by package.waveforms=true; leave it out of stages"
            )
        return super().from_config(cfg)

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array at two bytes a value."""
        return n_items * self.waveforms.item_bytes() // 2

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids."""
        remedy = "limit electrodes with filter.clip_uv, or choose package.waveforms=false"
        return packed_files(tables, "waveforms", self.files, dtype="<f2", remedy=remedy)
