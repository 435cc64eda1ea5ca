"""The tables of one run, each with the digest by which a table stage knows what it read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import xxhash

from hms.config import digest_of
from hms.npz import read_npz
from hms.store import Reason

if TYPE_CHECKING:
    import pandas as pd

    from hms.sources.tables import VotesTable
    from hms.stage import ItemStage

__all__ = ["Tables", "frame_digest"]

T = TypeVar("T")


class Tables:
    """What table stages read.

    Attributes
    ----------
    votes : the source's validated table
    items : one row per item, in first-appearance order of the votes table
    reasons : per item, why it could not be prepared, or None
    facts : what a page may say of the run: its hash, configuration and versions
    recording_digests : per item, the digest of its recording's bytes, None where it was not read
    """

    def __init__(
        self,
        votes: VotesTable,
        items: pd.DataFrame,
        reasons: Sequence[Reason | None],
        *,
        load_rows: Callable[[str], dict[str, np.ndarray[Any, Any]]],
        rows_digest: Callable[[str], str],
        item_files: Callable[[str], Mapping[int, Path]],
        evaluate: Callable[[int, Sequence[ItemStage]], list[Any]],
        facts: Mapping[str, Any],
        recording_digests: Sequence[str | None],
    ) -> None:
        self.recording_digests = list(recording_digests)
        self.votes, self.items, self.facts = votes, items, facts
        self._evaluate = evaluate
        self.reasons = list(reasons)
        self._load_rows, self._rows_digest, self._item_files = load_rows, rows_digest, item_files
        self._rows: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        self._files: dict[str, tuple[Path, str]] = {}
        self._read: dict[tuple[str, Callable[[Path], Any]], Any] = {}

    def exclude(self, rows: Mapping[int, Reason]) -> None:
        """Leave further items out; only before anything read `used`."""
        assert not rows or "is_used" not in self.__dict__, "items were used before the last exclusion"
        for row, reason in rows.items():
            self.reasons[row] = reason

    @cached_property
    def is_used(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows of `items` are used."""
        return np.fromiter((reason is None for reason in self.reasons), bool, len(self.reasons))

    @cached_property
    def used(self) -> pd.DataFrame:
        """Items of the package, one row each; row i is the same item in every file."""
        return self.items[self.is_used].reset_index(drop=True)

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """Items left out, with the stage that found it and the reason."""
        left = self.items.loc[~self.is_used, ["item_id", "eeg_id"]].reset_index(drop=True)
        reasons = [reason for reason in self.reasons if reason is not None]
        return left.assign(stage=[r.stage for r in reasons], reason=[r.text for r in reasons])

    def rows(self, stage: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return what an item stage with rows found, each array with one row per prepared item.

        ``rows["row"]`` says which row of `items` each belongs to; it ascends. Those of one stage
        are in memory at a time.
        """
        if stage not in self._rows:
            self._rows = {}
            self._rows[stage] = self._load_rows(stage)
        return self._rows[stage]

    def item_files(self, stage: str) -> list[Path]:
        """Return the file of every used item that an item stage with a folder wrote, in the order of `used`.

        ``rows:<stage>`` among a stage's `inputs` stands for their contents.
        """
        files = self._item_files(stage)
        return [files[row] for row in np.flatnonzero(self.is_used).tolist()]

    def evaluate(self, row: int, *stages: ItemStage) -> list[Any]:
        """Return what item stages give for one prepared item, anew from its recording.

        For the few items that a picture shows in full: keeping them for all would be
        gigabytes. ``rows:<stage>`` among a stage's `inputs` stands for what this depends on.

        Raises
        ------
        StorageError
            If the recording is not the one that was prepared.
        """
        return self._evaluate(row, stages)

    def add_file(self, path: str, stored: Path, digest: str) -> None:
        """Make a file of the run that another stage wrote readable under its path in the run."""
        self._files[path] = (stored, digest)

    def has(self, path: str) -> bool:
        """Whether a stage that ran before wrote a file of the run."""
        return path in self._files

    def file(self, path: str) -> Path:
        """Return where a file of the run that another stage wrote lies."""
        return self._files[path][0]

    def read(self, path: str, reader: Callable[[Path], T]) -> T:
        """Return what a function makes of a file of the run, made once; not to be changed."""
        key = path, reader
        if key not in self._read:
            self._read[key] = reader(self.file(path))
        return cast(T, self._read[key])

    def arrays(self, path: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of an npz file that another stage wrote."""
        return read_npz(self.file(path).read_bytes())

    def digest(self, name: str) -> str:
        """Return the digest of a table, of a file of the run, or of ``rows:<stage>``, by its name.

        A file whose name ends in ``?`` may be lacking; its digest is empty then.

        Raises
        ------
        KeyError
            If the file was not written yet.
        """
        kind, _, stage = name.partition(":")
        if kind == "rows":
            return self._rows_digest(stage)
        if name.endswith("?"):
            return self._files[name[:-1]][1] if self.has(name[:-1]) else ""
        if "/" in name:
            return self._files[name][1]
        return str(getattr(self, f"_digest_of_{name}"))

    @cached_property
    def _digest_of_facts(self) -> str:
        return digest_of(self.facts)

    @cached_property
    def _digest_of_votes(self) -> str:
        return self.votes.digest

    @cached_property
    def _digest_of_items(self) -> str:
        return frame_digest(self.items)

    @cached_property
    def _digest_of_used(self) -> str:
        return frame_digest(self.used)

    @cached_property
    def _digest_of_reasons(self) -> str:
        return digest_of([[r.stage, r.text] if r else None for r in self.reasons])

    @cached_property
    def _digest_of_recordings(self) -> str:
        return digest_of(self.recording_digests)

    @cached_property
    def _digest_of_excluded(self) -> str:
        return frame_digest(self.excluded)


def frame_digest(frame: pd.DataFrame) -> str:
    """Return a digest of a table's column names and values, row order included."""
    digest = xxhash.xxh3_128()
    for name in frame.columns:
        column = frame[name]
        kind = column.dtype.kind if isinstance(column.dtype, np.dtype) else "O"
        digest.update(f"\0{name}\0{kind}\0".encode())
        if kind in "iufb":
            digest.update(np.ascontiguousarray(column.to_numpy()).tobytes())
        else:
            digest.update("\0".join(map(str, column.tolist())).encode())
    return digest.hexdigest()
