"""The summary of a package in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hms.labels.summary import summarise_labels

__all__ = ["summarise"]


def summarise(
    used: pd.DataFrame,
    excluded: pd.DataFrame,
    labels: Mapping[str, np.ndarray[Any, Any]],
    splits: Mapping[str, np.ndarray[Any, Any]],
    *,
    high_confidence_votes: int,
) -> dict[str, Any]:
    """Return the summary of a package; every figure that is undefined is None."""
    pairs = [(splits[f"train_{i}"], splits[f"valid_{i}"]) for i in range(len(splits) // 2)]
    reasons = Counter(excluded["reason"].tolist())
    return {
        "items_used": len(used),
        "items_excluded": len(excluded),
        "excluded_reasons": dict(sorted(reasons.items())),
        **summarise_labels(
            labels["y_soft"],
            labels["vote_sum"],
            labels["w_conf"],
            used["patient_id"].to_numpy(object),
            threshold=high_confidence_votes,
            splits=pairs,
        ),
    }
