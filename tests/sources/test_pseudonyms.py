"""Runs in which ids stand for names: nothing of a person is in them, and the key's owner finds all again."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Prepared
from edf_files import EdfFile, tones

import hms
from hms.cli import main as hms_main
from hms.errors import ConfigError
from hms.labels.classes import COMPETITION
from hms.sources.pseudonyms import ENVIRONMENT, open_pseudonyms

pytestmark = pytest.mark.slow

Command = Callable[..., Prepared]

SECRETS = (
    "Annemarie", "Mustermann", "ANNEMARIE", "MAR-1954", "1954-03", "born1954", "MRN4711", "Geheimrat",
    "Klinikum", "Oberhof", "Berta", "geheime_liste", "Sonderlabel", "Geh_Unit",
)  # fmt: skip
"""Words of names, birth dates, paths, tables and headers that must be nowhere."""


def noisy(seed: int, *, seconds: int = 60) -> np.ndarray:
    return tones(seconds) + np.random.default_rng(seed).normal(0, 15, (19, seconds * 200))


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Return a folder whose every name and text tells who the patients are."""
    root = tmp_path / "Klinikum Oberhof" / "born1954"
    header = {
        "patient": "MRN4711 F 17-MAR-1954 Annemarie_Mustermann",
        "recording": "Startdate 02-MAR-1999 MRN4711 Geheimrat",
    }
    rows = []
    for number, name in enumerate(["Mustermann, Annemarie/Annemarie 1.edf", "Mustermann, Annemarie/2.edf",
                                   "Berta/Berta.edf", "Berta/x.edf"]):  # fmt: skip
        EdfFile(eeg=noisy(number), **header).write(root / name)
        rows.append([name, name.partition("/")[0], 0.0, 3, 0, 0, 0, 0, number])
    # One recording for each way in which a message could tell: labels, units, damage, interruptions.
    labels = [*EdfFile().labels[:-1], "Sonderlabel"]
    EdfFile(eeg=noisy(7), labels=labels, **header).write(root / "Berta" / "ANNEMARIE lacks.edf")
    units = ["Geh_Unit", *["uV"] * 18]
    EdfFile(eeg=noisy(8), unit=units, **header).write(root / "Berta" / "units.edf")
    EdfFile(eeg=noisy(9), n_records="Annema", **header).write(root / "Berta" / "damage.edf")
    for name in ("Berta/ANNEMARIE lacks.edf", "Berta/units.edf", "Berta/damage.edf"):
        rows.append([name, "Berta", 0.0, 1, 0, 0, 0, 0, 0])
    columns = ["recording", "patient_id", "start_s", *COMPETITION.vote_columns]
    pd.DataFrame(rows, columns=columns).to_csv(root / "geheime_liste.csv", index=False)
    return root


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "safe" / "Annemarie.key"
    path.parent.mkdir()
    path.write_text("0123456789abcdef" * 4 + "\n")
    return path


def told(data: bytes) -> list[str]:
    """Return the secrets that stand in some bytes, in any of the encodings that files use."""
    lower, encodings = data.lower(), ("utf-8", "utf-16-le", "utf-32-le")
    return [s for s in SECRETS if any(s.encode(encoding).lower() in lower for encoding in encodings)]


