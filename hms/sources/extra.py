"""A second table of rows to train on, such as pseudo-labels: ``data.extra``.

It has the columns of train.csv, or as few as ``eeg_id`` and the votes: what it lacks is taken from the row of
the votes table with the same ``eeg_id`` and ``eeg_sub_id``. A column ``weight`` states what a row weighs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hms.config.identity import digest_of
from hms.config.paths import Address
from hms.config.reading import regular_bytes
from hms.errors import ConfigError
from hms.labels.classes import Ballot
from hms.labels.extra import SOURCE, WEIGHT
from hms.labels.items import own_columns, row_with_most_votes, vote_array
from hms.sources.tables import VotesTable, votes_from_frame
from hms.store.files import digest_bytes
from hms.terminal import listed

if TYPE_CHECKING:
    import pandas as pd

_COLUMN = "weight"
_FILLED = {
    "eeg_label_offset_seconds": "offset_s",
    "patient_id": "patient_id",
    "spectrogram_id": "spectrogram_id",
    "spectrogram_sub_id": "spectrogram_sub_id",
    "spectrogram_label_offset_seconds": "spectrogram_offset_s",
    "label_id": "label_id",
}
"""Columns that a row may lack, and where the votes table has them."""


def read_extra(path: Path, votes: VotesTable, ballot: Ballot) -> VotesTable:
    """Return the checked table of a CSV file with more rows, filled up from the votes table.

    Raises `ConfigError` if the file is not such a table, a row has no votes, a weight is negative or no
    number, or a recording has another patient than in the votes table; ids and rows are named.
    """
    data, raw = _read(path)
    filled = _filled(raw, votes, path)
    weights = _weights(raw, path)
    table = votes_from_frame(filled.drop(columns=_COLUMN, errors="ignore"), ballot, path=path)
    empty = np.flatnonzero(vote_array(table.frame).sum(axis=1) == 0)
    if empty.size:
        _refuse(path, f"votes must not sum to 0, but do in {_rows(empty)}; leave such rows out")
    known = {"eeg_id", "eeg_sub_id", "expert_consensus", *_FILLED, *ballot.classes.vote_columns, _COLUMN}
    own = [str(name) for name in raw if name not in known]
    taken = [name for name in (*own_columns(votes.frame), *own) if name in (SOURCE, WEIGHT)]
    if taken:
        _refuse(path, f"a column '{taken[0]}' is made when rows are added; rename yours")
    frame = table.frame.copy()
    for name in own:
        frame[name] = [text or None for text in raw[name].tolist()]
    frame[WEIGHT] = weights
    return replace(table, frame=frame, digest=digest_of([votes.digest, digest_bytes(data)]))


def add_rows(votes: VotesTable, extra: VotesTable, without_file: Sequence[str]) -> VotesTable:
    """Return a votes table with the rows of a second one next to it.

    Raises `ConfigError` if recordings of the second are in no folder and not in the votes table either.
    """
    if without_file:
        _refuse(
            extra.path,
            f"column 'eeg_id': {listed(without_file)} are neither in {votes.path.name} nor files next to "
            "its recordings",
        )
    return replace(votes, extra=extra.frame, digest=extra.digest)


def _read(path: Path) -> tuple[bytes, pd.DataFrame]:
    import pandas as pd

    try:
        data = regular_bytes(path)
        raw = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"data.extra={path} cannot be read: {error.strerror or error}") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise ConfigError(f"data.extra={path} is not a CSV table in UTF-8 ({error})") from None
    if "eeg_id" not in raw or not len(raw):
        _refuse(path, f"needs a column eeg_id and rows; it has {', '.join(map(str, raw.columns))}")
    return data, raw


def _filled(raw: pd.DataFrame, votes: VotesTable, path: Path) -> pd.DataFrame:
    """Return the rows with what they lack taken from the votes table."""
    import pandas as pd

    first = votes.frame
    most = first.iloc[row_with_most_votes(first)]
    usual = dict(zip(most["recording"], most["eeg_sub_id"].astype(str), strict=True))
    patient_of = dict(zip(first["recording"], first["patient_id"], strict=True))
    filled = raw.copy()
    if "eeg_sub_id" not in raw:
        filled["eeg_sub_id"] = [usual.get(name, "0") for name in raw["eeg_id"]]
    pairs = pd.MultiIndex.from_arrays([filled["eeg_id"], filled["eeg_sub_id"]])
    index = pd.MultiIndex.from_arrays([first["recording"], first["eeg_sub_id"].astype(str)])
    place = index.get_indexer(pairs)
    for column, ours in _FILLED.items():
        there = _texts(first[ours])
        given = raw[column].tolist() if column in raw else [""] * len(raw)
        filled[column] = [
            text or (there[at] if at >= 0 else "") for text, at in zip(given, place.tolist(), strict=True)
        ]
    filled["patient_id"] = [
        text or patient_of.get(name, "")
        for name, text in zip(raw["eeg_id"], filled["patient_id"], strict=True)
    ]
    _check_patients(filled, patient_of, path)
    new = ~filled["eeg_id"].isin(list(patient_of)) & (filled["eeg_label_offset_seconds"] == "")
    filled.loc[new, "eeg_label_offset_seconds"] = "0"
    return filled


def _texts(column: pd.Series) -> list[str]:
    return ["" if value is None or value != value else str(value) for value in column.tolist()]


def _check_patients(filled: pd.DataFrame, patient_of: dict[str, str], path: Path) -> None:
    lacking = filled.loc[filled["patient_id"] == "", "eeg_id"]
    if len(lacking):
        _refuse(
            path,
            f"column 'patient_id' is needed for {listed(dict.fromkeys(lacking))}, not in the votes table",
        )
    rows = zip(filled["eeg_id"], filled["patient_id"], strict=True)
    other = [name for name, patient in rows if patient_of.get(name, patient) != patient]
    if other:
        _refuse(
            path,
            f"column 'patient_id': recording '{other[0]}' belongs to patient '{patient_of[other[0]]}' in the "
            f"votes table; recordings with two patients: {len(set(other))}",
        )


def _weights(raw: pd.DataFrame, path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what each row weighs, NaN for all where the table does not say."""
    import pandas as pd

    if _COLUMN not in raw:
        return np.full(len(raw), np.nan)
    weights = pd.to_numeric(raw[_COLUMN], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        _refuse(path, f"column 'weight' must hold numbers, 0 or more, but {_rows(bad)} has other values")
    return weights


def _rows(rows: np.ndarray[Any, Any]) -> str:
    return f"row{'s' * (rows.size > 1)} {listed(rows)}"


def _refuse(path: Path | Address, problem: str) -> NoReturn:
    raise ConfigError(f"{path}: {problem}")
