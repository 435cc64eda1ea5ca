"""A run copied into object storage: content first, its manifest last, and two at once end as one.

While content is written, the prefix holds a claim: the digest of what is exported. Another export that finds
it continues if its files are the same, and ends if not. Claim and manifest never replace anything.

References
----------
Amazon S3 User Guide, "Conditional writes": ``If-None-Match: *``, one of several writers wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from hms.config.identity import digest_of
from hms.config.paths import Address
from hms.engine.export import exported_manifest, find_file
from hms.errors import ConfigError, StorageError
from hms.store.files import digest_bytes, digest_file
from hms.store.manifests import NAME, manifest_bytes
from hms.store.package import Package
from hms.terminal import gentle_interrupts

CLAIM = "exporting.json"
IN_FLIGHT = 16
LARGE = 64 << 20
"""Bytes above which a file is sent in parts, and read twice: once to be checked."""

_WRONG = (
    "NoSuchBucket", "AccessDenied", "403", "404",
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
)  # fmt: skip
_NOT_NEW = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def upload_run(run: Package, address: Address) -> int:
    """Copy a run below an address and return its bytes; with the manifest, put last, it is a run.

    Raises `ConfigError` if boto3 is not installed, the bucket is not there or denies, something else is below
    the address, or a file of the run is damaged, and `StorageError` if the storage cannot be reached, or
    does not know conditional writes.
    """
    if address.scheme != "s3":
        raise ConfigError(f"{address}: a run is exported into a folder or to s3://BUCKET/PREFIX")
    _, bucket, *rest = address.parts
    if not rest:
        raise ConfigError(f"{address}: name a prefix in the bucket, s3://{bucket}/PREFIX")
    with _told(address), gentle_interrupts():
        return _Export(run, address, bucket, "/".join(rest)).carry_out()


class _Export:
    def __init__(self, run: Package, address: Address, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config

        self.run, self.address, self.bucket, self.prefix = run, address, bucket, prefix
        self.client = boto3.Session().client("s3", config=Config(max_pool_connections=IN_FLIGHT))
        self.files: dict[str, list[Any]] = run.manifest["files"]

    def carry_out(self) -> int:
        """Put content, then the manifest; return the bytes of the content."""
        if not self._is_there():
            self._refuse_others()
            self._claim()
        if not self._is_there():
            self._put_files()
            self._check()
            manifest = manifest_bytes(exported_manifest(self.run))
            if not self._put_if_new(NAME, manifest) and not self._is_there():
                raise StorageError(f"{self.address}: its manifest was removed meanwhile; export again")
        self._check()
        self.client.delete_object(Bucket=self.bucket, Key=self._key(CLAIM))
        return sum(size for size, _ in self.files.values())

    def _put_files(self) -> None:
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            puts = [threads.submit(self._put_file, name, *entry) for name, entry in self.files.items()]
            try:
                for put in puts:
                    put.result()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def _is_there(self) -> bool:
        """Tell whether these files are exported already; raises `ConfigError` if another run is there."""
        there = self._get(NAME)
        if there is not None and there.get("files") != self.files:
            raise ConfigError(f"{self.address} holds another run; name another prefix")
        return there is not None

    def _get(self, name: str) -> dict[str, Any] | None:
        try:
            content = self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def _refuse_others(self) -> None:
        """Raise `ConfigError` if something is below the prefix that no export put there.

        The claim is asked for after the list: an export that has put a file has claimed before.
        """
        found = next((name for name, _ in self._sizes()), None)
        if found is not None and self._get(CLAIM) is None and not self._is_there():
            raise ConfigError(f"{self.address} is not empty, it has {found}; name another prefix")

    def _claim(self) -> None:
        """Claim the prefix for these files; the claim of an export of them that broke or goes on serves."""
        claim = {"run": self.run.hash, "files": digest_of(self.files)}
        data = json.dumps(claim).encode()
        if self._put_if_new(CLAIM, data):
            if self._put_if_new(CLAIM, data):
                self.client.delete_object(Bucket=self.bucket, Key=self._key(CLAIM))
                raise StorageError(
                    f"{self.address}: the server ignores If-None-Match, so two simultaneous exports could "
                    "mix; export into a folder and copy it"
                )
            return
        there = self._get(CLAIM)
        if there is not None and there != claim:
            raise ConfigError(
                f"{self.address} holds an unfinished export of another run, {there.get('run', 'unknown')}; "
                "name another prefix, or remove what is there if that export no longer runs"
            )

    def _put_if_new(self, name: str, data: bytes) -> bool:
        """Put an object where none is; tell whether it was put."""
        from botocore.exceptions import ClientError

        try:
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] in _NOT_NEW:
                return False
            raise
        return True

    def _put_file(self, name: str, size: int, digest: str) -> None:
        """Put a file whose content is what the run says."""
        path = find_file(self.run, name)
        if size <= LARGE:
            data = path.read_bytes()
            self._check_digest(name, digest_bytes(data), digest)
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data)
            return
        self._check_digest(name, digest_file(path), digest)
        self.client.upload_file(str(path), self.bucket, self._key(name))

    def _check_digest(self, name: str, found: str, expected: str) -> None:
        if found != expected:
            raise ConfigError(
                f"{self.run.path.name}/{name}: content differs from its digest; "
                f"hms verify {self.run.hash} --repair"
            )

    def _sizes(self) -> Iterator[tuple[str, int]]:
        """Yield name and size of everything below the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/"
        )
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(f"{self.prefix}/"), entry["Size"]

    def _check(self) -> None:
        """Raise unless every file is there with its size, and nothing else is."""
        there = {name: size for name, size in self._sizes() if name not in (CLAIM, NAME)}
        expected = {name: size for name, (size, _) in self.files.items()}
        if different := sorted(there.items() ^ expected.items()):
            raise StorageError(
                f"{self.address}/{different[0][0]} differs from the upload; nothing was exported"
            )


@contextmanager
def _told(address: Address) -> Iterator[None]:
    """Say in one line why the storage refuses or cannot be reached, without what was sent."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )
    except ImportError:
        raise ConfigError(
            "export to s3:// needs boto3, not installed here: pip install 'hms-eeg[s3]'"
        ) from None
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        kind: Callable[[str], Exception] = ConfigError if code in _WRONG else StorageError
        raise kind(f"{address} cannot be written: {code} ({error.operation_name})") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise ConfigError(
            f"{address} cannot be written: no credentials in the environment, ~/.aws or the machine's role"
        ) from None
    except (BotoCoreError, Boto3Error) as error:
        raise StorageError(f"{address} cannot be written: {type(error).__name__}") from None
