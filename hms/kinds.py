"""Imports every module that registers functions, so that a configuration can name them."""

import hms.labels.folds
import hms.labels.items
import hms.labels.weights
import hms.quality.ledger
import hms.signal.cwt
import hms.signal.filters
import hms.signal.gaps
import hms.signal.montage
import hms.signal.scaling
import hms.signal.spectrograms
import hms.signal.waveform
import hms.signal.wavelets
import hms.sources.edf
import hms.sources.embedded
import hms.sources.iiic
import hms.sources.kaggle
import hms.training.augment
import hms.training.baseline  # noqa: F401
