"""Npz files: what is written is what NumPy writes, and what is damaged is told."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hms.store.npz import npz_bytes, npz_file, read_npz

ARRAYS = {
    "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.linspace(0, 1, 7).astype(np.float16),
    "scalar": np.int64(7),
    "text": np.array(["a", "bcd"]),
    "empty": np.empty((0, 3)),
    "é": np.array([True, False]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def test_what_is_written_is_read_back_with_its_type_and_shape() -> None:
    found = read_npz(npz_bytes(ARRAYS))
    assert list(found) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == np.asarray(expected).dtype
        assert found[name].flags.writeable


def test_only_what_is_asked_for_is_read() -> None:
    assert list(read_npz(npz_bytes(ARRAYS), "half", "x")) == ["half", "x"]
    with pytest.raises(KeyError, match="absent"):
        read_npz(npz_bytes(ARRAYS), "absent")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_others_are_read_too(save: object) -> None:
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)  # type: ignore[operator]
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(read_npz(buffer.getvalue(), name)[name], expected)


def test_every_flipped_bit_of_the_values_is_told() -> None:
    whole = npz_bytes({"x": np.arange(4, dtype=np.float32)})
    start = whole.index(b"\x93NUMPY")
    for place in range(start, whole.index(b"PK\1\2")):
        for bit in range(8):
            broken = bytearray(whole)
            broken[place] ^= 1 << bit
            with pytest.raises((ValueError, zipfile.BadZipFile)):
                read_npz(bytes(broken))


def test_a_file_that_was_cut_anywhere_is_told() -> None:
    whole = npz_bytes(ARRAYS)
    for length in range(len(whole)):
        with pytest.raises((ValueError, zipfile.BadZipFile, EOFError)):
            read_npz(whole[:length])


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="array of objects"):
        npz_bytes({"x": np.array([{}], dtype=object)})
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        read_npz((tmp_path / "o.npz").read_bytes())


def test_a_declared_size_that_is_not_there_is_told_without_taking_memory() -> None:
    """A header of 4 EB over no values."""
    whole = npz_bytes({"x": np.zeros(1, np.float32)})
    start = whole.index(b"(1,), }")
    broken = bytearray(whole)
    broken[start : start + 7 + 11] = b"(999999999999999,)"
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        read_npz(bytes(broken))


def test_a_file_written_in_pieces_has_the_bytes_of_the_whole_and_no_copy_of_an_array(tmp_path: Path) -> None:
    arrays = ARRAYS | {"names": np.array(["a", "bcd"] * 100_000), "values": np.zeros(200_000)}
    file = io.BytesIO()
    npz_file(arrays)(file)
    assert file.getvalue() == npz_bytes(arrays)
    tracemalloc.start()
    try:
        with open(tmp_path / "x.npz", "wb") as written:
            npz_file(arrays)(written)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000 < arrays["names"].nbytes
