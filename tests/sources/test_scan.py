"""`hms scan`, names on the command line, and what a run says of files that were mended or tell names."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Prepared
from edf_files import EdfFile, tones

import hms
from hms.cli import main as hms_main
from hms.competition import EEG_CHANNELS
from hms.sources.formats import FORMATS
from hms.sources.mne.files import ENDINGS as MNE_ENDINGS
from hms.sources.scan import _with_its_end

Command = Callable[..., Prepared]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one file of each kind that a look has to tell apart."""
    root = tmp_path / "all"
    EdfFile(patient="MRN1 F X Somebody", reserved="EDF+C", onset=lambda n: n).write(root / "p1" / "good.edf")
    EdfFile(patient="MRN2 F X Somebody", reserved="EDF+C", onset=lambda n: n).write(root / "p2" / "good.edf")
    EdfFile(eeg=tones(60, 250), per_record=250, labels=[f"EEG {n}-LE" for n in EEG_CHANNELS]).write(
        root / "p2" / "r250.EDF"
    )
    EdfFile(eeg=tones(60, n=2), labels=["Thorax", "A7"]).write(root / "foreign.edf")
    EdfFile(eeg=tones(8)).write(root / "short.edf")
    EdfFile(unit="degC").write(root / "unit.edf")
    EdfFile(fill=b"\0").write(root / "mended.edf")
    EdfFile(eeg=tones(120), reserved="EDF+D", onset=lambda n: n if n < 60 else n + 100).write(
        root / "gap.edf"
    )
    mixed = ["T3-A1" if n == "T3" else f"{n}-A2" for n in EEG_CHANNELS]
    EdfFile(labels=mixed).write(root / "mixed.edf")
    EdfFile(eeg=np.zeros((0, 200)), labels=[], duration="0", reserved="EDF+C", onset=lambda n: n).write(
        root / "hypnogram.edf"
    )
    for name in ("brain.vhdr", "brain.eeg", "brain.vmrk"):
        (root / name).write_bytes(b"x")
    (root / "text.edf").write_text("no recording")
    (root / "empty.edf").write_bytes(b"")
    (root / "loop.edf").symlink_to("loop.edf")
    (root / "a\nb.edf").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    (root / "._good.edf").write_bytes(b"x")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.edf").write_bytes(b"x")
    (root / "dir.edf").mkdir()
    return root


