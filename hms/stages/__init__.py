"""The stages in running order; importing this package registers them all.

reading -> inspections, signal -> derivations -> scalograms, waveforms, traces -> measures, features,
sketches: one pass per recording, in this order. What looks at samples as recorded comes first: they are
still in the processor's cache. spectrograms: from a companion file of the recording.
quality -> meta -> packed and its like, labels, splits -> summary, baseline, report: tables of the whole run.

A stage is thin: its fields, and calls of functions that are in signal, labels, quality, training or
report. It may import these and everything below them.
"""

from hms.stages import (  # noqa: F401, I001 - registered in running order
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
