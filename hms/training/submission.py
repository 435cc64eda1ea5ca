"""A submission file for the competition, checked before it is written.

References
----------
Kaggle, "HMS - Harmful Brain Activity Classification" (2024), evaluation page: one row per
eeg_id of test.csv, six vote columns that sum to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hms.labels.classes import COMPETITION
from hms.registry import did_you_mean
from hms.store.files import commit_files
from hms.terminal import counted, listed, say
from hms.training.metric import check_distributions

if TYPE_CHECKING:
    import pandas as pd

    from hms.store.package import Package


def submission(
    predictions: pd.DataFrame | Mapping[Any, Any],
    test_table: pd.DataFrame | str | Path,
    path: str | Path,
    *,
    fill: Literal["prior"] | None = None,
    run: Package | None = None,
) -> pd.DataFrame:
    """Write a submission in the order of the test table and return it.

    Parameters
    ----------
    predictions : DataFrame or mapping
        A table with ``item_id`` or ``eeg_id`` and the six vote columns, or an id to six class
        shares. The ids are those of a run's items under any ``unit``: ``<eeg_id>_<eeg_sub_id>``
        is a prediction for that recording, and several of one recording are averaged.
    test_table : DataFrame or path
        test.csv, or its contents: its ``eeg_id`` column says which ids are due.
    path : the file, usually submission.csv
    fill : "prior" or None
        What becomes of a recording without a prediction, for example one that could not be
        prepared: the class prior of ``run`` (`class_prior`), or an error.
    run : Package, with ``fill``
        The run that the model was trained on.

    Raises
    ------
    ValueError
        If an id is unknown or there twice, one is missing and nothing fills it, a value is NaN
        or outside 0 ... 1, or a row does not sum to 1 within `numpy.allclose`. Nothing is
        written then.

    Examples
    --------
    >>> test = pd.DataFrame({"eeg_id": [3911565283]})
    >>> frame = submission({3911565283: [0.1, 0.1, 0.2, 0.1, 0.1, 0.4]}, test, "submission.csv")
    >>> frame.columns.tolist()[:2], len(frame)
    (['eeg_id', 'seizure_vote'], 1)
    """
    import pandas as pd

    if (fill is None) != (run is None) or fill not in (None, "prior"):
        raise ValueError(
            f'fill={fill!r} and run={run!r} do not go together: give fill="prior" and run=RUN, or neither'
        )
    table = test_table if isinstance(test_table, pd.DataFrame) else _read_table(Path(test_table))
    due = _column(table, "eeg_id", "the test table").drop_duplicates().tolist()
    ids, shares = _as_rows(predictions)
    shares = check_distributions(shares, "the predictions", ids)
    recordings = _recordings_of(predictions, ids, [str(name) for name in due])
    rows = _averaged(recordings, shares, [str(name) for name in due])
    lacking = np.isnan(rows[:, 0])
    if run is not None and lacking.any():
        rows[lacking] = class_prior(run)
        of_all = f"{lacking.sum()} of {counted(len(due), 'recording')}"
        say(f"the run's class prior stands for {of_all} without a prediction")
    elif lacking.any():
        missing = [str(due[row]) for row in np.flatnonzero(lacking)]
        raise ValueError(
            f"{counted(len(missing), 'id')} without a prediction: {listed(missing)}; "
            'fill="prior", run=RUN gives them the class prior of a run'
        )
    frame = pd.DataFrame({"eeg_id": due, **dict(zip(COMPETITION.vote_columns, rows.T, strict=True))})
    target = Path(path)
    text = frame.to_csv(index=False, lineterminator="\n")
    commit_files(target.parent, {target.name: text.encode()})
    return frame


def class_prior(run: Package) -> NDArray[np.float64]:
    """Return the mean soft label of a run's items of high confidence, of all where there are none.

    Returns
    -------
    float64, shape (6,), sum 1

    Raises
    ------
    ValueError
        If the run has no labels, as one of a test set, or no item.

    Examples
    --------
    >>> class_prior(run).shape, float(class_prior(run).sum().round(6))
    ((6,), 1.0)
    """
    if "data_package/labels.npz" not in run.manifest["files"] or not len(run.labels.y_soft):
        raise ValueError(f"run {run.hash} has no labels; give the run that the model was trained on")
    labels = run.labels
    if labels.classes.tolist() != list(COMPETITION.names):
        raise ValueError(
            f"run {run.hash} has the classes {', '.join(labels.classes)}; "
            f"a submission has {', '.join(COMPETITION.names)}"
        )
    chosen = labels.hc_mask if labels.hc_mask.any() else np.ones_like(labels.hc_mask)
    prior = labels.y_soft[chosen].mean(axis=0, dtype=np.float64)
    return np.asarray(prior / prior.sum())


def _averaged(
    recordings: Sequence[str], shares: NDArray[np.float64], due: Sequence[str]
) -> NDArray[np.float64]:
    """Return the mean of each recording's rows, NaN for one that has none: shape (n_due, 6)."""
    place = {name: row for row, name in enumerate(due)}
    rows = np.array([place[name] for name in recordings], dtype=np.int64)
    counts = np.bincount(rows, minlength=len(due)).astype(np.float64)
    total = np.zeros((len(due), len(COMPETITION)))
    np.add.at(total, rows, shares)
    counts[counts == 0] = np.nan
    return np.asarray(total / counts[:, None])


