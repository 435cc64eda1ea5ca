"""A submission file for the competition, checked before it is written.

References
----------
Kaggle, "HMS - Harmful Brain Activity Classification" (2024), evaluation page: one row per
eeg_id of test.csv, six vote columns that sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import COMPETITION
from hms.store.files import commit_files
from hms.training.metric import align, check_distributions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["submission"]


def submission(
    predictions: pd.DataFrame | Mapping[Any, Any], test_table: pd.DataFrame | str | Path, path: str | Path
) -> pd.DataFrame:
    """Write a submission in the order of the test table and return it.

    Parameters
    ----------
    predictions : DataFrame or mapping
        A table with ``eeg_id`` and the six vote columns, or eeg_id to six class shares.
    test_table : DataFrame or path
        test.csv, or its contents: its ``eeg_id`` column says which ids are due.
    path : path
        The file, usually submission.csv.

    Raises
    ------
    ValueError
        If an id is missing, unknown or there twice, a value is NaN or outside 0 ... 1, or
        a row does not sum to 1 within `numpy.allclose`. Nothing is written then.
    """
    import pandas as pd

    table = test_table if isinstance(test_table, pd.DataFrame) else _read_table(Path(test_table))
    due = _column(table, "eeg_id", "the test table").drop_duplicates().tolist()
    ids, shares = _as_rows(predictions)
    rows = check_distributions(shares[align(ids, due)], "the predictions", due)
    frame = pd.DataFrame({"eeg_id": due, **dict(zip(COMPETITION.vote_columns, rows.T, strict=True))})
    target = Path(path)
    text = frame.to_csv(index=False, lineterminator="\n")
    commit_files(target.parent, {target.name: text.encode()})
    return frame


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path} does not exist; name the competition's test.csv")
    return pd.read_csv(path)


def _column(table: pd.DataFrame, name: str, what: str) -> pd.Series:
    if name not in table.columns:
        raise ValueError(f"{what} has no column '{name}'; it has {', '.join(map(str, table.columns))}")
    return table[name]


def _as_rows(predictions: pd.DataFrame | Mapping[Any, Any]) -> tuple[list[Any], NDArray[np.float64]]:
    """Return ids and class shares, shape (n, 6), in the order in which they were given."""
    if isinstance(predictions, Mapping):
        bad = [name for name, row in predictions.items() if np.shape(row) != (len(COMPETITION),)]
        if bad:
            raise ValueError(
                f"a prediction has {len(COMPETITION)} values, but that of {bad[0]} has the shape "
                f"{np.shape(predictions[bad[0]])}"
            )
        rows = np.array([np.asarray(row, dtype=np.float64) for row in predictions.values()])
        return list(predictions), rows.reshape(len(predictions), len(COMPETITION))
    columns = [_column(predictions, name, "the table of predictions") for name in COMPETITION.vote_columns]
    ids = _column(predictions, "eeg_id", "the table of predictions").tolist()
    return ids, np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)
