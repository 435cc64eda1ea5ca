"""A bucket that is asked once: Arrow's own strategy tries for six seconds."""

from __future__ import annotations

import os

import pytest
from pyarrow import fs


class Impatient:
    """Opens a bucket in the place of `pyarrow.fs.FileSystem`."""

    @staticmethod
    def from_uri(uri: str) -> tuple[fs.S3FileSystem, str]:
        """Return the storage that the environment names, and the path in it."""
        scheme, _, host = os.environ["AWS_ENDPOINT_URL"].partition("://")
        once = fs.AwsStandardS3RetryStrategy(max_attempts=1)
        storage = fs.S3FileSystem(endpoint_override=host, scheme=scheme, retry_strategy=once)
        return storage, uri.partition("://")[2]


def ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every bucket that is opened from now on be asked once."""
    monkeypatch.setattr(fs, "FileSystem", Impatient)
