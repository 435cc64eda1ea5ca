"""Measures: what quality control knows of one recording, from its input to its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from hms.competition import CHANNELS, SFREQ_HZ
from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage
from hms.quality.inputs import INPUT_OBSERVATIONS, derive_input, observe_input
from hms.quality.inspection import Inspection
from hms.quality.outputs import OUTPUT_OBSERVATIONS, derive_output, edge_share, observe_output
from hms.signal.arrays import Cleaned, Derived, Scalogram, Waveform
from hms.signal.montage import all_derivations
from hms.signal.wavelets import frequencies
from hms.sources.base import Segment
from hms.stages.derivations import Derivations
from hms.stages.inspections import Inspections
from hms.stages.reading import Reading
from hms.stages.scalograms import Scalograms
from hms.stages.signal import Signal
from hms.stages.waveforms import Waveforms

OBSERVATIONS = INPUT_OBSERVATIONS | OUTPUT_OBSERVATIONS
"""Observations that measures are derived from; they are no measures themselves."""


@register_stage
@dataclass(frozen=True)
class Measures(ItemStage):
    """One row of measures per item; limits and grades come later, in a table stage."""

    name = "measures"
    version = 12
    rows: ClassVar[bool] = True

    reading: Reading
    inspections: Inspections
    signal: Signal
    derivations: Derivations
    scalograms: Scalograms
    waveforms: Waveforms

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build on the reading that is inspected: all that x rests on."""
        built = super().from_config(cfg)
        return replace(built, reading=built.inspections.reading)

    def needed_channels(self) -> tuple[str, ...]:
        """Return all channels of the 10-20 system too: electrodes are judged with their neighbours."""
        return tuple(dict.fromkeys((*super().needed_channels(), *CHANNELS)))

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
        return {
            **observe_input(inspection, segment, cleaned, clip_uv=params.clip_uv),
            **observe_output(
                inspection,
                cleaned,
                derived,
                scalogram,
                waveform,
                derivations=all_derivations(self.derivations.chains),
                weights=self.derivations.weights(cleaned, inspection.names),
                top_hz=self._top_hz,
                edge=self._edge_share(segment),
            ),
        }

    @property
    def _top_hz(self) -> float:
        return float(frequencies(self.scalograms.cwt)[-1])

    def _edge_share(self, segment: Segment) -> Any:
        params = self.scalograms.cwt
        before, after = (segment.n_context - n for n in segment.n_outside)
        return edge_share(params, sfreq=segment.sfreq, n_window=segment.n_window, before=before, after=after)

    def arrays(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what was observed."""
        return result

    def derive_rows(self, rows: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Derive the measures from what was observed of many items."""
        measured = {name: values for name, values in rows.items() if name not in OBSERVATIONS}
        outputs = derive_output(
            rows, self.derivations.chains, self.signal.filter, top_hz=self._top_hz, sfreq=SFREQ_HZ
        )
        return {**measured, **derive_input(rows), **outputs}