def leaks(folder: Path) -> dict[str, list[str]]:
    """Return what is told by names and contents of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        data = path.read_bytes() if path.is_file() else b""
        target = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
        inside = target.replace(os.fsencode(folder), b"")
        secrets = told(data) + told(os.fsencode(relative)) + told(inside)
        if secrets:
            found[str(relative)] = secrets
    return found


def settings(ward: Path, key: Path) -> list[str]:
    return [
        "data=edf", f"data.root={ward}", "data.windows=geheime_liste.csv", f"data.pseudonyms='{key}'",
        "folds.n_splits=2", "unit=per_row",
    ]  # fmt: skip


def quoted(texts: list[str]) -> list[str]:
    """Return overrides with their paths quoted, as Hydra needs them."""
    return [f"{k}='{v}'" if " " in v else f"{k}={v}" for k, _, v in (text.partition("=") for text in texts)]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_word_of_a_person_is_in_any_byte_of_a_run(ward, key, outputs, command: Command, n_jobs):
    """Names, birth dates, paths, headers: not in files, their names, the store or what is printed."""
    ended = command(*quoted(settings(ward, key)), n_jobs=n_jobs)
    assert ended.code == 0, ended.err
    assert leaks(outputs) == {}
    printed = (ended.out + ended.err).replace(str(outputs), "")
    assert told(printed.encode()) == []
    run = hms.load(outputs=outputs)
    assert len(run.meta) == 4
    assert run.meta["patient_id"].nunique() == 2
    assert set(run.excluded["reason"].str.contains("withheld|needs for T6-O2")) == {True}
    assert run.meta["recording"].str.fullmatch("r[0-9a-f]{16}").all()
    assert run.meta["item_id"].str.fullmatch("r[0-9a-f]{16}_0").all()
    assert (run.meta["eeg_id"] < 0).all()


def test_the_names_are_beside_the_key_alone(ward, key, outputs, command: Command):
    """Whoever has the key finds every recording and patient again; another run of it has the same ids."""
    assert command(*quoted(settings(ward, key))).code == 0
    with (key.parent / "Annemarie.key.names.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {(row["kind"], row["id"]): row["name"] for row in rows}
    meta = hms.load(outputs=outputs).meta
    assert names["recording", meta["recording"][0]] == "Mustermann, Annemarie/Annemarie 1.edf"
    assert names["patient", meta["patient_id"][0]] == "Mustermann, Annemarie"
    assert key.read_text().strip().encode() not in (key.parent / "Annemarie.key.names.csv").read_bytes()
    assert command(*quoted(settings(ward, key)), "window=full50", "stages=[waveforms]").code == 0
    assert hms.load(outputs=outputs).meta["item_id"].tolist() == meta["item_id"].tolist()


def test_samples_are_those_of_the_run_without_pseudonyms(ward, key, outputs, command: Command):
    with_key = settings(ward, key)
    without = [text for text in with_key if not text.startswith("data.pseudonyms")]
    assert command(*quoted(without), "stages=[waveforms]").code == 0
    plain = hms.load(outputs=outputs)
    assert command(*quoted(with_key), "stages=[waveforms]").code == 0
    keyed = hms.load(outputs=outputs)
    assert keyed.hash != plain.hash
    for one, other in zip(plain.meta["item_id"], keyed.meta["item_id"], strict=True):
        np.testing.assert_array_equal(plain.wave(one), keyed.wave(other))


def test_another_key_gives_other_ids(tmp_path, key):
    other = tmp_path / "other"
    other.write_text("fedcba9876543210" * 4)
    one, two = (open_pseudonyms(str(path), tmp_path / "outputs") for path in (key, other))
    assert one.id_of("recording", "a") != two.id_of("recording", "a")
    assert one.id_of("recording", "a") != one.id_of("patient", "a").replace("p", "r")
    assert "0123456789abcdef" not in repr(one)


def test_a_run_finds_its_recordings_again_by_its_key(ward, key, tmp_path, outputs, command, monkeypatch):
    """With HMS_PSEUDONYMS; without it, or with another key, one line says so."""
    assert command(*quoted(settings(ward, key)), "stages=[waveforms,splits]").code == 0
    run = hms.load(outputs=outputs)
    item = run.meta["item_id"][0]
    with pytest.raises(ConfigError, match=r"made with data\.pseudonyms.*set HMS_PSEUDONYMS"):
        run.evaluate(item, "waveforms")
    other = tmp_path / "other"
    other.write_text("fedcba9876543210" * 4)
    monkeypatch.setenv(ENVIRONMENT, str(other))
    with pytest.raises(ConfigError, match="the key file belongs to another run"):
        run.evaluate(item, "waveforms")
    monkeypatch.setenv(ENVIRONMENT, str(key))
    np.testing.assert_array_equal(run.evaluate(item, "waveforms").x, run.wave(item))
    damaged = next((run.path / "wave_hr_out").iterdir()).resolve()
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert hms_main(["--outputs", str(outputs), "verify", run.hash, "--repair"]) == 0


def missing(key: Path, outputs: Path) -> Path:
    key.unlink()
    return key


def too_short(key: Path, outputs: Path) -> Path:
    key.write_text("secret")
    return key


def inside(key: Path, outputs: Path) -> Path:
    outputs.mkdir()
    return key.rename(outputs / "key")


def linked_inside(key: Path, outputs: Path) -> Path:
    outputs.mkdir()
    (outputs / "key").write_bytes(key.read_bytes())
    key.unlink()
    key.symlink_to(outputs / "key")
    return key


def a_folder(key: Path, outputs: Path) -> Path:
    return key.parent


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (missing, "the key file does not exist; make one once: python -c"),
        (too_short, "a key has 16 to 65536 bytes, the file 6"),
        (inside, "the key file is inside outputs_dir"),
        (linked_inside, "the key file is inside outputs_dir"),
        (a_folder, "the key file does not exist"),
    ],
)
def test_a_key_file_that_is_none_is_refused_in_one_line(ward, key, outputs, command: Command, spoil, text):
    ended = command(*quoted(settings(ward, spoil(key, outputs))))
    assert ended.code == 2
    assert text in ended.err
    assert ended.err.count("\n") == 1
    assert told(ended.err.encode()) == []


def test_a_key_that_was_exchanged_is_refused(ward, key, command: Command):
    """The names beside it are of the key before: one id would stand for two names over the years."""
    assert command(*quoted(settings(ward, key)), "stages=[waveforms]").code == 0
    key.write_text("another key altogether, long enough")
    ended = command(*quoted(settings(ward, key)), "stages=[waveforms]")
    assert ended.code == 2
    assert "the file of names next to the key file belongs to another key" in ended.err


def test_making_a_key_as_the_message_says_works(tmp_path):
    """The command that the message gives makes a file that is taken."""
    done = subprocess.run(
        [sys.executable, "-c", "import secrets; print(secrets.token_hex(32))"],
        capture_output=True,
        check=True,
    )
    (tmp_path / "key").write_bytes(done.stdout)
    assert len(open_pseudonyms(str(tmp_path / "key"), tmp_path / "outputs").key) == 32


@pytest.mark.parametrize(
    "table",
    [
        "recording,patient_id,start_s\nAnnemarie,Mustermann,soon\n",
        "recording,patient_id,start_s\nAnnemarie,Mustermann,0\nAnnemarie,Berta,50\n",
        "recording,patient_id,start_s\nAnnemarie,Mustermann,0\nAnnemarie,Mustermann,0\n",
        "recording;Annemarie\n1;2\n",
        "recording,patient_id,start_s,Annemarie_vote\nx,y,0,1\n",
    ],
)
def test_what_is_wrong_with_a_table_is_told_without_its_words(ward, key, command: Command, table):
    (ward / "geheime_liste.csv").write_text(table)
    ended = command(*quoted(settings(ward, key)))
    assert ended.code == 2
    assert told(ended.err.encode()) == [], ended.err


def test_an_exported_copy_tells_nothing_either(ward, key, outputs, tmp_path, command: Command):
    assert command(*quoted(settings(ward, key))).code == 0
    assert hms_main(["--outputs", str(outputs), "export", "latest", str(tmp_path / "copy")]) == 0
    assert leaks(tmp_path / "copy") == {}


def test_a_sweeps_page_tells_nothing_either(ward, key, outputs, command: Command):
    ended = command("-m", *quoted(settings(ward, key)), "stages=[waveforms]", "window=central10,full50")
    assert ended.code == 0, ended.err
    assert leaks(outputs) == {}
    assert list((outputs / "sweeps").glob("*/leaderboard.json"))


def test_recordings_of_the_competitions_layout_get_ids_too(own_set, key, outputs, command: Command):
    """Their numbers, spectrograms' and labels' included, are nowhere; spectrograms are found all the same."""
    table = pd.read_csv(own_set / "train.csv", dtype=str)
    base = ("data=kaggle", f"data.root={own_set}", f"data.pseudonyms='{key}'", "folds.n_splits=2")
    assert command(*base, "stages=[waveforms,labels,splits]").code == 0
    run = hms.load(outputs=outputs)
    assert len(run.meta) == 10
    text = b"".join(path.read_bytes() for path in outputs.rglob("*") if path.is_file())
    for number in {*table["eeg_id"], *table["spectrogram_id"], *table["label_id"]}:
        assert number.encode() not in text


def test_a_folder_without_recordings_is_described_in_words_that_can_be_read(tmp_path, key, command: Command):
    root = tmp_path / "edf"
    for name in ("kaggle/train.csv", "parquet/Curry.parquet", "bdf/Annemarie.xyz"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"")
    told = command("data=edf", f"data.root={root}", "folds=none", f"data.pseudonyms={key}").err
    assert "has no .edf or .bdf file; it has 1 .parquet (parquet: data=kaggle, with a train.csv" in told
    assert not [name for name in ("Curry", "Annemarie") if name in told]
