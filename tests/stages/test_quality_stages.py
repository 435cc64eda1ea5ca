"""The ledger, exclusions, duplicates and the summary of whole runs, on odd inputs too."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_sets import bipolar_set, edge_set, noise, write_set

import hms
from hms.competition import CHANNELS, CLASSES
from hms.engine.job import Task
from hms.engine.pools import base as pools
from hms.errors import ConfigError, TooManyFailures
from hms.quality.channels import CHANNEL_MEASURES
from hms.quality.grading import FLAGS, GRADES
from hms.results.run import Run
from hms.stages.measures import OBSERVATIONS, Measures

pytestmark = pytest.mark.slow

Prepare = Callable[..., Run]

SMALL = (
    "stages=[scalograms,waveforms,quality,labels,splits,summary]",
    "cwt.n_freqs=4",
    "cwt.hop=100",
)

WITH_REPORT = "stages=[scalograms,waveforms,quality,labels,splits,summary,report]"


@pytest.fixture
def prepare(prepare: Prepare) -> Prepare:
    """Prepare small scalograms and no report, unless asked otherwise."""

    def call(root: Path, *overrides: str) -> Run:
        typed = {text.partition("=")[0] for text in overrides}
        return prepare(root, *(text for text in SMALL if text.partition("=")[0] not in typed), *overrides)

    return call


# --- odd inputs ----------------------------------------------------------------------------------


def test_one_item_of_one_class_and_patient_has_a_ledger_and_a_summary(prepare: Prepare, tmp_path: Path):
    """With a single item z scores rest on its electrodes, and what needs more items is None."""
    run = prepare(write_set(tmp_path / "d", [noise(0)], [7], [5]), "folds=none", WITH_REPORT)
    assert run.qc["used"].tolist() == [True]
    assert run.qc["grade"].isin(GRADES).all()
    assert run.summary["quality"]["measured"] == 1
    assert run.summary["strata"]["all"]["consensus_counts"]["other"] == 1
    assert run.summary["items_per_patient"] == {"patients": 1, "effective": 1.0, "median": 1.0, "largest": 1}
    assert run.summary["excluded_reasons"] == {}


def test_every_item_excluded_ends_the_run_and_says_why(prepare: Prepare, tmp_path: Path):
    """Recordings of NaN alone are left out; no run is marked finished, and a table gives the reasons."""
    dead = np.full((20, 10_000), np.nan)
    text = r"none of the 2 items can be used.*\n  2 recordings: no channel has a usable sample \(1000"
    with pytest.raises(TooManyFailures, match=text):
        prepare(write_set(tmp_path / "d", [dead, dead], [1, 2], [0, 1]), "folds=none")
    (table,) = (tmp_path / "outputs").glob("*/data_package/meta_excluded.csv")
    excluded = pd.read_csv(table, dtype=str)
    assert excluded["item_id"].tolist() == ["1000", "1001"]
    assert excluded["reason"].tolist() == ["no channel has a usable sample"] * 2
    assert not list((tmp_path / "outputs").glob("*/manifest.json"))


def test_a_nan_only_recording_among_others_is_the_only_one_without_measures(prepare: Prepare, tmp_path: Path):
    """Its row stands in the ledger at its place in the table."""
    eegs = [noise(0), np.full((20, 10_000), np.nan), noise(2)]
    run = prepare(write_set(tmp_path / "d", eegs, [1, 2, 3], [0, 1, 2]), "folds=none")
    assert run.qc["item_id"].tolist() == ["1000", "1001", "1002"]
    assert run.qc["used"].tolist() == [True, False, True]
    assert run.qc["nan_share"].notna().tolist() == [True, False, True]


def test_recordings_of_derivations_are_used_and_said_to_be_unmeasured(prepare: Prepare, tmp_path: Path):
    """Their electrodes cannot be looked at; the run says so instead of calling the input good."""
    run = prepare(bipolar_set(tmp_path / "d"), "folds=none")
    assert run.qc["raised"].tolist() == ["unmeasured"] * 3
    assert run.qc["grade"].tolist() == ["usable"] * 3
    assert run.qc["n_electrodes"].tolist() == [0] * 3
    assert run.summary["quality"]["measured"] == 3
    assert run.summary["quality"]["flags"]["unmeasured"] == 3


def test_gaps_of_derivations_are_seen_in_window_and_context(prepare: Prepare, tmp_path: Path):
    """The window is from 20 to 30 s; 3 s of NaN in it are three tenths, 3 s before it lie in the context."""
    folder = bipolar_set(tmp_path / "d")
    for name, start in (("1001", 25 * 200), ("1002", 14 * 200)):
        path = folder / "train_eegs" / f"{name}.parquet"
        table = pd.read_parquet(path)
        table.iloc[start : start + 600] = np.nan
        table.to_parquet(path)
    run = prepare(folder, "folds=none")
    assert run.qc["window_nan_share"].tolist() == pytest.approx([0, 0.3, 0])
    assert run.qc["nan_share"].tolist()[0] == 0
    assert run.qc["nan_share"].tolist()[1] == pytest.approx(run.qc["nan_share"].tolist()[2])
    assert 3 / 50 < run.qc["nan_share"].tolist()[2] < 0.3
    assert run.qc["raised"].tolist() == ["unmeasured", "unmeasured;lost", "unmeasured"]
    assert run.qc["grade"].tolist() == ["usable", "poor", "usable"]
    loose = prepare(folder, "folds=none", "qc.item.lost=0.5")
    assert loose.qc["raised"].tolist() == ["unmeasured"] * 3


def test_without_folds_nothing_was_checked_for_leaks(prepare: Prepare, tmp_path: Path):
    """`passed` is null for folds=none."""
    assert prepare(edge_set(tmp_path / "a"), "folds=none").summary["leakage"]["passed"] is None


def test_recordings_per_patient_count_recordings_and_not_rows(prepare: Prepare, tmp_path: Path):
    """Two rows of each of three recordings are six items of three patients."""
    folder = edge_set(tmp_path / "d")
    table = pd.read_csv(folder / "train.csv")
    again = table.assign(eeg_sub_id=1, label_id=table["label_id"] + 10)
    pd.concat([table, again]).to_csv(folder / "train.csv", index=False)
    summary = prepare(folder, "unit=per_row", "folds=none").summary
    assert summary["items_per_patient"] == {"patients": 3, "effective": 3.0, "median": 2.0, "largest": 2}
    assert summary["recordings_per_patient"] == {"patients": 3, "effective": 3.0, "median": 1.0, "largest": 1}


def test_no_excluded_items_give_an_empty_table_of_reasons(prepare: Prepare, tmp_path: Path):
    """The summary says that nothing was left out, and the ledger has no reason."""
    run = prepare(edge_set(tmp_path / "d"), "folds=none")
    assert run.summary["items_excluded"] == 0
    assert run.qc["reason"].isna().all()


# --- what the ledger holds -----------------------------------------------------------------------


def test_the_ledger_has_a_row_per_item_and_the_channels_a_row_per_channel(finished: Run):
    """channels.parquet holds 20 channels for each measured item, in the order of the files."""
    channels = pd.read_parquet(finished.path / "qc" / "channels.parquet")
    assert len(finished.qc) == len(finished.meta) + len(finished.excluded)
    assert channels["channel"].tolist() == list(CHANNELS) * int(finished.qc["nan_share"].notna().sum())
    assert set(finished.summary["quality"]["flags"]) == set(FLAGS)


def test_the_worst_channel_of_an_item_is_its_value_in_the_ledger(finished: Run):
    """max_abs_uv of an item is the largest over its EEG channels, without the EKG."""
    channels = pd.read_parquet(finished.path / "qc" / "channels.parquet")
    eeg = channels[channels["channel"] != "EKG"]
    worst = eeg.groupby("item_id", sort=False)["max_abs_uv"].max()
    stated = finished.qc.set_index("item_id")["max_abs_uv"].dropna()
    np.testing.assert_allclose(stated.to_numpy(), worst[stated.index].to_numpy(), rtol=1e-5)


def test_another_option_of_qc_reads_no_recording_again(prepare: Prepare, small_set: Path):
    """Limits are in the table stage alone: the stage that measures is found done."""
    prepare(small_set)
    run = prepare(small_set, "qc=lenient")
    assert run.manifest["stages"]["measures"]["computed"] == 0
    assert run.manifest["stages"]["quality"]["computed"] == 1


def test_z_scores_do_not_depend_on_the_order_of_the_table(prepare: Prepare, tmp_path: Path):
    """The same recordings listed backwards have the same measures and grades."""
    folder = edge_set(tmp_path / "d", 4)
    first = prepare(folder, "folds=none").qc.set_index("item_id").sort_index()
    table = pd.read_csv(folder / "train.csv")
    table.iloc[::-1].to_csv(folder / "train.csv", index=False)
    second = prepare(folder, "folds=none").qc.set_index("item_id").sort_index()
    pd.testing.assert_frame_equal(first, second)


# --- leaving items out ---------------------------------------------------------------------------


def with_bad_electrodes(seed: int) -> np.ndarray:
    """Return a recording in which five electrodes carry 100 times their signal."""
    eeg = noise(seed)
    eeg[[1, 5, 9, 13, 17]] = 3000 * np.random.default_rng(seed).standard_normal((5, 10_000))
    return eeg


def test_a_grade_that_leaves_items_out_changes_meta_labels_and_splits_alike(prepare: Prepare, tmp_path: Path):
    """exclude_from=poor names the flags in meta_excluded.csv; rows of all tables still agree."""
    folder = write_set(tmp_path / "d", [noise(0), with_bad_electrodes(1), noise(2)], [1, 2, 3], [0, 1, 2])
    run = prepare(folder, "folds.n_splits=2", "qc.exclude_from=poor")
    assert run.meta["item_id"].tolist() == ["1000", "1002"]
    assert run.labels.item_id.tolist() == ["1000", "1002"]
    assert run.excluded["item_id"].tolist() == ["1001"]
    assert run.excluded["stage"].tolist() == ["quality"]
    assert run.excluded["reason"].iloc[0].startswith(("grade poor: ", "grade unusable: "))
    assert run.qc["used"].tolist() == [True, False, True]
    assert run.qc["reason"].iloc[1] == run.excluded["reason"].iloc[0]
    assert sorted(np.concatenate([split.valid for split in run.splits]).tolist()) == [0, 1]
    assert not (run.path / "spec_hr_out" / "1001_hr.npz").exists()


def test_by_default_flags_leave_nothing_out(prepare: Prepare, tmp_path: Path):
    """The same recording is used and graded."""
    folder = write_set(tmp_path / "d", [noise(0), with_bad_electrodes(1), noise(2)], [1, 2, 3], [0, 1, 2])
    run = prepare(folder, "folds=none")
    assert run.qc["used"].all()
    assert run.qc["grade"].iloc[1] in ("poor", "unusable")


def test_one_class_of_which_some_are_left_out_is_no_unequal_choice(
    command: Callable[..., Any], outputs: Path, tmp_path: Path
):
    """Nothing is said of classes, and the summary has no p where there is nothing to compare."""
    folder = write_set(tmp_path / "d", [noise(0), with_bad_electrodes(1), noise(2)], [1, 2, 3], [5, 5, 5])
    done = command("data=kaggle", f"data.root={folder}", "folds=none", "qc.exclude_from=poor", *SMALL)
    assert done.code == 0
    assert "leaves" not in done.out + done.err
    taken = hms.load("latest", outputs=outputs).summary["selection"]["taken"]
    assert (taken["p"], taken["farthest"]) == (None, None)
    assert taken["classes"]["other"]["left_out"] == 1


def test_an_exclusion_that_leaves_no_item_of_a_class_is_said_and_not_refused(
    command: Callable[..., Any], tmp_path: Path
):
    folder = write_set(tmp_path / "d", [noise(0), with_bad_electrodes(1), noise(2)], [1, 2, 3], [1, 0, 2])
    done = command("data=kaggle", f"data.root={folder}", "folds=none", "qc.exclude_from=poor", *SMALL)
    assert done.code == 0
    assert "qc.exclude_from=poor leaves no item of seizure" in done.out + done.err


@pytest.mark.parametrize("n", [1, 3])
def test_recordings_that_are_all_poor_are_used_and_counted(prepare: Prepare, tmp_path: Path, n: int):
    """By default nothing is left out, of one recording or several, and the report still has its sheets."""
    folder = write_set(tmp_path / "d", [with_bad_electrodes(i) for i in range(n)], list(range(n)), [0] * n)
    run = prepare(folder, "folds=none", WITH_REPORT)
    assert run.qc["used"].all()
    assert set(run.qc["grade"]) <= {"poor", "unusable"}
    assert run.summary["selection"]["would_take"]["poor"]["classes"]["seizure"]["left_out"] == n
    unusable = (run.qc["grade"] == "unusable").sum()
    assert run.summary["quality"]["unusable_but_used"] == unusable
    assert "<html" in run.file("qc/report.html").read_text()


@pytest.mark.parametrize("n", [1, 3])
def test_an_exclusion_of_all_recordings_ends_with_exit_code_3(
    command: Callable[..., Any], tmp_path: Path, n: int
):
    folder = write_set(tmp_path / "d", [with_bad_electrodes(i) for i in range(n)], list(range(n)), [0] * n)
    done = command("data=kaggle", f"data.root={folder}", "folds=none", "qc.exclude_from=poor", *SMALL)
    assert done.code == 3
    said = "the only item cannot be used" if n == 1 else f"none of the {n} items can be used"
    assert said in done.err
    assert "grade poor" in done.err or "grade unusable" in done.err
    assert "Traceback" not in done.err


# --- duplicates ----------------------------------------------------------------------------------


def copies(folder: Path, *, same_patient: bool) -> Path:
    """Write five recordings, the fourth a copy of the first, the fifth one scaled and shifted."""
    eegs = [noise(0), noise(1), noise(2), noise(0), 1.5 * noise(1) + 20]
    return write_set(folder, eegs, [1, 2, 3, 1, 2] if same_patient else [1, 2, 3, 4, 5], [0, 1, 2, 3, 4])


def test_a_copied_recording_and_a_copied_window_are_named(prepare: Prepare, tmp_path: Path):
    """Equal bytes are a recording twice; the same window scaled is a window twice."""
    run = prepare(copies(tmp_path / "d", same_patient=True), "folds.n_splits=2", WITH_REPORT)
    found = pd.read_csv(run.path / "qc" / "duplicates.csv", dtype=str)
    assert found[["item_id", "same_as", "kind"]].to_numpy().tolist() == [
        ["1003", "1000", "recording"],
        ["1004", "1001", "window"],
    ]
    assert run.summary["duplicates"]["recordings"] == 1
    assert run.summary["duplicates"]["windows"] == 1
    assert run.summary["leakage"]["passed"] is True
    assert "no patient or copy on both sides" in run.file("qc/report.html").read_text()


def test_a_copy_with_another_patient_is_a_leak_that_the_summary_reports(prepare: Prepare, tmp_path: Path):
    """Patients are whole, and still the same window stands on both sides of a fold."""
    run = prepare(copies(tmp_path / "d", same_patient=False), "folds.n_splits=5", WITH_REPORT)
    assert run.summary["leakage"]["patients_on_both_sides"] == 0
    assert run.summary["leakage"]["duplicates_on_both_sides"] == 2
    assert run.summary["leakage"]["examples"] == [["1003", "1000"], ["1004", "1001"]]
    assert run.summary["leakage"]["passed"] is False
    assert "0 patients, 2 pairs of copies on both sides of a fold" in run.file("qc/report.html").read_text()


def test_strict_refuses_a_leak_with_exit_code_2(command: Callable[..., object], tmp_path: Path):
    """The message names the pairs and what to do; no run is finished."""
    folder = copies(tmp_path / "d", same_patient=False)
    done = command("data=kaggle", f"data.root={folder}", "folds.n_splits=5", "qc.leak=error")
    assert done.code == 2
    assert "1003 and 1000" in done.err
    assert "patient_id" in done.err
    assert "Traceback" not in done.err


def test_copies_of_an_item_left_out_still_leak(prepare: Prepare, tmp_path: Path):
    """The first of three copies is graded by what stands before its window; the other two are a leak."""
    poor = noise(0)
    poor[[1, 5, 9, 13, 17], 2000:2020] += 3000
    eegs = [poor, noise(0), noise(0) + 20, noise(3), noise(4)]
    folder = write_set(tmp_path / "d", eegs, [1, 2, 3, 4, 5], [0] * 5)
    run = prepare(folder, "folds.n_splits=5", "qc.exclude_from=poor", "qc.grading.poor=[large]")
    assert run.excluded["item_id"].tolist() == ["1000"]
    assert run.summary["leakage"]["examples"] == [["1002", "1001"]]
    assert run.summary["leakage"]["passed"] is False
    assert run.summary["duplicates"]["windows"] == 2


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("qc.channel.lin=3", "channel.lin"),
        ("qc.channel.flat=-1", "at least 0 and at most 1"),
        ("qc.exclude_from=bad", "usable, poor, unusable"),
        ("qc.grading.bad_channel=[flatt]", "'flatt' is not a flag here (did you mean 'flat'?)"),
        ("qc.grading.poor_bad_channels=1", "poor_bad_channels must be at least usable_bad_channels (3)"),
        ("qc.duplicate_corr=0.5", "at least 0.9"),
    ],
)
def test_impossible_limits_are_refused(
    command: Callable[..., object], small_set: Path, override: str, text: str
):
    done = command("data=kaggle", f"data.root={small_set}", override)
    assert done.code == 2
    assert text in done.err


def test_the_summary_is_plain_json_without_nan(finished: Run):
    """Python's reader with NaN refused takes it, and the classes are named."""

    def refuse(text: str) -> None:
        raise AssertionError(text)

    loaded = json.loads((finished.path / "qc" / "summary.json").read_text(), parse_constant=refuse)
    assert list(loaded["strata"]["all"]["proportions_raw"]) == list(CLASSES)


