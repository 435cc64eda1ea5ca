"""The ledger: every item with its measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hms.registry import Params, register
from hms.store import Reason


@dataclass(frozen=True)
class Limits(Params):
    """Settings of the ``qc`` group."""


@register("qc", "limits", Limits)
def make_ledger(
    items: pd.DataFrame,
    reasons: Sequence[Reason | None],
    measures: Mapping[str, np.ndarray[Any, Any]],
    qc: Params,
) -> pd.DataFrame:
    """Return one row per item in the order of ``items``; measures are empty where an item was left out."""
    ledger = items[["item_id", "eeg_id"]].reset_index(drop=True)
    ledger["used"] = [reason is None for reason in reasons]
    ledger["reason"] = [reason.text if reason else "" for reason in reasons]
    rows = measures["row"]
    for name, values in measures.items():
        if name == "row" or values.ndim > 1:
            continue
        column = pd.Series([None] * len(ledger), dtype=object)
        column.iloc[rows] = values.tolist()
        ledger[name] = column
    return ledger
