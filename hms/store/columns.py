"""What journals say of files and items, by name; of millions of items in columns.

An object for each of a million files and records of a stage takes half a gigabyte, columns take 80 MB.
What does not fit into columns, such as a reason, is kept as it is.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from itertools import chain, compress
from operator import not_
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hms.store.files import Stored

Keys = NDArray[np.uint64]
"""Identities of items as numbers; 0 where one is not known."""

SUFFIX = ".npz"
"""What follows an item's identity in the name of a file of its own."""

OWN = -1
"""Instead of the number of a file's name: the item has a file of its own."""

MOST_ROWS = 1 << 62
"""Rows of a file are fewer."""

TOGETHER = 1 << 12
"""Rows that are made into objects together."""

_HEX = re.compile("[0-9a-f]*")
_KEY_LENGTH, _DIGEST_LENGTH, _NO_DIGEST = 16, 32, bytes(16)
_OWN_LENGTH = _KEY_LENGTH + len(SUFFIX)


class Reason(NamedTuple):
    """Why an item has no result: the stage that found it, the text, and whether it counts as a failure."""

    stage: str
    text: str
    failure: bool


class Record(NamedTuple):
    """What the store knows of one item of a stage: its file and row, or why there is none."""

    item: str
    file: str | None = None
    row: int = 0
    reason: Reason | None = None
    digest: str = ""
    """Of the item's record, where the file is a shard."""


# --- identities ----------------------------------------------------------------------------------


def keys_of(names: Sequence[str]) -> Keys | None:
    """Return identities, 16 hexadecimal digits each, as numbers; None if a name is something else."""
    digits = _digits(names, _KEY_LENGTH)
    return None if digits is None else np.frombuffer(digits, ">u8").astype(np.uint64)


def text_of(key: int) -> str:
    """Return an identity as text."""
    return f"{key:016x}"


def number_of(name: str) -> int:
    """Return an identity as a number, 0 for a text that is none."""
    return int(name, 16) if len(name) == _KEY_LENGTH and _HEX.fullmatch(name) else 0


def is_own_file(name: str) -> bool:
    """Tell whether a file's name is that of one that holds one item."""
    return name.endswith(SUFFIX) and number_of(name.removesuffix(SUFFIX)) > 0


def _digits(texts: Sequence[str], length: int) -> bytes | None:
    """Return hexadecimal texts of one length as bytes, None if one is something else."""
    text = "".join(texts)
    if len(text) != length * len(texts) or not _HEX.fullmatch(text) or set(map(len, texts)) - {length}:
        return None
    return bytes.fromhex(text)


def _digests(texts: Sequence[str]) -> NDArray[np.void] | None:
    digits = _digits(texts, _DIGEST_LENGTH)
    return None if digits is None else np.frombuffer(digits, "V16")


def _search(keys: Keys, wanted: Keys) -> NDArray[np.int64]:
    """Return where each key wanted stands among ascending ones, -1 where it does not."""
    if not keys.size:
        return np.full(wanted.shape, -1)
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, place, -1)


# --- columns -------------------------------------------------------------------------------------

V = TypeVar("V", Stored, Record)


