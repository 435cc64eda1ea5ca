"""What recordings are in, by the endings of files, and the way in for each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

FORMATS = {
    ".edf": ("EDF", "data=edf"),
    ".bdf": ("BDF", "data=edf"),
    ".parquet": ("parquet", "data=kaggle, with a train.csv beside the folder train_eegs"),
    ".mat": ("MATLAB", "data=iiic, if they are IIIC samples"),
    ".vhdr": ("BrainVision", "data=mne, or data=bids"),
    ".ahdr": ("BrainVision", "data=mne"),
    ".set": ("EEGLAB", "data=mne, or data=bids"),
    ".gdf": ("GDF", "data=mne"),
    ".cnt": ("Neuroscan or ANT", "data=mne"),
    ".eeg": ("Nihon Kohden or BrainVision", "data=mne"),
    ".lay": ("Persyst", "data=mne"),
    ".fif": ("FIF", "data=mne"),
    ".fif.gz": ("FIF", "data=mne"),
    ".mff": ("EGI", "data=mne"),
    ".raw": ("EGI", "data=mne"),
    ".nedf": ("Neuroelectrics", "data=mne"),
    ".cdt": ("Curry", "data=mne"),
    ".data": ("Nicolet, old", "data=mne"),
    ".mefd": ("MEF", "data=mne"),
    ".nxe": ("eXimia", "data=mne"),
    ".nwb": ("NWB", "convert to EDF"),
    ".trc": ("Micromed", "convert to EDF, see docs/sources.md"),
    ".e": ("Nicolet", "convert to EDF, see docs/sources.md"),
    ".edf.gz": ("compressed EDF", "unpack them (gunzip), then data=edf"),
    ".bdf.gz": ("compressed BDF", "unpack them (gunzip), then data=edf"),
}
"""Name of a format, and how its files are prepared, by the ending of their names in lower case."""


def ending_of(name: str) -> str:
    """Return a file's ending as `FORMATS` has it, in lower case; empty if it has none."""
    lower = name.lower()
    double = next((ending for ending in FORMATS if ending.count(".") > 1 and lower.endswith(ending)), None)
    return double or os.path.splitext(lower)[1]


def described(names: Iterable[str]) -> str:
    """Return what some files are, most first, and the way in for each kind; "no files" for none."""
    count = Counter(ending_of(name) for name in names)
    if not count:
        return "no files"
    known = [(ending, n) for ending, n in count.most_common() if ending in FORMATS]
    texts = [f"{n} {ending} ({FORMATS[ending][0]}: {FORMATS[ending][1]})" for ending, n in known]
    n_others = sum(n for ending, n in count.items() if ending not in FORMATS)
    others = ", ".join(
        ending or "without ending" for ending, _ in count.most_common() if ending not in FORMATS
    )
    return ", ".join(texts + ([f"{n_others} other files ({others[:60]})"] if n_others else []))
