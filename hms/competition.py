"""Facts of the HMS competition, with their sources.

References
----------
Kaggle, "HMS - Harmful Brain Activity Classification" (2024), data page: files, columns,
channel order, sampling rate and the place of the judged ten seconds in a sub-window.
"""

from __future__ import annotations

SFREQ_HZ = 200.0
"""Sampling rate of every recording of the competition."""

EEG_CHANNELS = (
    "Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "Fz", "Cz",
    "Pz", "Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2",
)  # fmt: skip
"""The 19 electrodes of the 10-20 system in the order of the files."""

EKG_CHANNEL = "EKG"
CHANNELS = (*EEG_CHANNELS, EKG_CHANNEL)

CLASSES = ("seizure", "lpd", "gpd", "lrda", "grda", "other")
"""Classes in the order of the vote columns; a tie of votes goes to the first."""

CLASS_NAMES = ("Seizure", "LPD", "GPD", "LRDA", "GRDA", "Other")
"""The classes as ``expert_consensus`` spells them."""

VOTE_COLUMNS = tuple(f"{name}_vote" for name in CLASSES)

SUB_WINDOW_S = 50.0
"""Length of a labelled sub-window."""

JUDGED_START_S = 20.0
JUDGED_LENGTH_S = 10.0
"""Experts judged the middle ten seconds of a sub-window."""

CHAINS = ("LL", "LP", "RL", "RP")
"""Chains of the double banana: left and right, lateral (temporal) and parasagittal."""

HIGH_CONFIDENCE_VOTES = 10
"""No row of the competition has 8 or 9 votes: 10 separates the two strata."""

TRAIN_COLUMNS = (
    "eeg_id", "eeg_sub_id", "eeg_label_offset_seconds",
    "spectrogram_id", "spectrogram_sub_id", "spectrogram_label_offset_seconds",
    "label_id", "patient_id", "expert_consensus", *VOTE_COLUMNS,
)  # fmt: skip
"""Columns of train.csv in file order."""
