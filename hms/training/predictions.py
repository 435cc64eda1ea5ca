"""Predictions from a file: class shares by item, checked before anything is computed of them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hms.config.reading import regular_bytes
from hms.errors import ConfigError
from hms.registry import did_you_mean
from hms.store.npz import read_npz
from hms.terminal import listed
from hms.training.metric import check_distributions

if TYPE_CHECKING:
    import pandas as pd

    from hms.store.package import Package

VALUES = ("prediction", "predictions", "p", "y_pred")
"""Names under which an npz file may hold the class shares; the baseline's oof.npz has the first."""

OOF = "baseline/oof.npz"
IDS = ("item_id", "eeg_id")
NOT_PREDICTED = -1
"""``fold`` in the baseline's oof.npz of an item that no model predicts."""


@dataclass(frozen=True)
class Predictions:
    """Class shares of some of a run's items.

    Attributes
    ----------
    name : of the file, for the reader
    rows : int64, shape (n,), rows of the run's items, ascending
    shares : float64, shape (n, n_classes), rows sum to 1
    """

    name: str
    rows: NDArray[np.int64]
    shares: NDArray[np.float64]


def read_predictions(
    path: str | Path, *, item_ids: Sequence[str], eeg_ids: Sequence[str], classes: Sequence[str]
) -> Predictions:
    """Read class shares by item from a csv or npz file.

    Raises `ConfigError` if the file is none, or an id is lacking, there twice or not of the run, or a row
    holds NaN, values outside 0 to 1, or does not sum to 1.

    Parameters
    ----------
    path : csv with ``item_id`` (or ``eeg_id``) and a column per class, named as the class or, as in a
        submission, ``<class>_vote``; or npz with ``item_id`` and ``prediction`` of shape (n, n_classes)
        in the order of the classes
    item_ids, eeg_ids : of the run's items; an eeg_id names an item where no other item has it
    classes : of the run, in its order
    """
    file = Path(path)
    try:
        data = regular_bytes(file)
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{file} is not a file; name a csv or npz with predictions by item_id") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    try:
        ids, column, shares = _from_npz(data, classes) if file.suffix == ".npz" else _from_csv(data, classes)
        if column == "eeg_id" and len(set(eeg_ids)) < len(eeg_ids):
            raise ConfigError("the run has several items of one eeg_id; give item_id instead")
        rows = _rows(ids, item_ids if column == "item_id" else eeg_ids, column)
        shares = check_distributions(shares, "the table of predictions", ids)
    except ValueError as error:  # a ConfigError is one
        raise ConfigError(f"{file.name}: {error}") from None
    order = np.argsort(rows)
    return Predictions(file.name, rows[order], shares[order])


def out_of_fold(run: Package) -> Predictions | None:
    """Return the baseline's predictions of the items that a fold validates; None without a baseline."""
    if OOF not in run.manifest["files"]:
        return None
    arrays = run.arrays(OOF)
    known = {name: row for row, name in enumerate(run.meta["item_id"].tolist())}
    place = [known.get(name, -1) for name in arrays["item_id"].tolist()]
    rows = np.where(arrays["fold"] >= 0, place, -1).astype(np.int64)
    return Predictions("baseline", rows[rows >= 0], arrays["prediction"][rows >= 0])


def _rows(ids: Sequence[str], known: Sequence[str], column: str) -> NDArray[np.int64]:
    """Return the row of each id in the run."""
    if not ids:
        raise ConfigError("it has no rows")
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise ConfigError(f"{column} appears more than once: {listed(twice)}")
    place = {name: row for row, name in enumerate(known)}
    foreign = [name for name in ids if name not in place]
    if foreign:
        raise ConfigError(
            f"{len(foreign)} of {len(ids)} predictions are for unknown items: {listed(foreign)}"
            f"{did_you_mean(foreign[0], known)}"
        )
    return np.array([place[name] for name in ids], dtype=np.int64)


# --- csv -----------------------------------------------------------------------------------------


