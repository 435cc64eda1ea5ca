"""Folders of EDF files as people have them: names, patients, tables, references, clips and interruptions."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Prepared
from edf_files import STEP_UV, EdfFile, tone, tones

import hms
from hms.competition import EEG_CHANNELS, VOTE_COLUMNS
from hms.labels.classes import Ballot, Classes
from hms.results.run import Run
from hms.sources.names import safe_ids, text_of_path
from hms.sources.windows import read_windows

Command = Callable[..., Prepared]
WAVES = ("stages=[waveforms]", "filter=none", "montage=bipolar16", "unit=per_row", "filter.clip_uv=null")


@pytest.fixture
def prepare_folder(command: Command, outputs: Path) -> Callable[..., Run]:
    """Prepare a folder so that a row of the waveforms is the difference of two electrodes as recorded."""

    def call(root: Path, *overrides: str) -> Run:
        ended = command("data=edf", f"data.root='{root}'", *WAVES, *overrides)
        assert ended.code == 0, ended.err
        return hms.load(outputs=outputs)

    return call


def pair(anode: str, cathode: str, start_s: float) -> np.ndarray:
    """Return ten seconds of a pair of the made-up file."""
    first, stop = round(start_s * 200), round(start_s * 200) + 2000
    signals = [tone(EEG_CHANNELS.index(name), stop, 200)[first:] for name in (anode, cathode)]
    return signals[0] - signals[1]


def check_pairs(run: Run, item_id: str, start_s: float, *, atol: float = 2 * STEP_UV) -> None:
    wave = run.wave(item_id)
    for row, name in zip(wave, run.outputs, strict=True):
        np.testing.assert_allclose(row, pair(*name.split("-"), start_s), atol=atol)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_may_have_any_name(tmp_path, prepare_folder):
    """Items get ids that are safe and unique; the column `recording` keeps the relative path."""
    names = [
        "01-03-0001 PSG.edf", "p1/EEG.edf", "p2/EEG.edf", "Müller.edf", "a.b.c.EDF", "患者.edf",
        "zeile\nzwei.edf", "x" * 240 + ".edf", "A B.edf", "A_B.edf", "con'quote,comma;.edf",
        "#hash:colon.edf",
        "mixed.EdF",
    ]  # fmt: skip
    for name in names:
        EdfFile().write(tmp_path / "d" / name)
    run = prepare_folder(tmp_path / "d")
    assert len(run.meta) == len(names)
    recordings = set(run.meta["recording"])
    assert recordings == {name.replace("\n", "\\n") for name in names}
    ids = run.meta["item_id"]
    assert ids.is_unique
    assert ids.str.casefold().is_unique
    assert ids.str.fullmatch("[A-Za-z0-9_-]+").all()
    of = dict(zip(run.meta["recording"], ids, strict=True))
    assert of["01-03-0001 PSG.edf"] == "01-03-0001_PSG_0"
    assert of["Müller.edf"] == "Muller_0"
    assert (of["p1/EEG.edf"], of["p2/EEG.edf"]) == ("p1_EEG_0", "p2_EEG_0")
    assert all((run.path / "wave_hr_out" / f"{i}_hr.npz").is_file() for i in ids)
    check_pairs(run, of["患者.edf"], 20)


def test_names_that_are_no_utf8_are_kept_as_text(tmp_path, prepare_folder):
    EdfFile().write(tmp_path / "d" / "a.edf")
    os.rename(tmp_path / "d" / "a.edf", os.fsencode(tmp_path / "d") + b"/\xe9t\xe9.edf")
    run = prepare_folder(tmp_path / "d")
    assert run.meta["recording"].tolist() == ["\\xe9t\\xe9.edf"]
    check_pairs(run, run.meta["item_id"][0], 20)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.edf", "sub/b.edf"], ["a", "b"]),
        (["a.edf", "a.bdf"], ["a_edf", "a_bdf"]),
        (["p/a.edf", "q/A.edf"], ["p_a", "q_A"]),
        (["p/a.edf", "q/a.edf", "p_a.edf"], ["p_a_edf", "q_a", "p_a"]),
    ],
)
def test_an_id_is_the_files_name_or_its_path_where_names_repeat(names, ids):
    assert safe_ids(names) == dict(zip(names, ids, strict=True))


def test_controls_in_a_name_are_written_out():
    assert text_of_path("a\x1b[2Jb\r.edf") == "a\\x1b[2Jb\\r.edf"


def test_hidden_files_and_annotations_alone_are_passed_over_with_one_line(
    tmp_path, command: Command, outputs
):
    root = tmp_path / "d"
    EdfFile().write(root / "S1-PSG.edf")
    EdfFile(eeg=np.zeros((0, 200)), labels=[], duration="0", reserved="EDF+C", onset=lambda n: n).write(
        root / "S1-Hypnogram.edf"
    )
    for name in ("._S1-PSG.edf", ".hidden.edf"):
        (root / name).write_bytes(b"x")
    ended = command("data=edf", f"data.root={root}", *WAVES)
    assert ended.code == 0
    assert ended.err.count("ignored") == 1
    assert "ignored 1 file with annotations only: S1-Hypnogram.edf" in ended.err
    assert hms.load(outputs=outputs).meta["recording"].tolist() == ["S1-PSG.edf"]


def test_one_file_can_be_the_root(tmp_path, prepare_folder):
    EdfFile().write(tmp_path / "d" / "a b.edf")
    EdfFile().write(tmp_path / "d" / "other.edf")
    run = prepare_folder(tmp_path / "d" / "a b.edf")
    assert run.meta["recording"].tolist() == ["a b.edf"]


def test_a_folder_of_other_formats_is_named_with_the_way_in(tmp_path, command: Command):
    (tmp_path / "d").mkdir()
    for name in ("a.vhdr", "a.vmrk", "b.edf.gz", "c.txt"):
        (tmp_path / "d" / name).write_bytes(b"x")
    ended = command("data=edf", f"data.root={tmp_path / 'd'}")
    assert ended.code == 2
    assert "1 .vhdr (BrainVision: data=mne, or data=bids)" in ended.err
    assert "1 .edf.gz (compressed EDF: unpack them (gunzip), then data=edf)" in ended.err


# --- patients ------------------------------------------------------------------------------------


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Two recordings each of two patients, with votes but nobody named in the table."""
    rows = []
    for number, name in enumerate(["Anna Ä/1_MRN1.edf", "Anna Ä/2_MRN1.edf", "b/1_MRN2.edf", "b/2_MRN2.edf"]):
        code = name.partition("_")[2][:4]
        EdfFile(eeg=tones() + number, patient=f"{code} X X X", reserved="EDF+C", onset=lambda n: n).write(
            tmp_path / "d" / name
        )
        rows.append([name, 0.0, 5, 0, 0, 0, 0, number])
    table = pd.DataFrame(rows, columns=["recording", "start_s", *VOTE_COLUMNS])
    table.to_csv(tmp_path / "d" / "windows.csv", index=False)
    whose = [[name, "Anna" if name.startswith("Anna") else "Berta"] for name in table["recording"]]
    pd.DataFrame(whose, columns=["recording", "patient_id"]).to_csv(tmp_path / "d" / "who.csv", index=False)
    return tmp_path / "d"


