"""Ready-made folds: from a file, or from a column of the votes table.

Every patient is in one fold, whatever the file counts by: two recordings of one patient in
different folds would be a leak, and are refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from hms.config.reading import regular_bytes
from hms.errors import ConfigError, reraise_fault
from hms.labels.folds import OwnFolds
from hms.labels.items import own_columns
from hms.registry import did_you_mean, register
from hms.terminal import counted, listed

if TYPE_CHECKING:
    import pandas as pd

FOLD = "fold"
_NAMED_BY = (("item_id",), ("eeg_id", "eeg_sub_id"), ("eeg_id",), ("patient_id",))
"""What the rows of a file may be of, the finest first."""


@dataclass(frozen=True)
class FileFolds(OwnFolds):
    """Settings of folds in a file.

    Attributes
    ----------
    path : CSV with a column ``fold`` and one of item_id, eeg_id or patient_id; its content, not its
        place, is what counts
    """

    path: str | None


@dataclass(frozen=True)
class ColumnFolds(OwnFolds):
    """Settings of folds in the votes table: the name of the column.

    Attributes
    ----------
    column : of the votes table that holds the fold, numbered from 0
    """

    column: str


@register("folds", "file", FileFolds)
def file_folds(frame: pd.DataFrame, params: FileFolds) -> NDArray[np.int64]:
    """Return the fold of each patient that a file gives, see `folds_of_csv`."""
    path = Path(_path_of(params))
    try:
        data = regular_bytes(path)
    except OSError as error:
        raise ConfigError(f"folds.path={path} cannot be read: {error.strerror or error}") from None
    return folds_of_csv(frame, data, str(path))


def content_of(params: FileFolds) -> str:
    """Return the digest of the file's content, or that it is not there to be read."""
    try:
        data = regular_bytes(_path_of(params))
    except (OSError, ConfigError) as error:
        reraise_fault(error)
        return "not there"
    return blake2b(data, digest_size=16).hexdigest()


def _path_of(params: FileFolds) -> str:
    if params.path is None:
        raise ConfigError("folds=file needs folds.path=FILE, a CSV with the columns patient_id,fold")
    return params.path


@register("folds", "column", ColumnFolds)
def column_folds(frame: pd.DataFrame, params: ColumnFolds) -> NDArray[np.int64]:
    """Return the fold of each patient that a column of the votes table gives.

    Raises `ConfigError` if there is no such column, or its values are not folds of whole patients.
    """
    name = params.column
    columns = own_columns(frame)
    if name not in columns:
        have = f"its other columns are {', '.join(columns)}" if columns else "it has no other columns"
        raise ConfigError(
            f"folds.column={name} is not a column of the votes table{did_you_mean(name, columns)}; {have}"
        )
    source = f"column '{name}' of the votes table"
    ids = [f"{r}_{s}" for r, s in zip(frame["recording"], frame["eeg_sub_id"], strict=True)]
    folds = {i: value or "" for i, value in zip(ids, frame[name].tolist(), strict=True)}
    return _of_patients(_numbers(folds, source), dict(zip(ids, frame["patient_id"], strict=True)), source)


def folds_of_csv(frame: pd.DataFrame, data: bytes, source: str) -> NDArray[np.int64]:
    """Return the fold of each patient of a votes table by the rows of a CSV file: int64, shape (n_patients,).

    Patients are in the order of their id's text. Rows are of patients, of recordings, of sub-windows
    (``eeg_id`` and ``eeg_sub_id``) or of items (``item_id`` of any unit); further columns do not matter.
    Raises `ConfigError` if an id appears twice, is missing or unknown, a fold is not a whole number, the
    folds are not 0 ... n - 1, or two rows of one patient are in different folds.
    """
    keys, rows = _rows(data, source)
    folds: dict[str, str] = {}
    for name, fold in rows:
        if name in folds:
            _refuse(source, f"{' and '.join(keys)} '{name}' appears twice")
        folds[name] = fold
    patient_of = _known(frame, keys)
    unknown = [name for name in folds if name not in patient_of]
    if unknown:
        what = counted(len(unknown), keys[0])
        _refuse(source, f"{what} not in the votes table: {listed(unknown)}")
    _check_whole(frame, folds, keys, source)
    return _of_patients(_numbers(folds, source), patient_of, source)