def _from_csv(data: bytes, classes: Sequence[str]) -> tuple[list[str], str, NDArray[np.float64]]:
    frame = _read_table(data)
    column = _id_column(list(frame.columns))
    names = _class_columns(list(frame.columns), classes)
    lacking = frame.index[frame[column].isna() | (frame[column].astype(str).str.strip() == "")].tolist()
    if lacking:
        raise ConfigError(f"{column} is empty in lines {listed(str(row + 2) for row in lacking)}")
    ids = [str(name).strip() for name in frame[column].tolist()]
    return ids, column, np.stack([_numbers(frame[name], ids) for name in names], axis=1)


def _read_table(data: bytes) -> pd.DataFrame:
    import pandas as pd

    try:
        first = pd.read_csv(io.BytesIO(data), header=None, nrows=1, dtype=str, encoding="utf-8-sig")
        header = first.iloc[0].tolist()
        twice = sorted({str(name) for name in header if header.count(name) > 1})
        if twice:
            raise ConfigError(f"column {', '.join(twice)} appears more than once")
        return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(
            "it is neither a UTF-8 csv nor an npz; from an array p in the run's order, make one with "
            "np.savez('p.npz', item_id=run.labels.item_id, prediction=p)"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigError(f"it is not a CSV table: {str(error).splitlines()[0]}") from None


def _id_column(columns: Sequence[str]) -> str:
    for name in IDS:
        if name in columns:
            return name
    raise ConfigError(
        "it has no column 'item_id' (or 'eeg_id'), so its rows do not say what they predict; it "
        f"has {', '.join(columns)}"
    )


def _class_columns(columns: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the column of each class."""
    for form in ("{}", "{}_vote"):
        names = [form.format(name) for name in classes]
        if all(name in columns for name in names):
            return names
    lacking = [name for name in classes if name not in columns and f"{name}_vote" not in columns]
    raise ConfigError(
        f"it has no column for {', '.join(lacking or classes)}; each class has one, {', '.join(classes)} "
        f"or {classes[0]}_vote and so on; it has {', '.join(columns)}"
    )


def _numbers(column: pd.Series, ids: Sequence[str]) -> NDArray[np.float64]:
    import pandas as pd

    values = pd.to_numeric(column.replace("", "nan"), errors="coerce").to_numpy(np.float64)
    texts = column.tolist()
    wrong = [
        f"{name} ({text!r})"
        for name, text, value in zip(ids, texts, values, strict=True)
        if np.isnan(value) and text.strip().lower() not in ("", "nan")
    ]
    if wrong:
        raise ConfigError(f"column {column.name} has values that are not numbers: {listed(wrong)}")
    return values


# --- npz -----------------------------------------------------------------------------------------


def _from_npz(data: bytes, classes: Sequence[str]) -> tuple[list[str], str, NDArray[np.float64]]:
    try:
        arrays = read_npz(data)
    except (ValueError, BadZipFile) as error:
        raise ConfigError(f"it is not an npz file that opens without pickle: {error}") from None
    column = _id_column(list(arrays))
    values = next((arrays[name] for name in VALUES if name in arrays), None)
    if values is None:
        raise ConfigError(f"it has no array '{VALUES[0]}' with the class shares; it has {', '.join(arrays)}")
    ids = [str(name) for name in np.asarray(arrays[column]).reshape(-1).tolist()]
    expected = (len(ids), len(classes))
    if values.shape != expected or values.dtype.kind not in "fiu":
        raise ConfigError(
            f"the predictions are numbers of shape {expected}, a row for each {column} and a column for "
            f"each of {', '.join(classes)}; got {values.dtype} of shape {values.shape}"
        )
    shares = _in_order(values.astype(np.float64), arrays, classes)
    if "fold" not in arrays:
        return ids, column, shares
    predicted = np.asarray(arrays["fold"]).reshape(-1) != NOT_PREDICTED
    return (
        [name for name, is_there in zip(ids, predicted, strict=True) if is_there],
        column,
        shares[predicted],
    )


def _in_order(
    values: NDArray[np.float64], arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]
) -> NDArray[np.float64]:
    """Return the columns in the order of the run's classes, where the file names its own."""
    if "classes" not in arrays:
        return values
    named = [str(name) for name in arrays["classes"].tolist()]
    if sorted(named) != sorted(classes):
        raise ConfigError(f"its classes are {', '.join(named)}, those of the run {', '.join(classes)}")
    return values[:, [named.index(name) for name in classes]]
