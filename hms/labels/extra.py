"""Rows of a second table, such as pseudo-labels: items for training only, never for scores.

They come after the items of the votes table, each row an item with the label that it states. Two
columns of theirs say so, in the items and in meta_use.csv: ``label_source`` (``votes`` or
``extra``) and ``label_weight`` (empty for an item of the votes table).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

SOURCE, WEIGHT = "label_source", "label_weight"
VOTES, EXTRA = "votes", "extra"

ENDING = "_extra"
"""Of the item_id: the same sub-window may be an item of the votes table too."""


def extra_mask(items: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which items come from a second table: bool, shape (n_items,)."""
    if SOURCE not in items:
        return np.zeros(len(items), dtype=np.bool_)
    return np.asarray(items[SOURCE].to_numpy() == EXTRA)


def with_given_weights(weights: NDArray[np.float32], items: pd.DataFrame) -> NDArray[np.float32]:
    """Return weights, replaced by those that a second table states for its items."""
    if WEIGHT not in items:
        return weights
    given = items[WEIGHT].to_numpy(dtype=np.float32)
    return np.where(np.isnan(given), weights, given)
