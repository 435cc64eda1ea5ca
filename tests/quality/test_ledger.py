"""Flags, grades and duplicates, with expected values by hand."""

from __future__ import annotations

import io
import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hms
from hms.competition import CHANNELS, EEG_CHANNELS
from hms.errors import ConfigError
from hms.quality import ledger as ledger_module
from hms.quality.channels import CHANNEL_MEASURES
from hms.quality.duplicates import _Held, find_duplicates, pairs_across_folds, same_windows
from hms.quality.grading import CHANNEL_FLAGS, FLAGS, ITEM_FLAGS, QualityControl
from hms.quality.ledger import (
    ITEM_MEASURES,
    Ledger,
    LedgerFiles,
    likeness,
    loudness_db,
    make_ledger,
    write_channels,
)
from hms.store.columns import Reason

GOOD = {
    "ptp_uv": 60.0, "flat_ptp_uv": 50.0, "extreme_samples": 1.0, "sd_uv": 15.0, "hf_uv": 3.0,
    "own_uv": 8.0, "muscle_uv": 2.0, "neighbour_corr": 0.9, "polarity": 0.9, "twin_corr": 0.9,
    "peak_uv": 80.0, "max_abs_uv": 80.0,
}  # fmt: skip
GOOD_ITEM = {"derivation_ptp_min_uv": 30.0, "derivation_ptp_max_uv": 90.0, "x_is_finite": True}


def control(option: str = "default") -> QualityControl:
    """Return the limits of an option."""
    qc = hms.compose(f"qc={option}").qc
    assert isinstance(qc, QualityControl)
    return qc


def measured(n: int) -> dict[str, Any]:
    """Return measures of ``n`` items of which nothing is to be said."""
    rows: dict[str, Any] = {
        name: np.full((n, 20), GOOD.get(name, 0.0), np.float32) for name in CHANNEL_MEASURES
    }
    rows |= {name: np.full(n, GOOD_ITEM.get(name, 0)) for name in ITEM_MEASURES}
    rows["x_is_finite"] = np.ones(n, bool)
    rows["x_is_constant"] = np.zeros(n, bool)
    return rows | {"row": np.arange(n)}


def channels_bytes(tables: Sequence[pa.Table]) -> bytes:
    """Return the file of the table of channels."""
    file = io.BytesIO()
    write_channels(file, tables)
    return file.getvalue()


def ledger(rows: dict[str, Any], qc: QualityControl | None = None, **more: Any) -> Ledger:
    """Grade items named a, b, c ..."""
    n = len(rows["row"])
    items = pd.DataFrame({"item_id": [chr(97 + i) for i in range(n)], "eeg_id": np.arange(n)})
    return make_ledger(items, [None] * n, rows, qc or control(), **more)


# --- flags ---------------------------------------------------------------------------------------

RAISES = [
    ("gaps", "gap_share", 0.001),
    ("gappy", "window_gap_share", 0.11),
    ("dead", "ptp_uv", 0.5),
    ("flat", "window_flat_share", 0.5),
    ("clipped", "extreme_samples", 4),
    ("offset", "offset_uv", -1500),
    ("large", "peak_uv", 1500),
    ("jump", "jump_uv", 101),
    ("drift", "drift_uv", 400),
    ("line", "line50_db", 16),
    ("line", "line60_db", 16),
    ("muscle", "muscle_uv", 8.5),
    ("muscle_only", "own_uv", 1.5),
    ("isolated", "neighbour_corr", 0.1),
    ("reversed", "polarity", -0.5),
    ("twin", "twin_corr", 0.9999),
    ("loud", "own_db", 19),
    ("faint", "gain_db", -21),
    ("ekg", "ekg_corr", 0.4),
]


@pytest.mark.parametrize(("flag", "measure", "value"), RAISES)
def test_a_measure_beyond_its_limit_raises_its_flag_at_its_channel_alone(
    flag: str, measure: str, value: float
):
    rows = measured(3)
    rows[measure][1, 4] = value
    found = ledger(rows)
    assert flag in found.items["raised"].iloc[1].split(";")
    assert f"{flag}:F7" in found.items["flagged_channels"].iloc[1].split(";")
    assert found.items["raised"].tolist()[::2] == ["", ""]
    assert found.channels.loc[found.channels["raised"] != "", "channel"].tolist() == ["F7"]


