"""Duplicates: the same recording twice, or windows of different recordings that are the same.

Two copies under different patients' names can stand on both sides of a fold, where no check
of patients finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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

PAIRS_AT_ONCE = 4096
"""Candidates that are compared in full at once: 16 MB."""

Pair = tuple[int, int, str, float]
"""The later item, the earlier, the kind and the correlation."""


def find_duplicates(
    item_ids: Sequence[str],
    recordings: Sequence[str],
    digests: Sequence[str | None],
    rows: NDArray[np.int64],
    signatures: NDArray[np.float32],
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
    owners = [recordings[i] for i in order.tolist()]
    pairs = [
        (later, first, "recording", np.nan)
        for later, first in _same_bytes(owners, [digests[i] for i in order.tolist()])
    ]
    measured = place[rows[ranked]]
    names = np.array([owners[i] for i in measured.tolist()], dtype=object)
    pairs += [
        (int(measured[later]), int(measured[first]), "window", corr)
        for later, first, corr in same_windows(signatures[ranked], names, threshold=threshold)
    ]
    linking = _linking(pairs, owners)
    told = sorted((int(order[later]), int(order[first]), kind, corr) for later, first, kind, corr in linking)
    table = [(item_ids[later], item_ids[first], kind, corr) for later, first, kind, corr in told]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _linking(pairs: Sequence[Pair], owners: Sequence[str]) -> list[Pair]:
    """Return the first pair of every later item, and further pairs that link items not linked yet."""
    parent = {owner: owner for owner in owners}

    def root(owner: str) -> str:
        while parent[owner] != owner:
            parent[owner] = owner = parent[parent[owner]]
        return owner

    kept, seen = [], set()
    for pair in sorted(pairs, key=lambda pair: (pair[0], pair[2], pair[1])):
        later, first = root(owners[pair[0]]), root(owners[pair[1]])
        if pair[0] not in seen or later != first:
            kept.append(pair)
        seen.add(pair[0])
        parent[later] = first
    return kept


def _same_bytes(recordings: Sequence[str], digests: Sequence[str | None]) -> list[tuple[int, int]]:
    """Return (item, first item whose recording has another name and the same digest)."""
    first: dict[str, int] = {}
    pairs = []
    for i, (recording, digest) in enumerate(zip(recordings, digests, strict=True)):
        if digest is None:
            continue
        earlier = first.setdefault(digest, i)
        if recordings[earlier] != recording:
            pairs.append((i, earlier))
    return pairs


def same_windows(
    signatures: NDArray[np.float32], owners: NDArray[np.object_], *, threshold: float
) -> list[tuple[int, int, float]]:
    """Return (later, earlier, correlation) for windows of different owners that correlate above a threshold.

    All the pairs there can be are found first, and each is then compared in full, so that
    nothing is missed; see `_all_near` and `_near`.

    Parameters
    ----------
    signatures : float32, shape (n, n_values), mean 0 and norm 1, or zeros for a constant window
    owners : shape (n,), recording of each
    threshold : correlation, below 1

    Returns
    -------
    list
        All pairs, ascending, but that windows of equal values are paired with the first of
        them alone. A constant window repeats nothing.
    """
    alive = np.flatnonzero(np.any(signatures != 0, axis=1))
    leader = _first_equal(signatures, alive)
    pairs = [
        (i, first, 1.0)
        for i, first in zip(alive.tolist(), leader.tolist(), strict=True)
        if first != i and owners[i] != owners[first]
    ]
    different = np.unique(leader)
    if len(different) > 1:
        values = signatures[different]
        near = different[(_all_near if len(values) <= FEW else _near)(values, threshold)]
        for start in range(0, len(near), PAIRS_AT_ONCE):
            some = near[start : start + PAIRS_AT_ONCE]
            one, other = (signatures[rows].astype(np.float64) for rows in some.T)
            corr = np.einsum("pv,pv->p", one, other)
            for (a, b), r in zip(
                some[corr > threshold].tolist(), corr[corr > threshold].tolist(), strict=True
            ):
                if owners[a] != owners[b]:
                    pairs.append((max(a, b), min(a, b), round(r, 6)))
    return sorted(pairs)


def _first_equal(signatures: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each of these rows the first of them that has the same values."""
    first: dict[bytes, int] = {}
    zero = np.float32(0)  # turns -0 into 0
    found = (first.setdefault((signatures[row] + zero).tobytes(), row) for row in rows.tolist())
    return np.fromiter(found, np.intp, len(rows))


def _all_near(values: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Return the pairs of rows that may correlate above a threshold, by comparing all."""
    return np.argwhere(np.triu(values @ values.T, 1) > threshold - ROUNDING)


def _near(values: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Return the pairs of rows that may correlate above a threshold, from a k-d tree.

    Vectors of norm 1 that correlate above r are within ``sqrt(2 - 2 r)`` of each other, and so
    do their projections onto any directions. The time grows a little faster than the number
    of rows, not with its square; SciPy's tree takes as long to import as a thousand rows to compare.
    """
    from scipy.spatial import cKDTree

    radius = np.sqrt(max(0.0, 2 - 2 * threshold)) * (1 + 1e-5) + 1e-6
    pairs: NDArray[np.int64] = cKDTree(_projected(values)).query_pairs(radius, output_type="ndarray")
    return pairs


def _projected(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the values along orthonormal directions in which they, or a part of them, differ most."""
    some = values[:: -(-len(values) // DIRECTIONS_FROM)].astype(np.float64)
    _, directions = np.linalg.eigh(some.T @ some)
    return np.asarray(values.astype(np.float64) @ directions[:, -N_DIRECTIONS:])


def pairs_across_folds(
    duplicates: pd.DataFrame, item_ids: Sequence[str], splits: Sequence[Split]
) -> list[tuple[str, str]]:
    """Return the pairs of duplicates that a fold parts into training and validation.

    Parameters
    ----------
    duplicates : from `find_duplicates`
    item_ids : items used, in the order that ``splits`` count
    splits : training and validation rows, per fold
    """
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    validated = np.zeros((len(splits), len(item_ids)), bool)
    for fold, (_, valid) in enumerate(splits):
        validated[fold, valid] = True
    pairs = zip(duplicates["item_id"].tolist(), duplicates["same_as"].tolist(), strict=True)
    both = [(a, b) for a, b in pairs if a in row_of and b in row_of]
    one, other = (np.array([row_of[pair[side]] for pair in both], np.intp) for side in (0, 1))
    apart = (validated[:, one] != validated[:, other]).any(axis=0)
    return [pair for pair, is_apart in zip(both, apart.tolist(), strict=True) if is_apart]
