"""The IIIC recordings: expert-labelled samples published as MATLAB files.

Each file ``<sample>.mat`` holds ``seg``, 20 channels of 50 s at 200 Hz in µV, in the
channel order of the competition; a look-up table holds the experts' votes.

References
----------
Jing et al., Development of Expert-Level Classification of Seizures and Rhythmic and
Periodic Patterns During EEG Interpretation, Neurology 100 (2023); repository
bdsp-core/IIIC-SPaRCNet, Open Data Commons Attribution Licence 1.0.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, CLASSES, SFREQ_HZ
from hms.config.reading import regular_bytes
from hms.errors import ConfigError, Unusable, reraise_fault
from hms.labels.classes import Ballot
from hms.registry import register
from hms.sources.base import Place, SourceParams, WholeFiles
from hms.sources.channels import find_channels
from hms.sources.files import place_of, read_bytes
from hms.sources.folder import folder_of
from hms.sources.tables import VotesTable
from hms.sources.windows import windows_from_rows
from hms.store.files import digest_bytes
from hms.terminal import say, shortened

LUT_CLASSES = ("other", "seizure", "lpd", "gpd", "lrda", "grda")
"""Order of the votes in the look-up table."""

TABLE_NAME = "LUT"
SIGNAL_NAME = "seg"


@dataclass(frozen=True)
class Iiic(SourceParams):
    """Settings of a folder of IIIC samples: the folder, and the look-up table's name in it.

    Attributes
    ----------
    root : folder of the samples and the look-up table
    votes : name of the look-up table in that folder; None: a package without labels
    """

    root: str | None
    votes: str | None


@register("data", "iiic", Iiic)
def open_iiic(params: Iiic, *, outputs_dir: Path, n_jobs: int) -> IiicSource:
    """Open a folder of samples."""
    root = folder_of(params.root, "with the samples' .mat files")
    if not root.is_dir():
        raise ConfigError(f"data.root={params.root} is not a folder")
    return IiicSource(root, params)


@dataclass(frozen=True)
class IiicSource(WholeFiles):
    """A folder of samples with one look-up table of votes."""

    name: ClassVar[str] = "iiic"

    root: Path
    params: Iiic

    def votes(self, ballot: Ballot) -> VotesTable:
        """Return one window per file; a file that the table does not name has no votes."""
        names = sorted(
            path.stem
            for path in self.root.iterdir()
            if path.suffix.lower() == ".mat" and path.name != self.params.votes
        )
        if not names:
            raise ConfigError(f"data.root={self.root} has no .mat file with a recording")
        rows: list[dict[str, Any]] = [{"recording": n, "patient_id": n, "start_s": 0.0} for n in names]
        if self.params.votes is None:
            return windows_from_rows(rows, self.root, ballot)
        path = self.root / self.params.votes
        known = read_votes_table(path)
        unknown = len(set(known) - set(names))
        if unknown:
            say(f"{path.name} has votes for {unknown} recordings not in {self.root}; they are left out")
        no_votes = {f"{name}_vote": 0 for name in CLASSES}
        rows = [row | known.get(row["recording"], no_votes) for row in rows]
        return windows_from_rows(rows, path, ballot)

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return path, size and time of each recording."""
        base = os.path.abspath(self.root)
        return [place_of(name, os.path.join(base, f"{name}.mat")) for name in recordings]

    def open(self, place: Place) -> MatRecording:
        """Read a file's bytes once and decode them."""
        return MatRecording(read_bytes(place), dict(self.params.aliases))