def _recordings_of(predictions: Any, ids: Sequence[str], due: Sequence[str]) -> list[str]:
    """Return the recording of each prediction: as the table says, or as its item_id does.

    Raises `ValueError` if an id appears twice, or means no recording of the test table.
    """
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise ValueError(f"the predictions have repeated ids: {listed(twice)}")
    said = ids
    if not isinstance(predictions, Mapping) and {"item_id", "eeg_id"} <= set(predictions.columns):
        said = [str(name) for name in predictions["eeg_id"].tolist()]
    known = set(due)
    meant = [_recording_of(name, known) for name in said]
    unknown = [name for name, recording in zip(ids, meant, strict=True) if recording is None]
    if unknown:
        raise ValueError(
            f"{counted(len(unknown), 'prediction')} with an unknown id: {listed(unknown)}"
            f"{did_you_mean(unknown[0], due)}; ids are eeg_id, or item_id: eeg_id_eeg_sub_id"
        )
    return [name for name in meant if name is not None]


def _recording_of(name: str, known: set[str]) -> str | None:
    """Return the recording that an item_id of any unit means, None where it means none."""
    if name in known:
        return name
    recording, _, sub_window = name.rpartition("_")
    return recording if recording in known and sub_window.isdecimal() else None


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path} does not exist; name the competition's test.csv")
    table = pd.read_csv(path, dtype={"eeg_id": str})
    if "eeg_id" in table and all(map(_is_number, table["eeg_id"])):
        table["eeg_id"] = table["eeg_id"].astype("int64")
    return table


def _is_number(text: object) -> bool:
    return isinstance(text, str) and text.isdecimal() and str(int(text)) == text and int(text) < 2**63


def _column(table: pd.DataFrame, name: str, what: str) -> pd.Series:
    if name not in table.columns:
        raise ValueError(f"{what} has no column '{name}'; it has {', '.join(map(str, table.columns))}")
    return table[name]


def _as_rows(predictions: pd.DataFrame | Mapping[Any, Any]) -> tuple[list[str], NDArray[np.float64]]:
    """Return ids and class shares, shape (n, 6), in the order in which they were given."""
    if isinstance(predictions, Mapping):
        bad = [name for name, row in predictions.items() if np.shape(row) != (len(COMPETITION),)]
        if bad:
            raise ValueError(
                f"a prediction has {len(COMPETITION)} values, but that of {bad[0]} has the shape "
                f"{np.shape(predictions[bad[0]])}"
            )
        rows = np.array([np.asarray(row, dtype=np.float64) for row in predictions.values()])
        return [str(name) for name in predictions], rows.reshape(len(predictions), len(COMPETITION))
    columns = [_column(predictions, name, "the table of predictions") for name in COMPETITION.vote_columns]
    by = "item_id" if "item_id" in predictions.columns else "eeg_id"
    ids = [str(name) for name in _column(predictions, by, "the table of predictions").tolist()]
    return ids, np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)
