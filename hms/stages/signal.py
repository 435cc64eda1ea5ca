"""Signal: gaps filled, filtered, clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hms.config import Config
from hms.registry import Params
from hms.signal.filters import apply_filter, clip, design_filter
from hms.signal.gaps import fill_gaps
from hms.signal.montage import electrodes
from hms.sources.base import Segment
from hms.stage import ItemStage, Unusable, register_stage, setting
from hms.stages.reading import Reading


@dataclass(frozen=True)
class Cleaned:
    """Electrodes after cleaning.

    Attributes
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
    channels : names of the rows
    dead : bool, shape (n_channels,); no usable or no changing sample over what was read
    """

    eeg: NDArray[np.float32]
    channels: tuple[str, ...]
    dead: NDArray[np.bool_]
    n_context: int
    sfreq: float


@register_stage
@dataclass(frozen=True)
class Signal(ItemStage):
    """Electrodes without gaps, band-passed with zero phase and clipped."""

    name = "signal"
    version = 1

    reading: Reading
    filter: Params
    channels: tuple[str, ...] = setting("derived.channels")

    @classmethod
    def from_config(cls, cfg: Config, *, wavelet: bool = False) -> Self:
        """Build for the electrodes that the montage needs."""
        reading = Reading.from_config(cfg, wavelet=wavelet)
        return cls(reading, cfg.filter, electrodes(cfg.at("montage.chains")))

    def compute(self, segment: Segment) -> Cleaned:
        """Fill gaps, filter, clip; in that order, so that no gap or offset rings and no ringing is kept."""
        eeg = self._pick(segment)
        dead = dead_channels(eeg)
        if dead.all():
            raise Unusable("no channel has a usable sample", failure=False)
        params: Any = self.filter
        filled = fill_gaps(eeg, params.gaps, sfreq=segment.sfreq)
        gain = design_filter(params, n_samples=filled.shape[1], sfreq=segment.sfreq)
        eeg = clip(apply_filter(filled, gain), params.clip_uv)
        return Cleaned(eeg, self.channels, dead, segment.n_context, segment.sfreq)

    def _pick(self, segment: Segment) -> NDArray[np.float32]:
        lacking = [name for name in self.channels if name not in segment.channels]
        if lacking:
            raise Unusable(
                f"the montage needs channel {', '.join(lacking)}, which the recording lacks; "
                f"it has {', '.join(segment.channels) or 'none of the known names'} "
                f"(data.aliases renames channels)"
            )
        return segment.eeg[[segment.channels.index(name) for name in self.channels]]


def dead_channels(eeg: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which channels have no finite sample, or one value only.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV; NaN and Inf are gaps
    """
    finite = np.isfinite(eeg)
    low = np.where(finite, eeg, np.inf).min(axis=1)
    high = np.where(finite, eeg, -np.inf).max(axis=1)
    return np.asarray(high <= low)
