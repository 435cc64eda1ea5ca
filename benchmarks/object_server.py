"""A server of objects on loopback: a folder as a bucket, in S3's protocol, read only, as slow as asked.

``python benchmarks/object_server.py FOLDER [LATENCY_MS]`` serves the files of a folder as ``s3://bucket``
until it is ended. Tests start it in a thread and let it misbehave.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
PAGE = 1000


@dataclass
class Behaviour:
    """How the server behaves: latency of every answer, and what a test does before one.

    Attributes
    ----------
    before : called with method and key before an answer; may change files, or return a status to refuse with
    cut : keys whose content ends halfway
    requests : methods and keys, as they came
    """

    latency_s: float = 0.0
    before: Callable[[str, str], int | None] = lambda method, key: None
    cut: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)


def _handler(folder: Path, behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._object(with_content=False)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if "list-type=2" in parts.query:
                self._listing(parts.path, parse_qs(parts.query))
            else:
                self._object(with_content=True)

        def _refused(self, bucket: str, key: str) -> bool:
            behaviour.requests.append((self.command, key))
            time.sleep(behaviour.latency_s)
            if bucket != BUCKET:
                self._error(404, "NoSuchBucket")
                return True
            status = behaviour.before(self.command, key)
            if status is not None:
                self._error(status, {403: "AccessDenied", 404: "NoSuchKey"}.get(status, "InternalError"))
            return status is not None

        def _object(self, *, with_content: bool) -> None:
            bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            if self._refused(bucket, key):
                return
            path = folder / key
            if not key or not path.is_file():
                self._error(404, "NoSuchKey")
                return
            data, status = path.read_bytes(), path.stat()
            first, last, code = 0, len(data) - 1, 200
            if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last, code = int(found[1]), min(int(found[2] or last), last), 206
            self.send_response(code)
            self.send_header("ETag", f'"{_tag(path, status)}"')
            self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
            self.send_header("Content-Length", str(last - first + 1))
            if code == 206:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.end_headers()
            if with_content:
                content = memoryview(data)[first : last + 1]
                if key in behaviour.cut:
                    content, self.close_connection = content[: len(content) // 2], True
                self.wfile.write(content)

        def _listing(self, path: str, query: dict[str, list[str]]) -> None:
            prefix = query.get("prefix", [""])[0]
            if self._refused(path.strip("/"), prefix):
                return
            after = query.get("continuation-token", [""])[0]
            found = _one_level(folder, prefix) if "delimiter" in query else _all_below(folder, prefix)
            left = [name for name in found if name > after]
            rows = [_row(folder, name) for name in left[:PAGE]]
            more = len(left) > PAGE
            token = f"<NextContinuationToken>{escape(left[PAGE - 1])}</NextContinuationToken>" if more else ""
            self._send(
                200,
                f"<ListBucketResult><Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>"
                f"<KeyCount>{len(rows)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}</ListBucketResult>",
            )

        def _error(self, status: int, code: str) -> None:
            self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")

        def _send(self, status: int, text: str) -> None:
            data = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler


def _tag(path: Path, status: os.stat_result) -> str:
    return hashlib.md5(f"{path}{status.st_size}{status.st_mtime_ns}{status.st_ino}".encode()).hexdigest()


def _one_level(folder: Path, prefix: str) -> list[str]:
    """Return the keys that begin with a prefix, and common prefixes with a slash at their end."""
    base = folder / prefix
    entries = os.scandir(base) if base.is_dir() else ()
    return sorted(f"{prefix}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries)


def _all_below(folder: Path, prefix: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / prefix).rglob("*") if path.is_file())


def _row(folder: Path, key: str) -> str:
    if key.endswith("/"):
        return f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>"
    path = folder / key
    status = path.stat()
    changed = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(status.st_mtime))
    milliseconds = status.st_mtime_ns // 10**6 % 1000
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{changed}.{milliseconds:03d}Z</LastModified>"
        f'<ETag>"{_tag(path, status)}"</ETag><Size>{status.st_size}</Size></Contents>'
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that leaves is none."""


@contextmanager
def serving(folder: Path, behaviour: Behaviour | None = None) -> Iterator[str]:
    """Serve a folder as a bucket; yield the server's address, for AWS_ENDPOINT_URL."""
    server = _Server(("127.0.0.1", 0), _handler(folder, behaviour or Behaviour()))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def settings(endpoint: str) -> dict[str, str]:
    """Return the environment in which S3's libraries ask a server of one's own."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


if __name__ == "__main__":
    latency_ms = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with serving(Path(sys.argv[1]), Behaviour(latency_ms / 1000)) as endpoint:
        print(endpoint, flush=True)
        threading.Event().wait()
