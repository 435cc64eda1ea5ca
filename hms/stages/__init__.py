"""The stages in running order; importing this package registers them all.

reading -> inspections, signal -> derivations -> scalograms, waveforms, traces -> measures, features,
sketches: one pass per recording, in this order. What looks at samples as recorded comes first: they are
still in the processor's cache. spectrograms: from a companion file of the recording.
quality -> meta -> packed and its like, labels, splits -> summary, baseline, report: tables of the whole run.

A stage is thin: its fields, and calls of functions that are in signal, labels, quality, training or
report, which with everything below them it may import.
"""

from hms.stages import (  # noqa: I001 - running order
    reading,
    inspections,
    signal,
    derivations,
    scalograms,
    waveforms,
    traces,
    spectrograms,
    measures,
    features,
    sketches,
    quality,
    meta,
    packed,
    labels,
    splits,
    agreement,
    summary,
    baseline,
    label_issues,
    report_agreement,
    report_baseline,
    report_label_issues,
    report,
)

__all__ = [
    "agreement",
    "baseline",
    "derivations",
    "features",
    "inspections",
    "label_issues",
    "labels",
    "measures",
    "meta",
    "packed",
    "quality",
    "reading",
    "report",
    "report_agreement",
    "report_baseline",
    "report_label_issues",
    "scalograms",
    "signal",
    "sketches",
    "spectrograms",
    "splits",
    "summary",
    "traces",
    "waveforms",
]
