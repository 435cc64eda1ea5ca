"""Flags, grades, z scores and duplicates, with expected values by hand."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hms
from hms.competition import CHANNELS, EEG_CHANNELS
from hms.errors import ConfigError
from hms.quality.channels import CHANNEL_MEASURES
from hms.quality.duplicates import find_duplicates, pairs_across_folds, same_windows
from hms.quality.ledger import (
    CHANNEL_FLAGS,
    FLAGS,
    ITEM_FLAGS,
    ITEM_MEASURES,
    Ledger,
    QualityControl,
    make_ledger,
    robust_z,
)
from hms.store.folders import Reason

GOOD = {
    "ptp_uv": 60.0, "flat_ptp_uv": 50.0, "extreme_samples": 1.0, "sd_uv": 15.0, "hf_uv": 3.0,
    "neighbour_corr": 0.9, "polarity": 0.9, "twin_corr": 0.9, "peak_uv": 80.0, "max_abs_uv": 80.0,
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
    ("flat", "flat_ptp_uv", 2.0),
    ("clipped", "extreme_samples", 4),
    ("offset", "offset_uv", -1500),
    ("large", "peak_uv", 1500),
    ("jump", "jump_uv", 101),
    ("drift", "drift_uv", 400),
    ("line", "line50_db", 16),
    ("line", "line60_db", 16),
    ("noisy_uv", "hf_uv", 60),
    ("isolated", "neighbour_corr", 0.3),
    ("reversed", "polarity", -0.5),
    ("twin", "twin_corr", 0.9999),
    ("loud", "gain_db", 11),
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
    assert flag in found.items["flags"].iloc[1].split(";")
    assert f"{flag}:F7" in found.items["flagged_channels"].iloc[1].split(";")
    assert found.items["flags"].tolist()[::2] == ["", ""]
    assert found.channels.loc[found.channels["flags"] != "", "channel"].tolist() == ["F7"]


def test_z_scores_find_the_one_electrode_with_high_frequencies():
    """Log amplitudes with a robust SD of 0.05: 3 µV more than e-fold above is many of them."""
    rows = measured(40)
    rows["hf_uv"] = (3 * 10 ** np.random.default_rng(0).normal(0, 0.05, (40, 20))).astype(np.float32)
    rows["hf_uv"][7, 2] = 12
    found = ledger(rows)
    assert found.items["flags"].iloc[7] == "muscle;noisy"
    assert (found.items["flags"].drop(7) == "").all()


@pytest.mark.parametrize(
    ("flag", "changes"),
    [
        ("unmeasured", dict.fromkeys(CHANNEL_MEASURES, np.nan)),
        ("edge", {"edge_share": 0.3}),
        ("lopsided", {"left_right_db": -13}),
        ("dead_pair", {"dead_derivations": 1}),
        ("weak_pair", {"derivation_ptp_min_uv": 2}),
        ("strong_pair", {"derivation_ptp_max_uv": 1200}),
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
    assert ledger(rows).items["flags"].tolist() == ["", flag]


def test_a_window_gap_counts_at_the_electrodes_of_the_montage():
    """Two electrodes in full are over 10 % of 16 and no part of what two others make."""
    rows = measured(1)
    rows["window_gap_share"][0, :2] = 1  # Fp1 and F3
    qc = control()
    lone = replace(qc, channel=replace(qc.channel, gappy=None))
    banana = [name for name in EEG_CHANNELS if name not in ("Fz", "Cz", "Pz")]
    assert ledger(rows, lone, electrodes=banana).items["flags"].tolist() == ["window_gap"]
    assert ledger(rows, lone, electrodes=banana).items["montage_gap_share"].tolist() == [2 / 16]
    assert ledger(rows, lone, electrodes=["Fz", "Cz", "Pz"]).items["flags"].tolist() == [""]


def test_a_recording_without_electrodes_is_called_unmeasured_and_not_good():
    """Its gaps are those of all its channels, where they are known."""
    rows = measured(2)
    for name in CHANNEL_MEASURES:
        rows[name][0] = np.nan
    assert ledger(rows).items["flags"].tolist() == ["unmeasured", ""]
    assert ledger(rows).items["grade"].tolist() == ["usable", "good"]
    assert ledger(rows).items["n_electrodes"].tolist() == [0, 19]
    rows["window_nan_share"] = np.array([0.5, 0.0])
    assert ledger(rows).items["flags"].iloc[0] == "unmeasured;window_gap"


def test_every_flag_is_tested_here():
    """A new flag needs a case above."""
    tested = {name for name, _, _ in RAISES} | {"muscle", "noisy"}
    assert set(CHANNEL_FLAGS) == tested
    assert set(FLAGS) == tested | set(ITEM_FLAGS)


def test_a_limit_of_none_raises_nothing():
    rows = measured(1)
    rows["line60_db"][:] = 60
    qc = control()
    off = replace(qc, channel=replace(qc.channel, line=None))
    assert ledger(rows, off).items["flags"].tolist() == [""]


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
    assert ledger(rows).items["flags"].tolist() == [""]


# --- grades --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_bad", "grade"),
    [(0, "good"), (1, "usable"), (3, "usable"), (4, "poor"), (10, "poor"), (11, "unusable")],
)
def test_grades_follow_the_number_of_bad_electrodes(n_bad: int, grade: str):
    """Default: up to 3 usable, up to 10 poor."""
    rows = measured(1)
    rows["jump_uv"][0, :n_bad] = 500
    assert ledger(rows).items["grade"].tolist() == [grade]


def test_an_electrode_that_the_montage_does_not_use_makes_nothing_poor():
    rows = measured(1)
    rows["jump_uv"][0, [8, 9, 10]] = 500
    rows["jump_uv"][0, 0] = 500
    without_midline = [name for name in EEG_CHANNELS if not name.endswith("z")]
    assert ledger(rows).items["grade"].tolist() == ["poor"]
    assert ledger(rows, electrodes=without_midline).items["grade"].tolist() == ["usable"]


def test_a_flag_that_makes_poor_by_itself_does_so_only_at_the_montages_electrodes():
    rows = measured(1)
    rows["peak_uv"][0, CHANNELS.index("Cz")] = 5000
    qc = control()
    strict = replace(qc, grading=replace(qc.grading, poor=("large",)))
    assert ledger(rows, strict, electrodes=["Cz", "Pz"]).items["grade"].tolist() == ["poor"]
    assert ledger(rows, strict, electrodes=["Fz", "Pz"]).items["grade"].tolist() == ["usable"]


def test_harmless_flags_cost_no_grade_and_fatal_ones_cost_all():
    rows = measured(3)
    rows["line60_db"][0] = 60
    rows["window_gap_share"][1, :3] = 1
    rows["x_is_constant"] = np.array([False, False, True])
    assert ledger(rows).items["grade"].tolist() == ["good", "poor", "unusable"]


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
        rows["jump_uv"][item, :n_bad] = 500
    found = ledger(rows, replace(control(), exclude_from=exclude_from)).items
    assert found["used"].tolist() == used
    assert all(text.startswith("grade ") for text in found.loc[~found["used"], "reason"])


def test_no_measured_item_gives_empty_measures_and_no_channels():
    items = pd.DataFrame({"item_id": ["a"], "eeg_id": [1]})
    found = make_ledger(
        items, [Reason("votes", "no votes", failure=False)], {"row": np.empty(0, int)}, control()
    )
    assert found.items["grade"].tolist() == ["unusable"]
    assert found.items[list(ITEM_MEASURES)].isna().all().all()
    assert len(found.channels) == 0
    assert found.channels_parquet()[:4] == b"PAR1"


def test_the_same_ledger_is_the_same_bytes():
    first, second = ledger(measured(5)), ledger(measured(5))
    assert first.items_csv() == second.items_csv()
    assert first.channels_parquet() == second.channels_parquet()


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


def test_the_channels_of_the_parquet_file_are_those_of_the_ledger():
    rows = measured(2)
    rows["jump_uv"][1, 3:5] = 500
    found = ledger(rows)
    pd.testing.assert_frame_equal(
        pd.read_parquet(io.BytesIO(found.channels_parquet())).astype({"flags": object}),
        found.channels.astype({"flags": object}),
        check_dtype=False,
    )
    assert found.channels["flags"].tolist() == [""] * 23 + ["jump"] * 2 + [""] * 15


@pytest.mark.parametrize("option", ["lenient", "default", "strict"])
def test_an_ordinary_item_is_good_under_every_option(option: str):
    assert ledger(measured(3), control(option)).items["grade"].tolist() == ["good"] * 3


def test_lenient_never_grades_worse_than_default_and_strict_never_better():
    """Over items with one to nineteen electrodes of each kind of trouble."""
    rows = measured(95)
    for item in range(95):
        name, value = [
            ("jump_uv", 80),
            ("jump_uv", 600),
            ("gain_db", 9),
            ("line60_db", 12),
            ("peak_uv", 2000),
        ][item % 5]
        rows[name][item, : 1 + item // 5] = value
    order = {"good": 0, "usable": 1, "poor": 2, "unusable": 3}
    lenient, default, strict = (
        ledger(rows, control(o)).items["grade"].map(order).to_numpy()
        for o in ("lenient", "default", "strict")
    )
    assert (lenient <= default).all()
    assert (default <= strict).all()


# --- z scores ------------------------------------------------------------------------------------


def test_robust_z_by_hand():
    """Median 3, absolute deviations 2, 1, 0, 1, 97: MAD 1, so that 100 is 97 / 1.4826."""
    z = robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0, np.nan]))
    np.testing.assert_allclose(z[:5], np.array([-2, -1, 0, 1, 97]) / 1.4826)
    assert np.isnan(z[5])


def test_robust_z_without_spread_or_values_is_unknown():
    assert np.isnan(robust_z(np.array([2.0, 2.0, 2.0]))).all()
    assert np.isnan(robust_z(np.full(3, np.nan))).all()
    assert robust_z(np.empty((0, 20))).shape == (0, 20)


def test_where_all_recordings_are_alike_a_little_more_is_no_noise():
    """A robust SD of 0.01 in log10: one half more is 18 of them, and 1.8 of 2 dB; ten times more is noise."""
    rows = measured(40)
    rows["hf_uv"] = (3 * 10 ** np.random.default_rng(0).normal(0, 0.01, (40, 20))).astype(np.float32)
    rows["hf_uv"][3, 5], rows["hf_uv"][7, 2] = 4.5, 30
    flags = ledger(rows).items["flags"]
    assert flags.iloc[3] == ""
    assert flags.iloc[7] == "muscle;noisy"


@given(arrays(np.float64, 30, elements=st.floats(-1e3, 1e3)), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_robust_z_does_not_depend_on_order(values: np.ndarray, seed: int):
    order = np.random.default_rng(seed).permutation(30)
    np.testing.assert_array_equal(robust_z(values)[order], robust_z(values[order]))


# --- settings ------------------------------------------------------------------------------------


def test_an_unknown_flag_in_a_list_is_refused_with_the_nearest_one():
    with pytest.raises(
        ConfigError, match=r"qc.grading.poor: 'edg' is no flag here \(did you mean 'edge'\?\)"
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
    assert sorted((later, first) for later, first, _ in found) == sorted(
        zip(*np.nonzero(dense)[::-1], strict=True)
    )
    assert 20 < len(found) < 40


def test_windows_of_one_recording_and_constant_ones_repeat_nothing():
    x = signatures(4)
    x[1] = x[0]
    x[2:] = 0
    assert same_windows(x, np.array(["a", "a", "b", "c"], object), threshold=0.999) == []


def test_many_equal_windows_are_each_named_once():
    """A thousand copies are 999 entries, not half a million pairs."""
    x = np.repeat(signatures(1), 1000, axis=0)
    found = same_windows(x, np.array([str(i) for i in range(1000)], object), threshold=0.999)
    assert [(later, first) for later, first, _ in found] == [(i, 0) for i in range(1, 1000)]


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
    assert bool(pairs_across_folds(found, [ids[i] for i in rows], splits)) == there


def test_a_pair_leaks_only_if_a_fold_parts_it():
    """Items 0 and 1 are validated together, 2 in the other fold; an item left out leaks nothing."""
    table = pd.DataFrame({"item_id": ["b", "c", "x"], "same_as": ["a", "a", "a"]})
    splits = [(np.array([2]), np.array([0, 1])), (np.array([0, 1]), np.array([2]))]
    assert pairs_across_folds(table, ["a", "b", "c"], splits) == [("c", "a")]
    assert pairs_across_folds(table, ["a", "b", "c"], []) == []


def test_channels_are_listed_in_the_order_of_the_files():
    assert ledger(measured(2)).channels["channel"].tolist() == list(CHANNELS) * 2
