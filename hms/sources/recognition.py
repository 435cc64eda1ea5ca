"""What a folder holds, by the names in it: which ``data=`` it looks like."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from hms.errors import reraise_fault

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
