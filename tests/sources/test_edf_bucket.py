"""EDF and BDF files in object storage: the bytes of a folder, few requests, and what is said of failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Prepared, benchmark, tree_bytes
from edf_files import EdfFile, tones
from impatient import ask_once

import hms
from hms.config.paths import Address
from hms.errors import ConfigError, Unusable
from hms.sources.afar import HEAD_BYTES, SteadyObject, content_of
from hms.sources.base import Place
from hms.sources.bucket import bucket_of

objects = benchmark("object_server")

Command = Callable[..., Prepared]
ROOT = "s3://bucket/set"
EDF = ("data=edf", "stages=[waveforms,labels]", "unit=per_row")
FOLDERS = "data.patient=folder"
CSV_BI = "# version = csv_v1.0.0\nchannel,start_time,stop_time,label,confidence\nTERM,10.0,60.0,seiz,1.0\n"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Serve three patients: five minutes with marks, an interrupted file, and BDF with an offset."""
    folder = tmp_path / "objects/set"
    EdfFile(eeg=tones(300)).write(folder / "p1/long one.edf")
    (folder / "p1/long one.csv_bi").write_text(CSV_BI)
    onset = lambda number: number + (200.0 if number >= 60 else 0.0)  # noqa: E731
    EdfFile(eeg=tones(120), reserved="EDF+D", onset=onset).write(folder / "p2/interrupted.edf")
    wide = {"physical": (-262144, 262143), "digital": (-8388608, 8388607), "sample_bytes": 3}
    EdfFile(eeg=tones(60) + 20_000, version=b"\xffBIOSEMI", **wide).write(folder / "p3/wide.bdf")
    (folder / "p3/.hidden.edf").write_bytes(b"no recording")
    behaviour = objects.Behaviour()
    with objects.serving(tmp_path / "objects", behaviour) as endpoint:
        for name, value in objects.settings(endpoint).items():
            monkeypatch.setenv(name, value)
        yield SimpleNamespace(folder=folder, behaviour=behaviour)


def place_of(served: SimpleNamespace, name: str) -> Place:
    status = (served.folder / name).stat()
    return Place(name, f"{ROOT}/{name}", status.st_size, status.st_mtime_ns)


def prepared(root: Path | str, outputs: Path, *more: str, patient: str = FOLDERS) -> Any:
    base = (f"data.root={root}", f"outputs_dir={outputs}", "n_jobs=1", patient)
    return hms.run(hms.compose(*EDF, *base, *more))


@pytest.mark.slow
@pytest.mark.parametrize("block", ["120", "null"])
def test_a_run_from_a_bucket_is_the_run_from_the_folder(served, tmp_path, block: str) -> None:
    """Hash and every byte, whole files or blocks; a second run asks for no recording again."""
    folder = prepared(served.folder, tmp_path / "a", f"data.block_s={block}")
    run = prepared(ROOT, tmp_path / "b", f"data.block_s={block}")
    assert (len(run.meta), len(run.excluded)) == (9, 0)
    assert run.hash == folder.hash
    assert tree_bytes(run.path) == tree_bytes(folder.path)
    served.behaviour.requests.clear()
    assert prepared(ROOT, tmp_path / "b", f"data.block_s={block}").reused
    whole = served.folder.joinpath("p1/long one.edf").stat().st_size
    assert sum(served.behaviour.requests.count(("GET", f"set/{name}")) for name in names(served)) < whole


def names(served: SimpleNamespace) -> list[str]:
    return [str(path.relative_to(served.folder)) for path in served.folder.rglob("*.?df")]


@pytest.mark.slow
def test_marks_and_tables_beside_recordings_are_read_from_the_bucket(served, tmp_path) -> None:
    rows = "recording,patient_id,start_s\np1/long one.edf,a,0\np1/long one.edf,a,50\n"
    (served.folder / "windows.csv").write_text(rows)
    marks = ("data.events=csv_bi", "data.event_background=other")
    found = [
        prepared(root, tmp_path / name, "data.windows=windows.csv", *marks, patient="data.patient=null")
        for name, root in (("a", served.folder), ("b", ROOT))
    ]
    assert found[0].labels.y_soft.argmax(axis=1).tolist() == [0, 5]
    assert tree_bytes(found[1].path) == tree_bytes(found[0].path)


@pytest.mark.slow
def test_one_object_may_be_named(served, tmp_path) -> None:
    run = prepared(f"{ROOT}/p1/long one.edf", tmp_path / "a", patient="data.patient=file")
    assert run.meta["recording"].unique().tolist() == ["long one.edf"]


def timeless(inventory: str) -> list[str]:
    return [line for line in inventory.splitlines() if "time taken" not in line]


def test_an_inventory_of_a_bucket_is_that_of_the_folder(served, command: Command, capfd) -> None:
    from hms.cli import main

    assert main(["scan", str(served.folder)]) == 0
    expected = capfd.readouterr().out
    assert main(["scan", ROOT]) == 0
    timeless = [
        [r for r in out.splitlines() if "time taken" not in r] for out in (capfd.readouterr().out, expected)
    ]
    assert timeless[0] == timeless[1]
    shown = command(*EDF, FOLDERS, f"data.root={ROOT}", "plan=true")
    assert shown.code == 0, shown.err
    assert "3 of 3" in shown.out


