"""The stages in running order; importing this package registers them all.

reading -> signal -> derivations -> scalograms, waveforms -> measures, features: one pass per recording.
quality -> meta -> packed, labels, splits -> summary, baseline: tables of the whole run.
"""

from hms.stages import (  # noqa: I001 - running order
    reading,
    signal,
    derivations,
    scalograms,
    waveforms,
    measures,
    features,
    quality,
    meta,
    packed,
    labels,
    splits,
    summary,
    baseline,
)

__all__ = [
    "baseline",
    "derivations",
    "features",
    "labels",
    "measures",
    "meta",
    "packed",
    "quality",
    "reading",
    "scalograms",
    "signal",
    "splits",
    "summary",
    "waveforms",
]
