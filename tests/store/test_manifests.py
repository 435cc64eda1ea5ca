"""What is read of a manifest: all of it, or its headlines."""

from __future__ import annotations

from pathlib import Path

import pytest

from hms.errors import ManifestError
from hms.pipeline.selection import asked_stages
from hms.results.run import Run
from hms.store.manifests import NAME, read_manifest


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
