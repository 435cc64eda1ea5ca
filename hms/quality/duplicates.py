"""Duplicates: the same recording twice, or windows of different recordings that are the same.

Two copies with different patients' names can stand on both sides of a fold, where no check
of patients sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from hms.labels.folds import Split

__all__ = ["COLUMNS", "find_duplicates", "pairs_across_folds", "same_windows"]

COLUMNS = ("item_id", "same_as", "kind", "correlation")
N_DIRECTIONS = 6
"""Of a signature's 256 dimensions, in how many candidates are looked for: with 12 there are fewer
candidates, but finding them takes eight times as long."""

DIRECTIONS_FROM = 2048
"""Signatures that the directions are found from, at most, spread over all."""

PAIRS_AT_ONCE = 4096
"""Candidates that are compared in full at once: 16 MB."""

Pairs = list[tuple[int, int, float]]


def find_duplicates(
    item_ids: Sequence[str],
    recordings: Sequence[str],
    digests: Sequence[str | None],
    rows: NDArray[np.int64],
    signatures: NDArray[np.float32],
    *,
    threshold: float,
) -> pd.DataFrame:
    """Return each item that repeats an earlier one of another recording, with the first that it repeats.

    Parameters
    ----------
    item_ids, recordings : per item
    digests : per item, digest of its recording's bytes, None where it was not read
    rows : shape (n_measured,), items that have a signature, ascending
    signatures : float32, shape (n_measured, n_values), from `hms.quality.measures.window_signature`
    threshold : correlation above which two windows are the same

    Returns
    -------
    DataFrame
        Columns item_id, same_as, kind (``recording``: equal bytes; ``window``) and
        correlation (empty for recordings), in the order of items.
    """
    import pandas as pd

    found: dict[int, tuple[int, str, float]] = {
        later: (first, "recording", np.nan) for later, first in _same_bytes(recordings, digests)
    }
    owners = np.array(recordings, dtype=object)[rows]
    for later, first, corr in same_windows(signatures, owners, threshold=threshold):
        found.setdefault(int(rows[later]), (int(rows[first]), "window", corr))
    table = [(item_ids[i], item_ids[first], kind, corr) for i, (first, kind, corr) in sorted(found.items())]
    return pd.DataFrame(table, columns=list(COLUMNS))


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


def same_windows(signatures: NDArray[np.float32], owners: NDArray[np.object_], *, threshold: float) -> Pairs:
    """Return (later, first, correlation) for windows of different owners that correlate above a threshold.

    Vectors of norm 1 that correlate above r lie within ``sqrt(2 - 2 r)`` of each other, and so
    do their projections onto any directions. A k-d tree over a few directions gives all the
    pairs there can be, and each is then compared in full: nothing is missed, and the time
    grows a little faster than the number of items, not with its square.

    Parameters
    ----------
    signatures : float32, shape (n, n_values), mean 0 and norm 1, or zeros for a constant window
    owners : shape (n,), recording of each
    threshold : correlation, below 1

    Returns
    -------
    list
        One entry per repeated window: with the first window that it repeats. A constant
        window repeats nothing.
    """
    from scipy.spatial import cKDTree

    alive = np.flatnonzero(np.any(signatures != 0, axis=1))
    leader = _first_equal(signatures, alive)
    pairs = [
        (i, first, 1.0)
        for i, first in zip(alive.tolist(), leader.tolist(), strict=True)
        if first != i and owners[i] != owners[first]
    ]
    different = np.unique(leader)
    if len(different) > 1:
        radius = np.sqrt(max(0.0, 2 - 2 * threshold)) * (1 + 1e-5) + 1e-6
        tree = cKDTree(_projected(signatures[different]))
        near = different[tree.query_pairs(radius, output_type="ndarray")]
        for start in range(0, len(near), PAIRS_AT_ONCE):
            some = near[start : start + PAIRS_AT_ONCE]
            one, other = (signatures[rows].astype(np.float64) for rows in some.T)
            corr = np.einsum("pv,pv->p", one, other)
            for (a, b), r in zip(
                some[corr > threshold].tolist(), corr[corr > threshold].tolist(), strict=True
            ):
                if owners[a] != owners[b]:
                    pairs.append((max(a, b), min(a, b), round(r, 6)))
    earliest: dict[int, tuple[int, float]] = {}
    for later, earlier, r in sorted(pairs):
        earliest.setdefault(later, (earlier, r))
    return [(later, *pair) for later, pair in earliest.items()]


def _first_equal(signatures: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each of these rows the first of them that has the same values."""
    first: dict[bytes, int] = {}
    values = signatures[rows] + np.float32(0)  # turns -0 into 0
    found = (first.setdefault(value.tobytes(), row) for value, row in zip(values, rows.tolist(), strict=True))
    return np.fromiter(found, np.intp, len(rows))


def _projected(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the values along orthonormal directions in which they, or a part of them, differ most."""
    some = values[:: -(-len(values) // DIRECTIONS_FROM)].astype(np.float64)
    _, directions = np.linalg.eigh(some.T @ some)
    return np.asarray(values.astype(np.float64) @ directions[:, -N_DIRECTIONS:])


def pairs_across_folds(
    duplicates: pd.DataFrame, item_ids: Sequence[str], splits: Sequence[Split]
) -> list[tuple[str, str]]:
    """Return the pairs of duplicates that some fold has on both of its sides.

    Parameters
    ----------
    duplicates : from `find_duplicates`
    item_ids : items used, in the order that ``splits`` count
    splits : rows to train on and to validate on, per fold
    """
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    validated = np.zeros((len(splits), len(item_ids)), bool)
    for fold, (_, valid) in enumerate(splits):
        validated[fold, valid] = True
    pairs = zip(duplicates["item_id"], duplicates["same_as"], strict=True)
    both = [(a, b) for a, b in pairs if a in row_of and b in row_of]
    return [(a, b) for a, b in both if (validated[:, row_of[a]] != validated[:, row_of[b]]).any()]
