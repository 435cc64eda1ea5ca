"""The rows of an item stage, which lie many to a file, read for some items or all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hms.store.files import Damaged
from hms.store.npz import read_npz

READS_AGAIN = 4
"""How many times a file may be read, on average, so that rows of some items at a time are in memory."""

TOGETHER = 4096
"""Items whose values of a `Column` are looked at together."""

Arrays = dict[str, NDArray[Any]]


class PackedRows:
    """What a stage found of the items prepared, in files of many items each.

    Attributes
    ----------
    row : int64, shape (n_prepared,), the row of each item in the table of items; it ascends
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        row: NDArray[np.int64],
        file: NDArray[np.int64],
        inside: NDArray[np.int64],
    ) -> None:
        """Take the names of the files in a folder, and of each item the number of its file and row there."""
        self.row = row
        self._folder, self._names, self._file, self._inside = folder, names, file, inside

    def __len__(self) -> int:
        return len(self.row)

    def read(self, which: Callable[[str], bool], places: slice | NDArray[np.int64] = slice(None)) -> Arrays:
        """Return the arrays whose names are wanted, of all items or of those at some places among them.

        Each file is read once. Texts are as long as the longest of those read.
        """
        file, inside = self._file[places], self._inside[places]
        order = np.argsort(file, kind="stable")
        firsts = np.flatnonzero(np.diff(file[order], prepend=-1))
        found: Arrays = {}
        for first, end in pairwise([*firsts.tolist(), len(order)]):
            rows, number = order[first:end], file[order[first]]
            path = self._folder / self._names[number]
            try:
                arrays = read_npz(path.read_bytes(), which=which)
            except (ValueError, KeyError, BadZipFile) as error:
                raise Damaged(path) from error
            for name, values in arrays.items():
                known = found.get(name)
                if known is None:
                    found[name] = np.empty((len(file), *values.shape[1:]), values.dtype)
                elif known.dtype != values.dtype:  # texts of another length
                    found[name] = known.astype(np.promote_types(known.dtype, values.dtype))
                found[name][rows] = values[inside[rows]]
        return found

    def blocks(self, which: Callable[[str], bool], n_items: int, size: int) -> Iterator[Arrays]:
        """Yield the arrays of ``size`` items of the table after the other, with ``row`` of those prepared.

        Where the items of a file are scattered over the table, all are read at once.
        """
        firsts = np.searchsorted(self.row, range(0, max(n_items, 1), size)).tolist()
        parts = [slice(*ends) for ends in zip(firsts, [*firsts[1:], len(self)], strict=True)]
        whole = self.read(which) if self._are_scattered(parts) else None
        for part in parts:
            some = self.read(which, part) if whole is None else {n: v[part] for n, v in whole.items()}
            yield some | {"row": self.row[part]}

    def column(self, name: str) -> Column | NDArray[Any]:
        """Return one array of all items, of which only what is indexed is read, unless they are scattered."""
        parts = [slice(first, first + TOGETHER) for first in range(0, len(self), TOGETHER)]
        found = Column(self, name)
        return found[:] if self._are_scattered(parts) else found

    def _are_scattered(self, parts: Sequence[slice]) -> bool:
        """Tell whether reading the items part by part would read files again and again."""
        n_reads = sum(len(np.unique(self._file[part])) for part in parts)
        return n_reads > READS_AGAIN * (len(self._names) + len(parts))


@dataclass(frozen=True)
class Column:
    """An array of a stage's rows that is read from disk where it is indexed."""

    rows: PackedRows
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: slice | NDArray[np.int64]) -> NDArray[Any]:
        return self.rows.read(lambda name: name == self.name, places)[self.name]
