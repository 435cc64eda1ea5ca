"""Items: which row stands for each, whose votes it has, and which seconds."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hms import registry
from hms.competition import CLASSES, VOTE_COLUMNS
from hms.errors import ConfigError
from hms.labels.items import ITEM_COLUMNS, Labels, Unit, Window, choose_items
from hms.registry import Params, register
from hms.sources.tables import votes_from_frame

CENTRAL = Window("within", start_s=20, length_s=10)
UNITS = {"per_eeg": "recording", "per_pattern": "sub_window", "per_row": "sub_window"}


def votes_table(*rows):
    """Return the checked frame of rows (recording, sub-window, offset in s, patient, six votes)."""
    columns = ("eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id", *VOTE_COLUMNS)
    return votes_from_frame(pd.DataFrame(rows, columns=columns)).frame


def choose(frame, unit="per_eeg", labels="window", window=CENTRAL):
    return choose_items(frame, Unit(unit, UNITS[unit]), Labels(labels, 10, CLASSES, False, "exclude"), window)


def votes_of(items):
    return items[list(VOTE_COLUMNS)].to_numpy().tolist()


FEW, MANY, OTHER, NONE = (3, 0, 0, 0, 0, 0), (8, 4, 0, 0, 0, 0), (6, 6, 0, 0, 0, 0), (0,) * 6

TABLE = votes_table(
    ("b", 0, 0.0, 7, *FEW),
    ("b", 1, 4.0, 7, *MANY),
    ("b", 2, 8.0, 7, *MANY),
    ("a", 0, 0.0, 5, *FEW),
    ("b", 3, 10.0, 7, *OTHER),
    ("b", 4, 20.0, 7, *MANY),
    ("c", 9, 2.0, 5, *NONE),
)
"""Four rows of 'b' have 12 votes, at 4, 8, 10 and 20 s."""


def test_per_eeg_takes_the_row_with_most_votes_and_of_several_the_earlier_middle():
    """Of b's rows at 4, 8, 10 and 20 s the middle two are 8 and 10."""
    items = choose(TABLE)
    assert list(items["item_id"]) == ["b", "a", "c"]
    assert list(items["eeg_sub_id"]) == [2, 0, 9]
    assert list(items["offset_s"]) == [8.0, 0.0, 2.0]
    assert list(items["window_start_s"]) == [28.0, 20.0, 22.0]
    assert list(items["window_length_s"]) == [10.0, 10.0, 10.0]
    assert list(items["vote_sum"]) == [12, 3, 0]
    assert list(items["patient_id"]) == ["7", "5", "5"]
    assert votes_of(items) == [list(MANY), list(FEW), list(NONE)]
    assert list(items["expert_consensus"]) == [None, None, None]


def test_an_odd_number_of_best_rows_gives_the_middle_one():
    rows = [("a", i, offset, 1, *FEW) for i, offset in enumerate((30.0, 2.0, 4.0, 40.0, 6.0))]
    assert list(choose(votes_table(*rows))["offset_s"]) == [6.0]


def test_per_pattern_takes_the_middle_row_of_each_votes():
    """B has FEW at 0 s, MANY at 4, 8, 20 s and OTHER at 10 s."""
    items = choose(TABLE, "per_pattern")
    assert list(items["item_id"]) == ["b_0", "b_2", "b_3", "a_0", "c_9"]
    assert list(items["offset_s"]) == [0.0, 8.0, 10.0, 0.0, 2.0]
    assert list(items["vote_sum"]) == [3, 12, 12, 3, 0]


def test_per_row_takes_every_row_recording_by_recording():
    items = choose(TABLE, "per_row")
    assert list(items["item_id"]) == ["b_0", "b_1", "b_2", "b_3", "b_4", "a_0", "c_9"]
    assert votes_of(items)[3] == list(OTHER)


@pytest.mark.parametrize("unit", UNITS)
def test_every_item_row_has_all_columns_and_types(unit):
    items = choose(TABLE, unit)
    assert tuple(items.columns) == (*ITEM_COLUMNS, *VOTE_COLUMNS)
    assert list(items.index) == list(range(len(items)))
    assert items["vote_sum"].dtype == np.int32
    assert items["eeg_id"].dtype == items["eeg_sub_id"].dtype == np.int64
    assert {items[name].dtype for name in (*VOTE_COLUMNS, "window_start_s")} == {np.dtype("float64")}