# --- rows of many items at once ------------------------------------------------------------------


@pytest.mark.parametrize("window", [(), ("window.start_s=0", "window.length_s=0.5")])
def test_a_ledger_does_not_depend_on_which_items_were_measured_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: tuple[str, ...]
):
    """Items of every kind, alone and all together: gaps, a flat channel, an edge beyond the recording.

    With a short window, recordings of less than a second and of less than two are among them.
    """
    eegs = [noise(i) for i in range(6)]
    eegs[1][3, 4400:4500] = np.nan
    eegs[2][5] = 7
    eegs[3] = eegs[3][:, :6500]
    if window:
        eegs[4], eegs[5] = eegs[4][:, :150], eegs[5][:, :330]
    folder = write_set(tmp_path / "d", eegs, list(range(6)), list(range(6)))
    found = {}
    for together in (1, 64):
        monkeypatch.setattr(pools, "chunks_of", lambda tasks, n_workers, larger, n=together: _cut(tasks, n))
        outputs = tmp_path / str(together)
        settings = ("data=kaggle", f"data.root={folder}", f"outputs_dir={outputs}", "n_jobs=1")
        run = hms.run(hms.compose(*settings, "stages=[quality]", *window))
        files = ("qc/qc.csv", "qc/channels.parquet", "qc/duplicates.csv")
        found[together] = [run.file(name).read_bytes() for name in files]
        packed = list((outputs / "store").glob("measures-*/rows-*.npz"))
        assert len(packed) == (6 if together == 1 else 1)
    assert found[1] == found[64]