@pytest.mark.parametrize(
    ("flag", "changes"),
    [
        ("unmeasured", dict.fromkeys(CHANNEL_MEASURES, np.nan)),
        ("lost", {"lost_share": 0.3}),
        ("edge", {"edge_share": 0.3}),
        ("lopsided", {"left_right_db": -13}),
        ("dead_pair", {"dead_derivations": 1}),
        ("weak_pair", {"derivation_ptp_min_uv": 2}),
        ("strong_pair", {"derivation_ptp_max_uv": 1200}),
        ("movement", {"burst_uv": 150}),
        ("hum", {"hum_share": 0.2}),
        ("hum_only", {"hum_mean_share": 0.6}),
        ("limited", {"clipped_share": 0.01}),
        ("equal_chains", {"corr_rl_rp": 0.9995}),
        ("saturated", {"x_share_0": 0.08, "x_share_1": 0.03}),
        ("constant", {"x_is_constant": True}),
        ("not_finite", {"x_is_finite": False}),
    ],
)
def test_an_item_beyond_a_limit_raises_that_flag_alone(flag: str, changes: dict[str, float]):
    rows = measured(2)
    for name, value in changes.items():
        rows[name] = rows[name].astype(float) if not isinstance(value, bool) else rows[name]
        rows[name][1] = value
    assert ledger(rows).items["raised"].tolist() == ["", flag]


def test_a_recording_without_electrodes_is_called_unmeasured_and_not_good():
    """What its pairs lost counts all the same."""
    rows = measured(2)
    for name in CHANNEL_MEASURES:
        rows[name][0] = np.nan
    assert ledger(rows).items["raised"].tolist() == ["unmeasured", ""]
    assert ledger(rows).items["grade"].tolist() == ["usable", "good"]
    assert ledger(rows).items["n_electrodes"].tolist() == [0, 19]
    rows["lost_share"] = np.array([0.7, 0.0])
    assert ledger(rows).items["raised"].iloc[0] == "unmeasured;lost;mostly_lost"
    assert ledger(rows).items["grade"].tolist() == ["unusable", "good"]


def test_muscle_counts_by_itself_and_beside_what_reaches_x():
    """10 µV beside 20 µV of EEG is muscle; beside 8 µV it is more than the EEG."""
    rows = measured(2)
    rows["muscle_uv"][:, 3], rows["own_uv"][0, 3] = 10, 20
    assert ledger(rows).items["raised"].tolist() == ["muscle", "muscle;muscle_only"]
    assert ledger(rows).items["muscle_share"].tolist() == [0.5, 1.25]


@pytest.mark.parametrize(
    ("neighbour_corr", "own_uv", "gain_db", "expected"),
    [
        (0.3, 40, 0, 0.3),  # a loose electrode
        (0.3, 20, 0, 0.3),
        (0.3, 10, 0, 0.6),  # local EEG of a calm recording
        (0.0, 10, 0, 0.0),
        (-0.3, 10, 0, -0.6),
        (0.3, 10, -7, 0.3),  # an open input: the difference is the neighbours'
        (0.9, 1, 0, 1.0),
        (0.9, 0, 0, np.nan),
    ],
)
def test_a_low_correlation_counts_by_what_the_electrode_has_of_its_own(
    neighbour_corr: float, own_uv: float, gain_db: float, expected: float
):
    found = likeness(*(np.array([value], float) for value in (neighbour_corr, own_uv, gain_db)))
    np.testing.assert_allclose(found, [expected])


def test_an_electrode_is_loud_by_what_it_has_over_its_neighbours_and_over_local_eeg():
    """12 dB over the neighbours are 12 from 20 µV on, and 6 dB less at half of them."""
    np.testing.assert_allclose(
        loudness_db(np.full(3, 12.0), np.array([40, 20, 10.0])), [12, 12, 5.98], atol=0.01
    )


def test_every_flag_is_tested_here():
    """A new flag needs a case above."""
    tested = {name for name, _, _ in RAISES}
    assert set(CHANNEL_FLAGS) == tested
    assert set(FLAGS) == tested | set(ITEM_FLAGS)


def test_a_limit_of_none_raises_nothing():
    rows = measured(1)
    rows["line60_db"][:] = 60
    qc = control()
    off = replace(qc, channel=replace(qc.channel, line=None))
    assert ledger(rows, off).items["raised"].tolist() == [""]


