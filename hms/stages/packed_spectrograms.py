"""Packed spectrograms: all of them in one array, for fast random reads in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.stages.packed import packed_files
from hms.stages.spectrograms import Spectrograms
from hms.store.files import Content


@register_stage
@dataclass(frozen=True)
class PackedSpectrograms(TableStage):
    """One memory-mapped array of all spectrograms, with the item_id of each row beside it."""

    name = "packed_spectrograms"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:spectrograms")
    files: ClassVar[tuple[str, ...]] = ("data_package/lr_pack.npy", "data_package/lr_pack_ids.npz")

    spectrograms: Spectrograms
    pack: bool = setting("package.spectrograms")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the package is to have the array."""
        return cfg.package.spectrograms

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration that asks for it."""
        if not cfg.package.spectrograms:
            raise ConfigError(
                "stages: 'packed_spectrograms' is made by package.spectrograms=true; leave it out of stages"
            )
        return super().from_config(cfg)

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array at two bytes a value."""
        return n_items * self.spectrograms.item_bytes() // 2

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids."""
        remedy = "choose a scaling that ends below 65504, or package.spectrograms=false"
        return packed_files(tables, "spectrograms", self.files, dtype="<f2", remedy=remedy)
