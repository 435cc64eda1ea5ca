"""Recordings in parquet files: which rows are decoded, and that they are the right ones."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hms.competition import CHANNELS
from hms.errors import Unusable
from hms.sources.kaggle import ParquetRecording

N = 5000
EEG = np.random.default_rng(0).standard_normal((20, N)).astype(np.float32)
WANTED = ("Cz", "Fp1", "EKG")
ROWS = [CHANNELS.index(name) for name in WANTED]


def parquet(eeg: np.ndarray, **settings: Any) -> bytes:
    """Return the bytes of a file, its columns from the last to the first."""
    file = io.BytesIO()
    pd.DataFrame(eeg.T, columns=list(CHANNELS)).iloc[:, ::-1].to_parquet(file, **settings)
    return file.getvalue()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that are decoded."""
    counts: list[int] = []
    decode = pq.ParquetFile.iter_batches

    def counted(*arguments: Any, **settings: Any) -> Iterator[Any]:
        for batch in decode(*arguments, **settings):
            counts.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    return counts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"row_group_size": 700},
        {"row_group_size": N, "data_page_size": 1000},
        {"row_group_size": 1999, "compression": "zstd", "use_dictionary": False},
    ],
)
def test_any_window_in_any_order_holds_the_samples_of_the_file(settings: dict[str, Any]) -> None:
    recording = ParquetRecording(parquet(EEG, **settings), {})
    rng = np.random.default_rng(1)
    spans = [(0, N), (10, 20), (4990, 5100), (-300, 5), (699, 701), (1998, 2000)]
    starts = rng.integers(0, 4000, 40).tolist()
    spans += [(start, start + int(rng.integers(1, 900))) for start in starts]
    for start, stop in spans:
        expected = np.full((3, stop - start), np.nan, np.float32)
        first, last = max(start, 0), min(stop, N)
        expected[:, first - start : last - start] = EEG[ROWS, first:last]
        np.testing.assert_array_equal(recording.read(start, stop, WANTED), expected)


def test_rows_after_the_window_are_not_decoded(decoded: list[int]) -> None:
    recording = ParquetRecording(parquet(EEG), {})
    recording.read(1000, 2000, WANTED)
    assert sum(decoded) == 2000


def test_windows_of_one_recording_decode_it_twice_at_most(decoded: list[int]) -> None:
    """The first as far as it reaches, the second all of it, further ones nothing."""
    recording = ParquetRecording(parquet(EEG), {})
    for start in (1000, 500, 2000, 3000, 4000, 0):
        recording.read(start, start + 1000, WANTED)
    assert decoded == [2000, N]


def test_missing_values_and_other_types_become_float32() -> None:
    frame = pd.DataFrame(EEG.T, columns=list(CHANNELS))
    frame["Fp1"] = frame["Fp1"].astype("Float32").mask(np.arange(N) == 3)
    frame["Cz"] = np.arange(N, dtype=np.int16)
    file = io.BytesIO()
    frame.to_parquet(file)
    found = ParquetRecording(file.getvalue(), {}).read(0, 10, WANTED)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], np.arange(10))
    assert np.isnan(found[1, 3])
    assert np.isfinite(np.delete(found[1], 3)).all()


def test_a_file_with_fewer_rows_than_it_says_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = pq.ParquetFile.iter_batches

    def short(self: Any, *arguments: Any, **settings: Any) -> Iterator[Any]:
        yield next(decode(self, *arguments, **settings)).slice(0, 100)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", short)
    with pytest.raises(Unusable) as caught:
        ParquetRecording(parquet(EEG), {}).read(0, 200, WANTED)
    assert caught.value.reason == "the file is damaged: it holds 100 of the 200 rows that it says"


def test_samples_are_float32_rows_that_nobody_can_write_to() -> None:
    """Several windows are cut from what was decoded once."""
    recording = ParquetRecording(parquet(EEG), {})
    samples = recording.read(1000, 2000, WANTED)
    assert samples.dtype == np.float32
    assert samples.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        samples[0, 0] = 1


def test_a_channel_without_numbers_is_named() -> None:
    frame = pd.DataFrame(EEG.T, columns=list(CHANNELS)).assign(Cz="text")
    file = io.BytesIO()
    frame.to_parquet(file)
    with pytest.raises(Unusable, match=r"column 'Cz' holds .*string, not numbers"):
        ParquetRecording(file.getvalue(), {}).read(0, 10, WANTED)


def test_no_channel_is_no_row(decoded: list[int]) -> None:
    """A stage of a plugin may need none of the montage's electrodes."""
    recording = ParquetRecording(parquet(EEG), {})
    assert recording.read(1000, 2000, ()).shape == (0, 1000)
    assert decoded == []
