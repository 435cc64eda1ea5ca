"""Scalograms: wavelet power per derivation, averaged over each chain's pairs, scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.schema import Config
from hms.errors import Unusable
from hms.pipeline.stage import ItemStage, derived, register_stage, section_function, setting
from hms.registry import Params
from hms.signal.arrays import Derived, Scalogram
from hms.signal.cwt import Groups, plan_cwt
from hms.signal.filters import FFT_ROWS, removes_offsets
from hms.signal.montage import output_groups
from hms.signal.stretches import shared_power
from hms.signal.wavelets import Cwt, frequencies
from hms.stages.derivations import Derivations

TOGETHER = 4
"""Recordings transformed in one call; more would overflow the processor's cache."""


@register_stage
@dataclass(frozen=True)
class Scalograms(ItemStage):
    """One time-frequency image per chain, or per derivation."""

    name = "scalograms"
    version = 4
    folder: ClassVar[str | None] = "spec_hr_out"
    is_quicker_together: ClassVar[bool] = True

    derivations: Derivations
    cwt: Cwt
    scaling: Params
    output: str = setting("montage.output")
    keeps_mean: bool = derived("keeps_mean", follows=("cwt", "filter"), before=False)

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether they are packed into one array too."""
        return cfg.package.pack

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on derivations with enough context for the longest wavelet."""
        derivations = Derivations.from_config(cfg, wavelet=True)
        cwt: Cwt = cfg.at("cwt")
        keeps_mean = cwt.is_two_sided and removes_offsets(cfg.at("filter"), sfreq=SFREQ_HZ)
        return cls(derivations, cwt, cfg.scaling, cfg.at("montage.output"), keeps_mean)

    def n_values(self) -> int:
        """Return the values of an item's images."""
        n_frames = -(-self.derivations.n_samples() // self.cwt.hop)
        return self.derivations.n_outputs(self.output) * self.cwt.n_freqs * n_frames

    def item_bytes(self) -> int:
        """Return the bytes of an item's array."""
        return int(self.n_values() * np.dtype(self.cwt.dtype).itemsize)

    def compute(self, derived: Derived) -> Scalogram:
        """Average **power**, not the signals: the mean of a chain's signals is the same for both chains."""
        groups, transform_s = self._groups(derived), self.derivations.signal.reading.transform_s
        shared = shared_power(derived, groups, self.cwt, transform_s=transform_s, keeps_mean=self.keeps_mean)
        return self._scaled(self._power([derived.values], derived, groups) if shared is None else shared)

    def compute_together(self, inputs: Sequence[tuple[Derived]]) -> list[Scalogram]:
        """Transform the derivations of several recordings as if one recording had them all."""
        found: dict[int, Scalogram] = {}
        alike: dict[tuple[Any, ...], list[int]] = {}
        for number, (one,) in enumerate(inputs):
            # An FFT takes several rows at once; rows left over may be rounded differently.
            is_whole = one.alive.all() and len(one.values) % FFT_ROWS == 0
            if is_whole and not self.derivations.signal.reading.transform_s:
                kind = one.values.shape, one.n_context, one.sfreq
                alike.setdefault(kind, []).append(number)
            else:
                found[number] = self.compute(one)
        for numbers in alike.values():
            for first in range(0, len(numbers), TOGETHER):
                some = numbers[first : first + TOGETHER]
                made = self._of_alike([inputs[number][0] for number in some])
                found |= dict(zip(some, made, strict=True))
        return [found[number] for number in range(len(inputs))]

    def _of_alike(self, derived: Sequence[Derived]) -> list[Scalogram]:
        """Return the scalograms of recordings whose derivations all live and are of one shape."""
        first, groups = derived[0], self._groups(derived[0])
        of_all = _repeated(groups, len(first.values), len(derived))
        power = self._power([d.values for d in derived], first, of_all)
        by_item = power.reshape(len(derived), len(groups), *power.shape[1:])
        return [self._scaled(some) for some in by_item]

    def _groups(self, derived: Derived) -> Groups:
        return output_groups(self.derivations.chains, self.output, derived.alive)

    def _power(
        self, values: Sequence[NDArray[np.float32]], like: Derived, groups: Groups
    ) -> NDArray[np.float32]:
        plan = plan_cwt(
            self.cwt,
            sfreq=like.sfreq,
            n_context=like.n_context,
            n_window=like.n_window,
            keeps_mean=self.keeps_mean,
        )
        return plan.power(values, groups)

    def _scaled(self, power: NDArray[np.float32]) -> Scalogram:
        scaled = section_function("scaling", self.scaling)(power, self.scaling)
        with np.errstate(over="ignore"):
            x = scaled.astype(self.cwt.dtype, copy=False)
        if not np.isfinite(x).all():
            raise Unusable(
                f"the scalogram has values that {self.cwt.dtype} cannot hold: "
                "the samples are too large, or the scaling keeps power as it is"
            )
        return Scalogram(power, x, frequencies(self.cwt).copy())

    def arrays(self, result: Scalogram) -> Mapping[str, Any]:
        """Return what the file has besides the ids."""
        return {"x": result.x, "freqs": result.freqs}


@lru_cache(maxsize=32)
def _repeated(groups: Groups, n_rows: int, n_items: int) -> Groups:
    """Return the groups of rows of several items, whose rows stand below each other."""
    return tuple(tuple(row + item * n_rows for row in group) for item in range(n_items) for group in groups)
