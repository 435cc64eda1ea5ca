"""What journals say, kept in columns, is what a dictionary of it would say."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hms.store.columns import NO_FILE, OWN, Entries, Files, Reason, Record, Records, number_of
from hms.store.files import Stored

ITEMS = [f"{number:016x}" for number in (1, 2, 2**63, 2**64 - 1)]
NAMES = [*(f"{item}.npz" for item in ITEMS), "rows-1.npz", "key.json", ITEMS[0], "A000000000000001.npz"]
DIGESTS = ["0" * 31 + "1", "f" * 32, "", "F" * 32, "x"]
NUMBERS = [0, 1, 2**63 - 1, 2**63, -1]

stored = st.builds(
    Stored,
    st.sampled_from(NAMES),
    st.sampled_from(NUMBERS),
    st.sampled_from(NUMBERS),
    st.sampled_from(DIGESTS),
)
records = st.builds(
    Record,
    st.sampled_from([*ITEMS, "a", "0" * 15, "A000000000000001"]),
    st.sampled_from(["rows-1.npz", "rows-2.npz", "shard-1.npy"]),
    st.integers(0, 2**62 - 1),
    st.none(),
    st.sampled_from(DIGESTS),
) | st.builds(lambda item: Record(item, f"{item}.npz"), st.sampled_from(ITEMS))
reasons = st.builds(
    lambda item: Record(item, None, 0, Reason("read", "gone", failure=True)), st.sampled_from(ITEMS)
)


def told(entries: list, batches: list[int], found: Entries) -> dict:
    """Add entries in batches, each name once in a batch; return what a dictionary of them says."""
    expected: dict = {}
    for size in batches:
        some = {entry[0]: entry for entry in entries[:size]}
        entries = entries[size:]
        if some:
            found.add(list(some.values()))
        expected |= some
    return expected


@given(st.lists(stored), st.lists(st.integers(0, 4)), st.sets(st.sampled_from(NAMES)))
@settings(max_examples=300, deadline=None)
def test_files_are_those_of_a_dictionary(entries, batches, gone) -> None:
    found = Files()
    expected = told(entries, batches, found)
    found.remove(gone)
    expected = {name: file for name, file in expected.items() if name not in gone}
    assert dict(found) == expected
    assert len(found) == len(expected)
    assert {file.name: file for file in found.values()} == expected
    assert [found.get(name) for name in NAMES] == [expected.get(name) for name in NAMES]
    assert found.have({name: file.digest for name, file in expected.items()})
    for name in NAMES:
        wrong = {n: file.digest for n, file in expected.items()} | {name: "e" * 32}
        assert not found.have(wrong)


@given(st.lists(records | reasons), st.lists(st.integers(0, 4)))
@settings(max_examples=300, deadline=None)
def test_records_are_those_of_a_dictionary(entries, batches) -> None:
    found = Records()
    expected = told(entries, batches, found)
    assert dict(found) == expected
    assert {record.item: record for record in found.values()} == expected
    places = found.find(np.array([*map(number_of, ITEMS), 0], np.uint64))
    assert [place >= 0 for place in places.tolist()] == [*(item in expected for item in ITEMS), False]
    known = [item for item in ITEMS if item in expected]
    assert list(found.some(places[places >= 0])) == [expected[item] for item in known]
    file, row = found.files_of(places)
    for item, number, inside in zip([*ITEMS, ""], file.tolist(), row.tolist(), strict=True):
        record = expected.get(item)
        if record is None or record.file is None:
            assert number == NO_FILE
        else:
            name = f"{item}.npz" if number == OWN else found.names[number]
            assert (name, inside) == (record.file, record.row)


@given(st.lists(stored), st.lists(stored))
@settings(max_examples=200, deadline=None)
def test_files_that_changed_and_files_beside_are_told(before, now) -> None:
    recorded, present = Files(), Files()
    was, there = told(before, [len(before)], recorded), told(now, [len(now)], present)
    changed = {name for name, file in was.items() if name not in there or there[name][1:3] != file[1:3]}
    assert recorded.unlike(present) == changed
    assert {file.name for file in present.beside(recorded)} == there.keys() - was.keys()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts bytes of CPython's objects")
def test_files_and_records_of_many_items_take_a_hundred_bytes_each() -> None:
    """36 and 40 in columns, which are copied where they are sorted; objects would take 600."""
    n = 20_000
    items = [f"{number * 2654435761 % 2**64:016x}" for number in range(n)]
    tracemalloc.start()
    try:
        files, found = Files(), Records()
        for first in range(0, n, 128):
            some = items[first : first + 128]
            files.add([Stored(f"{item}.npz", 1000, 10**18, f"{first:032x}") for item in some])
            found.add([Record(item, f"{item}.npz") for item in some])
        assert len(files) == len(found) == n
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100 * n
    assert peak < 250 * n
