"""Headless Chromium over its debugging pipe: no port, no driver, no further package."""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


KEYS = {"Enter": 13, "Escape": 27, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "Tab": 9,
        "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}  # fmt: skip
"""Codes of the keys that write nothing."""


class Wire:
    """The pipe to a browser, which all its pages share."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.pages: dict[str, Page] = {}
        self._buffer = b""
        self._number = 0

    def ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Call a method of the debugging protocol, of a page's session, and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if page := self.pages.get(answer.get("sessionId", "")):
                page.note(answer.get("method"), answer.get("params", {}))

    def _next(self, timeout_s: float = 60) -> Any:
        deadline = time.monotonic() + timeout_s
        while b"\0" not in self._buffer:
            ready = select.select([self.from_browser], [], [], max(deadline - time.monotonic(), 0))[0]
            assert ready, "no answer"
            data = os.read(self.from_browser, 1 << 20)
            assert data, "the browser ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)


class Page:
    """One page of a browser; keeps what went wrong and what was asked for."""

    def __init__(self, wire: Wire, session: str) -> None:
        self._wire, self._session = wire, session
        self.requests: list[str] = []
        self.errors: list[str] = []
        wire.pages[session] = self

    def ask(self, method: str, **params: Any) -> Any:
        """Call a method of the debugging protocol and return its result."""
        return self._wire.ask(method, self._session, **params)

    def note(self, method: str | None, params: Any) -> None:
        """Take an event to heart."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])

    def resize(self, width: int, height: int = 900, *, mobile: bool = False) -> None:
        """Set the size of the window in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def open(self, place: Path | str) -> None:
        """Open a file from disk, or an address, and wait until it is loaded."""
        self.ask("Page.navigate", url=place if isinstance(place, str) else place.resolve().as_uri())
        while self.run("document.readyState") != "complete":
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page; promises are awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after another, as a keyboard does; one of several letters is typed."""
        for key in keys:
            code = KEYS.get(key, 0)
            text = {"Enter": "\r"}.get(key, "" if code else key)
            what = {"key": key, "windowsVirtualKeyCode": code, "text": text}
            self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **what)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **(what | {"text": ""}))

    def wait(self, script: str, timeout_s: float = 20) -> Any:
        """Wait until an expression is true, and return it."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}; {self.errors}"
            time.sleep(0.02)
        return found

    def screenshot(self, path: Path, *, selector: str = "", whole: bool = False) -> None:
        """Write what is seen, an element, or the whole page as PNG."""
        options: dict[str, Any] = {"format": "png", "captureBeyondViewport": bool(selector or whole)}
        if selector or whole:
            box = self.run(
                f"(() => {{ const r = document.querySelector({json.dumps(selector or 'html')})"
                ".getBoundingClientRect();"
                " return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })()"
            )
            options["clip"] = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
        data = self.ask("Page.captureScreenshot", **options)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(*, offline: bool = True) -> Iterator[Page]:
    """Open a page with a fresh profile, its network off unless told otherwise, and close it."""
    wire = _chromium()
    context = wire.ask("Target.createBrowserContext")["browserContextId"]
    target = wire.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
    page = Page(wire, wire.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
    for domain in ("Page", "Runtime", "Log", "Network"):
        page.ask(f"{domain}.enable")
    nothing = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.ask("Network.emulateNetworkConditions", offline=offline, **nothing)
    try:
        yield page
    finally:
        wire.ask("Target.disposeBrowserContext", browserContextId=context)


@functools.cache
def _chromium() -> Wire:
    """Start a headless Chromium, which ends as this process ends."""
    program = find_chromium()
    assert program is not None, "no Chromium"
    to_browser, from_browser = os.pipe(), os.pipe()
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    # The protocol is spoken on the descriptors 3 and 4.
    wire = f'exec 3<&{to_browser[0]} 4>&{from_browser[1]}; exec "$@"'
    arguments = (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--disable-extensions", "--disable-background-networking",
        "--remote-debugging-pipe", f"--user-data-dir={profile.name}",
    )  # fmt: skip
    process = subprocess.Popen(
        ["bash", "-c", wire, "bash", program, *arguments],
        pass_fds=(to_browser[0], from_browser[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])

    def end() -> None:
        process.terminate()
        process.wait(timeout=30)
        profile.cleanup()

    atexit.register(end)
    return Wire(to_browser[1], from_browser[0])
