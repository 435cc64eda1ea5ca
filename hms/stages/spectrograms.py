"""Spectrograms: the competition's own, cut, scaled and in the order of the scalograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hms.config.schema import Config
from hms.errors import ConfigError, Unusable
from hms.pipeline.stage import (
    ItemStage,
    kind_of_a_plugin,
    register_stage,
    section_function,
    source_of_a_plugin,
)
from hms.registry import Params
from hms.signal.arrays import Spectrogram
from hms.signal.spectrograms import KaggleSpectrograms
from hms.sources.spectrograms import SPECTROGRAM, Crop

N_VALUES = 4 * 100 * 300
"""Values of ten minutes: chains, frequencies, rows."""


@register_stage
@dataclass(frozen=True)
class Spectrograms(ItemStage):
    """Ten minutes around the sub-window, chains LL, LP, RL, RP, scaled like the scalograms."""

    name = "spectrograms"
    version = 1
    folder: ClassVar[str | None] = "spec_lr_out"
    suffix: ClassVar[str] = "lr"
    origin: ClassVar[str] = SPECTROGRAM

    spectrograms: KaggleSpectrograms
    scaling: Params
    plugin_source: str | None = source_of_a_plugin()

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the configuration says where spectrograms come from."""
        return cfg.spectrograms.kind != "none"

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build from a configuration that says where spectrograms come from."""
        if cfg.spectrograms.kind == "none":
            raise ConfigError("stages: 'spectrograms' needs a source of them; choose spectrograms=kaggle")
        return cls(cfg.at("spectrograms"), cfg.scaling, kind_of_a_plugin(cfg))

    def n_values(self) -> int:
        """Return the values of an item's spectrograms."""
        return N_VALUES

    def item_bytes(self) -> int:
        """Return the bytes of an item's array."""
        return self.n_values() * np.dtype(np.float32).itemsize

    def compute(self, crop: Crop) -> Spectrogram:
        """Fill gaps, then scale."""
        if not np.isfinite(crop.power).any():
            raise Unusable("the spectrogram's sub-window has no usable value", failure=False)
        power = section_function("spectrograms", self.spectrograms)(crop.power, self.spectrograms)
        x = section_function("scaling", self.scaling)(power, self.scaling)
        return Spectrogram(np.asarray(x, np.float32), crop.freqs)

    def arrays(self, result: Spectrogram) -> Mapping[str, Any]:
        """Return what the file has besides the ids."""
        return {"x": result.x, "freqs": result.freqs}
