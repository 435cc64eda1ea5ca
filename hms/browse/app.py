"""What the page asks for, and who may ask."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from hms.browse.book import Book
from hms.browse.listing import Listing
from hms.browse.montages import side_of
from hms.browse.signals import BANDS, LONGEST_S, Signals, Traces, Wanted, spectrum_of
from hms.errors import ConfigError, StorageError
from hms.labels.marks import Mark, format_votes
from hms.quality.grading import GRADES
from hms.report.style import GRADE_COLOURS, RAMP, class_colours
from hms.signal.filters import described

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    **{
        f"{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("main", "server", "list", "tiles", "view", "dialogs")
    },
}
"""All files that are served as they are in the package, by path."""

REPORT = "qc/report.html"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-downloads "
    "allow-top-navigation-by-user-activation"
)
"""A report may be somebody else's: its scripts run without this page's origin and reach nothing."""

NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"
MOST_BODY = 1 << 16
MOST_TILES = 200
THUMB_FREQS, THUMB_FRAMES, THUMB_POINTS = 24, 60, 240


@dataclass(frozen=True)
class Desk:
    """What is before the reader: a run's items, their signals, and the book of marks if there is one.

    Attributes
    ----------
    columns : the list of items as JSON
    is_framed : whether pages of this machine, such as notebooks, may show the page in a frame
    """

    listing: Listing
    signals: Signals
    book: Book | None
    columns: bytes
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    is_framed: bool = False

    @property
    def address(self) -> str:
        """Where the page is; anyone who knows it may look and judge."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the page must know once."""
        run, listing, cfg = self.listing.run, self.listing, self.signals.cfg
        return {
            "run": run.hash,
            "finished": run.manifest["finished"],
            "source": run.config.data.kind,
            "blind": listing.blind,
            "classes": listing.classes.titles,
            "class_names": listing.classes.names,
            "class_colours": class_colours(len(listing.classes)),
            "grades": GRADES,
            "grade_colours": GRADE_COLOURS,
            "harmless": list(cfg.at("qc.grading.harmless")),
            "ramp": RAMP,
            "montages": {name: view.title for name, view in self.signals.views.items()},
            "band": described(cfg.at("filter")),
            "window_s": float(cfg.at("window.length_s")),
            "high_confidence": int(cfg.at("labels.high_confidence_votes")),
            "marks": None if self.book is None else {"file": self.book.path.name, "who": self.book.who},
            "report": REPORT in run.manifest["files"] and not listing.blind,
        }

    def item(self, row: int) -> bytes:
        """Return what is said of an item, with its scalograms as bytes from 0 to 255."""
        item_id = self.listing.item_ids[row]
        told = self.listing.about(row)
        arrays: dict[str, NDArray[Any]] = {}
        try:
            recording, start_s = self.signals.window_of(item_id)
            told |= {"recording": recording, "window_start_s": start_s}
            told |= self._scalograms(item_id, arrays)
        except ConfigError as error:
            told["problem"] = str(error)
        return pack(told, arrays)

    def _scalograms(self, item_id: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Add an item's scalograms to arrays, and return what is said of them."""
        if not self.listing.run.has_item("spec_hr_out", item_id):
            return {}
        stored = self.listing.run.item("spec_hr_out", item_id)
        arrays["x"], low, high = _levels(stored["x"].astype(np.float32))
        freqs = [round(v, 4) for v in stored["freqs"].tolist()]
        return {"outputs": self.listing.run.outputs, "freqs": freqs, "low": low, "high": high}

    def thumbs(self, rows: Sequence[int]) -> bytes:
        """Return small pictures of items, from the package alone: scalograms, and outlines of waveforms."""
        run = self.listing.run
        arrays: dict[str, NDArray[Any]] = {}
        for row in rows:
            item_id = self.listing.item_ids[row]
            if run.has_item("spec_hr_out", item_id):
                x = _shrunk(run.spec(item_id).astype(np.float32))
                arrays[f"x{row}"] = _levels(x)[0]
            if run.has_item("wave_hr_out", item_id):
                arrays[f"w{row}"] = _outline(run.wave(item_id))
        return pack({}, arrays)

    def traces(self, row: int, wanted: Wanted) -> bytes:
        """Return a page of traces."""
        page = self.signals.page(self.listing.item_ids[row], wanted)
        return pack(_told_of(page), {"values": page.values})

    def spectrum(self, row: int, wanted: Wanted) -> dict[str, Any]:
        """Return the spectrum of each trace of a stretch."""
        found = spectrum_of(self.signals.page(self.listing.item_ids[row], wanted))
        power = [
            [round(v, 2) for v in row] if math.isfinite(row[0]) else None for row in found.power_db.tolist()
        ]
        return {"names": found.names, "freqs": found.freqs_hz.tolist(), "power": power}

    def marks(self, since: int) -> dict[str, Any]:
        """Return the marks, unless the page already has this revision.

        A blind reader sees no other's.
        """
        if self.book is None:
            return {"revision": 0}
        found = self.book.all()
        if since == self.book.revision:
            return {"revision": since}
        shown = [m for m in found if not self.listing.blind or m.who == self.book.who]
        return {"revision": self.book.revision, "marks": [self._told(mark) for mark in shown]}

    def mark(self, row: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Write a mark; when this returns, it is on disk."""
        if self.book is None:
            raise ConfigError("nothing is saved without a file; use hms browse --marks FILE to judge")
        texts = {name: given.get(name, "") for name in ("mark", "votes", "note")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ConfigError("mark, votes and note must be texts")
        made = self.book.put(self.listing.item_ids[row], **texts)
        return {"revision": self.book.revision, "mark": self._told(made)}

    def _told(self, mark: Mark) -> dict[str, Any]:
        assert self.book is not None
        return {
            "row": self.listing.row_of.get(mark.item_id, -1),
            "mark": mark.mark,
            "votes": format_votes(mark.votes),
            "note": mark.note,
            "when": mark.when,
            "who": mark.who,
            "own": mark.who == self.book.who,
        }


def _told_of(page: Traces) -> dict[str, Any]:
    told = {f.name: getattr(page, f.name) for f in fields(page) if f.name != "values"}
    return told | {"sides": [side_of(name) for name in page.names], "dead": page.dead.tolist()}


def _levels(x: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """Return values as bytes, and what 0 and 255 stand for: 0 and 1, or the extremes of x beyond them."""
    finite = x[np.isfinite(x)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=1.0))
    scaled = np.nan_to_num((x - low) / (high - low), posinf=1.0, neginf=0.0)
    return np.round(255 * scaled).astype(np.uint8), low, high


def _shrunk(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture of fewer rows and columns."""
    freqs, frames = (
        np.linspace(0, size - 1, min(size, most)).round().astype(int)
        for size, most in ((x.shape[1], THUMB_FREQS), (x.shape[2], THUMB_FRAMES))
    )
    return x[:, freqs][:, :, frames]


def _outline(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lowest and highest sample of short stretches, shape (n_rows, 2, n_stretches)."""
    starts = np.linspace(0, wave.shape[1], min(THUMB_POINTS, wave.shape[1]), endpoint=False).astype(int)
    low, high = (f.reduceat(wave, starts, axis=1) for f in (np.minimum, np.maximum))
    return np.stack([low, high], axis=1).astype(np.float32)


def pack(told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return JSON and arrays in one piece: four bytes with the length of the JSON, both padded to four."""
    about = [{"name": name, "shape": array.shape, "type": array.dtype.name} for name, array in arrays.items()]
    header = json.dumps({**told, "arrays": about}, separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-len(header) % 4)
    bodies = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    padded = [body + b"\0" * (-len(body) % 4) for body in bodies]
    return b"".join([len(header).to_bytes(4, "little"), header, *padded])


# --- who may ask ---------------------------------------------------------------------------------


class Guard:
    """Answers only requests from this page by its full address, and tells browsers what the page may do."""

    def __init__(self, app: Any, desk: Desk) -> None:
        self._app, self._desk = app, desk
        self._hosts = {f"{name}:{desk.port}" for name in ("127.0.0.1", "localhost")}
        ancestors = NOTEBOOKS if desk.is_framed else "'none'"
        self._policy = POLICY.format(ancestors=ancestors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused:
            await Response(refused, 403, self._headers(""))(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = self._headers(scope["path"])
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in own.items()]
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refused(self, scope: Scope, headers: Mapping[str, str]) -> str:
        if headers.get("host", "") not in self._hosts:
            return "the page was requested under a name other than 127.0.0.1 or localhost"
        first = scope["path"].split("/")[1]
        if not secrets.compare_digest(first.encode(), self._desk.token.encode()):
            return "the address lacks its token; hms browse prints the whole address"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin", "")
            if origin not in {f"http://{host}" for host in self._hosts}:
                return "the request comes from another page, and only this one may write marks"
        return ""

    def _headers(self, path: str) -> dict[str, str]:
        policy = REPORT_POLICY if path.endswith("/report") else self._policy
        return {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
        }


# --- routes --------------------------------------------------------------------------------------


def make_app(desk: Desk) -> Guard:
    """Return the application that serves a desk."""
    routes = [
        *(Route(f"/{path}", _page_file(*found)) for path, found in PAGE_FILES.items()),
        Route("/about", _answer(lambda request: JSONResponse(desk.about))),
        Route("/list", _answer(lambda request: Response(desk.columns, media_type="application/json"))),
        Route("/item/{row:int}", _answer(lambda request: _binary(desk.item(_row(desk, request))))),
        Route(
            "/traces/{row:int}",
            _answer(lambda request: _binary(desk.traces(_row(desk, request), _wanted(desk, request)))),
        ),
        Route(
            "/spectrum/{row:int}",
            _answer(lambda request: JSONResponse(desk.spectrum(_row(desk, request), _wanted(desk, request)))),
        ),
        Route("/thumbs", _answer(lambda request: _binary(desk.thumbs(_rows(desk, request))))),
        Route("/marks", _answer(lambda request: JSONResponse(desk.marks(_number(request, "since", -1))))),
        Route("/marks/{row:int}", _marker(desk), methods=["POST"]),
        Route("/report", _answer(lambda request: _report(desk))),
    ]
    return Guard(Starlette(routes=[Mount(f"/{desk.token}", routes=routes)]), desk)


Endpoint = Callable[[Request], Awaitable[Response]]


def _answer(function: Callable[[Request], Response]) -> Endpoint:
    """Return an endpoint that answers in a thread, and tells what is wrong in words."""

    async def answer(request: Request) -> Response:
        return await run_in_threadpool(_told_or_problem, function, request)

    return answer


def _told_or_problem(function: Callable[[Request], Response], request: Request) -> Response:
    try:
        return function(request)
    except ConfigError as error:
        return JSONResponse({"problem": str(error)}, 422)
    except StorageError as error:
        return JSONResponse({"problem": str(error)}, 507)
    except TimeoutError:
        return JSONResponse({"problem": "another program is using the file of marks; try again"}, 507)


def _marker(desk: Desk) -> Endpoint:
    async def mark(request: Request) -> Response:
        body = await request.body()
        if len(body) > MOST_BODY:
            return JSONResponse({"problem": "the mark is too long"}, 413)

        def put(request: Request) -> Response:
            try:
                given = json.loads(body)
            except ValueError:
                raise ConfigError("a mark must be sent as JSON") from None
            if not isinstance(given, dict):
                raise ConfigError("a mark is sent as a JSON object")
            return JSONResponse(desk.mark(_row(desk, request), given))

        return await run_in_threadpool(_told_or_problem, put, request)

    return mark


def _page_file(name: str, kind: str) -> Endpoint:
    content = (files("hms.browse") / "page" / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return answer


def _report(desk: Desk) -> Response:
    if not desk.about["report"]:
        raise ConfigError("the run has no report, or the view is blind")
    run = desk.listing.run
    opening = f'<html lang="en" data-browse="./" data-finished="{run.manifest["finished"]}"'
    page = run.text(REPORT).replace('<html lang="en"', opening, 1)
    return Response(page, media_type="text/html")


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


def _row(desk: Desk, request: Request) -> int:
    row = int(request.path_params["row"])
    if not 0 <= row < len(desk.listing.item_ids):
        raise ConfigError(f"there is no item number {row}")
    return row


def _rows(desk: Desk, request: Request) -> list[int]:
    texts = request.query_params.get("rows", "").split(",")[:MOST_TILES]
    rows = [int(text) for text in texts if text.isascii() and text.isdecimal()]
    return [row for row in rows if row < len(desk.listing.item_ids)]


def _number(request: Request, name: str, absent: float) -> Any:
    try:
        value = float(request.query_params.get(name, absent))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ConfigError(f"{name} is a number")
    return int(value) if value == int(value) else value


def _wanted(desk: Desk, request: Request) -> Wanted:
    """Return what a request asks to be shown of a recording."""
    asked = request.query_params
    montage, band = asked.get("montage", "banana"), asked.get("band", BANDS[0])
    if montage not in desk.signals.views or band not in BANDS:
        raise ConfigError(f"montages are {', '.join(desk.signals.views)}, bands {' and '.join(BANDS)}")
    length_s = float(_number(request, "length", 10))
    start_s, notch_hz = float(_number(request, "start", 0)), float(_number(request, "notch", 0))
    if not 0 < length_s <= LONGEST_S or abs(start_s) > 1e7 or notch_hz not in (0, 50, 60):
        raise ConfigError(f"a page lasts up to {LONGEST_S:g} s, and the notch is at 50 or 60 Hz")
    return Wanted(start_s, length_s, montage, band, notch_hz or None)
