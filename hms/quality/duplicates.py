"""Duplicates: the same recording twice, or windows of different recordings that are the same.

Two copies under different patients' names can stand on both sides of a fold, where no check
of patients finds them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from hms.store.files import storage_error

if TYPE_CHECKING:
    import pandas as pd

    from hms.labels.folds import Split

COLUMNS = ("item_id", "same_as", "kind", "correlation")
N_DIRECTIONS = 6
"""Of a signature's 256 dimensions, in how many candidates are looked for: with 12 there are fewer
candidates, but finding them takes eight times as long."""

FEW = 1000
"""Windows of which all pairs are compared."""

ROUNDING = 1e-4
"""More than a correlation in float32 is off."""

DIRECTIONS_FROM = 2048
"""Signatures that the directions are found from, at most, spread over all."""

PAIRS_AT_ONCE = 1024
"""Candidates that are compared in full at once: 4 MB."""

TILE, MOST_TILES = 1 << 13, 16
"""Rows of a part of the signatures, two of which are in memory together; there are no more parts."""

BLOCK = 4096
"""Signatures that are looked at together."""

KINDS = ("recording", "window")


class Signatures(Protocol):
    """Signatures of items: an array, or what reads them from disk where it is indexed."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, places: Any) -> NDArray[np.float32]:
        """Return some, shape (n, n_values)."""
        ...


class _Held:
    """Signatures in another order, in a temporary file: they are looked at several times, some at a time."""

    def __init__(self, values: Signatures, order: NDArray[np.int64], file: IO[bytes]) -> None:
        self._file, self._n_values = file, 0
        self._n = len(order)
        for first in range(0, self._n, BLOCK):
            block = np.ascontiguousarray(values[order[first : first + BLOCK]], np.float32)
            self._n_values = block.shape[1]
            try:
                file.write(block.tobytes())
            except OSError as error:
                raise storage_error(error, Path(tempfile.gettempdir())) from error

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, places: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        rows = np.arange(self._n)[places]
        found = np.empty((len(rows), self._n_values), np.float32)
        block = rows // BLOCK
        for number in np.unique(block).tolist():
            self._file.seek(number * BLOCK * found.itemsize * self._n_values)
            size = min(BLOCK, self._n - number * BLOCK)
            values = np.frombuffer(self._file.read(size * found.itemsize * self._n_values), np.float32)
            inside = block == number
            found[inside] = values.reshape(size, self._n_values)[rows[inside] - number * BLOCK]
        return found


class Pairs(NamedTuple):
    """Items that repeat earlier ones, in columns."""

    later: NDArray[np.int64]
    first: NDArray[np.int64]
    corr: NDArray[np.float64]