def test_a_scan_tells_what_is_there_and_what_would_be_left_out(folder, tmp_path, capsys):
    """It never stops at a bad file, and writes one row a recording."""
    assert hms_main(["scan", str(folder), "--csv", str(tmp_path / "scan.csv")]) == 0
    out = capsys.readouterr().out
    for text in (
        "14 EDF, 1 BrainVision", "data=edf", "1 .txt", "1 .eeg",
        "200 Hz", "250 Hz", "LE", "A1", "in 1 file: Thorax, A7", "19 channels: ",
        "headers name 2 in 2 of", "zero bytes for spaces", "interrupted", "gap.edf",
        "F7-T3 (F7 against A2 and T3 against A1)", "lasts 8 s, and a window 10 s",
        "its unit is 'degC'", "the file is empty", "not EDF or BDF", "annotations alone",
        "time taken", "a\\nb.edf", "a run would stop: ",
    ):  # fmt: skip
        assert text in out, text
    with (tmp_path / "scan.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == 15
    assert rows["p1/good.edf"]["left_out"] == ""
    assert rows["p1/good.edf"]["folder"] == "p1"
    assert (rows["p2/r250.EDF"]["sfreq_hz"], rows["p2/r250.EDF"]["references"]) == ("250", "LE")
    assert rows["gap.edf"]["interruptions"] == "1"
    assert float(rows["gap.edf"]["duration_s"]) == 220
    assert {name for name, row in rows.items() if not row["left_out"]} == {
        "p1/good.edf", "p2/good.edf", "p2/r250.EDF", "mended.edf", "gap.edf",
    }  # fmt: skip


def test_a_file_of_another_kind_that_is_typed_is_left_out(tmp_path, capfd, command: Command):
    (tmp_path / "notes.sh").write_text("echo")
    assert hms_main(["scan", str(tmp_path / "notes.sh")]) == 0
    told = "notes.sh: of another kind: no format of recordings has its ending"
    assert told in " ".join(capfd.readouterr().out.split())
    planned = command("data=edf", f"data.root={tmp_path / 'notes.sh'}", "folds=none", "plan=true")
    assert "the file is not EDF or BDF" in planned.out


def test_links_to_folders_are_named_and_not_followed(tmp_path, capsys):
    EdfFile().write(tmp_path / "there" / "a.edf")
    (tmp_path / "linked").symlink_to(tmp_path / "there")
    assert hms_main(["scan", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "recordings      1 EDF" in out
    assert "links to folders: linked" in out


def test_a_scan_says_of_every_file_what_a_run_does(folder, tmp_path, command: Command):
    """What the look would use is used, and nothing else."""
    hms_main(["scan", str(folder), "--csv", str(tmp_path / "scan.csv")])
    rows = pd.read_csv(tmp_path / "scan.csv", keep_default_na=False)
    run = ("data=edf", f"data.root={folder}", "stages=[waveforms]", "unit=per_row")
    foretold = command(*run, "max_failed_share=0.5", "plan=true").out
    assert "a run would stop: 8 of 13 recordings fail, more than the 6 that" in foretold
    assert "; max_failed_share=1 lets it continue" in foretold
    stopped = command(*run, "max_failed_share=0.5")
    assert stopped.code == 3
    assert "add max_failed_share=1: then they are left out" in stopped.err
    assert command(*run, "max_failed_share=0.62", "plan=true").out.count("would stop") == 0
    ended = command(*run, "max_failed_share=0.62")
    assert ended.code == 0, ended.err
    used = hms.load(outputs=tmp_path / "outputs").meta["recording"]
    assert set(used) == set(rows["file"][rows["left_out"] == ""])
    assert "ignored 1 file with annotations only: hypnogram.edf" in ended.err


def test_every_format_that_is_read_has_a_name_and_a_way_in():
    assert set(MNE_ENDINGS) <= set(FORMATS)


def test_a_name_that_a_spreadsheet_takes_for_a_formula_is_text(tmp_path):
    EdfFile().write(tmp_path / "d" / "=1+1 .edf")
    assert hms_main(["scan", str(tmp_path / "d"), "--csv", str(tmp_path / "scan.csv")]) == 0
    assert (tmp_path / "scan.csv").read_text(encoding="utf-8").splitlines()[1].startswith("'=1+1 .edf,EDF")


def test_a_scan_of_nothing_and_of_one_file(tmp_path, capsys):
    assert hms_main(["scan", str(tmp_path / "none")]) == 2
    assert "is neither a folder nor a file" in capsys.readouterr().err
    path = EdfFile().write(tmp_path / "one.edf")
    assert hms_main(["scan", str(path)]) == 0
    assert "1 of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_names_can_be_given_on_the_command_line(tmp_path, command: Command):
    """They add to those there are; a scan takes them too."""
    labels = ["X1", "X 2", *EEG_CHANNELS[2:]]
    EdfFile(labels=labels).write(tmp_path / "d" / "a.edf")
    base = ("data=edf", f"data.root={tmp_path / 'd'}", "stages=[waveforms]")
    ended = command(*base)
    assert ended.code == 3
    assert "labels that are not known: X1, X 2; 'data.aliases={X1: Fp1}' says what a label means" in ended.err
    assert command(*base, "data.aliases={X1: Fp1, X 2: F3}").code == 0
    cfg = hms.compose(*base, "data.aliases.X1=Fp1")
    assert dict(cfg.at("data.aliases")) == {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6", "X1": "Fp1"}


@pytest.mark.slow
def test_what_was_mended_is_in_the_manifest_and_told(tmp_path, command: Command, outputs: Path):
    """Also in a later run that computes nothing of the recording."""
    path = EdfFile(fill=b"\0").write(tmp_path / "d" / "a.edf")
    path.write_bytes(path.read_bytes()[:-100])
    EdfFile().write(tmp_path / "d" / "b.edf")
    base = ("data=edf", f"data.root={tmp_path / 'd'}", "stages=[waveforms]")
    ended = command(*base)
    assert "1: the end was cut, the whole records are used" in ended.out
    assert "1: the header was mended" in ended.out
    mended = hms.load(outputs=outputs).manifest["recordings"]["mended"]
    assert [flag for flag, _ in mended["a.edf"]] == ["mended", "cut"]
    assert "b.edf" not in mended
    command(*base, "unit=per_row")
    assert hms.load(outputs=outputs).manifest["recordings"]["mended"] == mended


@pytest.mark.slow
def test_what_was_mended_of_a_file_stands_by_item(tmp_path, command: Command, outputs: Path):
    """It costs no grade, is counted, and goes when the file is put right."""
    root, whole = tmp_path / "d", EdfFile(eeg=tones(120)).to_bytes()
    EdfFile().write(root / "b.edf")
    (root / "a.edf").write_bytes(whole[:-100])
    base = ("data=edf", f"data.root={root}", "stages=[waveforms,quality]", "unit=per_row")
    assert command(*base).code == 0
    ledger = pd.read_csv(hms.load(outputs=outputs).path / "qc" / "qc.csv", keep_default_na=False)
    assert dict(zip(ledger["item_id"], ledger["file_flags"], strict=True)) == {
        "a_0": "cut", "a_1": "cut", "b_0": "",
    }  # fmt: skip
    assert ledger["grade"].nunique() == 1
    (root / "a.edf").write_bytes(whole)
    assert command(*base).code == 0
    run = hms.load(outputs=outputs)
    assert run.manifest["recordings"]["mended"] == {}
    assert pd.read_csv(run.path / "qc" / "qc.csv")["file_flags"].isna().all()


@pytest.mark.slow
def test_a_recording_that_cannot_be_used_is_one_item_whatever_its_length(
    tmp_path, command: Command, outputs: Path
):
    """What makes it one is what the montage needs; with data.missing=dead a chain may lack pairs."""
    root = tmp_path / "d"
    EdfFile(eeg=tones(150)).write(root / "good.edf")
    EdfFile(eeg=tones(150, n=1), labels=["Thorax"]).write(root / "breath.edf")
    EdfFile(eeg=tones(150), unit="").write(root / "no_unit.edf")
    EdfFile(eeg=tones(150, n=18), labels=EEG_CHANNELS[1:]).write(root / "no_fp1.edf")
    base = ("data=edf", f"data.root={root}", "stages=[waveforms]", "unit=per_row")
    ended = command(*base)
    left = pd.read_csv(hms.load(outputs=outputs).path / "data_package" / "meta_excluded.csv")
    assert left["item_id"].tolist() == ["breath_0", "no_fp1_0", "no_unit_0"]
    assert "items used  3 of 6" in ended.out
    command(*base, "data.missing=dead")
    assert len(hms.load(outputs=outputs).meta) == 6


@pytest.mark.slow
def test_a_plan_of_a_folder_begins_with_what_is_in_it(folder, tmp_path, command: Command):
    """Before folds ask who is who; nothing is written, and behind pseudonyms no name is told."""
    ended = command("data=edf", f"data.root={folder}", "plan=true", "unit=per_row", "folds=group5")
    for text in ("14 EDF", "gap.edf", "would be used   5 of 14", "hms scan DIR"):
        assert text in ended.out, text
    assert not (tmp_path / "outputs").exists()
    key = tmp_path / "ward.key"
    key.write_text("0123456789abcdef" * 4)
    hidden = command("data=edf", f"data.root={folder}", "plan=true", "folds=none", f"data.pseudonyms={key}")
    assert "hms scan" in hidden.err
    assert "gap" not in hidden.out + hidden.err


def test_a_scan_asks_what_a_run_asks(tmp_path, capsys):
    """Lacking pairs that count as dead, and electrodes against two references."""
    EdfFile(eeg=tones(60, n=18), labels=EEG_CHANNELS[1:]).write(tmp_path / "no_fp1.edf")
    ears = [f"{n}-{'A1' if n[-1] in '1357' else 'A2'}" for n in EEG_CHANNELS]
    EdfFile(labels=ears).write(tmp_path / "ears.edf")
    for options, used in (((), 1), (("data.missing=dead",), 2), (("montage=referential",), 0)):
        assert hms_main(["scan", str(tmp_path), *options]) == 0
        assert f"would be used   {used} of 2" in capsys.readouterr().out, options


@pytest.mark.slow
def test_export_and_report_say_that_names_are_inside(tmp_path, command: Command, outputs: Path, capfd):
    """Where ids are plain numbers there is nothing to say."""
    EdfFile(eeg=tones() + np.random.default_rng(0).normal(0, 9, (19, 12_000))).write(
        tmp_path / "d" / "Anna.edf"
    )
    assert command("data=edf", f"data.root={tmp_path / 'd'}").code == 0
    assert hms_main(["--outputs", str(outputs), "export", "latest", str(tmp_path / "copy")]) == 0
    assert "names of recordings or patients are inside" in capfd.readouterr().err
    page = hms.load(outputs=outputs).report().path.read_text()
    assert "Names of recordings or patients are inside" in page
    assert "Patients: not declared, each recording counts as one." in page


@pytest.mark.slow
def test_export_says_nothing_where_ids_are_numbers(finished, tmp_path, capsys):
    outputs = finished.path.parent
    assert hms_main(["--outputs", str(outputs), "export", finished.hash, str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().err == ""
    assert "are inside" not in finished.report().path.read_text()


def test_a_scan_says_that_a_run_would_stop_where_nothing_can_be_used(tmp_path, capsys):
    """Two of two are fewer than always may fail, and still nothing is left."""
    for name in ("a.edf", "b.edf"):
        (tmp_path / name).write_bytes(b"")
    assert hms_main(["scan", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "a run would stop: no recording can be used, and 2 of 2 fail" in out
    assert "per thousand" not in out


def test_a_long_reason_keeps_its_end():
    text = "a" * 400 + "; choose data.reference=average"
    shown = _with_its_end(text)
    assert shown.endswith("; choose data.reference=average")
    assert len(shown) <= 303


def test_a_scan_of_a_folder_without_eeg_says_what_would_be_eeg(tmp_path, capsys):
    (tmp_path / "letter.pdf").write_text("x")
    assert hms_main(["scan", str(tmp_path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "other files 1 .pdf" in told
    assert "no file is EEG: EDF or BDF" in told
    assert "patients" not in told
