"""The files that a recording consists of, in formats that have more than one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from hms.config.reading import is_file, is_folder, walked
from hms.errors import reraise_fault
from hms.sources.base import Place
from hms.sources.folder import Found
from hms.sources.formats import ending_of

ENDINGS = (
    ".ahdr", ".cdt", ".cnt", ".data", ".eeg", ".fif", ".fif.gz", ".gdf", ".lay", ".mefd", ".mff",
    ".nedf", ".nxe", ".raw", ".set", ".vhdr",
)  # fmt: skip
"""Files that are opened: those of BrainVision, Curry, Neuroscan and ANT, Nicolet, Nihon Kohden,
Neuromag, GDF, Persyst, MEF, EGI, Neuroelectrics, eXimia and EEGLAB."""

FOLDERS = (".mff", ".mefd")
"""Formats whose recording is a folder."""


def is_recording(path: str, names: Sequence[str]) -> bool:
    """Tell whether a file, or folder, is one that is opened; ``names`` stand next to it.

    The data file of a BrainVision recording is not: its header is.
    """
    ending = ending_of(path)
    if ending not in ENDINGS or (ending in FOLDERS) != is_folder(path):
        return False
    stem = os.path.splitext(os.path.basename(path))[0].lower()
    headers = {f"{stem}.vhdr", f"{stem}.ahdr"}
    return ending != ".eeg" or not any(name.lower() in headers for name in names)


def without_parts(found: Found) -> Found:
    """Return the files of a folder without those that are part of a recording, such as BrainVision's data."""
    beside: dict[str, list[str]] = {}
    for path in found.files.values():
        beside.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    parts = {
        name
        for name, path in found.files.items()
        if ending_of(path) in ENDINGS and not is_recording(path, beside[os.path.dirname(path)])
    }
    kept = {name: path for name, path in found.files.items() if name not in parts}
    return replace(found, files=kept, others=[*found.others, *sorted(parts)])


_NAMED_FILE = re.compile(rb"^(?:DataFile|MarkerFile|File)\s*=\s*(.+?)\s*$", re.MULTILINE)
_BESIDE = (".json", ".tsv", ".csv", ".csv_bi", ".rec", ".txt", ".edf", ".bdf")
"""Files that share a recording's name and do not belong to it."""


def files_of(path: str) -> list[str]:
    """Return the files that a recording consists of: with its name, or named in its header."""
    if is_folder(path):
        return sorted(os.path.join(base, name) for base, _, names in walked(path) for name in names)
    folder, name = os.path.split(path)
    stem = name[: len(name) - len(ending_of(name))].lower()
    beside = [other for other in os.listdir(folder or ".") if os.path.splitext(other)[0].lower() == stem]
    found = {path, *(os.path.join(folder, other) for other in beside if ending_of(other) not in _BESIDE)}
    if ending_of(name) in (".vhdr", ".ahdr", ".lay"):
        with open(path, "rb") as file:
            header = file.read(1 << 16)
        named = [text.decode("utf-8", "replace").replace("\\", "/") for text in _NAMED_FILE.findall(header)]
        found |= {os.path.join(folder, os.path.basename(text).replace("$b", stem)) for text in named}
    return sorted(file for file in found if is_file(file))


def place_of_files(recording: str, path: str, files: Sequence[str]) -> Place:
    """Return the place of a recording that consists of several files.

    Its size is that of all; its time changes with that of any.
    """
    try:
        stats = [os.stat(file) for file in (files or [path])]
    except OSError as error:
        reraise_fault(error)
        return Place(recording, path, None, None)
    time_ns = sum(status.st_mtime_ns for status in stats) % 2**62
    return Place(recording, path, sum(status.st_size for status in stats), time_ns)