def test_of_the_ekg_only_an_offset_is_flagged():
    """It is no electrode of the head: its amplitude and its neighbours say nothing."""
    rows = measured(1)
    for name in ("offset_uv", "peak_uv", "jump_uv", "drift_uv", "line60_db"):
        rows[name][0, 19] = 5000
    assert ledger(rows).items["flagged_channels"].tolist() == ["offset:EKG"]


def test_what_a_recording_lacks_raises_no_flag():
    """NaN is unknown, not bad."""
    rows = measured(1)
    for name in CHANNEL_MEASURES:
        rows[name][0, 8] = np.nan
    assert ledger(rows).items["raised"].tolist() == [""]


# --- grades --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_bad", "grade"),
    [(0, "good"), (1, "usable"), (3, "usable"), (4, "poor"), (10, "poor"), (11, "unusable")],
)
def test_grades_follow_the_number_of_bad_electrodes(n_bad: int, grade: str):
    """Default: up to 3 usable, up to 10 poor."""
    rows = measured(1)
    rows["neighbour_corr"][0, :n_bad] = 0.1
    assert ledger(rows).items["grade"].tolist() == [grade]


AMPLITUDE = ("clipped", "large", "jump", "drift", "loud", "faint", "movement", "limited", "strong_pair")
"""What seizures raise, and movement: as strong as may be, together and at all electrodes."""


@pytest.mark.parametrize("option", ["lenient", "default", "strict"])
def test_amplitude_steps_and_clipping_alone_make_nothing_worse_than_usable(option: str):
    rows = measured(1)
    for name in ("extreme_samples", "peak_uv", "jump_uv", "drift_uv", "own_db"):
        rows[name][0] = 6000
    rows["gain_db"][0] = -60
    for name in ("burst_uv", "clipped_share", "derivation_ptp_max_uv"):
        rows[name] = np.full(1, 5000.0)
    found = ledger(rows, control(option)).items
    assert set(found["raised"].iloc[0].split(";")) == set(AMPLITUDE)
    assert found["grade"].tolist() == ["usable"]
    assert not set(AMPLITUDE) & {
        *control(option).grading.bad_channel,
        *control(option).grading.poor,
        *control(option).grading.unusable,
    }


@pytest.mark.parametrize("option", ["lenient", "default", "strict"])
def test_what_the_filter_takes_out_costs_no_grade_whatever_its_size(option: str):
    rows = measured(1)
    for name in ("offset_uv", "peak_uv", "drift_uv", "line50_db", "line60_db"):
        rows[name][0] = 1e5
    found = ledger(rows, control(option)).items
    assert found["raised"].iloc[0] == "offset;large;drift;line"
    assert found["grade"].tolist() == ["good"]


def test_an_electrode_that_the_montage_does_not_use_costs_no_grade():
    rows = measured(1)
    rows["neighbour_corr"][0, [8, 9, 10]] = 0.1
    without_midline = [name for name in EEG_CHANNELS if not name.endswith("z")]
    assert ledger(rows).items["grade"].tolist() == ["usable"]
    assert ledger(rows, electrodes=without_midline).items["grade"].tolist() == ["good"]
    assert ledger(rows, electrodes=without_midline).items["raised"].tolist() == ["isolated"]


def test_a_flag_that_makes_poor_by_itself_does_so_only_at_the_montages_electrodes():
    rows = measured(1)
    rows["peak_uv"][0, CHANNELS.index("Cz")] = 5000
    qc = control()
    strict = replace(qc, grading=replace(qc.grading, poor=("large",)))
    assert ledger(rows, strict, electrodes=["Cz", "Pz"]).items["grade"].tolist() == ["poor"]
    assert ledger(rows, strict, electrodes=["Fz", "Pz"]).items["grade"].tolist() == ["good"]


def test_gaps_flat_and_dead_electrodes_count_by_their_share_of_x():
    """One electrode in full is an eighth of the derivations: usable; a third of x is poor, 70 % nothing."""
    rows = measured(4)
    rows["window_gap_share"][1:, 0] = 1
    rows["lost_share"] = np.array([0, 2 / 16, 0.33, 0.7])
    assert ledger(rows).items["grade"].tolist() == ["good", "usable", "poor", "unusable"]


