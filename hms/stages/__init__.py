"""The stages in running order; importing this package registers them all.

reading -> signal -> derivations -> scalograms, waveforms -> measures: one pass per recording.
quality -> meta -> labels, splits -> summary: tables of the whole run.
"""

from hms.stages import (  # noqa: I001 - running order
    reading,
    signal,
    derivations,
    scalograms,
    waveforms,
    measures,
    quality,
    meta,
    labels,
    splits,
    summary,
)

__all__ = [
    "derivations",
    "labels",
    "measures",
    "meta",
    "quality",
    "reading",
    "scalograms",
    "signal",
    "splits",
    "summary",
    "waveforms",
]
