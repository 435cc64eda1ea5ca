"""BIDS data sets: who and what is found, what the tables beside recordings change, and what is wrong."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import hms
from hms.errors import ConfigError
from hms.sources.bids.files import BidsChannel, beside, channels_of, find_recordings, parse_name
from hms.sources.bids.recording import unit_of
from tests.recordings import noise, write_bdf, write_brainvision, write_edf, write_eeglab

HEADER = "name\ttype\tunits\tstatus\n"


def write_channels(path, names, *, kind="EEG", unit="uV", bad=(), other=None):
    other = other or {}
    rows = [f"{n}\t{other.get(n, kind)}\t{unit}\t{'bad' if n in bad else 'good'}" for n in names]
    Path(path).write_text(HEADER + "\n".join(rows) + "\n")


@pytest.fixture
def dataset(tmp_path):
    """Three participants, one with two sessions, in four formats, and a derivative."""
    root = tmp_path / "set"
    (root / "derivatives" / "x" / "sub-01" / "eeg").mkdir(parents=True)
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t5\nsub-02\t6\nsub-03\t7\n")
    (root / "dataset_description.json").write_text('{"Name": "made up", "BIDSVersion": "1.10.0"}')
    for ses, write, ending in (("1", write_edf, "edf"), ("2", write_bdf, "bdf")):
        folder = root / "sub-01" / f"ses-{ses}" / "eeg"
        folder.mkdir(parents=True)
        write(folder / f"sub-01_ses-{ses}_task-rest_eeg.{ending}", noise(200 * 100, seed=int(ses)))
    for sub, write, ending in (("02", write_brainvision, "vhdr"), ("03", write_eeglab, "set")):
        folder = root / f"sub-{sub}" / "eeg"
        folder.mkdir(parents=True)
        write(folder / f"sub-{sub}_task-sleep_run-01_eeg.{ending}", noise(200 * 100, seed=int(sub)))
    shutil.copy(
        root / "sub-01/ses-1/eeg/sub-01_ses-1_task-rest_eeg.edf",
        root / "derivatives/x/sub-01/eeg/sub-01_task-clean_eeg.edf",
    )
    return root


@pytest.fixture
def run_bids(dataset, tmp_path):
    def call(*overrides, stages="waveforms"):
        base = ("data=bids", f"data.root={dataset}", f"stages=[{stages}]", "unit=per_row", "data.step_s=50")
        return hms.run(hms.compose(*base, f"outputs_dir={tmp_path / 'o'}", "n_jobs=1", *overrides))

    return call


EDF = "sub-01/ses-1/eeg/sub-01_ses-1_task-rest_eeg.edf"
SET = "sub-03/eeg/sub-03_task-sleep_run-01_eeg.set"


def wave(run, recording):
    return run.wave(run.meta.loc[run.meta["recording"] == recording, "item_id"].iloc[0])


# --- names and tables ----------------------------------------------------------------------------


def test_names_are_entities_and_a_suffix():
    assert parse_name("sub-01_ses-2_task-rest_run-1_eeg.edf") == (
        {"sub": "01", "ses": "2", "task": "rest", "run": "1"},
        "eeg",
    )
    assert parse_name("participants.tsv") is None


def test_recordings_of_participants_are_found_and_nothing_else(dataset):
    (dataset / "sub-01" / "ses-1" / "eeg" / "._sub-01_ses-1_task-rest_eeg.edf").write_text("")
    found = find_recordings(dataset)
    assert [(f.patient, dict(f.entities)["task"], f.path.suffix) for f in found] == [
        ("sub-01", "rest", ".edf"),
        ("sub-01", "rest", ".bdf"),
        ("sub-02", "sleep", ".vhdr"),
        ("sub-03", "sleep", ".set"),
    ]


def test_the_nearest_table_with_most_entities_applies(dataset):
    """The inheritance principle: from the folder of the recording to that of the data set."""
    file = find_recordings(dataset)[0]
    assert beside(file, "_channels.tsv") is None
    names = ("channels.tsv", "task-rest_channels.tsv", "task-sleep_channels.tsv")
    for name in names:
        (dataset / name).write_text(HEADER)
    assert beside(file, "_channels.tsv").name == "task-rest_channels.tsv"
    (dataset / "sub-01" / "sub-01_channels.tsv").write_text(HEADER)
    assert beside(file, "_channels.tsv").name == "sub-01_channels.tsv"
    (file.path.parent / "sub-01_ses-2_channels.tsv").write_text(HEADER)
    assert beside(file, "_channels.tsv").name == "sub-01_channels.tsv"
    (file.path.parent / "sub-01_ses-1_task-rest_channels.tsv").write_text(HEADER)
    assert beside(file, "_channels.tsv").name == "sub-01_ses-1_task-rest_channels.tsv"


def test_channels_are_read_in_any_order_of_columns(tmp_path):
    path = tmp_path / "channels.tsv"
    path.write_text("status\tname\ttype\tunits\tnotes\nbad\tFp1\teeg\tµV\tx\nn/a\tHEOG\tEOG\tn/a\t\nx\n")
    assert channels_of(path.read_bytes(), path)[:2] == (
        BidsChannel("Fp1", "EEG", "µV", True),
        BidsChannel("HEOG", "EOG", "", False),
    )
    assert unit_of(channels_of(path.read_bytes(), path)[:2]) == "µV"
    path.write_text("label\nFp1\n")
    with pytest.raises(ConfigError, match="lacks the column 'name'"):
        channels_of(path.read_bytes(), path)


# --- a run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_participants_sessions_and_formats_become_one_table(run_bids, capsys):
    run = run_bids()
    assert len(run.meta) == 8
    assert run.meta.groupby("patient_id")["recording"].nunique().to_dict() == {
        "sub-01": 2,
        "sub-02": 1,
        "sub-03": 1,
    }
    assert run.manifest["patients"] == "the participants of the BIDS data set (sub-)"
    assert run.meta["item_id"].iloc[0] == "sub-01_ses-1_task-rest_eeg_0"


@pytest.mark.slow
def test_every_format_gives_the_numbers_of_edf(run_bids, dataset, tmp_path):
    run = run_bids()
    plain = tmp_path / "plain"
    plain.mkdir()
    write_edf(plain / "r.edf", noise(200 * 100, seed=3))
    alone = hms.run(
        hms.compose(
            "data=edf",
            f"data.root={plain}",
            "data.patient=file",
            "stages=[waveforms]",
            "unit=per_row",
            f"outputs_dir={tmp_path / 'o'}",
            "n_jobs=1",
        )
    )
    step = 2000 / 65535  # of 16 bits from -1000 to 1000 µV, which the EDF file has and the other has not
    np.testing.assert_allclose(wave(run, SET), alone.wave(alone.meta["item_id"].iloc[0]), atol=4 * step)


@pytest.mark.slow
def test_one_task_can_be_chosen(run_bids):
    assert set(run_bids("data.tasks=[rest]").meta["patient_id"]) == {"sub-01"}
    with pytest.raises(ConfigError, match=r"no recording has the task play; there are rest, sleep"):
        run_bids("data.tasks=[play]")


@pytest.mark.slow
def test_bad_channels_are_dead_and_come_back_when_the_table_changes(run_bids, dataset):
    """A corrected channels.tsv makes its own recording due, and no other."""
    names = list(noise(1))
    table = dataset / "sub-01" / "ses-1" / "eeg" / "sub-01_ses-1_task-rest_channels.tsv"
    write_channels(table, names, bad=("F7",))
    bad = run_bids("montage=bipolar16")
    assert not wave(bad, EDF)[0].any()
    kept = run_bids("montage=bipolar16", "data.bad_channels=keep")
    assert wave(kept, EDF)[0].any()
    write_channels(table, names)
    good = run_bids("montage=bipolar16")
    np.testing.assert_array_equal(wave(good, EDF), wave(kept, EDF))
    other = bad.meta.loc[bad.meta["recording"] == SET, "item_id"].iloc[0]
    assert (bad.path / f"wave_hr_out/{other}_hr.npz").samefile(good.path / f"wave_hr_out/{other}_hr.npz")


@pytest.mark.slow
def test_a_channel_of_another_type_is_no_electrode(run_bids, dataset):
    names = list(noise(1))
    table = dataset / "sub-01" / "ses-1" / "eeg" / "sub-01_ses-1_task-rest_channels.tsv"
    write_channels(table, names, other={"C3": "EOG"})
    run = run_bids()
    assert "lacks what the montage needs for F3-C3, C3-P3" in run.excluded["reason"].iloc[0]


@pytest.mark.slow
def test_units_of_the_table_count_where_the_file_states_none(run_bids, dataset):
    before = wave(run_bids(), SET)
    table = dataset / "sub-03" / "eeg" / "sub-03_task-sleep_run-01_channels.tsv"
    write_channels(table, list(noise(1)), unit="nV")
    np.testing.assert_allclose(wave(run_bids(), SET), before / 1000, atol=1e-5)
    write_channels(dataset / "task-rest_channels.tsv", list(noise(1)), unit="mV")
    np.testing.assert_array_equal(wave(run_bids(), EDF), wave(run_bids(), EDF))
    assert np.abs(wave(run_bids(), EDF)).max() < 500


@pytest.mark.slow
def test_what_the_reader_of_a_file_mended_is_told(run_bids, dataset):
    path = dataset / EDF
    path.write_bytes(path.read_bytes()[:-100])
    mended = run_bids().manifest["recordings"]["mended"]
    assert {name: [flag for flag, _ in notes] for name, notes in mended.items()} == {EDF: ["cut"]}


@pytest.mark.slow
def test_references_of_the_table_are_kept_where_they_differ(run_bids, dataset):
    names = list(noise(1))
    rows = [f"{n}\tEEG\tuV\tgood\t{'A1' if n in ('C3', 'F3') else 'A2'}" for n in names]
    table = dataset / "sub-01" / "ses-1" / "eeg" / "sub-01_ses-1_task-rest_channels.tsv"
    table.write_text("name\ttype\tunits\tstatus\treference\n" + "\n".join(rows) + "\n")
    run = run_bids("max_failed_share=1")
    reasons = run.excluded.set_index("item_id")["reason"]
    assert "the references differ in Fp1-F3" in reasons["sub-01_ses-1_task-rest_eeg_0"]


def test_events_of_the_data_set_become_labels(run_bids, dataset):
    for path in dataset.glob("sub-0[12]/**/*_eeg.*"):
        if path.suffix in (".edf", ".bdf", ".vhdr"):
            stem = path.name.removesuffix(f"_eeg{path.suffix}")
            (path.parent / f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n18\t14\tsz\n")
    run = run_bids(
        "folds=none",
        "data.events=events_tsv",
        "data.event_classes={sz: seizure}",
        "data.event_background=other",
        "labels.classes=[seizure,other]",
        stages="labels",
    )
    assert run.meta["patient_id"].tolist() == ["sub-01"] * 4 + ["sub-02"] * 2
    assert run.labels.y_soft[:, 0].tolist() == [1, 0] * 3


def test_folds_keep_participants_whole_without_a_further_word(run_bids, dataset):
    for path in dataset.glob("sub-*/**/*_eeg.*"):
        if path.suffix in (".edf", ".bdf", ".vhdr", ".set"):
            stem = path.name.removesuffix(f"_eeg{path.suffix}")
            (path.parent / f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n18\t14\tseizure\n")
    run = run_bids("folds.n_splits=3", "data.events=events_tsv", stages="labels,splits")
    assert len(run.splits) == 3


# --- what is wrong -------------------------------------------------------------------------------


def test_a_folder_without_participants_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no folder sub-<label>, so it is not a BIDS data set"):
        hms.run(hms.compose("data=bids", f"data.root={tmp_path}", f"outputs_dir={tmp_path / 'o'}"))


def test_participants_without_recordings_are_refused(tmp_path):
    (tmp_path / "set" / "sub-01" / "anat").mkdir(parents=True)
    with pytest.raises(ConfigError, match="has participants but no recording"):
        hms.run(hms.compose("data=bids", f"data.root={tmp_path / 'set'}", f"outputs_dir={tmp_path / 'o'}"))


@pytest.mark.slow
def test_a_missing_list_of_participants_is_said(run_bids, dataset, capsys):
    (dataset / "participants.tsv").write_text("participant_id\nsub-01\n")
    run_bids()
    assert "does not list 2 participants who have recordings: sub-02, sub-03" in capsys.readouterr().err
    (dataset / "participants.tsv").unlink()
    run_bids()
    assert "has no participants.tsv" in capsys.readouterr().err


@pytest.mark.slow
def test_two_formats_of_one_recording_leave_it_out_with_both_names(run_bids, dataset):
    folder = dataset / "sub-01" / "ses-1" / "eeg"
    write_brainvision(folder / "sub-01_ses-1_task-rest_eeg.vhdr", noise(200 * 100))
    run = run_bids()
    reasons = set(run.excluded["reason"])
    assert reasons == {
        "it exists in several formats, 'sub-01_ses-1_task-rest_eeg.edf', "
        "'sub-01_ses-1_task-rest_eeg.vhdr'; keep one"
    }
    os.unlink(folder / "sub-01_ses-1_task-rest_eeg.edf")
    assert not len(run_bids().excluded)


def test_a_damaged_table_of_channels_is_a_reason(run_bids, dataset):
    (dataset / "sub-03" / "eeg" / "sub-03_task-sleep_run-01_channels.tsv").write_text("label\nx\n")
    run = run_bids()
    assert set(run.excluded["reason"]) == {"channels.tsv: lacks the column 'name'; the header has label"}
