"""A run folder from somebody else: nothing of it runs, leads outside or exhausts the machine."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hms
from hms.cli import main as hms_command
from hms.errors import ConfigError, ManifestError
from hms.registry import discover
from hms.results.run import Run
from hms.store.csvs import as_it_was, csv_bytes, harmless, read_csv
from hms.store.inside import are_plain, parse_json
from hms.store.journal import append_journal
from hms.store.manifests import read_manifest, write_checked
from hms.store.npz import read_npz
from hms.store.parquet import read_table
from hms.terminal import printable
from hms.training.predictions import read_predictions
from tests.recordings import noise, write_edf

Prepare = Callable[..., Run]


@pytest.fixture
def theirs(small_set: Path, ready: Prepare) -> Run:
    """Make a run that a test changes as a stranger might."""
    return ready(small_set, "stages=[waveforms,quality,labels,splits,summary]")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Make a file of the user's own, outside the outputs."""
    path = tmp_path / "private" / "secret.txt"
    path.parent.mkdir()
    path.write_text("nobody else's")
    return path


def rewrite(run: Run, **changes: Any) -> None:
    """Write the manifest anew with changed entries and a digest that fits."""
    manifest = {name: value for name, value in run.manifest.items() if name != "digest"}
    write_checked(run.path, manifest | changes)


