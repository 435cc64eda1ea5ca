"""Recordings in object storage: the bytes of a folder, and what is said where they cannot be had."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Prepared, benchmark, tree_bytes
from impatient import ask_once

import hms
from hms.config.paths import Address, located
from hms.errors import ConfigError, Unusable
from hms.sources.base import Part, Place
from hms.sources.bucket import IN_FLIGHT, MOST_AHEAD, Ahead, Bucket, bucket_at

objects = benchmark("object_server")

FAST = ("cwt.n_freqs=8", "stages=[scalograms,labels,splits]", "folds.n_splits=2")
SECRETS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI")

Command = Callable[..., Prepared]


class Served:
    """A folder served as a bucket, and how the server behaves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.behaviour = folder, objects.Behaviour()

    @property
    def recordings(self) -> list[Path]:
        return sorted((self.folder / "set/train_eegs").iterdir())

    def keys_read(self) -> list[str]:
        return [key for method, key in self.behaviour.requests if method == "GET" and key.endswith("parquet")]


@pytest.fixture
def served(small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve a copy of the small set as ``s3://bucket/set``."""
    shutil.copytree(small_set, tmp_path / "objects/set")
    found = Served(tmp_path / "objects")
    with objects.serving(found.folder, found.behaviour) as endpoint:
        for name, value in objects.settings(endpoint).items():
            monkeypatch.setenv(name, value)
        yield found


def bucket() -> Bucket:
    return bucket_at(Address("s3://bucket/set"))


def first_place(served: Served) -> Place:
    (place,) = bucket().places("train_eegs", [served.recordings[0].stem])
    return place


# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_from_a_bucket_is_the_run_from_the_folder(small_set, served, tmp_path, prepare):
    """Hash and every byte; each recording is asked for once, and again by nobody."""
    folder = prepare(small_set, *FAST)
    before = tree_bytes(folder.path)
    base = ("data=kaggle", "data.root=s3://bucket/set", f"outputs_dir={tmp_path / 'o'}", "n_jobs=1")
    run = hms.run(hms.compose(*base, *FAST))
    assert run.hash == folder.hash
    assert tree_bytes(run.path) == before
    assert sorted(served.keys_read()) == [f"set/train_eegs/{path.name}" for path in served.recordings]
    assert hms.run(hms.compose(*base, *FAST)).reused
    assert len(served.keys_read()) == len(served.recordings)
    texts = [path.read_text() for path in run.path.rglob("*") if path.suffix in (".json", ".yaml", ".csv")]
    assert run.manifest["execution"]["root"] == "s3://bucket/set"
    assert not any(secret in text for secret in SECRETS for text in texts)


@pytest.mark.slow
def test_verify_reads_the_bucket_again(served, tmp_path):
    from hms.engine.verify import verify

    base = ("data=kaggle", "data.root=s3://bucket/set", f"outputs_dir={tmp_path / 'o'}", "n_jobs=1")
    run = hms.run(hms.compose(*base, *FAST))
    assert not verify(run.path).findings
    served.recordings[0].write_bytes(served.recordings[1].read_bytes())
    (finding,) = verify(run.path).findings
    assert finding.path == f"s3://bucket/set/train_eegs/{served.recordings[0].name}"


def test_a_folder_of_more_than_a_page_is_listed_whole(served):
    """S3 lists a thousand at a time; no recording is asked for by itself."""
    template = served.recordings[0]
    names = [f"x{number}" for number in range(1001)]
    for name in names:
        os.link(template, template.with_name(f"{name}.parquet"))
    served.behaviour.requests.clear()
    places = bucket().places("train_eegs", [*names, "absent"])
    assert {place.size for place in places[:-1]} == {template.stat().st_size}
    assert (places[-1].size, places[-1].mtime_ns) == (None, None)
    assert served.behaviour.requests == [("GET", "set/train_eegs/")] * 2


# --- what changes meanwhile ----------------------------------------------------------------------


def test_an_object_that_changed_after_it_was_listed_is_not_read_as_the_one_listed(served):
    place = first_place(served)
    served.recordings[0].write_bytes(b"other")
    with pytest.raises(Unusable, match="changed after it was listed") as caught:
        bucket().read(place)
    assert not caught.value.permanent


@pytest.mark.parametrize("when", ["GET", "second HEAD"])
def test_an_object_replaced_by_one_of_the_same_size_while_it_is_read_is_noticed(served, when):
    """The storage's tag tells, where size and second of the change are the same."""
    place, path = first_place(served), served.recordings[0]
    status, seen = path.stat(), []

    def replace(method: str, key: str) -> None:
        seen.append(method)
        if (when == "GET" and method == "GET") or (when != "GET" and seen == ["HEAD", "GET", "HEAD"]):
            other = path.with_name("new")
            other.write_bytes(bytes(reversed(path.read_bytes())))
            os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
            other.replace(path)

    served.behaviour.before = replace
    with pytest.raises(Unusable, match="changed after it was listed"):
        bucket().read(place)


@pytest.mark.slow
def test_a_run_leaves_out_what_changed_and_takes_it_the_next_time(served, tmp_path, command: Command):
    victim = served.recordings[0]

    def replace_once(method: str, key: str) -> None:
        if key.endswith(victim.name) and method == "GET":
            served.behaviour.before = lambda method, key: None
            victim.write_bytes(served.recordings[1].read_bytes())

    served.behaviour.before = replace_once
    arguments = ("data=kaggle", "data.root=s3://bucket/set", "cwt.n_freqs=8", "stages=[scalograms]")
    assert command(*arguments).code == 0
    run = hms.load(outputs=tmp_path / "outputs")
    assert run.excluded["item_id"].tolist() == [victim.stem]
    assert "changed after it was listed" in run.excluded["reason"].iloc[0]
    assert command(*arguments).code == 0
    assert len(hms.load(outputs=tmp_path / "outputs").excluded) == 0


@pytest.mark.slow
def test_a_connection_that_ends_halfway_is_a_fault_of_the_way_and_of_no_recording(
    served, command: Command, monkeypatch: pytest.MonkeyPatch
):
    ask_once(monkeypatch)
    served.behaviour.cut.add(f"set/train_eegs/{served.recordings[0].name}")
    found = command("data=kaggle", "data.root=s3://bucket/set", "cwt.n_freqs=8", "stages=[scalograms]")
    assert found.code == 4, found.err
    assert served.recordings[0].stem in found.err
    assert "the storage cannot be reached" in found.err
    served.behaviour.cut.clear()
    assert (
        command("data=kaggle", "data.root=s3://bucket/set", "cwt.n_freqs=8", "stages=[scalograms]").code == 0
    )


# --- what is not there, or denied ----------------------------------------------------------------


def refused(found: Prepared, code: int = 2) -> str:
    assert found.code == code, found.err
    (line,) = [line for line in found.err.splitlines() if line.startswith("hms:")]
    assert "Traceback" not in found.err
    assert not any(secret in found.err for secret in SECRETS)
    return line


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("s3://nobody/set", "s3://nobody/set cannot be read: AWS Error NO_SUCH_BUCKET"),
        ("s3://bucket/elsewhere", "s3://bucket/elsewhere: nothing is there"),
        ("s3://bucket/set/train_eegs", "s3://bucket/set/train_eegs/train.csv does not exist"),
        ("s3://", "s3:// names no bucket"),
        ("ftp://bucket/set", "ftp:// is not supported; there are s3, gs"),
    ],
)
def test_an_address_with_nothing_to_read_is_one_line(served, command: Command, root: str, says: str) -> None:
    assert says in refused(command("data=kaggle", f"data.root={root}"))


