"""The viewer as a running server on this machine: from the command line, and in a notebook."""

from __future__ import annotations

import errno
import getpass
import html
import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hms.errors import ConfigError, needs_extra
from hms.terminal import gentle_interrupts

if TYPE_CHECKING:
    from hms.store.package import Package

STARTS_WITHIN_S = 20.0


@dataclass(eq=False)
class Viewer:
    """A viewer that is running; a notebook shows its page."""

    address: str
    _server: Any
    _thread: threading.Thread

    def __repr__(self) -> str:
        return f"<Viewer at {self.address}; stop() ends it>"

    def wait(self) -> None:
        """Wait until Ctrl-C, the usual end, or until it ends by itself."""
        with suppress(KeyboardInterrupt), gentle_interrupts():
            while self._thread.is_alive():
                self._thread.join(1.0)
        self.stop()

    def stop(self) -> None:
        """End it; what was marked is on disk already."""
        self._server.should_exit = True
        self._thread.join()

    def _repr_html_(self) -> str:
        address = html.escape(self.address)
        frame = f'<iframe src="{address}" style="width:100%;height:860px;border:1px solid #ccc"></iframe>'
        return f'<p><a href="{address}" target="_blank">Open in a tab of its own</a></p>{frame}'


def start(
    run: Package,
    *,
    marks: str | Path | None = None,
    who: str | None = None,
    blind: bool = False,
    predictions: str | Path | None = None,
    item: str | None = None,
    port: int = 0,
    is_framed: bool = False,
) -> Viewer:
    """Start a viewer of a run on this machine; nobody else's can reach it.

    Raises `ConfigError` if the extra is not installed, the run cannot be read, the file of marks is none or
    is of another run, or the port is in use.

    Parameters
    ----------
    marks : csv of marks, made when something is marked; None: nothing can be marked
    who : reader whose marks are set; None: the name of the account
    blind : whether votes, grades, flags and predictions are hidden
    predictions : file of predictions to show instead of the baseline's
    item : item to begin with
    port : 0 takes a free one
    is_framed : whether notebooks may show the page in a frame
    """
    uvicorn = _import_uvicorn()
    from hms.browse.app import Desk, make_app
    from hms.browse.book import Book
    from hms.browse.listing import Listing
    from hms.browse.signals import Signals

    listing = Listing(run, None if predictions is None else Path(predictions), blind)
    if item is not None:
        listing.check(item)
    book = None
    if marks is not None:
        _refuse_inside(Path(marks), run)
        book = Book(Path(marks), listing.classes, who or _account(), listing.row_of)
    signals = Signals(run)
    columns = json.dumps(listing.columns(), separators=(",", ":")).encode()  # a damaged table says so now
    bound = _bind(port)
    desk = Desk(listing, signals, book, columns, bound.getsockname()[1], is_framed=is_framed)
    config = uvicorn.Config(
        make_app(desk), log_level="warning", access_log=False, lifespan="off", ws="none", loop="asyncio"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],), name="hms-browse", daemon=True)
    thread.start()
    _wait_for(server, thread)
    threading.Thread(target=_look_ahead, args=(desk,), daemon=True).start()
    address = desk.address if item is None else f"{desk.address}#item={quote(item)}"
    return Viewer(address, server, thread)


def _look_ahead(desk: Any) -> None:
    """Read the first item while the list is looked at; errors are shown when the item is opened."""
    from hms.browse.signals import Wanted

    with suppress(ConfigError):
        if desk.listing.item_ids:
            item_id = desk.listing.item_ids[0]
            _, start_s = desk.signals.window_of(item_id)
            desk.signals.page(item_id, Wanted(start_s, 10.0, "banana", "prepared"))
            desk.item(0)
    import scipy.signal  # noqa: F401  for spectra; takes half a second


def _import_uvicorn() -> Any:
    with needs_extra("browse needs starlette and uvicorn", "browse"):
        import starlette  # noqa: F401
        import uvicorn
    return uvicorn


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reader"


def _refuse_inside(path: Path, run: Package) -> None:
    """Raise if the file would be in a run or in the store, which are only read."""
    place = path.absolute().parent.resolve() / path.name
    for folder, what in ((run.path, "the run"), (run.path.parent / "store", "the store")):
        if place.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"--marks {path} lies inside {what}, which hms browse only reads; name another place"
            )
    if place.is_dir():
        raise ConfigError(f"--marks {path} is a folder; name a csv")


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        bound.close()
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        why = "is in use" if taken else f"cannot be used ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(f"--port {port} {why}; without --port, a free port is chosen") from None
    return bound


def _wait_for(server: Any, thread: threading.Thread) -> None:
    for _ in range(int(STARTS_WITHIN_S / 0.01)):
        if server.started:
            return
        thread.join(0.01)
        if not thread.is_alive():
            break
    raise ConfigError("the server did not start; please report it with hms --version and the lines above")