def test_sum_adds_the_votes_of_all_rows_of_the_recording():
    """b: 3 + 8 + 8 + 6 + 8 = 33 for seizure and 4 + 4 + 6 + 4 = 18 for lpd."""
    items = choose(TABLE, labels="sum")
    assert votes_of(items) == [[33, 18, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [0] * 6]
    assert list(items["vote_sum"]) == [51, 3, 0]


def test_mean_averages_distributions_and_keeps_the_chosen_rows_total():
    """b: seizure (1 + 2/3 + 2/3 + 1/2 + 2/3) / 5 = 0.7, of 12 votes."""
    items = choose(TABLE, labels="mean")
    np.testing.assert_allclose(votes_of(items)[0], [8.4, 3.6, 0, 0, 0, 0], atol=1e-12)
    assert list(items["vote_sum"]) == [12, 3, 0]


def test_rows_without_votes_do_not_count_in_the_mean():
    frame = votes_table(("a", 0, 0.0, 1, *NONE), ("a", 1, 2.0, 1, *FEW), ("a", 2, 4.0, 1, *OTHER))
    np.testing.assert_allclose(votes_of(choose(frame, labels="mean")), [[9, 3, 0, 0, 0, 0]], atol=1e-12)
    by_row = choose(frame, "per_row", "mean")
    assert list(by_row["vote_sum"]) == [0, 3, 12]


def test_full_window_is_the_whole_sub_window():
    items = choose(TABLE, window=Window("within", start_s=0, length_s=50))
    assert list(items["window_start_s"]) == [8.0, 0.0, 2.0]
    assert set(items["window_length_s"]) == {50.0}


@pytest.mark.parametrize(
    ("start_s", "length_s", "text"),
    [
        (45, 10, r"^length_s 10 from start_s 45 ends at 55 s; a labelled sub-window lasts 50 s$"),
        (0, 50.1, r"^length_s 50.1 from start_s 0 "),
        (0, 0.001, r"^length_s 0.001 is 0.2 samples at 200 Hz"),
    ],
)
def test_a_window_outside_the_sub_window_is_refused(start_s, length_s, text):
    with pytest.raises(ValueError, match=text):
        Window("within", start_s, length_s)


def test_what_the_source_gives_is_passed_on():
    raw = pd.DataFrame([("a", 0, 0.0, 1, *FEW)])
    raw.columns = ["eeg_id", "eeg_sub_id", "eeg_label_offset_seconds", "patient_id", *VOTE_COLUMNS]
    raw = raw.assign(
        spectrogram_id=5, spectrogram_label_offset_seconds=6.0, label_id=8, expert_consensus="Seizure"
    )
    item = choose(votes_from_frame(raw).frame).iloc[0]
    assert item["spectrogram_id"] == "5"
    assert item["spectrogram_offset_s"] == 6.0
    assert item["label_id"] == "8"
    assert item["expert_consensus"] == "Seizure"


def test_item_ids_that_repeat_are_refused():
    with pytest.raises(ConfigError, match="unit 'per_row' gives the item_id 'b' to several items, 4 in all"):
        choose_items(
            TABLE, Unit("per_row", "recording"), Labels("window", 10, CLASSES, False, "exclude"), CENTRAL
        )


def test_a_total_that_no_file_can_hold_is_refused():
    frame = votes_table(*(("a", i, 0.0, 1, *([10**6] * 6)) for i in range(400)))
    with pytest.raises(
        ConfigError, match=r"an item has 2.4e\+09 votes; more than 2147483647 cannot be stored"
    ):
        choose(frame, labels="sum")


@pytest.fixture
def own_kinds():
    """Register a unit, labels and a window as a plugin would, and forget them afterwards."""

    @dataclass(frozen=True)
    class Shifted(Window):
        shift_s: float

    register("unit", "first_row", Unit)(lambda frame, params: np.flatnonzero(frame["eeg_sub_id"] == 0))
    register("labels", "doubled", Labels)(
        lambda frame, rows, params: 2 * frame[list(VOTE_COLUMNS)].to_numpy()[rows]
    )
    register("window", "shifted", Shifted)(lambda offset_s, params: offset_s + params.shift_s)
    yield Shifted("shifted", 0, 5, shift_s=1)
    for group, kind in (("unit", "first_row"), ("labels", "doubled"), ("window", "shifted")):
        registry._entries[group].pop(kind)


def test_own_functions_need_nothing_but_registering(own_kinds):
    items = choose_items(
        TABLE, Unit("first_row", "recording"), Labels("doubled", 10, CLASSES, False, "exclude"), own_kinds
    )
    assert list(items["item_id"]) == ["b", "a"]
    assert votes_of(items)[0] == [6, 0, 0, 0, 0, 0]
    assert list(items["window_start_s"]) == [1.0, 1.0]
    assert list(items["window_length_s"]) == [5.0, 5.0]


def test_settings_of_another_kind_are_refused():
    with pytest.raises(
        ConfigError, match=r"kind 'within': its settings Params must extend hms.labels.items.Window"
    ):
        choose_items(
            TABLE,
            Unit("per_eeg", "recording"),
            Labels("window", 10, CLASSES, False, "exclude"),
            Params("within"),
        )


# --- properties ----------------------------------------------------------------------------------


@st.composite
def frames(draw):
    rows = []
    for recording in draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True)):
        for sub_id in range(draw(st.integers(1, 6))):
            votes = draw(st.sampled_from([FEW, MANY, OTHER, NONE, (0, 0, 0, 1, 1, 1)]))
            rows.append((recording, sub_id, float(draw(st.integers(0, 5))), ord(recording) % 3, *votes))
    return votes_table(*draw(st.permutations(rows)))