def _cut(tasks: Sequence[Task], n: int) -> list[list[Task]]:
    return [list(tasks[i : i + n]) for i in range(0, len(tasks), n)]


@pytest.mark.parametrize(
    ("derived", "text"),
    [
        (lambda rows: 1 / 0, "ZeroDivisionError in stage measures: division by zero"),
        (lambda rows: {"a": rows["n_blocks"][1:]}, "derive_rows gives . rows of 'a' for . items"),
    ],
)
def test_an_error_in_rows_of_many_items_is_told_of_each(
    prepare: Prepare,
    small_set: Path,
    monkeypatch: pytest.MonkeyPatch,
    derived: Callable[..., object],
    text: str,
):
    monkeypatch.setattr(Measures, "derive_rows", lambda self, rows: derived(rows))
    with pytest.raises(TooManyFailures, match=text):
        prepare(small_set, "stages=[quality]")


@pytest.mark.parametrize("name", ["mesures", "quality"])
def test_what_is_no_stage_of_items_is_told_with_those_there_are(finished: Run, name: str):
    with pytest.raises(ConfigError, match=rf"'{name}' is not an item stage.*; there are .*measures"):
        finished.evaluate(str(finished.qc["item_id"].iloc[0]), name)


def test_measures_of_one_item_are_the_row_that_the_run_kept(finished: Run):
    item_id = str(finished.qc["item_id"].iloc[3])
    row = finished.evaluate(item_id, "measures")
    table = pd.read_parquet(finished.file("qc/channels.parquet"))
    kept = table[table["item_id"].astype(str) == item_id].set_index("channel")
    for name in CHANNEL_MEASURES:
        np.testing.assert_array_equal(row[name], kept.loc[list(CHANNELS), name].to_numpy(np.float32), name)
    assert not OBSERVATIONS & set(row)
    assert {"nan_share", "left_right_db", "x_share_0", "derivation_ptp_max_uv", "signature"} <= set(row)
