"""Measures: what quality control knows of one recording, from its input to its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from hms.quality.measures import (
    OBSERVATIONS,
    Inspection,
    derive_input,
    derive_output,
    edge_share,
    observe_input,
    observe_output,
)
from hms.signal.filters import FilterParams
from hms.signal.wavelets import Cwt
from hms.sources.base import Segment
from hms.stage import ItemStage, register_stage
from hms.stages.derivations import Derivations, Derived
from hms.stages.inspections import Inspections
from hms.stages.reading import Reading
from hms.stages.scalograms import Scalogram, Scalograms
from hms.stages.signal import Cleaned, Signal
from hms.stages.waveforms import Waveform, Waveforms


@register_stage
@dataclass(frozen=True)
class Measures(ItemStage):
    """One row of measures per item; limits and grades come later, in a table stage."""

    name = "measures"
    version = 9
    rows: ClassVar[bool] = True

    reading: Reading
    inspections: Inspections
    signal: Signal
    derivations: Derivations
    scalograms: Scalograms
    waveforms: Waveforms

    def compute(
        self,
        segment: Segment,
        inspection: Inspection,
        cleaned: Cleaned,
        derived: Derived,
        scalogram: Scalogram,
        waveform: Waveform,
    ) -> Mapping[str, Any]:
        """Look at the input as well as the output: a gap that was filled leaves a finite x."""
        params = self.signal.filter
        assert isinstance(params, FilterParams)
        return {
            **observe_input(inspection, segment, cleaned, clip_uv=params.clip_uv),
            **observe_output(derived, scalogram, waveform),
            "edge_share": self._edge_share(segment),
        }

    def _edge_share(self, segment: Segment) -> Any:
        params = self.scalograms.cwt
        assert isinstance(params, Cwt)
        before, after = (segment.n_context - n for n in segment.n_outside)
        return edge_share(params, sfreq=segment.sfreq, n_window=segment.n_window, before=before, after=after)

    def arrays(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what was observed."""
        return result

    def derive_rows(self, rows: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Derive the measures from what was observed of many items."""
        measured = {name: values for name, values in rows.items() if name not in OBSERVATIONS}
        return {**measured, **derive_input(rows), **derive_output(rows, self.derivations.chains)}