def test_hum_costs_a_grade_and_an_x_of_hum_all():
    rows = measured(3)
    rows["hum_share"], rows["hum_mean_share"] = np.array([0.02, 0.3, 0.99]), np.array([0.01, 0.1, 0.98])
    assert ledger(rows).items["grade"].tolist() == ["good", "usable", "unusable"]


def test_no_grade_depends_on_what_else_is_in_the_set():
    """An item alone, and among forty with ten times its muscle."""
    rows = measured(41)
    rows["muscle_uv"][1:] = 60
    rows["muscle_uv"][0, 3] = 9
    one = {name: values[:1] for name, values in rows.items()}
    assert ledger(rows).items["grade"].iloc[0] == ledger(one).items["grade"].iloc[0] == "usable"


def test_a_reason_names_the_flags_that_cost_the_grade_and_no_others():
    rows = measured(1)
    rows["line60_db"][0], rows["lost_share"] = 60, np.array([0.3])
    found = ledger(rows, replace(control(), exclude_from="poor")).items
    assert found["reason"].tolist() == ["grade poor: lost"]


def test_an_item_left_out_before_it_was_measured_is_unusable_and_keeps_its_reason():
    rows = measured(1) | {"row": np.array([1])}
    items = pd.DataFrame({"item_id": ["a", "b"], "eeg_id": [1, 2]})
    found = make_ledger(items, [Reason("read", "gone", failure=True), None], rows, control()).items
    assert found["grade"].tolist() == ["unusable", "good"]
    assert found["reason"].tolist() == ["gone", ""]
    assert found["used"].tolist() == [False, True]
    assert found["ptp_uv"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("exclude_from", "used"),
    [
        (None, [True, True, True, True]),
        ("unusable", [True, True, True, False]),
        ("poor", [True, True, False, False]),
        ("usable", [True, False, False, False]),
    ],
)
def test_a_grade_and_all_worse_ones_are_left_out(exclude_from: Any, used: list[bool]):
    rows = measured(4)
    for item, n_bad in enumerate((0, 1, 5, 15)):
        rows["neighbour_corr"][item, :n_bad] = 0.1
    found = ledger(rows, replace(control(), exclude_from=exclude_from)).items
    assert found["used"].tolist() == used
    assert all(text.startswith("grade ") for text in found.loc[~found["used"], "reason"])


def test_no_measured_item_gives_empty_measures_and_no_channels():
    """Nobody looked at what has no votes or a mark: it has no grade; what cannot be read is unusable."""
    items = pd.DataFrame({"item_id": ["a", "b", "c"], "eeg_id": [1, 2, 3]})
    reasons = [Reason(stage, "why", failure=False) for stage in ("votes", "marks", "read")]
    found = make_ledger(items, reasons, {"row": np.empty(0, int)}, control())
    assert found.items["grade"].tolist() == ["", "", "unusable"]
    assert found.items[list(ITEM_MEASURES)].isna().all().all()
    assert len(found.channels) == 0
    assert channels_bytes([found.channels_table()])[:4] == b"PAR1"


def test_the_same_ledger_is_the_same_bytes():
    first, second = ledger(measured(5)), ledger(measured(5))
    assert first.items_csv() == second.items_csv()
    assert channels_bytes([first.channels_table()]) == channels_bytes([second.channels_table()])


def test_the_csv_is_what_pandas_would_write_with_six_digits():
    """Commas, quotes, line ends and missing values included, floats of any size, items never measured."""
    rows = measured(3) | {"row": np.array([0, 2, 3])}
    rows["jump_uv"][:, :2] = [[500, 600], [1 / 3, 1e-7], [np.nan, 1e20]]
    rows["corr_ll_lp"] = np.array([np.nan, -0.0, np.inf])
    items = pd.DataFrame({"item_id": ["a", "b", "c", "d"], "eeg_id": [1, 2, 3, 4]})
    reasons = [None, Reason("read", 'a "b", c\nd', failure=True), None, None]
    found = make_ledger(items, reasons, rows, control())
    assert "jump:Fp1,F3" in found.items["flagged_channels"].tolist()
    assert (
        found.items_csv()
        == found.items.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()
    )