class MatRecording:
    """A recording in a MATLAB file, version 5 to 7."""

    sfreq = SFREQ_HZ

    def __init__(self, data: bytes, aliases: dict[str, str]) -> None:
        self._digest = digest_bytes(data)
        self._eeg: NDArray[np.float32] | None = None
        self._reason = ""
        try:
            self._eeg = _signals(load_mat(data, SIGNAL_NAME))
        except ValueError as error:
            self._reason = str(error)
        self._places = find_channels(CHANNELS, aliases).places

    def digest_of(self, part: str) -> str:
        """Return the digest of the whole file."""
        return self._digest

    @property
    def channels(self) -> tuple[str, ...]:
        """The competition's channels: the files do not name theirs."""
        return tuple(self._places)

    @property
    def eeg(self) -> NDArray[np.float32]:
        """All samples, shape (20, n_samples), µV; raises `Unusable` where the file is not a recording."""
        if self._eeg is None:
            raise Unusable(self._reason)
        return self._eeg

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return int(self.eeg.shape[1])

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV, NaN outside the recording."""
        out = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        first, last = max(start, 0), min(stop, self.n_samples)
        rows = [self._places[name] for name in channels]
        out[:, first - start : last - start] = self.eeg[rows, first:last]
        return out


def load_mat(data: bytes, name: str) -> Any:
    """Return a variable of a MATLAB file.

    Raises `ValueError` if the bytes are not such a file, one of version 7.3, or lack the variable.
    """
    from scipy.io import loadmat

    if (data[:6] == b"MATLAB" and b"HDF5" in data[:128]) or data[:4] == b"\x89HDF":
        raise ValueError("the file is MATLAB version 7.3; save it with -v7")
    try:
        found = loadmat(cast(Any, io.BytesIO(data)), variable_names=[name])
    except Exception as error:  # scipy raises whatever damaged bytes lead to
        reraise_fault(error)
        raise ValueError(f"the file is damaged or no MATLAB file: {shortened(error)}") from None
    if name not in found:
        raise ValueError(f"the MATLAB file has no variable '{name}'")
    return found[name]


def _signals(seg: Any) -> NDArray[np.float32]:
    is_numbers = isinstance(seg, np.ndarray) and seg.ndim == 2 and seg.dtype.kind in "fiu"
    if not is_numbers or seg.shape[0] != len(CHANNELS):
        raise ValueError(
            f"'{SIGNAL_NAME}' must be numbers of shape ({len(CHANNELS)}, samples); "
            f"it is {getattr(seg, 'dtype', type(seg).__name__)} of shape {getattr(seg, 'shape', ())}"
        )
    return np.asarray(seg, dtype=np.float32)


def read_votes_table(path: Path) -> dict[str, dict[str, int]]:
    """Return the votes of each sample by vote column.

    Raises `ConfigError` if the file is not such a look-up table.
    """
    try:
        table = load_mat(regular_bytes(path), TABLE_NAME)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); data.votes names the look-up table, "
            f"data.votes=null prepares the samples without votes"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    rows: dict[str, dict[str, int]] = {}
    for name, votes in _entries(table, path):
        if name in rows:
            raise ConfigError(f"{path}: '{name}' appears in the table more than once")
        rows[name] = {f"{cls}_vote": n for cls, n in zip(LUT_CLASSES, votes, strict=True)}
    return rows


def _entries(table: Any, path: Path) -> list[tuple[str, list[int]]]:
    """Return name and votes of each row; the rows may be in cells of cells."""
    found = []
    for row in _rows(table):
        name, votes = _text(row[0]), np.asarray(row[1]).ravel()
        if name is None or votes.size != len(LUT_CLASSES) or votes.dtype.kind not in "iuf":
            raise ConfigError(
                f"{path}: a row of '{TABLE_NAME}' is a name and {len(LUT_CLASSES)} votes, not {row!r:.80}"
            )
        found.append((name, [int(n) for n in votes]))
    return found


def _rows(cell: Any) -> list[Any]:
    """Return the rows of nested cell arrays: a row begins with a text."""
    cells = list(np.atleast_1d(cell)) if isinstance(cell, np.ndarray) and cell.dtype == object else []
    if len(cells) >= 2 and _text(cells[0]) is not None:
        return [cells]
    return [row for inner in cells for row in _rows(inner)]


def _text(value: Any) -> str | None:
    array = np.asarray(value)
    return str(array.ravel()[0]) if array.dtype.kind == "U" and array.size == 1 else None