def test_a_bucket_that_denies_is_one_line(served, command: Command) -> None:
    served.behaviour.before = lambda method, key: 403
    line = refused(command("data=kaggle", "data.root=s3://bucket/set"))
    assert "s3://bucket/set cannot be read: AWS Error ACCESS_DENIED" in line


@pytest.mark.slow
def test_an_object_that_is_denied_is_the_reason_of_one_recording(served, tmp_path, command: Command) -> None:
    victim = served.recordings[2]
    served.behaviour.before = lambda method, key: 403 if key.endswith(victim.name) else None
    found = command("data=kaggle", "data.root=s3://bucket/set", "cwt.n_freqs=8", "stages=[scalograms]")
    assert found.code == 0, found.err
    (row,) = hms.load(outputs=tmp_path / "outputs").excluded.to_dict("records")
    assert row["item_id"] == victim.stem
    assert row["reason"] == "the recording's file cannot be read: AWS Error ACCESS_DENIED"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_a_failure_of_storage(
    served, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    ask_once(monkeypatch)
    line = refused(command("data=kaggle", "data.root=s3://bucket/set"), code=4)
    assert "the storage cannot be reached (AWS Error NETWORK_CONNECTION" in line


@pytest.mark.parametrize(
    "root",
    [
        "s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI@bucket/set",
        "s3://AKIAIOSFODNN7EXAMPLE@bucket/set",
        "gs://user:wJalrXUtnFEMI@bucket/set",
        "s3://bucket/set?X-Amz-Signature=wJalrXUtnFEMI",
    ],
)
@pytest.mark.parametrize("more", [[], ["-m", "weight=log,sqrt"]], ids=["run", "sweep"])
def test_credentials_in_an_address_are_refused_and_not_repeated(
    command: Command, root: str, more: list[str]
) -> None:
    found = command("data=kaggle", f"data.root={root}", *more)
    assert "is refused and not repeated here" in refused(found)
    assert not any(secret in found.out for secret in SECRETS)
    with pytest.raises(ConfigError, match="not repeated here"):
        located(root)


@pytest.mark.parametrize("data", ["bids", "mne", "iiic", "synthetic"])
def test_other_sources_refuse_an_address_and_say_what_to_do(command: Command, data: str) -> None:
    line = refused(command(f"data={data}", "data.root=s3://bucket/edf"))
    assert "only data=kaggle and data=edf can read" in line
    assert "aws s3 sync s3://bucket/edf DIR" in line


def test_credentials_that_change_in_a_process_are_used_from_then_on(served, monkeypatch):
    before = bucket()
    assert bucket() is before
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert bucket() is not before


def test_pseudonyms_refuse_an_address(served, tmp_path, command: Command) -> None:
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    arguments = ("data=kaggle", "data.root=s3://bucket/set", f"data.pseudonyms={tmp_path / 'key'}")
    assert "copy the recordings into one first" in refused(command(*arguments))


# --- addresses -----------------------------------------------------------------------------------


def test_an_address_keeps_its_slashes_wherever_it_goes():
    address = located("s3://bucket/some/prefix/")
    assert str(address) == "s3://bucket/some/prefix"
    assert str(address / "train.csv") == os.path.join(address, "train.csv") == f"{address}/train.csv"
    assert address.absolute() == pickle.loads(pickle.dumps(address)) == Address("s3://bucket/some/prefix")
    assert (address.name, address.scheme) == ("prefix", "s3")
    assert located("set/train") == Path("set/train")


# --- reading ahead -------------------------------------------------------------------------------


def parts_of(count: int, size: int = 1) -> list[Part]:
    return [Part(Place(str(number), f"p{number}", size, 0)) for number in range(count)]


def content_of(part: Part) -> bytes:
    return part.place.path.encode()


def test_what_is_expected_is_read_once_and_given_in_any_order():
    read: list[str] = []

    def reads(part: Part) -> bytes:
        read.append(part.place.path)
        return content_of(part)

    ahead, parts = Ahead(), parts_of(50)
    ahead.expect(parts, reads)
    assert [ahead.take(part, reads) for part in parts] == [content_of(part) for part in parts]
    assert sorted(read) == sorted(part.place.path for part in parts)
    assert ahead.take(parts[3], reads) == b"p3"


def test_parts_of_one_file_are_given_in_their_order():
    place = Place("long", "long.edf", 10, 0)
    ahead, parts = Ahead(), [Part(place, str(number)) for number in range(40)]
    ahead.expect(parts, lambda part: part.part)
    assert [ahead.take(Part(place), lambda part: "now") for _ in range(41)] == [
        *(part.part for part in parts),
        "now",
    ]


def test_what_is_read_ahead_is_bounded_in_number_and_in_bytes():
    started: list[str] = []

    def reads(part: Part) -> bytes:
        started.append(part.place.path)
        return b""

    Ahead().expect(parts_of(100), reads)
    _settle(started)
    assert len(started) == IN_FLIGHT
    started.clear()
    Ahead().expect(parts_of(100, MOST_AHEAD // 2), reads)
    _settle(started)
    assert len(started) == 2
    started.clear()
    Ahead().expect(parts_of(100, MOST_AHEAD), reads, most=MOST_AHEAD // 4)
    _settle(started)
    assert len(started) == 4


def _settle(started: list[str]) -> None:
    for _ in range(5):
        before = len(started)
        time.sleep(0.02)
        if started and len(started) == before:
            return


def test_a_failure_ahead_is_that_of_its_place_alone():
    def reads(part: Part) -> bytes:
        if part.place.path == "p1":
            raise OSError("not this one")
        return content_of(part)

    ahead, parts = Ahead(), parts_of(3)
    ahead.expect(parts, reads)
    assert ahead.take(parts[0], reads) == b"p0"
    with pytest.raises(OSError, match="not this one"):
        ahead.take(parts[1], reads)
    assert ahead.take(parts[2], reads) == b"p2"


def test_threads_may_share_what_is_read_ahead():
    """A worker at an address may have several threads; what one expects, another may forget."""
    ahead = Ahead()

    def work(first: int) -> list[Any]:
        mine = parts_of(400)[first::4]
        ahead.expect(mine, content_of)
        return [ahead.take(part, content_of) == content_of(part) for part in mine]

    with ThreadPoolExecutor(4) as threads:
        assert all(all(found) for found in threads.map(work, range(4)))