@pytest.mark.parametrize("together", [1, 2, 3, 100])
def test_a_ledger_written_in_pieces_is_that_of_all_items(together: int, monkeypatch: pytest.MonkeyPatch):
    """Pieces in which no item was measured included."""
    rows = measured(3) | {"row": np.array([0, 4, 6])}
    rows["jump_uv"][1, 3:5] = 500
    items = pd.DataFrame({"item_id": list("abcdefg"), "eeg_id": range(7)})
    reasons = [None, *([Reason("votes", "no votes", failure=False)] * 3), None, None, None]
    flags = ["", "cut", "", "", "", "offset", ""]
    whole = make_ledger(items, reasons, rows, control(), file_flags=flags)
    monkeypatch.setattr(ledger_module, "TOGETHER", together)
    ends = [*range(0, len(items), together), len(items)]
    parts = [slice(*np.searchsorted(rows["row"], pair)) for pair in pairwise(ends)]
    pieces = ({name: values[part] for name, values in rows.items()} for part in parts)
    found = LedgerFiles(items, reasons, pieces, control(), electrodes=EEG_CHANNELS, file_flags=flags)
    channels, texts = io.BytesIO(), io.BytesIO()
    found.write_channels(channels)
    found.write_items(texts)
    assert texts.getvalue() == whole.items_csv()
    assert found.used == whole.items["used"].tolist()
    assert pq.read_table(io.BytesIO(channels.getvalue())).equals(whole.channels_table())


def test_a_ledger_takes_the_memory_of_its_pieces(monkeypatch: pytest.MonkeyPatch):
    """1,024 items have 2.5 MB of measures of channels; 64 at a time take half of it."""
    n = 1024
    monkeypatch.setattr(ledger_module, "TOGETHER", 64)
    items = pd.DataFrame({"item_id": [f"i{row}" for row in range(n)], "eeg_id": range(n)})
    pieces = (measured(64) | {"row": np.arange(first, first + 64)} for first in range(0, n, 64))
    found = LedgerFiles(items, [None] * n, pieces, control(), electrodes=EEG_CHANNELS, file_flags=[""] * n)
    with open(os.devnull, "wb") as nowhere:
        tracemalloc.start()
        try:
            found.write_channels(nowhere)
            found.write_items(nowhere)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(found.used) == n
    assert peak < 1.8e6


