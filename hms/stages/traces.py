"""Traces: the derivations of the window with the context that the transform reaches into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.config.schema import Config
from hms.errors import ConfigError, Unusable
from hms.pipeline.stage import ItemStage, register_stage, setting
from hms.registry import added
from hms.signal.arrays import Derived
from hms.stages.derivations import Derivations

LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Trace:
    """Derivations in µV.

    Attributes
    ----------
    x : float32 or float16, shape (n_derivations, n_context + n_window + n_context), µV
        Dead derivations are zeros.
    alive : bool, shape (n_derivations,)
    """

    x: NDArray[Any]
    alive: NDArray[np.bool_]
    n_context: int
    sfreq: float


@register_stage
@dataclass(frozen=True)
class Traces(ItemStage):
    """What scalograms are made of, kept so that a training device can make them."""

    name = "traces"
    version = 1
    folder: ClassVar[str | None] = "deriv_hr_out"
    follows: ClassVar[tuple[str, ...]] = ("cwt", "package.shift_s")

    derivations: Derivations
    dtype: str = setting("package.derivations_dtype")
    shift_s: float = added(before=0.0, path="package.shift_s")

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether the package is to have them."""
        return cfg.package.derivations

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on the derivations that scalograms are made of."""
        if not cfg.package.derivations:
            raise ConfigError("stages: 'traces' is made by package.derivations=true; leave it out of stages")
        package = cfg.package
        derivations = Derivations.from_config(cfg, wavelet=True, more_s=package.shift_s)
        return cls(derivations, package.derivations_dtype, package.shift_s)

    def n_values(self) -> int:
        """Return the values of an item's derivations with their context."""
        n_derivations = self.derivations.n_outputs("derivations")
        return n_derivations * self.derivations.n_samples(context=True)

    def item_bytes(self) -> int:
        """Return the bytes of an item's array."""
        return self.n_values() * np.dtype(self.dtype).itemsize

    def compute(self, derived: Derived) -> Trace:
        """Return the derivations; what float16 cannot hold makes the item unusable, never infinite."""
        values = np.where(derived.alive[:, np.newaxis], derived.values, np.float32(0))
        largest = float(np.abs(values).max())
        if self.dtype == "float16" and largest > LARGEST_HALF:
            raise Unusable(
                f"derivations reach {largest:.4g} µV and float16 ends at {LARGEST_HALF:g}; "
                "package.derivations_dtype=float32 holds them"
            )
        return Trace(values.astype(self.dtype, copy=False), derived.alive, derived.n_context, derived.sfreq)

    def arrays(self, result: Trace) -> Mapping[str, Any]:
        """Return what the file has besides the ids."""
        context_s = np.float64(result.n_context / result.sfreq)
        return {"x": result.x, "alive": result.alive, "fs": np.float64(result.sfreq), "context_s": context_s}
