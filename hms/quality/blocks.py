"""Arrays of one recording cut into blocks, and what the modules of measures share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Row = dict[str, Any]
Rows = Mapping[str, NDArray[Any]]


QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore"}
"""For `numpy.errstate`: infinities are gaps, samples near the end of float32 have no power."""


def blocks_of(values: NDArray[Any], n_block: int) -> NDArray[Any]:
    """Return whole blocks, shape (n_channels, n_blocks, n_block); at least one, if a short one."""
    n_block = min(n_block, values.shape[1])
    n_blocks = values.shape[1] // n_block
    return values[:, : n_blocks * n_block].reshape(len(values), n_blocks, n_block)


def filled_up(rows: NDArray[Any], n: int) -> NDArray[Any]:
    """Return rows, along the last axis, of ``n`` values; those that a recording does not have are 0."""
    n_known = rows.shape[-1]
    if n_known == n:
        return rows
    filled = np.zeros((*rows.shape[:-1], n), rows.dtype)
    filled[..., :n_known] = rows
    return filled


@lru_cache(maxsize=16)
def constant(n: int, value: float) -> Array:
    """Return n times a value, not to be written to."""
    return np.full(n, value, np.float32)


def field_names(*observed: Any) -> frozenset[str]:
    """Return the keys of some typed dictionaries: columns of rows that are not measures."""
    return frozenset().union(*(kind.__required_keys__ for kind in observed))
