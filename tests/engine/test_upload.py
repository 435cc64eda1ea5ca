"""``hms export RUN s3://BUCKET/PREFIX``: whole or no run, and two at once end as one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import benchmark, skip_without

import hms
from hms.cli import main
from hms.config.paths import Address
from hms.engine import upload
from hms.engine.upload import CLAIM, upload_run
from hms.engine.verify import verify
from hms.errors import ConfigError, StorageError
from hms.results.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

skip_without("boto3", "boto3 is not installed: export to object storage is NOT tested")
skip_without("moto", "moto is not installed: export is NOT tested")

PREFIX = Address("s3://exports/eeg/first")


@pytest.fixture(scope="module")
def finished(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Finish a run of few files."""
    outputs = tmp_path_factory.mktemp("few")
    base = ("data=kaggle", f"data.root={tiny_set}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, "stages=[waveforms,labels,splits]"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def storage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of an empty bucket ``exports``."""
    import boto3

    for name, value in benchmark("object_server").settings(endpoint).items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    if any(found["Name"] == "exports" for found in client.list_buckets()["Buckets"]):
        for key in keys(client, ""):
            client.delete_object(Bucket="exports", Key=key)
    else:
        client.create_bucket(Bucket="exports")
    return client


def keys(client: Any, below: str = "eeg/first/") -> list[str]:
    found = client.list_objects_v2(Bucket="exports", Prefix=below).get("Contents", ())
    return sorted(entry["Key"].removeprefix(below) for entry in found)


def downloaded(client: Any, folder: Path) -> Path:
    for key in keys(client):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket="exports", Key=f"eeg/first/{key}")["Body"].read())
    return folder


def on_put(monkeypatch: pytest.MonkeyPatch, do: Callable[[str], None]) -> None:
    """Call a function with the name of each file before it is put."""
    put = upload._Export._put_file

    def wrapped(self: Any, name: str, size: int, digest: str) -> None:
        do(name)
        put(self, name, size, digest)

    monkeypatch.setattr(upload._Export, "_put_file", wrapped)


@pytest.mark.parametrize("large", [upload.LARGE, 1000], ids=["whole", "in parts"])
def test_an_exported_run_is_whole_when_it_is_downloaded(
    finished: Run, storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, large: int
) -> None:
    monkeypatch.setattr(upload, "LARGE", large)
    assert main(["--outputs", str(finished.path.parent), "export", "latest", str(PREFIX)]) == 0
    assert f"exported {finished.hash} to {PREFIX}" in capsys.readouterr().out
    assert keys(storage) == sorted([*finished.manifest["files"], "manifest.json"])
    copy = downloaded(storage, tmp_path / "copy")
    assert verify(copy).findings == []
    assert Run(copy).manifest["exported"]


def test_the_manifest_is_put_last(finished: Run, storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    on_put(monkeypatch, lambda name: seen.append("manifest.json" in keys(storage)))
    upload_run(finished, PREFIX)
    assert seen == [False] * len(finished.manifest["files"])


def test_a_broken_export_is_no_run_and_the_same_command_finishes_it(
    finished: Run, storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = list(finished.manifest["files"])[-1]

    def fail(name: str) -> None:
        if name == last:
            raise StorageError("the power is gone")

    with monkeypatch.context() as patch:
        on_put(patch, fail)
        with pytest.raises(StorageError, match="the power is gone"):
            upload_run(finished, PREFIX)
    assert "manifest.json" not in keys(storage)
    assert CLAIM in keys(storage)
    upload_run(finished, PREFIX)
    assert CLAIM not in keys(storage)
    assert verify(downloaded(storage, tmp_path / "copy")).findings == []


def test_two_exports_at_once_end_as_one(finished: Run, storage: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        sizes = list(threads.map(lambda run: upload_run(run, PREFIX), [Run(finished.path)] * 2))
    assert sizes[0] == sizes[1] == sum(size for size, _ in finished.manifest["files"].values())
    assert keys(storage) == sorted([*finished.manifest["files"], "manifest.json"])
    assert verify(downloaded(storage, tmp_path / "copy")).findings == []


def test_an_export_of_another_run_changes_nothing(finished: Run, storage: Any) -> None:
    """Neither of a finished export, nor of one that is under way."""
    storage.put_object(Bucket="exports", Key=f"eeg/first/{CLAIM}", Body=b'{"run": "other", "files": "x"}')
    with pytest.raises(ConfigError, match="an unfinished export of another run, other"):
        upload_run(finished, PREFIX)
    assert keys(storage) == [CLAIM]
    storage.put_object(Bucket="exports", Key="eeg/first/manifest.json", Body=json.dumps({"files": {}}))
    with pytest.raises(ConfigError, match="holds another run"):
        upload_run(finished, PREFIX)
    assert keys(storage) == [CLAIM, "manifest.json"]


def test_a_prefix_with_something_else_is_refused_and_left_as_it_is(finished: Run, storage: Any) -> None:
    storage.put_object(Bucket="exports", Key="eeg/first/notes.txt", Body=b"x")
    with pytest.raises(ConfigError, match=r"is not empty, it has notes\.txt; name another prefix"):
        upload_run(finished, PREFIX)
    assert keys(storage) == ["notes.txt"]


def test_a_damaged_file_of_the_run_is_not_exported(
    finished: Run, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "digest_bytes", lambda data: "0" * 32)
    with pytest.raises(ConfigError, match="content differs from its digest; hms verify"):
        upload_run(finished, PREFIX)
    assert "manifest.json" not in keys(storage)


def test_a_server_that_ignores_the_condition_is_found_out(
    finished: Run, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload._Export, "_put_if_new", lambda self, name, data: True)
    with pytest.raises(StorageError, match="ignores If-None-Match"):
        upload_run(finished, PREFIX)
    assert keys(storage) == []


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://nobody-has-this/first", "cannot be written: NoSuchBucket"),
        ("s3://exports", "name a prefix in the bucket, s3://exports/PREFIX"),
        ("gs://exports/first", "into a folder or to s3://BUCKET/PREFIX"),
        ("s3://AKIA:wJalrXUtnFEMI@exports/first", "is refused and not repeated here"),
    ],
)
def test_a_destination_that_cannot_be_is_one_line(
    finished: Run, storage: Any, capsys, address: str, says: str
) -> None:
    assert main(["--outputs", str(finished.path.parent), "export", "latest", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert "wJalrXUtnFEMI" not in line


def test_without_credentials_it_is_one_line(
    finished: Run, storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no credentials in the environment"):
        upload_run(finished, PREFIX)
