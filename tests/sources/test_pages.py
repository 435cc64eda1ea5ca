"""Pages of plain numbers: the same samples as Arrow's, or none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hms.competition import CHANNELS
from hms.errors import Unusable
from hms.sources.kaggle import ParquetRecording

N = 9000
EEG = np.random.default_rng(0).standard_normal((20, N)).astype(np.float32)
EEG[3, 40:90] = np.nan
EEG[5] = EEG[5].round(1)
WANTED = ("Cz", "Fp1", "EKG", "Fp2")
PLAIN: dict[str, Any] = {"compression": "snappy", "use_dictionary": False}


def parquet(settings: dict[str, Any], table: pa.Table | None = None) -> bytes:
    file = io.BytesIO()
    table = pa.table(dict(zip(CHANNELS, EEG, strict=True))) if table is None else table
    pq.write_table(table, file, **settings)
    return file.getvalue()


@pytest.fixture
def by_arrow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that Arrow decodes."""
    counts: list[int] = []
    decode = pq.ParquetFile.iter_batches

    def counted(*arguments: Any, **settings: Any) -> Iterator[Any]:
        for batch in decode(*arguments, **settings):
            counts.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    return counts


PAGES = [
    PLAIN,
    PLAIN | {"write_statistics": False},
    PLAIN | {"data_page_size": 1000, "write_batch_size": 100},
    PLAIN | {"data_page_size": 1000, "write_batch_size": 100, "write_statistics": False},
]
OTHERS = [
    PLAIN | {"use_dictionary": True},
    PLAIN | {"compression": "gzip"},
    PLAIN | {"compression": "none"},
    PLAIN | {"data_page_version": "2.0"},
    PLAIN | {"write_page_checksum": True},
    PLAIN | {"row_group_size": 2000},
    PLAIN | {"use_byte_stream_split": True},
]


@pytest.mark.parametrize(("settings", "is_plain"), [(s, True) for s in PAGES] + [(s, False) for s in OTHERS])
def test_pages_of_plain_numbers_are_not_given_to_arrow(
    settings: dict[str, Any], is_plain: bool, by_arrow: list[int]
) -> None:
    recording = ParquetRecording(parquet(settings), {})
    rows = EEG[[CHANNELS.index(name) for name in WANTED]]
    for first, stop in ((0, N), (10, 11), (3100, 8200), (N - 1, N)):
        found = recording.read(first, stop, WANTED)
        np.testing.assert_array_equal(found, rows[:, first:stop])
        assert found.flags.c_contiguous
        assert not found.flags.writeable
    assert bool(by_arrow) is not is_plain


@pytest.mark.parametrize("n_rows", [1, 63, 64, 8191, 8192, 20_001])
def test_any_number_of_rows(n_rows: int, by_arrow: list[int]) -> None:
    """The length of the levels, and so where samples begin, follows from it."""
    eeg = np.random.default_rng(1).standard_normal((20, n_rows)).astype(np.float32)
    data = parquet(PLAIN, pa.table(dict(zip(CHANNELS, eeg, strict=True))))
    np.testing.assert_array_equal(ParquetRecording(data, {}).read(0, n_rows, CHANNELS), eeg)
    assert by_arrow == []


@pytest.mark.parametrize("place", [0, 4000, N - 1])
def test_a_missing_value_is_left_to_arrow(place: int) -> None:
    columns = dict(zip(CHANNELS, map(pa.array, EEG), strict=True))
    columns["Fp1"] = pa.array(EEG[0], mask=np.arange(N) == place)
    found = ParquetRecording(parquet(PLAIN, pa.table(columns)), {}).read(0, N, ("Fp1",))[0]
    assert np.isnan(found[place])
    np.testing.assert_array_equal(np.delete(found, place), np.delete(EEG[0], place))


def test_columns_that_can_miss_nothing_have_no_levels() -> None:
    schema = pa.schema([pa.field(name, pa.float32(), nullable=False) for name in CHANNELS])
    data = parquet(PLAIN, pa.table(list(EEG), schema=schema))
    np.testing.assert_array_equal(ParquetRecording(data, {}).read(0, N, CHANNELS), EEG)


def outcome(data: bytes) -> np.ndarray | str:
    try:
        return ParquetRecording(data, {}).read(0, N, CHANNELS[:2])
    except Unusable as error:
        return error.reason


@pytest.mark.parametrize("settings", [PLAIN, PAGES[2]])
def test_a_changed_byte_gives_what_arrow_makes_of_it(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = parquet(settings)
    begin = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0).data_page_offset
    rng = np.random.default_rng(2)
    places = [*range(begin, begin + 60), *rng.integers(begin, len(data) // 10, 40).tolist()]
    damaged = [bytes([*data[:at], data[at] ^ (1 << at % 8), *data[at + 1 :]]) for at in places]
    found = [outcome(each) for each in damaged]
    monkeypatch.setattr("hms.sources.kaggle.plain_columns", lambda *_: None)
    assert any(isinstance(one, str) for one in found)
    for one, each in zip(found, damaged, strict=True):
        np.testing.assert_array_equal(one, outcome(each))
