"""The tables of one run, and the view of them that a table stage gets: what it declares, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from hms.config.identity import digest_of
from hms.store.columns import Reason
from hms.store.files import Damaged, digest_file
from hms.store.npz import read_npz
from hms.store.places import Keyed
from hms.store.rows import PackedRows
from hms.store.shards import Place

if TYPE_CHECKING:
    import pandas as pd

    from hms.sources.tables import VotesTable

T = TypeVar("T")


class Declaring(Protocol):
    """A table stage, as far as tables know it: what it reads and writes."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    @property
    def declared(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    def chain(self) -> Mapping[str, Any]:
        """Return the stage and everything that it reads, by key."""
        ...


class UndeclaredInput(Exception):
    """A stage reads something that its key does not cover, and would miss changes of it."""


class Tables:
    """Everything that table stages may read; each is handed a `View` of what it declares.

    Attributes
    ----------
    votes : the source's validated table
    items : one row per item, in first-appearance order of the votes table
    reasons : per item, why it could not be prepared, or None
    facts : what a page may say of the run: its hash, configuration and versions
    recording_digests : per item, the digest of its recording's bytes, None where it was not read
    file_flags : per item, the flags of what was mended of its recording's file
    once : gives what is made of some content, as it was made by an earlier run where there is one
    evaluate : gives the results of item stages for the item of a row, again from its recording; raises
        `StorageError` if the recording is not the one that was prepared
    """

    def __init__(
        self,
        votes: VotesTable,
        items: pd.DataFrame,
        reasons: Sequence[Reason | None],
        *,
        packed_rows: Callable[[str], PackedRows],
        rows_digest: Callable[[str], str],
        item_places: Callable[[str], Mapping[int, Place]],
        evaluate: Callable[[int, Sequence[Any]], list[Any]],
        once: Callable[[Any, Callable[[], Mapping[str, Any]]], dict[str, Any]],
        facts: Mapping[str, Any],
        recording_digests: Sequence[str | None],
        file_flags: Sequence[str],
    ) -> None:
        self.recording_digests, self.file_flags = list(recording_digests), list(file_flags)
        self.votes, self.items, self.facts = votes, items, facts
        self.evaluate, self.once = evaluate, once
        self.reasons = list(reasons)
        self.packed, self._rows_digest, self._item_places = packed_rows, rows_digest, item_places
        self._files: dict[str, tuple[Path, str]] = {}
        self._whole = set[str]()
        self._digests: dict[str, str] = {}
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
        # Where all are used, their columns are not copied.
        chosen = self.items if self.is_used.all() else self.items[self.is_used]
        return chosen.reset_index(drop=True)

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """Items left out, with the stage that found it and the reason."""
        left = self.items.loc[~self.is_used, ["item_id", "eeg_id"]].reset_index(drop=True)
        reasons = [reason for reason in self.reasons if reason is not None]
        return left.assign(stage=[r.stage for r in reasons], reason=[r.text for r in reasons])

    def rows(self, stage: str, which: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray[Any]]:
        """Return what an item stage with rows found, each array with one row per prepared item.

        ``rows["row"]`` says which row of `items` each belongs to; it ascends. ``which`` picks arrays by name.
        Those of all items are in memory together; `packed` reads some at a time.
        """
        packed = self.packed(stage)
        return {"row": packed.row} | packed.read(which)

    def keep(self, names: Iterable[str]) -> None:
        """Drop all parsed files from memory except those of these names."""
        wanted = {name.removesuffix("?") for name in names}
        self._read = {key: value for key, value in self._read.items() if key[0] in wanted}

    def item_places(self, stage: str) -> list[Place]:
        """Return where the output of an item stage is kept, for every used item in the order of `used`."""
        files = self._item_places(stage)
        return [files[row] for row in np.flatnonzero(self.is_used).tolist()]

    def add_file(self, path: str, stored: Path, digest: str) -> None:
        """Make a file of the run that another stage wrote readable under its path in the run."""
        self._files[path] = (stored, digest)

    def has(self, path: str) -> bool:
        """Whether a stage that ran before wrote a file of the run."""
        return path in self._files

    def file(self, path: str) -> Path:
        """Return where a file that another stage wrote is; raises `StorageError` if it is damaged."""
        stored, digest = self._files[path]
        if path not in self._whole:
            if digest_file(stored) != digest:
                raise Damaged(stored)
            self._whole.add(path)
        return stored

    def read(self, path: str, reader: Callable[[Path], T]) -> T:
        """Return a file of the run as a reader gives it; it is read once and must not be changed."""
        key = path, reader
        if key not in self._read:
            self._read[key] = reader(self.file(path))
        return cast(T, self._read[key])

    def arrays(self, path: str) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of an npz file that another stage wrote."""
        return read_npz(self.file(path).read_bytes())

    def digest(self, name: str) -> str:
        """Return the digest of a table, of a file of the run, or of ``rows:<stage>``, by its name.

        A name that ends in ``?`` is that of a file that may be lacking; its digest is then empty. Raises
        `KeyError` if any other file was not written yet.
        """
        kind, _, stage = name.partition(":")
        if kind == "rows":
            return self._rows_digest(stage)
        if name.endswith("?"):
            return self._files[name[:-1]][1] if self.has(name[:-1]) else ""
        if "/" in name:
            return self._files[name][1]
        if name not in self._digests:
            self._digests[name] = _DIGESTS[name](self)
        return self._digests[name]


_DIGESTS: Mapping[str, Callable[[Tables], str]] = {
    "facts": lambda tables: digest_of(tables.facts),
    "votes": lambda tables: tables.votes.digest,
    "items": lambda tables: frame_digest(tables.items),
    "used": lambda tables: tables.digest("items") if tables.is_used.all() else frame_digest(tables.used),
    "reasons": lambda tables: digest_of([[r.stage, r.text] if r else None for r in tables.reasons]),
    "recordings": lambda tables: digest_of(tables.recording_digests),
    "file_flags": lambda tables: digest_of(tables.file_flags),
    "excluded": lambda tables: frame_digest(tables.excluded),
}
"""Digest of each table, by the word that a stage declares it by."""


class View:
    """The tables that one stage declares in its `inputs`; anything else is refused.

    What a stage reads is part of the identity of its files because it declares it. A stage that
    could read more would be found done when what it read had changed.

    Raises
    ------
    UndeclaredInput
        From whatever reads something that is not declared, naming the stage and the word to add.
    """

    def __init__(self, tables: Tables, stage: Declaring, names: Sequence[str] | None = None) -> None:
        self._tables, self._stage = tables, stage
        self._declared = {name.removesuffix("?") for name in (stage.declared if names is None else names)}

    def _need(self, *words: str) -> None:
        if not self._declared.intersection(words):
            raise UndeclaredInput(
                f"stage '{self._stage.name}' reads '{words[0]}', which its inputs do not name, so a change "
                f"of it would go unnoticed; add '{words[0]}' to its inputs"
            )

    def _need_file(self, path: str) -> None:
        if path not in self._stage.files:  # its own files are read back by `exclusions`
            self._need(path)

    @property
    def votes(self) -> VotesTable:
        """The source's validated table; declared as ``votes``."""
        self._need("votes")
        return self._tables.votes

    @property
    def items(self) -> pd.DataFrame:
        """One row per item, used or not; declared as ``items``."""
        self._need("items")
        return self._tables.items

    @property
    def used(self) -> pd.DataFrame:
        """Items of the package, row i the same item in every file; declared as ``used``."""
        self._need("used")
        return self._tables.used

    @property
    def excluded(self) -> pd.DataFrame:
        """Items left out, with stage and reason; declared as ``excluded``."""
        self._need("excluded")
        return self._tables.excluded

    @property
    def reasons(self) -> list[Reason | None]:
        """Per item, why it is left out, or None; declared as ``reasons``."""
        self._need("reasons")
        return self._tables.reasons

    @property
    def is_used(self) -> NDArray[np.bool_]:
        """Which rows of `items` are used; declared as ``reasons``."""
        self._need("reasons")
        return self._tables.is_used

    @property
    def facts(self) -> Mapping[str, Any]:
        """The run's hash, configuration and versions; declared as ``facts``."""
        self._need("facts")
        return self._tables.facts

    @property
    def recording_digests(self) -> list[str | None]:
        """Per item, the digest of its recording; declared as ``recordings``."""
        self._need("recordings")
        return self._tables.recording_digests

    @property
    def file_flags(self) -> list[str]:
        """Per item, the flags of what was mended of its recording; declared as ``file_flags``."""
        self._need("file_flags")
        return self._tables.file_flags

    def rows(self, stage: str, which: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray[Any]]:
        """Return `Tables.rows` of an item stage; declared as ``rows:<stage>``."""
        self._need(f"rows:{stage}")
        return self._tables.rows(stage, which)

    def packed(self, stage: str) -> PackedRows:
        """Return the rows of an item stage, to be read in pieces; declared as ``rows:<stage>``."""
        self._need(f"rows:{stage}")
        return self._tables.packed(stage)

    def rows_of_used(self, stage: str) -> dict[str, NDArray[Any]]:
        """Return what an item stage with rows found of the items used, row i that of row i of `used`.

        Declared as ``rows:<stage>`` and ``used``. Empty where no item could be prepared.
        """
        self._need("used")
        rows = self.rows(stage)
        wanted = np.flatnonzero(self._tables.is_used)
        places = np.searchsorted(rows["row"], wanted)
        assert np.array_equal(rows["row"][places], wanted), f"an item is in use but has no row of {stage}"
        return {name: values[places] for name, values in rows.items() if name != "row"}

    def item_places(self, stage: str) -> list[Place]:
        """Return the file of every item used; declared as ``rows:<stage>``, which covers their contents."""
        self._need(f"rows:{stage}")
        self._need("used")
        return self._tables.item_places(stage)

    def evaluate(self, row: int, *stages: Keyed) -> list[Any]:
        """Return what item stages give for one prepared item, again from its recording.

        For the few items that a picture shows in full: keeping them for all would be gigabytes.
        ``rows:<stage>`` of any stage stands for the recordings; the stages must be among those
        that this one reads, whose settings are in its key.
        """
        self._need(*(name for name in self._declared if name.startswith("rows:")), "rows:<stage>")
        known = self._stage.chain()
        for stage in stages:
            if stage.key not in known:
                raise UndeclaredInput(
                    f"stage '{self._stage.name}' evaluates '{stage.name}', which it does not read, so its "
                    "settings are not in the key; add a field of that stage"
                )
        return self._tables.evaluate(row, stages)

    def once(
        self, what: Sequence[Any], names: Sequence[str], make: Callable[[View], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return what a function makes of some of the declared, or made of the same in an earlier run.

        Parameters
        ----------
        what : which function it is, and the settings that it follows
        names : what it reads, as `inputs` declares it; its view has nothing else
        make : returns what JSON takes
        """
        for name in names:
            self._need(name.removesuffix("?"))
        digests = {name: self._tables.digest(name) for name in names}
        return self._tables.once([*what, digests], lambda: make(View(self._tables, self._stage, names)))

    def has(self, path: str) -> bool:
        """Whether a file of the run was made; declared as its path, with ``?`` where it may be lacking."""
        self._need_file(path)
        return self._tables.has(path)

    def file(self, path: str) -> Path:
        """Return where a file of the run that another stage wrote is; declared as its path."""
        self._need_file(path)
        return self._tables.file(path)

    def read(self, path: str, reader: Callable[[Path], T]) -> T:
        """Return what a function makes of a file of the run, made once; declared as its path."""
        self._need_file(path)
        return self._tables.read(path, reader)

    def arrays(self, path: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of an npz file that another stage wrote; declared as its path."""
        self._need_file(path)
        return self._tables.arrays(path)


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
