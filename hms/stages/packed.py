"""Packed: all scalograms in one array, for fast random reads in training."""

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
from hms.store.files import Content
from hms.store.npz import npz_bytes
from hms.store.shards import Place


@register_stage
@dataclass(frozen=True)
class Packed(TableStage):
    """One memory-mapped array of all scalograms, with the item_id of each row beside it."""

    name = "packed"
    version = 1
    inputs: ClassVar[tuple[str, ...]] = ("used", "rows:scalograms")
    files: ClassVar[tuple[str, ...]] = ("data_package/spec_pack.npy", "data_package/spec_pack_ids.npz")

    scalograms: Scalograms
    pack: bool = setting("package.pack")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the package is to have the array."""
        return cfg.package.pack

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration; power that is not scaled does not fit into float16."""
        if not cfg.package.pack:
            raise ConfigError("stages: 'packed' is made by package.pack=true; leave it out of stages")
        if cfg.scaling.kind == "none":
            raise ConfigError(
                "package.pack=true stores float16, which ends at 65504, and scaling=none keeps power in µV²; "
                "choose scaling=log1p_percentile or package.pack=false"
            )
        return cls(Scalograms.from_config(cfg), cfg.package.pack)

    def table_bytes(self, n_items: int) -> int:
        """Return the bytes of the array."""
        return n_items * self.scalograms.n_values() * np.dtype(np.float16).itemsize

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids."""
        remedy = "choose a scaling that ends below 65504, or package.pack=false"
        return packed_files(tables, "scalograms", self.files, dtype="<f2", remedy=remedy)


def packed_files(
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
