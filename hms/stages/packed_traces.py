"""Packed traces: derivations with their context in one array, for transforms on a training device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.stage import TableStage, register_stage, setting
from hms.pipeline.tables import View
from hms.stages.packed import packed_files
from hms.stages.traces import Traces
from hms.store.files import Content


@register_stage
@dataclass(frozen=True)
class PackedTraces(TableStage):
    """One memory-mapped array of all derivations, with item_id and live derivations of each row."""

    name = "packed_traces"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:traces")
    files: ClassVar[tuple[str, ...]] = ("data_package/deriv_pack.npy", "data_package/deriv_pack_ids.npz")

    traces: Traces
    pack: bool = setting("package.derivations")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the package is to have the array."""
        return cfg.package.derivations

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration that asks for it."""
        if not cfg.package.derivations:
            raise ConfigError(
                "stages: 'packed_traces' is made by package.derivations=true; leave it out of stages"
            )
        return super().from_config(cfg)

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array."""
        return n_items * self.traces.item_bytes()

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids."""
        remedy = "choose package.derivations_dtype=float32"
        return packed_files(
            tables, "traces", self.files, dtype=np.dtype(self.traces.dtype).str, remedy=remedy
        )