class Entries(Mapping[str, V], Generic[V]):
    """Entries by name, which is the first of their fields; later ones replace earlier ones.

    A *place* counts the rows of the columns, whose keys ascend, and after them the entries that do not fit.
    """

    _type: ClassVar[Any]

    def __init__(self) -> None:
        self._rows: NDArray[Any] = np.empty(0, self._type)
        self._keys: Keys = np.empty(0, np.uint64)
        self._others: dict[str, V] = {}
        self._new: list[NDArray[Any]] = []

    @abstractmethod
    def _packed(self, entries: Sequence[V]) -> NDArray[Any] | None:
        """Return entries as rows of the columns, None if one does not fit."""

    @abstractmethod
    def _entry(self, row: Any) -> V:
        """Return the entry of a row of the columns."""

    def _entries(self, rows: NDArray[Any]) -> Iterator[V]:
        """Yield the entries of rows of the columns."""
        return map(self._entry, rows.tolist())

    @staticmethod
    def _item(name: str) -> str:
        """Return the identity in the name of an entry that may be in the columns."""
        return name

    def add(self, entries: Sequence[V]) -> None:
        """Add entries, each of another name."""
        rows = self._packed(entries)
        if rows is None:
            self._others |= {entry[0]: entry for entry in entries}
            rows = self._rows[:0]
        elif self._others:
            for name in self._others.keys() & {entry[0] for entry in entries}:
                del self._others[name]
        self._new.append(rows)

    def remove(self, names: Iterable[str]) -> None:
        """Remove the entries of these names, where there are any."""
        rows = self._columns()
        inside = [name for name in names if self._others.pop(name, None) is None]
        places = [self._place(name) for name in inside]
        rows = np.delete(rows, [place for place in places if place >= 0])
        self._rows, self._keys = rows, np.ascontiguousarray(rows["key"])

    def _columns(self) -> NDArray[Any]:
        """Return the columns: of each key the last row, unless an entry that does not fit replaced it."""
        if self._new:
            rows = np.concatenate([self._rows, *self._new])
            self._new = []
            keys = rows["key"]
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            counts = np.append(keys[1:] != keys[:-1], np.ones(min(1, keys.size), np.bool_))
            counts &= _search(np.sort(self._other_keys), keys) < 0
            self._rows, self._keys = rows[order[counts]], keys[counts]
        return self._rows

    @property
    def _other_keys(self) -> Keys:
        """Keys of the entries that do not fit, 0 where the name has none."""
        return np.fromiter(map(number_of, map(self._item, self._others)), np.uint64, len(self._others))

    def dump(self) -> bytes:
        """Return the bytes of the columns, see `restore`."""
        return self._columns().tobytes()

    def _restore(self, data: bytes) -> NDArray[Any]:
        """Take bytes for the columns; raises `ValueError` if they are cut, or their keys do not ascend."""
        rows = np.frombuffer(data, self._type)
        keys = np.ascontiguousarray(rows["key"])
        if keys.size and not (keys[0] and (keys[1:] > keys[:-1]).all()):
            raise ValueError("keys that do not ascend")
        self._rows, self._keys = rows, keys
        return rows

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the place of the entry of each identity, -1 where there is none."""
        n_rows = len(self._columns())
        found = _search(self._keys, keys)
        if self._others:
            others = self._other_keys
            order = np.argsort(others)
            there = _search(others[order], keys)
            found = np.where(there < 0, found, n_rows + order[there])
        return np.where(keys == 0, -1, found)

    def at(self, place: int) -> V:
        """Return the entry at a place."""
        return next(self.some(np.array([place])))

    def some(self, places: NDArray[np.int64]) -> Iterator[V]:
        """Yield the entries at places."""
        rows, others = self._columns(), list(self._others.values())
        if not others:
            for first in range(0, len(places), TOGETHER):
                yield from self._entries(rows[places[first : first + TOGETHER]])
            return
        for first in range(0, len(places), TOGETHER):
            part = places[first : first + TOGETHER]
            found = self._entries(rows[part[part < len(rows)]])
            for place in part.tolist():
                yield next(found) if place < len(rows) else others[place - len(rows)]

    def place_of(self, name: str) -> int:
        """Return the place of a name that is there."""
        if name in self._others:
            return len(self._columns()) + list(self._others).index(name)
        return self._place(name)

    def _place(self, name: str) -> int:
        """Return the place of a name among the rows of the columns, -1 if it is not there."""
        keys = keys_of([self._item(name)])
        self._columns()
        return -1 if keys is None else int(_search(self._keys, keys)[0])

    def __getitem__(self, name: str) -> V:
        if name in self._others:
            return self._others[name]
        place = self._place(name)
        if place < 0:
            raise KeyError(name)
        found = self._entry(self._rows[place].tolist())
        if found[0] != name:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (entry[0] for entry in self.each())

    def __len__(self) -> int:
        return len(self._columns()) + len(self._others)

    def each(self) -> Iterator[V]:
        """Yield the entries, those in columns by ascending key."""
        rows = self._columns()
        for first in range(0, len(rows), TOGETHER):
            yield from self._entries(rows[first : first + TOGETHER])
        yield from self._others.values()

    def values(self) -> ValuesView[V]:
        """Return what yields the entries."""
        return _Values(self)

    @property
    def others(self) -> Mapping[str, V]:
        """The entries that are not in columns."""
        return self._others


class _Values(ValuesView[V]):
    """The entries of columns one after the other, the rows made into objects some at a time."""

    _mapping: Entries[V]

    def __iter__(self) -> Iterator[V]:
        return self._mapping.each()


def _names(rows: NDArray[Any]) -> list[str]:
    keys = rows["key"].astype(">u8").tobytes().hex()
    return [f"{keys[at : at + _KEY_LENGTH]}{SUFFIX}" for at in range(0, len(keys), _KEY_LENGTH)]


def _contents(rows: NDArray[Any]) -> list[str]:
    digests = rows["digest"].tobytes().hex()
    return [digests[at : at + _DIGEST_LENGTH] for at in range(0, len(digests), _DIGEST_LENGTH)]


class Files(Entries[Stored]):
    """Files by name; those that hold one item each are in columns."""

    _type = np.dtype([("key", "u8"), ("size", "i8"), ("mtime_ns", "i8"), ("digest", "V16")])

    @staticmethod
    def _item(name: str) -> str:
        return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else ""

    def add(self, entries: Sequence[Stored]) -> None:
        """Add files, each of another name; one that does not fit keeps no other from the columns."""
        own = [len(file.name) == _OWN_LENGTH and file.name.endswith(SUFFIX) for file in entries]
        for some in (list(compress(entries, own)), list(compress(entries, map(not_, own)))):
            if some:
                super().add(some)

    def _packed(self, entries: Sequence[Stored]) -> NDArray[Any] | None:
        names, sizes, times, digests = zip(*entries, strict=True)
        keys, contents = keys_of([name[:_KEY_LENGTH] for name in names]), _digests(digests)
        if keys is None or contents is None or any(name[_KEY_LENGTH:] != SUFFIX for name in names):
            return None
        return _filled(self._type, len(keys), key=keys, size=sizes, mtime_ns=times, digest=contents)

    def _entries(self, rows: NDArray[Any]) -> Iterator[Stored]:
        sizes, times = rows["size"].tolist(), rows["mtime_ns"].tolist()
        return map(Stored, _names(rows), sizes, times, _contents(rows))

    def names_at(self, places: NDArray[np.int64]) -> list[str]:
        """Return the names at places."""
        rows = self._columns()
        if (places >= len(rows)).any():
            return [file.name for file in self.some(places)]
        return _names(rows[places])

    def digests_at(self, places: NDArray[np.int64]) -> list[list[Any]]:
        """Return size and digest at places."""
        rows = self._columns()
        if (places >= len(rows)).any():
            return [[file.size, file.digest] for file in self.some(places)]
        sizes = rows["size"][places].tolist()
        known: dict[int, int] = {}  # most are the same, and one object does for these
        sizes = map(known.setdefault, sizes, sizes)
        return list(map(list, zip(sizes, _contents(rows[places]), strict=True)))

    def _entry(self, row: Any) -> Stored:
        key, size, mtime_ns, digest = row
        return Stored(f"{text_of(key)}{SUFFIX}", size, mtime_ns, digest.hex())

    def restore(self, data: bytes) -> None:
        """Take bytes that `dump` returned for the columns; raises `ValueError` if they cannot be."""
        self._restore(data)

    def add_found(self, found: Sequence[tuple[str, int, int]]) -> None:
        """Add files of which names, sizes and times are known, and nothing was read."""
        own = [file for file in found if len(file[0]) == _OWN_LENGTH and file[0].endswith(SUFFIX)]
        names, sizes, times = zip(*own, strict=True) if own else ((), (), ())
        keys = keys_of([name[:_KEY_LENGTH] for name in names])
        if keys is None or not keys.all():
            own, keys = [], np.empty(0, np.uint64)
        columns = {"size": sizes, "mtime_ns": times} if own else {}
        rows = _filled(self._type, len(own), key=keys, digest=np.zeros(len(own), "V16"), **columns)
        assert rows is not None, "sizes and times that the system gave are beyond its own types"
        self._new.append(rows)
        if len(own) < len(found):
            known = {file[0] for file in own}
            self._others |= {file[0]: Stored(*file, "") for file in found if file[0] not in known}

    def listed(self) -> Iterator[str]:
        """Yield name, size and time of each, as `hms.store.seen.listed` has them."""
        rows = self._columns()
        for first in range(0, len(rows), TOGETHER):
            some = rows[first : first + TOGETHER]
            yield from map("{}/{}/{}".format, _names(some), some["size"].tolist(), some["mtime_ns"].tolist())
        yield from (f"{name}/{file.size}/{file.mtime_ns}" for name, file in self._others.items())

    def beside(self, recorded: Files) -> Iterator[Stored]:
        """Yield those that another table of files does not have."""
        rows = self._columns()["key"]
        some = self.some(np.flatnonzero(recorded.find(rows) < 0))
        yield from (file for file in chain(some, self._others.values()) if file.name not in recorded)

    def unlike(self, present: Files) -> set[str]:
        """Return the names of files that are not among those present with the same size and time."""
        rows, there = self._columns(), present._columns()
        place = _search(present._keys, self._keys)
        alike = place >= 0
        for column in ("size", "mtime_ns") if there.size else ():
            alike &= rows[column] == there[column][place]
        some = chain(self.some(np.flatnonzero(~alike)), self._others.values())
        seen = ((file, present.get(file.name)) for file in some)
        return {file.name for file, there in seen if there is None or there[1:3] != file[1:3]}

    def have(self, digests: Mapping[str, str]) -> bool:
        """Tell whether files, by their names, have these digests."""
        odd = [name for name in digests if name in self._others or not is_own_file(name)]
        if any(name not in self or self[name].digest != digests[name] for name in odd):
            return False
        own = digests if not odd else {name: d for name, d in digests.items() if name not in set(odd)}
        keys, contents = keys_of([name.removesuffix(SUFFIX) for name in own]), _digests(list(own.values()))
        if keys is None or contents is None:
            return False
        place = self.find(keys)
        return bool((place >= 0).all() and (self._columns()["digest"][place] == contents).all())


class Records(Entries[Record]):
    """Records by item; those that have a file are in columns."""

    _type = np.dtype([("key", "u8"), ("file", "i4"), ("row", "i8"), ("digest", "V16")])

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        """Of the files that hold several items."""

        self._numbers: dict[str, int] = {}

    def restore(self, data: bytes, names: Sequence[str]) -> None:
        """Take bytes that `dump` returned for the columns; raises `ValueError` if they cannot be.

        ``names`` are of the files that hold several items.
        """
        rows = self._restore(data)
        file, inside = rows["file"], rows["row"]
        if not ((file >= OWN) & (file < len(names)) & (inside >= 0) & (inside < MOST_ROWS)).all():
            raise ValueError("a row that no file has")
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(names)}

    def _number(self, name: str) -> int:
        """Return the number of a file that holds several items."""
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]

    def add(self, entries: Sequence[Record]) -> None:
        """Add records, each of another item."""
        reasoned = [record for record in entries if record.file is None]
        with_file = [record for record in entries if record.file is not None] if reasoned else entries
        for some in (reasoned, with_file):
            if some:
                super().add(some)

    def _packed(self, entries: Sequence[Record]) -> NDArray[Any] | None:
        items, files, rows, reasons, digests = zip(*entries, strict=True)
        keys = keys_of(items)
        contents = np.zeros(len(items), "V16") if not any(digests) else _digests(digests)
        if keys is None or contents is None or None in files or any(reasons):
            return None
        number = [
            OWN if file == f"{item}{SUFFIX}" else self._number(file)
            for item, file in zip(items, files, strict=True)
        ]
        return _filled(self._type, len(keys), key=keys, file=number, row=rows, digest=contents)

    def _entry(self, row: Any) -> Record:
        key, file, inside, digest = row
        item = text_of(key)
        name = f"{item}{SUFFIX}" if file == OWN else self.names[file]
        return Record(item, name, inside, None, "" if digest == _NO_DIGEST else digest.hex())

    def files_of(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for places of records the number of their file, among `names`, or `OWN`, and the row there.

        `NO_FILE` where there is no record, or one without a file.
        """
        rows = self._columns()
        file, inside = np.full(places.shape, NO_FILE), np.zeros(places.shape, np.int64)
        plain = (places >= 0) & (places < len(rows))
        file[plain], inside[plain] = rows["file"][places[plain]], rows["row"][places[plain]]
        others = list(self._others.values())
        for at in np.flatnonzero(places >= len(rows)).tolist():
            record = others[places[at] - len(rows)]
            if record.file is not None:
                is_own = record.file == f"{record.item}{SUFFIX}"
                file[at], inside[at] = OWN if is_own else self._number(record.file), record.row
        return file, inside


NO_FILE = -2
"""Instead of the number of a file's name: the item has none."""


def _filled(kind: Any, n: int, **columns: Any) -> NDArray[Any] | None:
    """Return columns as one array, None if a number is beyond its type."""
    rows = np.empty(n, kind)
    try:
        for name, values in columns.items():
            rows[name] = values
    except (OverflowError, TypeError, ValueError):
        return None
    return rows