@pytest.mark.parametrize(
    ("group", "counts"),
    [(1, (2, 1, 3)), (60, (2, 1, 3)), (61, (2, 1, 3)), (1000, (2, 1, 3)), (1000, (0,)), (40, (2, 0))],
)
def test_channels_written_a_group_at_a_time_are_those_written_at_once(
    group: int, counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """By pyarrow itself, byte for byte: groups end inside of pieces too."""
    tables = [ledger(measured(n)).channels_table() for n in counts]
    monkeypatch.setattr(ledger_module, "GROUP_ROWS", group)
    at_once = io.BytesIO()
    pq.write_table(
        pa.concat_tables(tables),
        at_once,
        compression="zstd",
        use_dictionary=["channel", "item_id", "raised"],
        row_group_size=group,
    )
    assert channels_bytes(tables) == at_once.getvalue()


def test_the_channels_of_the_parquet_file_are_those_of_the_ledger():
    rows = measured(2)
    rows["jump_uv"][1, 3:5] = 500
    found = ledger(rows)
    pd.testing.assert_frame_equal(
        pd.read_parquet(io.BytesIO(channels_bytes([found.channels_table()]))).astype({"raised": object}),
        found.channels.astype({"raised": object}),
        check_dtype=False,
    )
    assert found.channels["raised"].tolist() == [""] * 23 + ["jump"] * 2 + [""] * 15


@pytest.mark.parametrize("option", ["lenient", "default", "strict"])
def test_an_ordinary_item_is_good_under_every_option(option: str):
    assert ledger(measured(3), control(option)).items["grade"].tolist() == ["good"] * 3


def test_lenient_never_grades_worse_than_default_and_strict_never_better():
    """Over items with one to nineteen electrodes of each kind of trouble."""
    rows = measured(95)
    for item in range(95):
        name, value = [
            ("jump_uv", 80),
            ("muscle_uv", 15),
            ("own_db", 9),
            ("neighbour_corr", 0.3),
            ("polarity", -0.4),
        ][item % 5]
        rows[name][item, : 1 + item // 5] = value
    order = {"good": 0, "usable": 1, "poor": 2, "unusable": 3}
    lenient, default, strict = (
        ledger(rows, control(o)).items["grade"].map(order).to_numpy()
        for o in ("lenient", "default", "strict")
    )
    assert (lenient <= default).all()
    assert (default <= strict).all()


# --- settings ------------------------------------------------------------------------------------


def test_an_unknown_flag_in_a_list_is_refused_with_the_nearest_one():
    with pytest.raises(
        ConfigError, match=r"qc.grading.poor: 'edg' is not a flag here \(did you mean 'edge'\?\)"
    ):
        hms.compose("qc.grading.poor=[edg]")


# --- duplicates ----------------------------------------------------------------------------------


def signatures(n: int, seed: int = 0) -> np.ndarray:
    """Return random vectors of mean 0 and norm 1."""
    x = np.random.default_rng(seed).standard_normal((n, 256))
    x -= x.mean(axis=1, keepdims=True)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("few", [0, 1000])
def test_windows_that_repeat_are_found_as_a_dense_search_finds_them(few, monkeypatch):
    """Copies with noise on either side of r = 0.999, against all pairs; with the tree and without."""
    monkeypatch.setattr("hms.quality.duplicates.FEW", few)
    base = signatures(200)
    rng = np.random.default_rng(1)
    noisy = base[:60] + rng.standard_normal((60, 256)) / 16 * np.linspace(0, 0.08, 60)[:, None]
    x = np.concatenate([base, noisy / np.linalg.norm(noisy, axis=1, keepdims=True)]).astype(np.float32)
    owners = np.array([str(i) for i in range(260)], object)
    dense = np.triu(x.astype(float) @ x.astype(float).T, 1) > 0.999
    found = same_windows(x, owners, threshold=0.999)
    assert sorted(zip(found.later, found.first, strict=True)) == sorted(
        zip(*np.nonzero(dense)[::-1], strict=True)
    )
    assert 20 < len(found.later) < 40


def test_signatures_are_read_a_part_at_a_time(monkeypatch):
    """All pairs are found though no more than two parts of a sixteenth are asked for at once."""
    for name, value in {"FEW": 0, "BLOCK": 60, "TILE": 16, "DIRECTIONS_FROM": 64}.items():
        monkeypatch.setattr(f"hms.quality.duplicates.{name}", value)
    x = np.concatenate([signatures(240), signatures(240)])
    x[240:, 0] += np.float32(1e-3)
    asked = []

    class OnDisk:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, places: Any) -> np.ndarray:
            asked.append(len(x[places]))
            return x[places]

    found = same_windows(OnDisk(), np.arange(480), threshold=0.999)
    assert (found.later.tolist(), found.first.tolist()) == (list(range(240, 480)), list(range(240)))
    assert max(asked) <= 2 * 480 / 16


def test_signatures_are_held_in_the_order_in_which_they_are_compared(monkeypatch):
    monkeypatch.setattr("hms.quality.duplicates.BLOCK", 7)
    x, order = signatures(24), np.random.default_rng(0).permutation(24)
    with tempfile.TemporaryFile() as file:
        held = _Held(x, order, file)
        assert np.array_equal(held[5:16], x[order][5:16])
        assert np.array_equal(held[np.array([23, 0, 8, 8])], x[order][[23, 0, 8, 8]])
        assert held[np.empty(0, np.int64)].shape == (0, 256)


def test_windows_of_one_recording_and_constant_ones_repeat_nothing():
    x = signatures(4)
    x[1] = x[0]
    x[2:] = 0
    assert not same_windows(x, np.array(["a", "a", "b", "c"], object), threshold=0.999).later.size


def test_many_equal_windows_are_each_named_once():
    """A thousand copies are 999 entries, not half a million pairs."""
    x = np.repeat(signatures(1), 1000, axis=0)
    found = same_windows(x, np.array([str(i) for i in range(1000)], object), threshold=0.999)
    assert (found.later.tolist(), found.first.tolist()) == (list(range(1, 1000)), [0] * 999)


def test_equal_bytes_count_once_and_as_recordings():
    x = signatures(3)
    x[2] = x[0]
    found = find_duplicates(
        ["p", "q", "r"], ["1", "2", "3"], ["d", None, "d"], np.arange(3), x, threshold=0.999
    )
    assert found[["item_id", "same_as", "kind"]].to_numpy().tolist() == [["r", "p", "recording"]]


def lines(x: np.ndarray, digests: list[str | None], **more: Any) -> list[list[str]]:
    """Return item, same_as and kind of windows of as many recordings, named p, q, r, s."""
    ids = list("pqrs")[: len(x)]
    found = find_duplicates(ids, ids, digests, np.arange(len(x)), x, threshold=0.999, **more)
    return found[["item_id", "same_as", "kind"]].to_numpy().tolist()


def test_copies_of_an_item_left_out_are_named_as_copies_of_each_other():
    """Otherwise no line would have two items that are used, and a leak between them would go unseen."""
    x = np.repeat(signatures(1), 3, axis=0)
    expected = [["p", "q", "{}"], ["r", "q", "{}"]]
    for digests, kind in (([None] * 3, "window"), (["d"] * 3, "recording")):
        assert lines(x, digests, used=[False, True, True]) == [
            [text.format(kind) for text in line] for line in expected
        ]
    assert lines(x, [None] * 3) == [["q", "p", "window"], ["r", "p", "window"]]


def test_an_item_between_two_that_do_not_repeat_each_other_has_a_line_for_each():
    """Correlations 0.9995 to either side and 0.998 across: r repeats p and q, and links them."""
    one, other = signatures(2).astype(np.float64)
    other -= (other @ one) * one
    other /= np.linalg.norm(other)
    angle = np.arccos(0.9995)
    x = np.stack([np.cos(a) * one + np.sin(a) * other for a in (-angle, angle, 0)]).astype(np.float32)
    assert lines(x, [None] * 3) == [["r", "p", "window"], ["r", "q", "window"]]


def test_an_item_has_one_line_where_what_it_repeats_is_linked_already():
    x = np.repeat(signatures(1), 4, axis=0)
    x[3, 0] += np.float32(1e-3)
    assert lines(x, [None] * 4) == [[item, "p", "window"] for item in "qrs"]
    assert lines(x, ["d", "d", None, None])[0] == ["q", "p", "recording"]


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_leak_is_seen_on_the_lines_exactly_if_there_is_one_among_all_pairs(seed: int):
    """Against every pair of used items: same bytes or a correlation above 0.999, in different folds."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    base = signatures(3, seed)[rng.integers(3, size=n)]
    x = base + rng.choice([0, 0.0015, 0.004], (n, 1)) * rng.standard_normal((n, 256))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    recordings = [f"r{k}" for k in np.sort(rng.integers(0, n, n))]
    bytes_of = {name: f"d{rng.integers(n)}" for name in recordings}
    fold_of = {name: int(rng.integers(2)) for name in recordings}
    used = (rng.random(n) < 0.7).tolist()
    ids = [f"i{k}" for k in range(n)]
    digests = [bytes_of[name] for name in recordings]
    found = find_duplicates(ids, recordings, digests, np.arange(n), x, threshold=0.999, used=used)
    rows = [i for i in range(n) if used[i]]
    folds = np.array([fold_of[recordings[i]] for i in rows])
    splits = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(2)]
    corr = x.astype(float) @ x.astype(float).T
    there = any(
        recordings[i] != recordings[k]
        and (digests[i] == digests[k] or corr[i, k] > 0.999)
        and fold_of[recordings[i]] != fold_of[recordings[k]]
        for i in rows
        for k in rows
    )
    assert bool(len(pairs_across_folds(found, [ids[i] for i in rows], splits))) == there


def test_a_pair_leaks_only_if_a_fold_parts_it():
    """Items 0 and 1 are validated together, 2 in the other fold; an item left out leaks nothing."""
    table = pd.DataFrame({"item_id": ["b", "c", "x"], "same_as": ["a", "a", "a"]})
    splits = [(np.array([2]), np.array([0, 1])), (np.array([0, 1]), np.array([2]))]
    assert pairs_across_folds(table, ["a", "b", "c"], splits).to_numpy().tolist() == [["c", "a"]]
    assert not len(pairs_across_folds(table, ["a", "b", "c"], []))


def test_channels_are_listed_in_the_order_of_the_files():
    assert ledger(measured(2)).channels["channel"].tolist() == list(CHANNELS) * 2