def _rows(data: bytes, source: str) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Return what rows are of, and the id and the fold of each."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        records, header = list(reader), list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{source}: is not a CSV table in UTF-8 ({error})") from None
    keys = next((keys for keys in _NAMED_BY if set(keys) <= set(header)), None)
    if keys is None or FOLD not in header:
        _refuse(source, f"needs a column fold and one of item_id, eeg_id, patient_id; it has {header}")
    return keys, [("_".join(row[key] or "" for key in keys), (row[FOLD] or "").strip()) for row in records]


def _known(frame: pd.DataFrame, keys: Sequence[str]) -> dict[str, str]:
    """Return the patient of everything that a row may be of."""
    patients = frame["patient_id"].tolist()
    if keys == ("patient_id",):
        return {name: name for name in patients}
    names = (frame["item"] if "item" in frame else frame["recording"]).tolist()
    subs = zip(names, frame["eeg_sub_id"].tolist(), strict=True)
    recordings = dict(zip(frame["recording"].tolist(), patients, strict=True))
    items = {f"{name}_{sub_id}": who for (name, sub_id), who in zip(subs, patients, strict=True)}
    return items | dict(zip(names, patients, strict=True)) | recordings


def _check_whole(frame: pd.DataFrame, folds: Mapping[str, str], keys: Sequence[str], source: str) -> None:
    """Raise if a patient, or a recording where rows are of recordings, is in no row."""
    if keys == ("patient_id",):
        missing = [name for name in dict.fromkeys(frame["patient_id"].tolist()) if name not in folds]
    else:
        named = set(folds)
        names = (frame["item"] if "item" in frame else frame["recording"]).tolist()
        rows = zip(frame["recording"].tolist(), names, frame["eeg_sub_id"].tolist(), strict=True)
        found = {r for r, name, sub in rows if not named.isdisjoint((r, name, f"{name}_{sub}"))}
        missing = [name for name in dict.fromkeys(frame["recording"].tolist()) if name not in found]
    if missing:
        what = "patient_id" if keys == ("patient_id",) else "eeg_id"
        _refuse(source, f"no fold for {counted(len(missing), what)} of the votes table: {listed(missing)}")


def _numbers(folds: Mapping[str, str], source: str) -> dict[str, int]:
    """Return folds as numbers 0 ... n - 1, of which each is there."""
    numbers: dict[str, int] = {}
    for name, text in folds.items():
        whole = text.removesuffix(".0")
        if not whole.isdecimal():
            _refuse(source, f"the fold of '{name}' is '{text}'; it must be a whole number, 0 or more")
        numbers[name] = int(whole)
    present = sorted(set(numbers.values()))
    if present != list(range(len(present))) or len(present) < 2:
        _refuse(
            source,
            "folds are numbered 0, 1, ... without a gap, and there must be at least two; it "
            f"has {listed(present)}",
        )
    return numbers


def _of_patients(folds: Mapping[str, int], patient_of: Mapping[str, str], source: str) -> NDArray[np.int64]:
    """Return the fold of each patient; raise where rows of one patient differ."""
    found: dict[str, tuple[int, str]] = {}
    for name, fold in folds.items():
        patient = patient_of[name]
        other, earlier = found.setdefault(patient, (fold, name))
        if other != fold:
            _refuse(
                source,
                f"patient '{patient}' is in fold {other} ('{earlier}') and in fold {fold} ('{name}'); "
                "a fold keeps every patient whole",
            )
    return np.array([found[patient][0] for patient in sorted(found)], dtype=np.int64)


def _refuse(source: str, problem: str) -> NoReturn:
    raise ConfigError(f"{source}: {problem}")
