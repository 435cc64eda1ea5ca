"""The competition's folder: train.csv next to train_eegs/<eeg_id>.parquet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.paths import Address, located
from hms.errors import ConfigError, Unusable
from hms.labels.classes import Ballot
from hms.registry import register
from hms.sources.archive import Files, files_of
from hms.sources.base import Openable, Part, Place, SourceParams, WholeFiles
from hms.sources.bucket import bucket_at
from hms.sources.channels import Channels, find_channels
from hms.sources.files import check_decoded_size, float32_rows, one_batch, open_parquet
from hms.sources.spectrograms import SPECTROGRAM, SpectrogramFile
from hms.store.files import digest_bytes
from hms.terminal import shortened

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hms.sources.tables import VotesTable

COMPETITION = "hms-harmful-brain-activity-classification"
USUAL_PLACES = (
    f"/kaggle/input/{COMPETITION}",
    f"/kaggle/input/competitions/{COMPETITION}",
    f"data/{COMPETITION}",
    f"data/{COMPETITION}.zip",
    f"{COMPETITION}.zip",
)
"""The last is where ``kaggle competitions download`` leaves its archive."""

HOW_TO_GET_DATA = (
    "; name the folder that holds train.csv and train_eegs/, or its .zip, with data.root or $HMS_DATA. "
    f"To download it: kaggle competitions download -c {COMPETITION}. Without it, data=synthetic works"
)


@dataclass(frozen=True)
class Kaggle(SourceParams):
    """Settings of the competition's folder, and which of its two tables is read.

    Attributes
    ----------
    root : folder with train.csv and train_eegs/, its zip, or its address in object storage (``s3://...``)
    subset : which table is read: train.csv with votes, or test.csv without
    extra : table with more rows for training, such as pseudo-labels
    """

    root: str | None
    subset: Literal["train", "test"]
    # Not `added(...)`: a checker would take that for a default, which no setting has.
    extra: str | None = field(metadata={"before": None})

    def overlaps(self, window_s: float) -> bool:
        """Tell that they do: sub-windows of 50 s follow each other by a few seconds."""
        return True

    @property
    def answers_every_row(self) -> bool:
        """A test set is answered row by row, whatever its recordings are like."""
        return self.subset == "test"


@register("data", "kaggle", Kaggle)
def open_kaggle(params: Kaggle, *, outputs_dir: Path, n_jobs: int) -> ParquetSource:
    """Open the competition's folder, its archive as downloaded, or another in its layout, anywhere."""
    return ParquetSource(
        find_root(params.root),
        params.aliases,
        f"{params.subset}.csv",
        f"{params.subset}_eegs",
        f"{params.subset}_spectrograms",
        labelled=not params.answers_every_row,
        extra=None if params.extra is None else Path(params.extra).expanduser(),
    )


def find_root(root: str | None) -> Path | Address:
    """Return the folder, archive or address that was named, or the first of the usual places that exists.

    Raises `ConfigError` if the folder is not there; the text says how to get the data.
    """
    for setting, named in (("data.root", root), ("HMS_DATA", os.environ.get("HMS_DATA") or None)):
        if named is None:
            continue
        place = located(named)
        if isinstance(place, Address):
            bucket_at(place).check()
        elif not _is_data(place):
            raise ConfigError(f"{setting}={named} is neither a folder nor a .zip{HOW_TO_GET_DATA}")
        return place
    for usual in USUAL_PLACES:
        if _is_data(Path(usual)):
            return Path(usual)
    raise ConfigError(f"no recordings in {', '.join(USUAL_PLACES)}{HOW_TO_GET_DATA}")


def _is_data(place: Path) -> bool:
    return place.is_dir() or (place.suffix.lower() == ".zip" and place.is_file())


@dataclass(frozen=True)
class ParquetSource(WholeFiles):
    """A folder, an archive or an address of one, with a votes table and one parquet file per recording."""

    name: ClassVar[str] = "kaggle"

    root: Path | Address
    aliases: tuple[tuple[str, str], ...]
    table: str = "train.csv"
    folder: str = "train_eegs"
    spectrograms: str = "train_spectrograms"
    labelled: bool = True
    extra: Path | None = None

    @property
    def _files(self) -> Files:
        return files_of(self.root, self.table)

    def watched(self) -> list[str] | None:
        """Return the table, the folders, and the usual places, where a data set may turn up."""
        if isinstance(self.root, Address):
            return None
        root = str(self.root.absolute())
        if not self.root.is_dir():
            return [*USUAL_PLACES, root]
        folders = (f"{root}/{name}/" for name in (self.folder, self.spectrograms))
        return [*USUAL_PLACES, f"{root}/{self.table}", *folders]

    def votes(self, ballot: Ballot) -> VotesTable:
        """Return the validated votes table."""
        from hms.sources.tables import votes_from_csv

        path, data = self.root / self.table, self._files.table(self.table)
        if data is None:
            raise ConfigError(f"{path} does not exist{HOW_TO_GET_DATA}")
        if not self._files.has_folder(self.folder):
            raise ConfigError(f"{self.root / self.folder} is not a folder{HOW_TO_GET_DATA}")
        votes = votes_from_csv(data, path, ballot, require_votes=self.labelled)
        return votes if self.extra is None else self._with_extra(votes, self.extra, ballot)

    def _with_extra(self, votes: VotesTable, path: Path, ballot: Ballot) -> VotesTable:
        """Return a votes table with the rows of a second one, whose recordings are in the same folder."""
        from hms.sources.extra import add_rows, read_extra

        if not self.labelled:
            raise ConfigError(f"data.extra={path} adds rows for training; leave it out for a test set")
        extra = read_extra(path, votes, ballot)
        places = self.places(dict.fromkeys(extra.frame["recording"].tolist()))
        known = set(votes.frame["recording"].tolist())
        return add_rows(
            votes, extra, [p.recording for p in places if p.size is None and p.recording not in known]
        )

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return path, size and time of each recording."""
        return self._files.places(self.folder, recordings)

    def ahead(self, parts: Sequence[Part]) -> None:
        """Begin to read what is opened next, where that takes long."""
        self._files.ahead(parts)

    def open(self, place: Place) -> ParquetRecording:
        """Read a file's bytes once and open them."""
        return ParquetRecording(self._files.read(place), dict(self.aliases))

    def companions(self, kind: str, items: pd.DataFrame) -> tuple[list[Place | None], list[float]]:
        """Return each item's spectrogram file, and where its ten minutes start in it."""
        if kind != SPECTROGRAM:
            return super().companions(kind, items)
        files, folder = self._files, self.spectrograms
        if not files.has_folder(folder):
            raise ConfigError(
                f"{self.root.absolute() / folder} is not a folder; spectrograms=kaggle needs it, "
                "choose spectrograms=none"
            )
        names = [name if isinstance(name, str) else "" for name in items["spectrogram_id"].tolist()]
        offsets = items["spectrogram_offset_s"]
        if not self.labelled:
            # test.csv has no offsets: a test file is the ten minutes themselves.
            offsets = offsets.fillna(0.0)
        distinct = [name for name in dict.fromkeys(names) if name]
        known = dict(zip(distinct, files.places(folder, distinct), strict=True))
        lacking = offsets.isna().tolist()
        places = [
            None if not name else _without_offset(known[name]) if lacks else known[name]
            for name, lacks in zip(names, lacking, strict=True)
        ]
        return places, offsets.fillna(0.0).tolist()

    def open_companion(self, place: Place, kind: str) -> Openable:
        """Open a spectrogram file."""
        return SpectrogramFile(self._files.read(place, kind))


def _without_offset(place: Place) -> Place:
    """Return the place of a spectrogram whose offset, and so the item's ten minutes, is not known."""
    problem = "the table has no spectrogram_label_offset_seconds for it"
    return replace(place, size=None, mtime_ns=None, problem=problem)


class ParquetRecording:
    """A recording in a parquet file, decoded from bytes that were read once.

    Only the columns asked for are decoded, of the row groups that hold the samples asked for, and
    no further than to the last of these: whoever asks for later ones is given the whole groups.
    """

    sfreq = SFREQ_HZ

    def __init__(self, data: bytes, aliases: dict[str, str]) -> None:
        self.digest = digest_bytes(data)
        self._file, reason = open_parquet(data)
        self._reason = reason
        self._schema = None if self._file is None else self._file.schema_arrow
        self._labels = () if self._schema is None else tuple(self._schema.names)
        self.named = _find_columns(self._labels, tuple(aliases.items()))
        self._decoded: _Decoded | None = None

    def digest_of(self, part: str) -> str:
        """Return the digest of the whole file."""
        return self.digest

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the file's columns."""
        return self.named.keys

    @property
    def n_samples(self) -> int:
        """Rows of the file."""
        return int(self._opened.metadata.num_rows)

    @property
    def _opened(self) -> pq.ParquetFile:
        if self._file is None:
            raise Unusable(f"the {self._reason}")
        return self._file

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV, NaN outside the file."""
        n_samples = self.n_samples
        if not channels:
            return np.empty((0, stop - start), dtype=np.float32)
        first, last = max(start, 0), min(stop, n_samples)
        groups, offset = self._row_groups(first, last)
        with self._damaged():
            decoded = self._decode(groups, channels, last - offset)
            samples = float32_rows(decoded.slice(first - offset, last - first))
        if (first, last) == (start, stop):
            return samples
        eeg = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        eeg[:, first - start : last - start] = samples
        return eeg

    def _row_groups(self, first: int, last: int) -> tuple[tuple[int, ...], int]:
        """Return the row groups that hold some samples, and the first sample of the first of them."""
        metadata = self._opened.metadata
        if metadata.num_row_groups == 1:
            return (0,), 0
        ends = np.cumsum([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
        begin, end = np.searchsorted(ends, [first, max(first, last - 1)], side="right")
        offset = int(ends[begin - 1]) if begin else 0
        return tuple(range(int(begin), int(end) + 1)), offset

    def _decode(self, groups: tuple[int, ...], channels: tuple[str, ...], n_rows: int) -> pa.RecordBatch:
        """Decode at least the first rows of columns of some row groups; the result is kept."""
        known = self._decoded
        if known is None or (known.groups, known.channels) != (groups, channels) or known.n_rows < n_rows:
            if known is not None:
                metadata = self._opened.metadata
                n_rows = sum(metadata.row_group(i).num_rows for i in groups)
            batch = self._batch_of(groups, channels, n_rows)
            self._decoded = known = _Decoded(groups, channels, n_rows, batch)
        return known.batch

    def _batch_of(self, groups: tuple[int, ...], channels: tuple[str, ...], n_rows: int) -> pa.RecordBatch:
        names = [self._labels[self.named.places[key]] for key in channels]
        check_decoded_size(self._opened, groups, names, n_rows, self._schema)
        batches = self._opened.iter_batches(n_rows, list(groups), columns=names, use_threads=False)
        found = list(_first_rows(batches, n_rows))
        n_found = sum(batch.num_rows for batch in found)
        if n_found < n_rows:
            raise ValueError(f"it holds {n_found} of the {n_rows} rows that it says")
        return one_batch(found).select(names)

    @contextmanager
    def _damaged(self) -> Iterator[None]:
        """Say of what goes wrong that the file is damaged."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, KeyError, OSError, ValueError) as error:
            raise Unusable(f"the file is damaged: {shortened(error)}") from None


@dataclass(frozen=True)
class _Decoded:
    """The first rows of columns of some row groups, in the order of the channels."""

    groups: tuple[int, ...]
    channels: tuple[str, ...]
    n_rows: int
    batch: pa.RecordBatch


def _first_rows(batches: Iterable[pa.RecordBatch], n_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches until they hold so many rows."""
    for batch in batches:
        yield batch
        n_rows -= batch.num_rows
        if n_rows <= 0:
            return


@lru_cache(maxsize=64)
def _find_columns(labels: tuple[str, ...], aliases: tuple[tuple[str, str], ...]) -> Channels:
    """Find the columns once for all files that name them alike."""
    return find_channels(labels, dict(aliases))