def labelled(root: Path) -> tuple[str, ...]:
    return ("data=edf", f"data.root={root}", "data.windows=windows.csv", "folds.n_splits=2",
            "stages=[waveforms,labels,splits]")  # fmt: skip


@pytest.mark.slow
def test_folds_are_refused_while_nobody_has_said_who_is_who(ward, command: Command):
    ended = command(*labelled(ward))
    assert ended.code == 2
    for choice in ("header", "folder", "regex", "table", "file", "folds=none"):
        assert choice in ended.err
    assert command(*labelled(ward)[:-2], "stages=[waveforms,labels]").code == 0


@pytest.mark.parametrize(
    ("rule", "patients", "source"),
    [
        (("data.patient=header",), ["MRN1", "MRN1", "MRN2", "MRN2"], "the files' headers"),
        (("data.patient=folder",), ["Anna Ä", "Anna Ä", "b", "b"], "the first folder below data.root"),
        (
            ("data.patient=regex", "data.patient_regex='MRN([0-9])'"),
            ["1", "1", "2", "2"],
            "data.patient_regex",
        ),
        (("data.patient=table", "data.patient_table=who.csv"), ["Anna"] * 2 + ["Berta"] * 2, "who.csv"),
        (("data.patient=file",), ["1_MRN1", "2_MRN1", "1_MRN2", "2_MRN2"], "each file is one"),
    ],
)
def test_patients_are_those_of_the_declared_rule(ward, command: Command, outputs, rule, patients, source):
    """The summary says where they come from, and no patient stands on both sides of a fold."""
    ended = command(*labelled(ward), *rule)
    assert ended.code == 0, ended.err
    run = hms.load(outputs=outputs)
    assert run.meta["patient_id"].tolist() == patients
    assert source in dict(run.overview())["patients"]
    for split in run.splits:
        assert not {*run.meta["patient_id"][split.train]} & {*run.meta["patient_id"][split.valid]}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (("data.patient=regex",), "patient=regex and patient_regex go together"),
        (("data.patient=regex", "data.patient_regex='('"), "is not a regular expression"),
        (("data.patient=regex", "data.patient_regex=nobody"), "names no patient for 4 of 4 recordings"),
        (("data.patient=table",), "needs a column patient_id in data.windows, or data.patient_table"),
        (("data.patient=header", "data.patient_table=who.csv"), "patient_table needs patient=table"),
        (("data.patient=folders",), "did you mean 'folder'"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(ward, command: Command, rule, text):
    ended = command(*labelled(ward), *rule)
    assert ended.code == 2
    assert text in ended.err


def test_a_header_that_names_nobody_is_told(ward, command: Command):
    EdfFile(eeg=tones() + 4).write(ward / "b" / "1_MRN2.edf")
    ended = command(*labelled(ward), "data.patient=header")
    assert ended.code == 2
    assert "names no patient for 1 of 4 recordings (b/1_MRN2.edf)" in ended.err


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "recording;patient_id;start_s\nGood;p;2,5\n",
        "Recording\tPATIENT_ID\tstart_s\ngood.EDF\tp\t2.5\n",
        "recording,patient_id,start_s\nsub/good.edf,p,2.5\n",
        "recording,patient_id,start_s\n.\\sub\\good,p,2.5\n",
        "\ufeffrecording,patient_id,start_s\r\nGOOD.edf,p,2.5\r\n",
    ],
)
def test_a_table_is_understood_as_people_write_it(tmp_path, prepare_folder, text):
    """Semicolons, tabs, endings, letter case, paths; with semicolons a decimal comma."""
    EdfFile().write(tmp_path / "d" / "sub" / "good.edf")
    (tmp_path / "d" / "w.csv").write_text(text, encoding="utf-8", newline="")
    run = prepare_folder(tmp_path / "d", "data.windows=w.csv")
    assert run.meta["recording"].tolist() == ["sub/good.edf"]
    assert run.meta["window_start_s"].tolist() == [22.5]
    check_pairs(run, "good_0", 22.5)


