"""What files and folders hold, by their names: the format, the way in, and which ``data=`` it looks like."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from hms.errors import reraise_fault
from hms.terminal import counted, listed

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

_PERHAPS = {
    ".rec": ("EDF by an older name, or TUEV's events", "rename what is EDF to .edf"),
    **dict.fromkeys((".zip", ".gz", ".tar", ".7z", ".rar"), ("archive", "unpack it")),
}
"""What may hold recordings where there are no others."""


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
    told = FORMATS | _PERHAPS
    known = [(ending, n) for ending, n in count.most_common() if ending in told]
    texts = [f"{n} {ending} ({told[ending][0]}: {told[ending][1]})" for ending, n in known]
    others = [ending or "without ending" for ending, _ in count.most_common() if ending not in told]
    if others:
        n_others = sum(n for ending, n in count.items() if ending not in told)
        texts.append(f"{counted(n_others, 'other file')} ({listed(others)})")
    return ", ".join(texts)


# --- folders -------------------------------------------------------------------------------------

_MOST_NAMES = 5_000
_BY_NAME = {"train.csv": "kaggle", "test.csv": "kaggle", "dataset_description.json": "bids"}
_BY_SUFFIX = {
    ".parquet": "kaggle", ".edf": "edf", ".bdf": "edf", ".mat": "iiic", ".vhdr": "mne", ".set": "mne",
    ".fif": "mne", ".gdf": "mne", ".cnt": "mne", ".lay": "mne", ".eeg": "mne", ".mff": "mne",
}  # fmt: skip


def looks_like(folder: Path, *, made_here: str) -> tuple[str, str] | None:
    """Return the option of ``data`` that a folder looks like, and the name that tells, or None.

    It is looked into two levels deep, as far as its first few thousand names go. A folder with a file of the
    name ``made_here`` was made by hms, and is passed over.
    """
    return kind_of(islice(_names(folder, made_here), _MOST_NAMES))


def kind_of(files: Iterable[str]) -> tuple[str, str] | None:
    """Return what `looks_like` does, of the relative names of files; the first of a kind is named."""
    found: dict[str, str] = {}
    for relative in files:
        name = relative.rpartition("/")[2]
        kind = _BY_NAME.get(name) or _BY_SUFFIX.get(os.path.splitext(name)[1].lower())
        if kind is not None:
            found.setdefault(kind, relative)
    for kind in ("bids", "kaggle", "edf", "iiic", "mne"):
        if kind in found:
            return kind, found[kind]
    return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _names(folder: Path, made_here: str, levels: int = 2, above: str = "") -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        reraise_fault(error)
        return
    if any(entry.name == made_here for entry in entries):
        return
    for entry in entries:
        if _is_folder(entry):
            if levels > 1 and not entry.name.startswith("."):
                yield from _names(Path(entry.path), made_here, levels - 1, f"{above}{entry.name}/")
        else:
            yield f"{above}{entry.name}"