def find_duplicates(
    item_ids: Sequence[str],
    recordings: Sequence[str],
    digests: Sequence[str | None],
    rows: NDArray[np.int64],
    signatures: Signatures,
    *,
    threshold: float,
    used: Sequence[bool] | None = None,
) -> pd.DataFrame:
    """Return each item that repeats an item of another recording, and the first item that it repeats.

    Items in use come before those left out, whatever their order in the table, so two copies of an
    item that is left out are listed as copies of each other. An item that repeats two items which
    differ from each other has a line for each. Therefore lines of items in use link all items in
    use that repeat each other: if no line has its items on both sides of a fold, nothing leaks.

    Parameters
    ----------
    item_ids, recordings : per item
    digests : per item, digest of its recording's bytes, None where it was not read
    rows : shape (n_measured,), items that have a signature, ascending
    signatures : float32, shape (n_measured, n_values), from `hms.quality.signature.signatures`
    threshold : correlation above which two windows are the same
    used : per item, whether it is in the package; all are if not given

    Returns
    -------
    DataFrame
        Columns item_id, same_as, kind (``recording``: equal bytes; ``window``) and
        correlation (empty for recordings), in the order of items.
    """
    import pandas as pd

    is_used = np.ones(len(item_ids), bool) if used is None else np.asarray(used, bool)
    order = np.argsort(~is_used, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ranked = np.argsort(place[rows])
    owners = pd.factorize(np.array(recordings, dtype=object))[0][order]
    measured = place[rows[ranked]]
    same = _same_bytes(owners, [digests[i] for i in order.tolist()])
    with tempfile.TemporaryFile() as file:
        held = _Held(signatures, ranked, file)
        alike = same_windows(held, owners[measured], threshold=threshold)
    later, first, corr = (
        np.concatenate(both)
        for both in zip(same, (measured[alike.later], measured[alike.first], alike.corr), strict=True)
    )
    kind = np.repeat(np.arange(2), [len(same.later), len(alike.later)])
    told = np.lexsort((first, kind, later))
    told = told[_linking(owners[later[told]], owners[first[told]], later[told])]
    later, first, corr, kind = order[later[told]], order[first[told]], corr[told], kind[told]
    told = np.lexsort((kind, first, later))
    ids = np.array(item_ids, dtype=object)
    columns = ids[later[told]], ids[first[told]], np.array(KINDS, object)[kind[told]], corr[told]
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _linking(
    owner: NDArray[np.int64], repeated: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pairs are the first of their item, or link recordings that are not linked yet.

    Parameters
    ----------
    owner, repeated : recordings of the two items of each pair
    items : the later item of each pair, ascending
    """
    parent = list(range(max(owner.max(initial=-1), repeated.max(initial=-1)) + 1))

    def root(owner: int) -> int:
        while parent[owner] != owner:
            parent[owner] = owner = parent[parent[owner]]
        return owner

    kept = np.diff(items, prepend=-1) != 0
    for number, (one, other) in enumerate(zip(owner.tolist(), repeated.tolist(), strict=True)):
        later, first = root(one), root(other)
        if later != first:
            kept[number] = True
            parent[later] = first
    return np.asarray(kept)


def _same_bytes(recordings: NDArray[np.int64], digests: Sequence[str | None]) -> Pairs:
    """Return the items whose recording has another name and the digest of an earlier one, with its item."""
    first: dict[str, int] = {}
    earliest = np.fromiter(
        (i if digest is None else first.setdefault(digest, i) for i, digest in enumerate(digests)),
        np.int64,
        len(digests),
    )
    later = np.flatnonzero(recordings[earliest] != recordings)
    return Pairs(later, earliest[later], np.full(len(later), np.nan))


def same_windows(signatures: Signatures, owners: NDArray[Any], *, threshold: float) -> Pairs:
    """Return the windows of different owners that correlate above a threshold.

    All the pairs there can be are found first, and each is then compared in full, so that
    nothing is missed; see `_all_near` and `_near`.

    Parameters
    ----------
    signatures : float32, shape (n, n_values), mean 0 and norm 1, or zeros for a constant window; `BLOCK` of
        them are asked for after the other, and then candidates in pairs of parts
    owners : shape (n,), recording of each
    threshold : correlation, below 1

    Returns
    -------
    Pairs
        All of them, ascending, but that windows of equal values are paired with the first of
        them alone. A constant window repeats nothing.
    """
    leader = _first_equal(signatures)
    later = np.flatnonzero((leader >= 0) & (owners != owners[leader]))
    equal = Pairs(later, leader[later], np.ones(len(later)))
    near = _different_and_near(signatures, np.unique(leader[leader >= 0]), threshold)
    near = near[owners[near[:, 0]] != owners[near[:, 1]]]
    pairs = zip(equal, _correlated(signatures, near, threshold), strict=True)
    later, first, corr = (np.concatenate(both) for both in pairs)
    order = np.lexsort((first, later))
    return Pairs(later[order], first[order], corr[order])


def _correlated(signatures: Signatures, near: NDArray[np.int64], threshold: float) -> Pairs:
    """Return those of some pairs that correlate above a threshold."""
    tile = max(TILE, len(signatures) // MOST_TILES)
    corr = np.empty(len(near))
    of = np.sort(near // tile, axis=1)
    for pair in np.unique(of, axis=0):
        part = np.flatnonzero((of == pair).all(axis=1))
        rows, place = np.unique(near[part], return_inverse=True)
        values, place = signatures[rows], place.reshape(-1, 2)
        for start in range(0, len(part), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            one, other = (values[side].astype(np.float64) for side in place[some].T)
            corr[part[some]] = np.einsum("pv,pv->p", one, other)
    near, corr = near[corr > threshold], corr[corr > threshold]
    rounded = np.fromiter((round(r, 6) for r in corr.tolist()), np.float64, len(corr))
    return Pairs(near.max(axis=1, initial=-1), near.min(axis=1, initial=len(signatures)), rounded)


def _first_equal(signatures: Signatures) -> NDArray[np.int64]:
    """Return for each row the first that has the same values, by their digest; -1 where all are zero."""
    first: dict[bytes, int] = {}
    leader = np.full(len(signatures), -1)
    for start in range(0, len(signatures), BLOCK):
        values = signatures[start : start + BLOCK] + np.float32(0)  # turns -0 into 0
        for row in np.flatnonzero(np.any(values != 0, axis=1)).tolist():
            digest = xxhash.xxh3_128_digest(values[row].tobytes())
            leader[start + row] = first.setdefault(digest, start + row)
    return leader


def _different_and_near(
    signatures: Signatures, rows: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """Return the pairs of some rows that may correlate above a threshold, shape (n_pairs, 2)."""
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    near = _all_near(signatures[rows], threshold) if len(rows) <= FEW else _near(signatures, rows, threshold)
    return rows[near]


def _all_near(values: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Return the pairs of rows that may correlate above a threshold, by comparing all."""
    return np.argwhere(np.triu(values @ values.T, 1) > threshold - ROUNDING)


def _near(signatures: Signatures, rows: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Return the pairs of rows that may correlate above a threshold, from a k-d tree.

    Vectors of norm 1 that correlate above r are within ``sqrt(2 - 2 r)`` of each other, and so
    do their projections onto any directions. The time grows a little faster than the number
    of rows, not with its square; SciPy's tree takes as long to import as a thousand rows to compare.
    """
    from scipy.spatial import cKDTree

    radius = np.sqrt(max(0.0, 2 - 2 * threshold)) * (1 + 1e-5) + 1e-6
    pairs: NDArray[np.int64] = cKDTree(_projected(signatures, rows)).query_pairs(
        radius, output_type="ndarray"
    )
    return pairs


def _projected(signatures: Signatures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rows along orthonormal directions in which they, or a part of them, differ most."""
    some = signatures[rows[:: -(-len(rows) // DIRECTIONS_FROM)]].astype(np.float64)
    _, directions = np.linalg.eigh(some.T @ some)
    blocks = (signatures[rows[first : first + BLOCK]] for first in range(0, len(rows), BLOCK))
    return np.concatenate([block.astype(np.float64) @ directions[:, -N_DIRECTIONS:] for block in blocks])


def pairs_across_folds(
    duplicates: pd.DataFrame, item_ids: Sequence[str], splits: Sequence[Split]
) -> pd.DataFrame:
    """Return those of the duplicates that a fold parts into training and validation.

    Parameters
    ----------
    duplicates : from `find_duplicates`
    item_ids : items used, in the order that ``splits`` count
    splits : training and validation rows, per fold
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(item_ids, pa.large_string())
    validated = np.zeros((len(splits), len(item_ids) + 1), bool)
    for fold, (_, valid) in enumerate(splits):
        validated[fold, valid] = True
    sides = (pa.array(duplicates[side], pa.large_string()) for side in ("item_id", "same_as"))
    one, other = (pc.index_in(side, ids).fill_null(-1).to_numpy() for side in sides)
    apart = (validated[:, one] != validated[:, other]).any(axis=0) & (one >= 0) & (other >= 0)
    told: pd.DataFrame = duplicates[apart]
    return told