def test_the_plan_reads_the_beginning_of_a_recording_alone(served) -> None:
    """Two requests: one for size and tag, one for the header."""
    from hms.config.schema import build_config
    from hms.engine.plan import make_plan

    served.behaviour.requests.clear()
    make_plan(build_config(hms.compose(*EDF, f"data.root={ROOT}/p1", "data.patient=file")))
    assert [found for found in served.behaviour.requests if found[1].endswith("edf")] == [
        ("HEAD", "set/p1/long one.edf"),
        ("GET", "set/p1/long one.edf"),
    ]


def test_a_prefix_of_more_than_a_page_is_listed_whole(served) -> None:
    first = served.folder / "p1/long one.edf"
    for number in range(1001):
        os.link(first, served.folder / f"p1/x{number}.edf")
    assert len(bucket_of(ROOT).walked("set")) == 1001 + 5


# --- ranges --------------------------------------------------------------------------------------


def test_an_object_is_the_bytes_of_its_file_however_it_is_read(served) -> None:
    path = served.folder / "p1/long one.edf"
    data, file = path.read_bytes(), SteadyObject(place_of(served, "p1/long one.edf"))
    for start, size in (
        (0, 256),
        (256, 5120),
        (HEAD_BYTES - 1, 2),
        (100_000, 10),
        (100_010, 200_000),
        (5, 5),
    ):
        assert file.read(start, size) == data[start : start + size]
    assert file.read(len(data) - 3, 10) == data[-3:]
    assert file.read(len(data), 10) == b""
    assert not file.is_zero_from(len(data) - 100)


def test_many_small_pieces_in_a_row_are_few_requests(served) -> None:
    file = SteadyObject(place_of(served, "p1/long one.edf"))
    served.behaviour.requests.clear()
    for start in range(0, file.size, 1000):
        file.read(start, 10)
    assert file.size > 2_000_000
    assert len(served.behaviour.requests) < 20


# --- what changes, or is not there ---------------------------------------------------------------


def test_an_object_that_changed_since_it_was_listed_is_not_opened(served) -> None:
    place = place_of(served, "p1/long one.edf")
    (served.folder / place.recording).write_bytes(b"other")
    with pytest.raises(Unusable, match="changed after it was listed") as caught:
        SteadyObject(place)
    assert not caught.value.permanent


@pytest.mark.parametrize("size", [0, 1000])
def test_an_object_that_changes_while_it_is_read_is_noticed(served, size: int) -> None:
    """Replaced by as many bytes, or by fewer."""
    file, path = SteadyObject(place_of(served, "p1/long one.edf")), served.folder / "p1/long one.edf"
    file.read(0, 256)
    other = path.with_name("new")
    other.write_bytes(bytes(path.stat().st_size - size))
    other.replace(path)
    with pytest.raises(Unusable, match=r"changed after it was listed|ended after") as caught:
        file.read(500_000, 1000)
    assert not caught.value.permanent


@pytest.mark.slow
def test_a_connection_that_ends_halfway_is_no_fact_about_a_recording(
    served, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with code 4, and the same one goes on."""
    from hms.errors import StorageError

    arguments = (ROOT, tmp_path / "a", "data.block_s=null")
    prepared(served.folder, tmp_path / "plain", "data.block_s=null")
    calls = []
    ask_once(monkeypatch)

    def cut_later(method: str, key: str) -> None:
        calls.append(method)
        if method == "GET" and key.endswith("long one.edf") and len(calls) > 12:
            served.behaviour.cut.add(key)

    served.behaviour.before = cut_later
    with pytest.raises(StorageError, match="the storage cannot be reached"):
        prepared(*arguments)
    served.behaviour.before, served.behaviour.cut = lambda method, key: None, set()
    assert tree_bytes(prepared(*arguments).path) == tree_bytes(tmp_path / "plain/latest")


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("s3://nobody/set", "s3://nobody cannot be read: AWS Error NO_SUCH_BUCKET"),
        ("s3://bucket/elsewhere", "data.root=s3://bucket/elsewhere has no .edf or .bdf file"),
    ],
)
def test_an_address_with_nothing_to_read_is_one_line(served, command: Command, root: str, says: str) -> None:
    ended = command(*EDF, FOLDERS, f"data.root='{root}'")
    assert ended.code == 2
    assert says in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_an_object_that_is_denied_is_the_reason_of_one_recording(served, tmp_path) -> None:
    served.behaviour.before = lambda method, key: 403 if key.endswith("wide.bdf") else None
    reasons = prepared(ROOT, tmp_path / "a").excluded["reason"].tolist()
    assert reasons[-1] == "the recording's file cannot be read: AWS Error ACCESS_DENIED"


def test_a_table_that_is_not_there_is_said(served) -> None:
    with pytest.raises(ConfigError, match=r"s3://bucket/set/none\.csv: cannot be read"):
        hms.run(hms.compose(*EDF, f"data.root={ROOT}", "data.windows=none.csv"))
    with pytest.raises(FileNotFoundError):
        content_of(Address(f"{ROOT}/none.csv"))
