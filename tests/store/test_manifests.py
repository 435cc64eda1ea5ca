"""What is read of a manifest: all of it, or its headlines."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from hms.errors import ManifestError
from hms.pipeline.selection import asked_stages
from hms.results.run import Run
from hms.store.manifests import NAME, manifest_bytes, read_manifest, versions


def test_headlines_are_the_manifest_without_its_files(finished: Run):
    whole = read_manifest(finished.path)
    assert whole["files"]
    digest = whole.pop("digest")
    assert len(digest) == 32
    assert read_manifest(finished.path, files=False) == whole | {"files": {}}
    assert Run(finished.path).headlines["counts"] == whole["counts"]


def test_headlines_of_a_damaged_manifest_are_refused_though_the_damage_is_among_the_files(
    finished: Run, tmp_path: Path
):
    data = (finished.path / NAME).read_bytes()
    place = data.index(b'"files"') + 40
    (tmp_path / NAME).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(tmp_path, files=False)


def test_a_manifest_says_which_stages_were_asked_for(finished: Run):
    assert finished.manifest["asked"] == asked_stages(finished.config, finished.manifest["stages"])


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a": [1, "0f"], "b": [2, 'é"']},
        {"a": [[1], [2]]},
        {"a": ["], ["], "b": []},
        {"a": {"b": 1}},
        {"a": [{"b": [1]}], "b": [[]]},
    ],
)
def test_a_manifest_has_an_entry_a_line_and_says_what_json_says(files: dict[str, Any]):
    text = manifest_bytes({"files": files}).decode()
    assert json.loads(text)["files"] == files
    assert [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in files.items()] == [
        line.rstrip(",") for line in text.splitlines() if line.startswith("  ")
    ]


def test_versions_are_those_that_the_standard_library_finds() -> None:
    found = versions()
    assert (found.pop("python"), "hms" in found) == (platform.python_version(), True)
    found.pop("hms")  # a checkout need not be installed
    assert found == {name: metadata.version(name) for name in found}