def test_votes_have_decimal_commas_where_semicolons_part_the_fields(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("recording;start_s;seizure_vote;other_vote\na,b;0;0,25;0,75\n")
    ballot = Ballot(Classes(("seizure", "other")), soft=True)
    (row,) = read_windows(path, ballot).rows
    assert row == {"recording": "a,b", "start_s": "0", "seizure_vote": "0.25", "other_vote": "0.75"}


def test_a_name_that_may_mean_two_files_is_refused_in_its_own_words(tmp_path, command: Command):
    for patient in ("p1", "p2"):
        EdfFile().write(tmp_path / "d" / patient / "EEG.edf")
    (tmp_path / "d" / "w.csv").write_text("recording,patient_id,start_s\nEEG,p,0\n")
    ended = command("data=edf", f"data.root={tmp_path / 'd'}", "data.windows=w.csv")
    assert ended.code == 2
    assert "'EEG' could be p1/EEG.edf, p2/EEG.edf; write the path as it is there" in ended.err


# --- references ----------------------------------------------------------------------------------


def with_references(of: Callable[[int, str], str]) -> EdfFile:
    """Return the file with each electrode recorded against an ear; these differ by 100 µV at 7 Hz."""
    a1 = 100 * np.sin(2 * np.pi * 7 * np.arange(12_000) / 200)
    ears = [of(number, name) for number, name in enumerate(EEG_CHANNELS)]
    eeg = tones() - np.stack([a1 if ear == "A1" else 0 * a1 for ear in ears])
    return EdfFile(eeg=eeg, labels=[f"EEG {n}-{e}" for n, e in zip(EEG_CHANNELS, ears, strict=True)])


def test_pairs_within_a_side_are_right_whatever_the_other_sides_ear(tmp_path, prepare_folder):
    """Left electrodes against A1, right ones against A2: the double banana crosses no midline."""
    with_references(lambda _, name: "A1" if name[-1] in "13579" else "A2").write(tmp_path / "d" / "a.edf")
    check_pairs(prepare_folder(tmp_path / "d"), "a_0", 20)


@pytest.mark.slow
def test_pairs_across_references_are_left_out_by_name(tmp_path, command: Command, prepare_folder):
    """T3 against the other ear: its two pairs are not formed; with data.missing=dead others stay right."""
    with_references(lambda _, name: "A1" if name == "T3" else "A2").write(tmp_path / "d" / "a.edf")
    ended = command("data=edf", f"data.root={tmp_path / 'd'}", *WAVES)
    assert ended.code == 3
    assert "the references differ in F7-T3 (F7 against A2 and T3 against A1), T3-T5" in ended.err
    run = prepare_folder(tmp_path / "d", "data.missing=dead")
    for row, name in zip(run.wave("a_0"), run.outputs, strict=True):
        wanted = 0 * row if "T3" in name.split("-") else pair(*name.split("-"), 20)
        np.testing.assert_allclose(row, wanted, atol=2 * STEP_UV)


def test_of_two_copies_that_with_its_partners_reference_is_read(tmp_path, prepare_folder):
    """T3 stands in the file against A1, first, and against A2 as all others do."""
    whole = with_references(lambda _, name: "A2")
    against_a1 = whole.eeg[5:6] - 100 * np.sin(2 * np.pi * 7 * np.arange(12_000) / 200)
    made = whole.changed(eeg=np.vstack([against_a1, whole.eeg]), labels=["EEG T3-A1", *whole.labels])
    made.write(tmp_path / "d" / "a.edf")
    check_pairs(prepare_folder(tmp_path / "d"), "a_0", 20)


@pytest.mark.slow
def test_a_common_electrode_as_reference_is_no_set_of_pairs(tmp_path, command: Command, outputs):
    """X-Cz in all channels: F3-C3 is a difference, Fz-Cz the channel, Cz-Pz the channel turned over."""
    cz = EEG_CHANNELS.index("Cz")
    rest = [n for n in EEG_CHANNELS if n != "Cz"]
    eeg = np.delete(tones() - tones()[cz], cz, 0)
    EdfFile(eeg=eeg, labels=[f"{n}-Cz" for n in rest]).write(tmp_path / "d" / "a.edf")
    settings = [text.replace("bipolar16", "bipolar18") for text in WAVES]
    assert command("data=edf", f"data.root={tmp_path / 'd'}", *settings).code == 0
    run = hms.load(outputs=outputs)
    assert {"Fz-Cz", "Cz-Pz"} <= set(run.outputs)
    check_pairs(run, "a_0", 20)


# --- lengths -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_clip_is_taken_by_its_middle(tmp_path, prepare_folder):
    """Of 24 s, the ten from 7 s on; of 8 s nothing, and the message names the setting."""
    EdfFile(eeg=tones(24)).write(tmp_path / "d" / "a.edf")
    EdfFile(eeg=tones(8)).write(tmp_path / "d" / "b.edf")
    run = prepare_folder(tmp_path / "d")
    assert run.meta["window_start_s"].tolist() == [7.0]
    check_pairs(run, "a_0", 7)
    assert "window.start_s and window.length_s say" in run.excluded["reason"][0]
    shorter = ("window.start_s=22", "window.length_s=6")
    assert prepare_folder(tmp_path / "d", *shorter).meta["item_id"].tolist() == ["a_0", "b_0"]


@pytest.mark.slow
def test_windows_slide_over_each_stretch_of_an_interrupted_recording(tmp_path, prepare_folder):
    """None spans the gap; a window of a table that meets it is left out by name."""
    made = EdfFile(eeg=tones(180), reserved="EDF+D", onset=lambda n: n if n < 120 else n + 1000)
    made.write(tmp_path / "d" / "a.edf")
    run = prepare_folder(tmp_path / "d")
    assert run.meta["window_start_s"].tolist() == [20, 70, 1140]
    check_pairs(run, "a_1", 70)
    wave = run.wave("a_2")
    np.testing.assert_allclose(wave[0], pair("Fp1", "F7", 140), atol=2 * STEP_UV)
    (tmp_path / "d" / "w.csv").write_text("recording,patient_id,start_s\na,p,0\na,p,95\na,p,500\n")
    run = prepare_folder(tmp_path / "d", "data.windows=w.csv")
    assert run.meta["window_start_s"].tolist() == [20]
    assert (
        run.excluded["reason"]
        .str.contains("meets the interruption of the recording from 120 s to 1120 s")
        .all()
    )


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_failures_are_counted_by_recording_and_told_in_groups(tmp_path, command: Command):
    """A foreign recording of ten minutes has twelve windows and fails once."""
    for number in range(3):
        EdfFile().write(tmp_path / "d" / f"eeg{number}.edf")
    EdfFile(eeg=tones(600, n=1), labels=["Thorax"]).write(tmp_path / "d" / "resp.edf")
    EdfFile(unit="").write(tmp_path / "d" / "no_unit.edf")
    assert command("data=edf", f"data.root={tmp_path / 'd'}", *WAVES).code == 0
    for number in range(3):
        (tmp_path / "d" / f"broken{number}.edf").write_text("no recording")
    ended = command("data=edf", f"data.root={tmp_path / 'd'}", *WAVES)
    assert ended.code == 3
    assert re.search("[45] of 8 recordings failed, more than the 3", ended.err)
    assert re.search(r"\n  [23] recordings: the file is not EDF or BDF \(broken0.edf, broken1.edf", ended.err)


def test_an_unreadable_file_is_one_reason(tmp_path, prepare_folder):
    EdfFile().write(tmp_path / "d" / "a.edf")
    (tmp_path / "d" / "b.edf").symlink_to("b.edf")
    (tmp_path / "d" / "dir.edf").mkdir()
    run = prepare_folder(tmp_path / "d")
    assert run.meta["recording"].tolist() == ["a.edf"]
    assert "cannot be read: Too many levels of symbolic links" in run.excluded["reason"][0]


# --- many files ----------------------------------------------------------------------------------


def test_what_a_worker_is_sent_does_not_grow_with_the_folder(tmp_path):
    from hms.config.schema import build_config
    from hms.engine.plan import open_source
    from hms.store.places import Outputs

    EdfFile(eeg=tones(1)).write(tmp_path / "set/a.edf")
    cfg = build_config(hms.compose("data=edf", f"data.root={tmp_path / 'set'}", "stages=[waveforms]"))
    source = open_source(cfg, Outputs(tmp_path / "outputs"))
    before = len(pickle.dumps(source))
    assert source.places(["a.edf"])[0].size is not None
    assert len(pickle.dumps(source)) == before
