"""Files of a BIDS data set: their names, the tables next to them, and which table belongs to which.

References
----------
Gorgolewski et al., The brain imaging data structure, Sci Data 3 (2016); Pernet et al.,
EEG-BIDS, Sci Data 6 (2019); BIDS specification 1.10, "Common principles" (entities, the
inheritance principle) and "Electroencephalography" (channels.tsv, events.tsv).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hms.errors import ConfigError

ENDINGS = (".edf", ".bdf", ".vhdr", ".set")
"""Formats that EEG-BIDS allows, by the file that is opened."""

_NAME = re.compile(
    r"(?P<entities>[A-Za-z]+-[A-Za-z0-9+]+(?:_[A-Za-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)"
)
_SUBJECT, _SESSION = re.compile(r"sub-[A-Za-z0-9+]+"), re.compile(r"ses-[A-Za-z0-9+]+")
NOT_STATED = ("", "n/a")


@dataclass(frozen=True)
class BidsFile:
    """A recording of a BIDS data set.

    Attributes
    ----------
    root : folder of the data set
    path : the file that is opened
    entities : what its name says: ``{"sub": "01", "ses": "1", "task": "rest", "run": "1"}``
    """

    root: Path
    path: Path
    entities: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Name of the file without its ending: ``sub-01_ses-1_task-rest_eeg``."""
        return self.path.name[: -len(self.path.suffix)]

    @property
    def patient(self) -> str:
        """The participant, as participants.tsv calls them: ``sub-01``."""
        return f"sub-{dict(self.entities)['sub']}"


def parse_name(name: str) -> tuple[dict[str, str], str] | None:
    """Return entities and suffix of a file's name, its endings left out; None where it is not such a name."""
    found = _NAME.fullmatch(name.partition(".")[0])
    if found is None:
        return None
    pairs = [part.split("-", 1) for part in found["entities"].split("_")]
    return {pair[0]: pair[1] for pair in pairs}, found["suffix"]


def find_recordings(root: Path) -> list[BidsFile]:
    """Return the EEG recordings of a data set, in the order of participants, sessions and names.

    ``sub-<label>/[ses-<label>/]eeg/`` is searched and nothing else, so that ``derivatives``, ``sourcedata``
    and ``code`` are left alone. Raises `ConfigError` if the folder has no participants.
    """
    subjects = _folders(root, _SUBJECT)
    if not subjects:
        raise ConfigError(
            f"data.root={root} has no folder sub-<label>, so it is not a BIDS data set; name the folder with "
            "the participants, or choose data=edf or data=mne for a folder of files"
        )
    found = []
    for subject in subjects:
        for folder in (subject, *_folders(subject, _SESSION)):
            found += list(_recordings_in(root, folder / "eeg"))
    return found


def _folders(base: Path, name: re.Pattern[str]) -> list[Path]:
    return sorted(Path(e.path) for e in os.scandir(base) if name.fullmatch(e.name) and e.is_dir())


def _recordings_in(root: Path, folder: Path) -> Iterator[BidsFile]:
    if not folder.is_dir():
        return
    for name in sorted(os.listdir(folder)):
        parsed = parse_name(name)
        if parsed and parsed[1] == "eeg" and os.path.splitext(name)[1].lower() in ENDINGS:
            yield BidsFile(root, folder / name, tuple(parsed[0].items()))


def beside(file: BidsFile, ending: str) -> Path | None:
    """Return the table that belongs to a recording: ``ending`` is ``_channels.tsv`` or ``_events.tsv``.

    The nearest applies, from the recording's folder up to the data set's; in one folder that
    with most entities. A table applies if the recording has all of its entities.
    """
    own = set(file.entities)
    suffix = ending.removeprefix("_").partition(".")[0]
    folder = file.path.parent
    while True:
        applicable = []
        for name in _tables_in(str(folder), os.stat(folder).st_mtime_ns):
            parsed = parse_name(name) if name.endswith(ending) else None
            if parsed and parsed[1] == suffix and set(parsed[0].items()) <= own:
                applicable.append((len(parsed[0]), folder / name))
            elif name == ending.removeprefix("_"):
                applicable.append((0, folder / name))
        if applicable:
            return max(applicable)[1]
        if folder == file.root:
            return None
        folder = folder.parent


@lru_cache(maxsize=4096)
def _tables_in(folder: str, mtime_ns: int) -> tuple[str, ...]:
    """Return the tables in a folder, looked at once while it stays as it is."""
    return tuple(name for name in os.listdir(folder) if name.endswith(".tsv"))


@dataclass(frozen=True, slots=True)
class BidsChannel:
    """A row of channels.tsv, "" where it says nothing.

    Attributes
    ----------
    name, type, unit, reference : as the table spells them, the type in capitals
    is_bad : whether its status is ``bad``
    """

    name: str
    type: str
    unit: str
    is_bad: bool
    reference: str = ""


def channels_of(data: bytes, path: Path) -> tuple[BidsChannel, ...]:
    """Return the rows of a channels.tsv; raise `ConfigError` if it has no column ``name``."""
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "name" not in header:
        raise ConfigError(f"{path}: lacks the column 'name'; the header has {', '.join(header) or 'nothing'}")

    def cell(row: list[str], column: str) -> str:
        at = header.index(column) if column in header else len(row)
        text = row[at].strip() if at < len(row) else ""
        return "" if text.lower() in NOT_STATED else text

    return tuple(
        BidsChannel(
            cell(row, "name"),
            cell(row, "type").upper(),
            cell(row, "units"),
            cell(row, "status").lower() == "bad",
            cell(row, "reference"),
        )
        for row in rows[1:]
    )