def call(outputs: Path, *arguments: str) -> int:
    try:
        return hms_command(["--outputs", str(outputs), *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


OPENING = (["ls"], ["show", "latest"], ["verify", "latest"], ["export", "latest", "{dest}"], ["gc"],
           ["diff", "latest", "latest"], ["report", "latest"], ["verify", "latest", "--repair"])  # fmt: skip


# --- code ----------------------------------------------------------------------------------------


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a module that leaves a mark if it is imported; return the mark's place."""
    folder, mark = tmp_path / "importable", tmp_path / "imported"
    folder.mkdir()
    (folder / "their_plugin.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(folder))
    discover()  # what is imported from here on is forgotten
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return mark


@pytest.mark.slow
def test_no_command_imports_what_a_manifest_names_unless_the_user_says_so(
    theirs: Run, spy: Path, tmp_path: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(theirs, execution=theirs.manifest["execution"] | {"plugins": ["their_plugin"]})
    for number, arguments in enumerate(OPENING):
        call(outputs, *(text.format(dest=tmp_path / f"dest{number}") for text in arguments))
    assert not spy.exists()
    run = hms.load(theirs.path)
    assert len(run.meta) == len(run.labels.item_id) == 10
    assert run.wave(run.meta["item_id"].iloc[0]).shape[1] == 2000
    with pytest.raises(ConfigError, match=r"plugin 'their_plugin'.*--trust.*trust=True"):
        run.config  # noqa: B018 - the look is what raises
    with pytest.raises(ConfigError, match="their_plugin"):
        hms.compose(f"from_run={theirs.path}", "data=kaggle", f"outputs_dir={outputs}")
    assert not spy.exists()
    assert hms.load(theirs.path, trust=True).config.plugins == ("their_plugin",)
    assert spy.exists()


@pytest.mark.slow
def test_verify_says_what_it_could_not_check_without_a_plugin_and_finds_the_rest_whole(
    theirs: Run, spy: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(theirs, execution=theirs.manifest["execution"] | {"plugins": ["their_plugin"]})
    assert call(outputs, "verify", "latest") == 0
    assert "the recordings were not checked" in capsys.readouterr().out
    assert call(outputs, "verify", "latest", "--trust") == 0
    assert spy.exists()


@pytest.mark.slow
def test_an_opened_run_makes_no_recordings(prepare: Prepare, outputs: Path, tmp_path: Path) -> None:
    base = (
        "data=synthetic",
        "data.n_recordings=6",
        "data.n_patients=5",
        f"outputs_dir={outputs}",
        "n_jobs=1",
    )
    run = hms.run(hms.compose(*base, "stages=[waveforms]"))
    elsewhere = tmp_path / "elsewhere"
    data = run.manifest["execution"]["data"] | {"root": str(elsewhere), "n_recordings": 10**9}
    rewrite(run, execution=run.manifest["execution"] | {"data": data})
    flip(next((run.path / "wave_hr_out").iterdir()).resolve())
    assert call(outputs, "verify", "latest") == 1
    assert call(outputs, "verify", "latest", "--repair") == 2
    assert not elsewhere.exists()


# --- names, links, special files -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "a/../../b", "./a", "a//b", "a/", "..", ".", "a\\b", "a\nb", "a\x1b[2Jb",
     "a\u202eb", ""],
)  # fmt: skip
def test_a_name_that_does_not_stay_inside_is_none(name: str) -> None:
    assert not are_plain([name], in_folders=True)
    assert not are_plain(["fine", name], in_folders=True)
    assert are_plain(["spec_hr_out/1_hr.npz", "qc/qc.csv", "data_package/Zuerich-é.csv"], in_folders=True)
    assert not are_plain(["spec_hr_out/1_hr.npz"])


def test_a_manifest_with_names_that_lead_outside_is_none(
    theirs: Run, secret: Path, outputs: Path, tmp_path: Path
) -> None:
    entry = [secret.stat().st_size, "0" * 32]
    for name in (f"../../private/{secret.name}", str(secret)):
        rewrite(theirs, files=theirs.manifest["files"] | {name: entry})
        with pytest.raises(ManifestError, match="do not stay inside"):
            read_manifest(theirs.path)
        for number, arguments in enumerate(OPENING):
            code = call(outputs, *(text.format(dest=tmp_path / f"dest{number}") for text in arguments))
            assert code in (0, 1, 2), arguments
    assert not list(tmp_path.glob("dest*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "private"]


def test_a_store_folder_of_a_manifest_is_a_plain_name(theirs: Run) -> None:
    stages = json.loads(json.dumps(theirs.manifest["stages"]))
    stages["waveforms"]["folder"] = "../../private"
    rewrite(theirs, stages=stages)
    with pytest.raises(ManifestError, match="no plain name"):
        read_manifest(theirs.path)


def test_a_journal_line_with_a_name_that_leads_outside_is_damage(theirs: Run, outputs: Path) -> None:
    from hms.store.folders import StageFolder

    (folder,) = outputs.glob("store/waveforms-*")
    append_journal(folder / "records.log", {"files": [["../../x", 1, 1, "0" * 32]], "items": []})
    append_journal(folder / "records.log", {"items": [["key", "/etc/passwd", 0, None]]})
    loaded = StageFolder(folder).load()
    assert loaded.damaged_lines == 2
    assert all("/" not in name for name in loaded.files)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file", "folder"])
def test_a_link_to_elsewhere_is_refused_and_nothing_behind_it_is_read_copied_or_removed(
    theirs: Run, secret: Path, outputs: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "data_package/meta_use.csv"
    place = theirs.path / (name if how == "file" else "data_package")
    if how == "file":
        place.unlink()
        place.symlink_to(secret)
    else:
        shutil.rmtree(place)
        (secret.parent / "meta_use.csv").write_text("item_id\nnobody else's\n")
        place.symlink_to(secret.parent, target_is_directory=True)
    before = {path: path.read_bytes() for path in secret.parent.iterdir()}
    with pytest.raises(ConfigError, match="link"):
        hms.load(theirs.path).meta  # noqa: B018 - the look is what raises
    assert call(outputs, "export", "latest", str(tmp_path / "dest")) == 2
    assert not (tmp_path / "dest").exists()
    assert call(outputs, "verify", "latest") == 1
    assert call(outputs, "gc", "--yes") in (0, 2)
    call(outputs, "verify", "latest", "--repair")
    out, err = capsys.readouterr()
    assert "nobody else's" not in out + err
    assert {path: path.read_bytes() for path in secret.parent.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("what", ["pipe", "endless", "loop", "nested"])
def test_a_shard_that_is_none_is_told_and_not_waited_for(
    small_set: Path, prepare: Prepare, ready: Prepare, outputs: Path, what: str
) -> None:
    run = ready(small_set, "stages=[waveforms,labels]", "package.format=shards")
    (shard,) = outputs.glob("store/waveforms-*/shard-*.npy")
    content = shard.read_bytes()
    shard.unlink()
    if what == "nested":
        text = b"{'shape':" + b"-" * 9000 + b"1}"
        shard.write_bytes(
            (b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + content)[: len(content)]
        )
    else:
        STRANGE[what](shard)
    assert call(outputs, "verify", run.hash) == 1
    with pytest.raises(ConfigError):
        hms.load(run.hash, outputs=outputs).wave(run.meta["item_id"].iloc[0])
    assert prepare(small_set, "stages=[waveforms,labels]", "package.format=shards").hash == run.hash
    assert call(outputs, "verify", run.hash) == 0


@pytest.mark.slow
def test_a_run_folder_that_is_a_link_is_no_run_and_nothing_behind_it_changes(
    theirs: Run, outputs: Path, tmp_path: Path
) -> None:
    theirs.path.rename(tmp_path / "elsewhere")
    theirs.path.symlink_to(tmp_path / "elsewhere")
    before = tree_of(tmp_path / "elsewhere")
    for arguments in (["show"], ["verify"], ["verify", "--repair"], ["rm"], ["export", str(tmp_path / "x")]):
        assert call(outputs, arguments[0], theirs.path.name, *arguments[1:]) == 2
    assert call(outputs, "gc", "--yes") == 0
    assert tree_of(tmp_path / "elsewhere") == before


def tree_of(folder: Path) -> dict[str, object]:
    return {str(p): os.readlink(p) if p.is_symlink() else p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_gc_leaves_somebodys_own_folder_alone_though_it_has_a_name_like_a_run(outputs: Path) -> None:
    (outputs / "store").mkdir(parents=True)
    for name, file in (("0123456789abcdef", "thesis.txt"), ("fedcba9876543210", "config.yaml")):
        (outputs / name).mkdir()
        (outputs / name / file).write_text("x")
    assert call(outputs, "gc", "--yes") == 0
    assert sorted(p.name for p in outputs.iterdir()) == ["0123456789abcdef", "store"]


def test_gc_and_repair_leave_alone_what_a_linked_store_folder_points_at(
    theirs: Run, outputs: Path, tmp_path: Path
) -> None:
    (folder,) = outputs.glob("store/waveforms-*")
    elsewhere = Path(shutil.move(folder, tmp_path / "elsewhere"))
    (elsewhere / "precious.npz").write_bytes(b"x")
    folder.symlink_to(elsewhere, target_is_directory=True)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    assert call(outputs, "gc", "--yes") == 0
    assert call(outputs, "verify", "latest") == 1
    assert call(outputs, "verify", "latest", "--repair") == 2
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


@pytest.mark.parametrize("special", ["pipe", "device"])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(
    theirs: Run, outputs: Path, tmp_path: Path, special: str
) -> None:
    place = theirs.path / "data_package" / "labels.npz"
    place.unlink()
    if special == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"regular file|outside the store"):
        hms.load(theirs.path).labels  # noqa: B018 - the look is what raises
    assert call(outputs, "verify", "latest") == 1
    assert call(outputs, "export", "latest", str(tmp_path / "dest")) == 2


def make_sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


STRANGE: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "a terabyte": make_sparse,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", STRANGE)
def test_a_table_that_is_no_regular_file_or_too_large_is_told_and_not_waited_for(
    own_set: Path, outputs: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from hms.main import main

    base = [f"data.root={own_set}", f"outputs_dir={outputs}", "stages=[labels,splits]", "n_jobs=1"]
    strange = own_set / "strange.csv"
    STRANGE[what](strange)
    for typed in (
        ["data=kaggle", f"data.extra={strange}"],
        ["data=kaggle", "folds=file", f"folds.path={strange}"],
        ["data=kaggle", "marks=file", f"marks.path={strange}"],
        ["data=edf", f"data.windows={strange}"],
    ):
        assert main([*base, *typed]) == 2
        assert "strange.csv" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cannot be read"):
        read_predictions(strange, item_ids=["1"], eeg_ids=["1"], classes=["a", "b"])
    (own_set / "train.csv").unlink()
    STRANGE[what](own_set / "train.csv")
    assert main([*base, "data=kaggle"]) == 2
    assert "train.csv: cannot be read" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("what", STRANGE)
def test_a_recording_that_is_none_or_too_large_is_left_out(
    own_set: Path, prepare: Prepare, what: str
) -> None:
    victim = sorted((own_set / "train_eegs").iterdir())[0]
    victim.unlink()
    STRANGE[what](victim)
    assert prepare(own_set, "stages=[labels,waveforms]").excluded["item_id"].tolist() == [victim.stem]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train.csv", "train_eegs/{}"])
def test_an_archive_that_unpacks_to_a_hundred_times_its_size_is_not_unpacked(
    own_set: Path, tmp_path: Path, outputs: Path, name: str
) -> None:
    victim = name.format(sorted((own_set / "train_eegs").iterdir())[0].name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in (p for p in sorted(own_set.rglob("*")) if p.is_file()):
            relative = path.relative_to(own_set).as_posix()
            packed.writestr(relative, bytes(60 << 20) if relative == victim else path.read_bytes())
    base = ("data=kaggle", f"data.root={tmp_path / 'a.zip'}", f"outputs_dir={outputs}", "n_jobs=1")
    cfg = hms.compose(*base, "stages=[labels,waveforms]")
    if name == "train.csv":
        with pytest.raises(ConfigError, match="says it has 62914560 bytes, packed"):
            hms.run(cfg)
    else:
        (reason,) = hms.run(cfg).excluded["reason"]
        assert "says it has 62914560 bytes, packed" in reason


# --- sizes before content ------------------------------------------------------------------------


@pytest.mark.slow
def test_arrays_that_unpack_to_gigabytes_are_refused_before_they_are_read() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (3 << 30,)}
    )
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(header.getvalue()) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 24)) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # the same bytes again and again
    packed += zeros * (3 << 6) + packer.flush()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", packed)
    whole = bytearray(buffer.getvalue())
    directory = whole.index(b"PK\1\2")
    for method, size in ((8, 22), (directory + 10, directory + 24)):
        whole[method : method + 2] = zipfile.ZIP_DEFLATED.to_bytes(2, "little")
        whole[size : size + 4] = (len(header.getvalue()) + (3 << 30)).to_bytes(4, "little")
    assert len(whole) < 5_000_000
    with pytest.raises(ValueError, match="unpack to"):
        read_npz(bytes(whole))


@pytest.mark.parametrize(
    "header", ["(" * 9000, "{'descr':" + "[" * 4000, "{'shape':" + "-" * 9000 + "1}", "\0"]
)
def test_a_header_that_python_cannot_parse_is_no_array(header: str) -> None:
    text = header.encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", member)
    with pytest.raises(ValueError, match="the header of an array is none"):
        read_npz(buffer.getvalue())


def test_members_that_lie_over_each_other_are_refused() -> None:
    from hms.store.npz import npz_bytes

    whole = npz_bytes({"x": np.zeros(1000, np.float32)})
    start = whole.index(b"PK\1\2")
    end = whole.index(b"PK\5\6")
    entry = whole[start:end]
    tail = bytearray(whole[end:])
    tail[8:12] = (1000).to_bytes(2, "little") * 2
    tail[12:16] = (len(entry) * 1000).to_bytes(4, "little")
    with pytest.raises(zipfile.BadZipFile, match="over each other"):
        read_npz(whole[:start] + entry * 1000 + bytes(tail))


def test_json_that_is_deep_or_blown_up_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="lists and objects"):
        parse_json(b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(ValueError, match="lists and objects"):
        parse_json(b"[" + b"[]," * 1_000_000 + b"[]]")
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(b'{"a": ' * 5000 + b"1" + b"}" * 5000)
    with pytest.raises(ValueError, match="not a number"):
        parse_json(b"[NaN]")
    assert parse_json(b'{"a": [1, 2.5, "x"]}') == {"a": [1, 2.5, "x"]}


def packed_parquet(n_rows: int, kind: Any) -> bytes:
    buffer = io.BytesIO()
    names = [f"c{i}" for i in range(4)]
    schema = pa.schema([(name, kind) for name in names])
    zero = pa.array(["0" * 100] if kind == pa.string() else [0], kind)
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int8)), zero).cast(kind)
        writer.write_table(pa.table(dict.fromkeys(names, column), schema=schema), row_group_size=n_rows)
    return buffer.getvalue()


def test_a_small_parquet_file_that_unpacks_to_much_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hms.sources import files
    from hms.store import parquet

    data = packed_parquet(1_000_000, pa.float32())
    assert len(data) < 100_000
    monkeypatch.setattr(files, "MOST_DECODED", 1 << 23)
    opened, _ = files.open_parquet(data)
    assert opened is not None
    with pytest.raises(ValueError, match=r"unpacks to 0\.0 GB"):
        files.check_decoded_size(opened, (0,), ["c0", "c1", "c2", "c3"], 1_000_000)
    files.check_decoded_size(opened, (0,), ["c0"], 1000)
    monkeypatch.setattr(parquet, "MOST_DECODED", 1 << 20)
    with pytest.raises(ConfigError, match="too large"):
        read_table(data)


def test_texts_of_a_table_stand_in_memory_once(tmp_path: Path) -> None:
    frame = read_table(packed_parquet(100_000, pa.string()))
    assert frame.memory_usage(deep=True).sum() < 2_000_000
    assert frame["c0"].iloc[-1] == "0" * 100


# --- manifests and files of any content ----------------------------------------------------------


JUNK: tuple[Any, ...] = (None, -1, 10**400, "\x1b[2J", [], {}, [[]], {"": {}}, True, 1.5)


def entries(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every entry of nested objects, the first two of a list."""
    found = [path] if path else []
    children: list[tuple[Any, Any]] = list(tree.items()) if isinstance(tree, dict) else []
    children += list(enumerate(tree[:2])) if isinstance(tree, list) else []
    for name, value in children:
        found += entries(value, (*path, name))
    return found


@pytest.mark.slow
def test_whatever_stands_in_a_manifest_a_command_ends_with_its_code(
    theirs: Run, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entries are replaced by junk in turn, and removed; the digest fits.

    Each meets one command; if HMS_FAULTS=all, every entry meets all of them.
    """
    thorough = os.environ.get("HMS_FAULTS") == "all"
    commands = (["ls"], ["show", theirs.path.name], ["diff", theirs.path.name, theirs.path.name])
    whole = json.loads((theirs.path / "manifest.json").read_text())
    whole.pop("digest")
    whole["excluded"] = [{"item_id": "1", "eeg_id": "1", "stage": "read", "reason": "x"}]
    tried = 0
    for number, path in enumerate(entries(whole)[:: 1 if thorough else 7]):
        tree = json.loads(json.dumps(whole))
        above = tree
        for name in path[:-1]:
            above = above[name]
        if number % 11 == 10:
            del above[path[-1]]
        else:
            above[path[-1]] = JUNK[number % 11]
        write_checked(theirs.path, tree)
        for arguments in commands if thorough else commands[number % 3 :][:1]:
            assert call(outputs, *arguments) in (0, 2), (path, arguments, capsys.readouterr())
            tried += 1
    capsys.readouterr()
    assert tried > 130


@pytest.mark.slow
def test_whatever_stands_in_a_file_of_a_run_a_look_ends_with_its_code(
    theirs: Run, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hms.store.files import digest_bytes
    from hms.store.npz import npz_bytes

    empty = npz_bytes({"x": np.zeros(3)})
    junk = [b"", b"\xff\xfe", b"[" * 1000, b"PK\5\6" + bytes(18), empty, b"item_id,eeg_id\n1,2,3\n"]
    manifest = {name: value for name, value in theirs.manifest.items() if name != "digest"}
    names = [name for name in manifest["files"] if not name.startswith("wave")]
    for name in names:
        place = theirs.path / name
        target = os.readlink(place) if place.is_symlink() else None
        before = place.read_bytes()
        for content in junk:
            place.unlink()
            place.write_bytes(content)
            entry = [len(content), digest_bytes(content)]
            write_checked(theirs.path, manifest | {"files": manifest["files"] | {name: entry}})
            for arguments in (["show", theirs.path.name], ["diff", theirs.path.name, theirs.path.name]):
                assert call(outputs, *arguments) in (0, 2), (name, content[:9], capsys.readouterr())
        place.unlink()
        place.write_bytes(before) if target is None else place.symlink_to(target)
    capsys.readouterr()


def test_an_export_removes_no_neighbour_whose_name_its_own_would_match(
    theirs: Run, outputs: Path, tmp_path: Path
) -> None:
    neighbour = tmp_path / "dest" / ".tmp-other-0123abcd"
    neighbour.mkdir(parents=True)
    assert call(outputs, "export", "latest", str(tmp_path / "dest" / "*")) == 0
    assert neighbour.is_dir()
    assert (tmp_path / "dest" / "*" / "manifest.json").is_file()


def test_a_table_that_a_configuration_names_is_a_regular_file(tmp_path: Path) -> None:
    from hms.config.reading import regular_bytes

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory") as refusal:
            regular_bytes(path)
        assert refusal.value.filename == str(path)


def test_a_terminal_that_lacks_a_letter_gets_it_written_out(theirs: Run, outputs: Path) -> None:
    import subprocess

    program = "from hms.terminal import say, show; show('µV ü'); say('日本')"
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "PYTHONPATH": str(Path(hms.__file__).parents[1]),
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xb5V \\xfc\n", "\\u65e5\\u672c\n")


# --- terminals and spreadsheets ------------------------------------------------------------------


def test_control_characters_never_reach_a_terminal_raw(
    theirs: Run, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"
    excluded = [{"item_id": "1", "eeg_id": "1", "stage": "read", "reason": nasty}]
    rewrite(theirs, command=f"python {nasty}", excluded=excluded, finished=nasty)
    for arguments in (["ls"], ["show", "latest"], ["diff", "latest", "latest"], ["verify", "latest"]):
        call(outputs, *arguments)
        out, err = capsys.readouterr()
        assert not [c for c in out + err if not c.isprintable() and c not in "\n\t"]
    assert printable("a\tb\nc") == "a\tb\nc"
    assert printable("\x1b[31m") == "\\x1b[31m"


NASTY = ("=cmd|'!A0.edf", "@sum(1).edf", "+1.edf", "a\x1b[2J.edf", "b\rc.edf", "d\u202ee.edf", "e\x9b31m.edf")
"""Names of files; the first three are formulas to a spreadsheet, the others steer a terminal."""


@pytest.fixture
def nasty_set(tmp_path: Path) -> Path:
    """Write recordings with such names, too short for a window, so that each is named with a reason."""
    folder = tmp_path / "nasty"
    folder.mkdir()
    for name in NASTY:
        write_edf(folder / name, noise(200))
    return folder


@pytest.mark.slow
def test_names_of_files_steer_neither_a_terminal_nor_a_spreadsheet(
    nasty_set: Path, outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hms.main import main

    for command, code in (
        (lambda: hms_command(["scan", str(nasty_set), "--csv", str(tmp_path / "scan.csv")]), 0),
        (lambda: main(["data=edf", f"data.root={nasty_set}", f"outputs_dir={outputs}", "n_jobs=1"]), 3),
        (lambda: hms_command(["--outputs", str(outputs), "show", NASTY[3]]), 2),
    ):
        assert command() == code
        out, err = capsys.readouterr()
        assert out + err
        assert not [c for c in out + err if not c.isprintable() and c not in "\n\t"]
    with pytest.raises(SystemExit):
        hms_command([NASTY[3]])
    assert "\x1b" not in capsys.readouterr().err
    for table in (tmp_path / "scan.csv", *outputs.glob("*/data_package/meta_excluded.csv")):
        rows = list(csv.reader(io.StringIO(table.read_bytes().decode(), newline="")))
        assert len(rows) > 3
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "+", "\t", "\r"))]
    scanned = read_csv(tmp_path / "scan.csv")["file"].tolist()
    assert len(scanned) == len(NASTY)
    assert scanned[:3] == sorted(NASTY[:3])


RISKY = [
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'quoted",
    "''",
    "'",
    "=",
    "a=b",
]
SAFE = ["-5", "+5", "-1.5e-3", "-abc_1", "abc", "1e5", "-"]


def test_free_text_is_harmless_to_a_spreadsheet_and_reads_back_as_it_was() -> None:
    for text in RISKY + SAFE:
        assert as_it_was(harmless(text)) == text
        assert not harmless(text).startswith(("=", "@", "\t", "\r"))
    assert [harmless(text) for text in SAFE] == SAFE
    assert harmless("=1") == "'=1"
    frame = pd.DataFrame({"text": RISKY, "number": np.arange(len(RISKY)) - 5.5})
    written = csv_bytes(frame)
    pd.testing.assert_frame_equal(read_csv(written), frame.astype({"text": read_csv(written)["text"].dtype}))
    assert b"\n'=cmd" in written
    assert b"-5.5\n" in written


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
