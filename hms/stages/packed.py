"""Packed: all scalograms in one array, for fast random reads in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.config import Config, ConfigError
from hms.npz import npz_bytes, read_npz
from hms.stage import Content, TableStage, register_stage, setting
from hms.stages.scalograms import Scalograms
from hms.tables import Tables


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

    def compute(self, tables: Tables) -> Mapping[str, Content]:
        """Return the array, written item by item so that it is never whole in memory, and its ids."""
        ids = np.array(tables.used["item_id"].tolist(), dtype=np.str_)
        paths = tables.item_files("scalograms")
        return {
            self.files[0]: lambda file: _write_array(file, paths),
            self.files[1]: npz_bytes({"item_id": ids}),
        }


def _write_array(file: IO[bytes], paths: list[Path]) -> None:
    """Write one .npy array, float16, shape (n_items, n_outputs, n_freqs, n_frames)."""
    shape = _read_x(paths[0]).shape if paths else (0, 0, 0)
    header = {"descr": "<f2", "fortran_order": False, "shape": (len(paths), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for path in paths:
        file.write(np.ascontiguousarray(_as_float16(_read_x(path), path)).data)


def _read_x(path: Path) -> NDArray[Any]:
    return read_npz(path.read_bytes(), "x")["x"]


def _as_float16(x: NDArray[Any], path: Path) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = x.astype("<f2")
    if not np.isfinite(half).all():
        raise ConfigError(
            f"package.pack=true stores float16, but {path.name} has values up to {x.max():g}; "
            "choose a scaling that ends below 65504, or package.pack=false"
        )
    return half