def slow_choice(frame, unit):
    """Return the chosen rows as the rules say, one group at a time."""
    frame = frame.assign(total=frame[list(VOTE_COLUMNS)].sum(axis=1), row=np.arange(len(frame)))
    if unit == "per_row":
        groups = [rows for _, rows in frame.groupby("row")]
    elif unit == "per_pattern":
        groups = [rows for _, rows in frame.groupby(["recording", *VOTE_COLUMNS])]
    else:
        groups = [r[r["total"] == r["total"].max()] for _, r in frame.groupby("recording")]
    chosen = []
    for group in groups:
        ordered = group.sort_values(["offset_s", "eeg_sub_id"])
        chosen.append(ordered["row"].iloc[(len(ordered) - 1) // 2])
    order = list(dict.fromkeys(frame["recording"]))
    return sorted(chosen, key=lambda row: (order.index(frame["recording"].iloc[row]), row))


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(frames(), st.sampled_from(sorted(UNITS)))
def test_units_equal_a_group_by_group_reading_of_the_rules(frame, unit):
    items = choose(frame, unit)
    chosen = frame.iloc[slow_choice(frame, unit)]
    for name in ("recording", "eeg_sub_id", "offset_s"):
        assert list(items[name]) == list(chosen[name])


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(frames(), st.sampled_from(sorted(UNITS)), st.sampled_from(["window", "sum", "mean"]), st.randoms())
def test_row_order_changes_only_the_order_of_items(frame, unit, labels, random):
    order = list(range(len(frame)))
    random.shuffle(order)
    before = frame.copy()
    plain, shuffled = (choose(f, unit, labels) for f in (frame, frame.iloc[order].reset_index(drop=True)))
    pd.testing.assert_frame_equal(frame, before)
    place = {item_id: row for row, item_id in enumerate(shuffled["item_id"])}
    back = shuffled.iloc[[place[item_id] for item_id in plain["item_id"]]].reset_index(drop=True)
    pd.testing.assert_frame_equal(back, plain)


@pytest.mark.parametrize("unit", UNITS)
def test_items_of_the_whole_competition_take_a_fraction_of_a_second(unit):
    """106,800 rows; under 0.1 s where nothing else runs."""
    number = np.arange(106_800)
    data = {"eeg_id": number // 6, "eeg_sub_id": number % 6, "eeg_label_offset_seconds": 2.0 * (number % 6)}
    raw = pd.DataFrame({**data, "patient_id": number // 54, **dict.fromkeys(VOTE_COLUMNS, 1)})
    frame = votes_from_frame(raw).frame
    start = time.perf_counter()
    choose(frame, unit, "mean")
    assert time.perf_counter() - start < 0.5
