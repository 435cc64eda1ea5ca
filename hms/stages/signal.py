"""Signal: gaps filled, filtered, clipped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.errors import Unusable
from hms.pipeline.stage import ItemStage, derived, register_stage
from hms.signal.arrays import Block, Cleaned
from hms.signal.filters import FilterParams, apply_filter, clip, design_filter
from hms.signal.gaps import fill_gaps
from hms.signal.levels import is_uneven
from hms.signal.montage import all_derivations, find_sources, what_lacks
from hms.sources.base import Segment
from hms.stages.reading import Reading

Array = NDArray[np.float32]


@register_stage
@dataclass(frozen=True)
class Signal(ItemStage):
    """Electrodes without gaps, band-passed with zero phase and clipped."""

    name = "signal"
    version = 3

    reading: Reading
    filter: FilterParams
    derivations: tuple[str, ...] = derived(
        "derivations", follows=("montage.chains", "montage.reference", "montage.ears")
    )
    optional: tuple[str, ...] = derived("optional", follows=("montage.reference", "montage.ears"), before=())

    @classmethod
    def from_config(cls, cfg: Config, *, wavelet: bool = False, more_s: float = 0.0) -> Self:
        """Build for the channels that the montage needs."""
        reading = Reading.from_config(cfg, wavelet=wavelet, more_s=more_s)
        derivations, optional = all_derivations(cfg.at("montage.chains")), cfg.at("montage.optional")
        return cls(reading, cfg.at("filter"), (*derivations, *optional), optional)

    def needed_channels(self) -> tuple[str, ...]:
        """Return the electrodes of the montage, and its pairs, which a bipolar recording has instead."""
        parts = (part for name in self.derivations for part in name.split("-"))
        return tuple(dict.fromkeys((*parts, *self.derivations)))

    def compute(self, segment: Segment) -> Cleaned:
        """Fill gaps, filter, clip; in that order, so that no gap or offset rings and no ringing is kept."""
        channels, absent = find_sources(segment.channels, self.derivations, segment.references)
        lacking = tuple(name for name in absent if name not in self.optional)
        if lacking and (self.reading.missing == "exclude" or not channels):
            has, against, unknown = segment.channels, segment.references, segment.unknown
            raise Unusable(what_lacks(lacking, self.derivations, has, against, unknown))
        rows = _rows(channels, segment.channels)
        dead = np.concatenate([_dead_rows(segment, rows), np.ones(len(lacking), np.bool_)])
        if dead.all():
            raise Unusable("no channel has a usable sample", failure=False)
        clean = partial(self._cleaned, rows=rows, n_lacking=len(lacking), sfreq=segment.sfreq)
        if segment.block is None:
            known = segment.extremes if segment.is_finite else None
            block, (eeg, is_clipped) = None, clean(segment.eeg, known)
        else:
            of_block = segment.block
            known = _extremes_without_gaps(segment, of_block)

            def clean_block(eeg: Array) -> Array:
                # Another window of the block may be the one that was clipped.
                cleaned, of_block.results[self.key, "clipped"] = clean(eeg, known)
                return cleaned

            block = of_block.then(self.key, clean_block, segment.n_context)
            eeg, is_clipped = segment.cut_of(block), of_block.results[self.key, "clipped"]
        return Cleaned(
            eeg,
            (*channels, *lacking),
            dead,
            segment.n_context,
            segment.sfreq,
            is_clipped,
            _references(channels, len(lacking), segment),
            block,
            segment.first,
        )

    def _cleaned(
        self, eeg: Array, known: Array | None, *, rows: slice | list[int], n_lacking: int, sfreq: float
    ) -> tuple[Array, bool]:
        """Return some rows cleaned, with zeros for pairs that are lacking, and whether any was clipped.

        ``known`` are the extremes of each second, None where they are not known or there are gaps.
        """
        filtered = self._filtered(eeg[rows], None if known is None else known[:, rows], sfreq)
        cleaned = clip(filtered, self.filter.clip_uv)
        nothing = np.zeros((n_lacking, cleaned.shape[1]), np.float32)
        return np.concatenate([cleaned, nothing]) if n_lacking else cleaned, cleaned is not filtered

    def _filtered(self, eeg: Array, known: Array | None, sfreq: float) -> Array:
        params = self.filter
        filled = fill_gaps(eeg, params.gaps, sfreq=sfreq) if known is None else eeg
        gain = design_filter(params, n_samples=filled.shape[1], sfreq=sfreq)
        if self.reading.transform_s and is_uneven(filled, sfreq=sfreq, known=known):
            return apply_filter(filled.astype(np.float64), gain).astype(np.float32)
        return apply_filter(filled, gain)


def _extremes_without_gaps(segment: Segment, block: Block) -> Array | None:
    """Return the extremes of each second of a block, with a window's context; None where it has gaps."""
    n_second, cut = max(1, round(segment.sfreq)), block.n_context - segment.n_context
    known = block.extremes(n_second, cut, -(-(block.values.shape[1] - 2 * cut) // n_second))
    return known if known is not None and np.isfinite(known).all() else None


@lru_cache(maxsize=32)
def _rows(wanted: tuple[str, ...], present: tuple[str, ...]) -> slice | list[int]:
    """Return the rows of channels; where they are the first ones, a slice, which copies nothing."""
    if wanted == present[: len(wanted)]:
        return slice(len(wanted))
    return [present.index(name) for name in wanted]


def _references(channels: tuple[str, ...], n_lacking: int, segment: Segment) -> tuple[str, ...]:
    """Return the references of channels, and an empty one for each pair that is lacking."""
    if not segment.references:
        return ()
    against = dict(zip(segment.channels, segment.references, strict=True))
    return tuple(against[name] for name in channels) + ("",) * n_lacking


def _dead_rows(segment: Segment, rows: slice | list[int]) -> NDArray[np.bool_]:
    """Return `dead_channels` of some rows, without a look at the samples where none is missing."""
    if segment.is_finite_inside:
        high, low = segment.extremes
        return np.asarray(high.max(axis=1) <= low.min(axis=1))[rows]
    return dead_channels(segment.eeg[rows])


def dead_channels(eeg: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which channels have no finite sample, or one value only.

    ``eeg`` is float32, shape (n_channels, n_samples), µV; NaN and Inf are gaps.
    """
    finite = np.isfinite(eeg)
    low = np.where(finite, eeg, np.inf).min(axis=1)
    high = np.where(finite, eeg, -np.inf).max(axis=1)
    return np.asarray(high <= low)
