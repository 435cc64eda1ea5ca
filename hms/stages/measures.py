"""Measures: what quality control knows of one recording, from its input to its output."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from hms.competition import CHANNELS, SFREQ_HZ
from hms.config.schema import Config
from hms.pipeline.stage import ItemStage, register_stage
from hms.quality.blocks import Row
from hms.quality.coherence import observe_coherence
from hms.quality.inputs import INPUT_OBSERVATIONS, derive_input, observe_input
from hms.quality.inspection import Inspection
from hms.quality.outputs import (
    OUTPUT_OBSERVATIONS,
    derive_output,
    edge_share,
    observe_output,
    observe_waveforms,
)
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

Given = tuple[Segment, Inspection, Cleaned, Derived, Scalogram, Waveform]
"""What measures are taken of."""

OBSERVATIONS = INPUT_OBSERVATIONS | OUTPUT_OBSERVATIONS
"""Observations that measures are derived from; they are no measures themselves."""


@register_stage
@dataclass(frozen=True)
class Measures(ItemStage):
    """One row of measures per item; limits and grades come later, in a table stage."""

    name = "measures"
    version = 12
    rows: ClassVar[bool] = True
    is_quicker_together: ClassVar[bool] = True

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
        return self._of_alike([(segment, inspection, cleaned, derived, scalogram, waveform)])[0]

    def compute_together(self, inputs: Sequence[Given]) -> list[Mapping[str, Any]]:
        """Observe at once of several items what takes long to call: covariances."""
        alike: dict[Hashable, list[int]] = {}
        for number, (_, _, cleaned, _, _, waveform) in enumerate(inputs):
            kind = cleaned.channels, cleaned.window.shape, waveform.x.shape
            alike.setdefault(kind, []).append(number)
        found: dict[int, Mapping[str, Any]] = {}
        for numbers in alike.values():
            found |= zip(numbers, self._of_alike([inputs[number] for number in numbers]), strict=True)
        return [found[number] for number in range(len(inputs))]

    def _of_alike(self, inputs: Sequence[Given]) -> list[Mapping[str, Any]]:
        """Return what is observed of items with the same electrodes and shapes."""
        coherence = observe_coherence([given[2].window for given in inputs], inputs[0][2].channels)
        together: Row = {**coherence, **observe_waveforms([given[5].x for given in inputs])}
        return [
            {**{name: values[number] for name, values in together.items()}, **self._alone(given)}
            for number, given in enumerate(inputs)
        ]

    def _alone(self, given: Given) -> Row:
        segment, inspection, cleaned, derived, scalogram, _ = given
        params = self.signal.filter
        return {
            **observe_input(inspection, segment, cleaned, clip_uv=params.clip_uv),
            **observe_output(
                inspection,
                cleaned,
                derived,
                scalogram,
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
