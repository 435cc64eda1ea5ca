"""What the user sees while a run works, and what Ctrl-C does.

Imports nothing that takes long: it is the first thing that run.py imports.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

# --- the program ---------------------------------------------------------------------------------

RARELY = 100_000, 20, 50
"""New objects between two looks for garbage, of which imports and tables make none."""


def begin_program() -> None:
    """Prepare this process to be a program: before anything that takes long is imported."""
    gc.set_threshold(*RARELY)
    watch_interrupts()


# --- Ctrl-C --------------------------------------------------------------------------------------

BEGAN = time.perf_counter()
"""When this program began, as near as it can tell."""

INTERRUPTED = 130
INTERRUPTED_TEXT = "hms: interrupted; the same command continues where this one stopped"

_interrupted = False


def watch_interrupts() -> None:
    """Let Ctrl-C end this process at once, with one line and exit code 130.

    Files are whole or absent whenever a process ends, so nothing needs tidying, and an exception in the
    middle of an import would turn into another one. `gentle_interrupts` is for when workers must be ended.
    """
    signal.signal(signal.SIGINT, _leave)


def end_quietly() -> None:
    """Let nothing change the exit code any more: the work is done, and an interpreter that ends would die.

    Of Ctrl-C, or of a standard error that cannot be written to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the program lasts
    gc.freeze()  # a last look for garbage takes 0.2 s after a run of 17,089 items


def _leave(number: int, frame: Any) -> None:
    os.write(2, f"{INTERRUPTED_TEXT}\n".encode())
    os._exit(INTERRUPTED)


@contextmanager
def gentle_interrupts() -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt where `watch_interrupts` watches; a second ends at once.

    One that was swallowed on the way, as callbacks do, is raised again at the end.
    """
    global _interrupted
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
        if _interrupted:
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, _leave)


def _interrupt(number: int, frame: Any) -> None:
    global _interrupted
    if _interrupted:
        _leave(number, frame)
    _interrupted = True
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Tell whether Ctrl-C was pressed, whatever became of the exception."""
    return _interrupted


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; processes that are started meanwhile leave it to their parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # whoever starts it later lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- texts ---------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Return a text with its control characters written out: what is in files never steers a terminal.

    Lines and tabs stay. Marks that turn the direction of writing are written out too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _print(text: str, stream: Any) -> None:
    """Print a text, with what the stream's encoding lacks written out."""
    if stream is None:  # closed by whoever started the program
        return
    shown = printable(text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(shown.encode(encoding, "backslashreplace").decode(encoding), file=stream)
    if hasattr(stream, "flush"):  # whoever replaces a stream may give one that only writes
        stream.flush()


def _is_terminal(stream: Any) -> bool:
    """Tell whether a stream is a terminal; it may be None, closed, or an object that only writes."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def show(text: object) -> None:
    """Print what a command answers, on standard output."""
    _print(str(text), sys.stdout)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with their columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


WIDTH = 100
"""Columns of a text that is no table."""


def terminal_width(otherwise: int) -> int:
    """Return the columns of the terminal that standard output is; ``otherwise`` where it is none."""
    if not _is_terminal(sys.stdout):
        return otherwise
    import shutil

    return shutil.get_terminal_size((otherwise, 24)).columns


def text_width() -> int:
    """Return the columns of a text that is no table: `WIDTH`, or those of a narrower terminal."""
    return min(terminal_width(WIDTH), WIDTH)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with their columns aligned; on a narrow terminal the last cell goes on below."""
    width = terminal_width(0)
    return columns(narrowed(rows, width) if width else rows)


def narrowed(rows: Sequence[Sequence[str]], width: int | None = None) -> list[tuple[str, ...]]:
    """Return rows whose last cell goes on in lines below, so that each fits; None: as `filled` does."""
    width = width or text_width()
    taken = sum(max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]) - 1))
    found: list[tuple[str, ...]] = []
    for *cells, last in rows:
        lines = filled(last, max(width - taken, width // 4)).splitlines() or [""]
        found += [(*cells, lines[0]), *((*("" for _ in cells), line) for line in lines[1:])]
    return found


def filled(text: str, width: int | None = None, *, indent: int = 0) -> str:
    """Return a text in lines of a width, those after the first indented; words stay whole.

    None: of `WIDTH`, or of the terminal where that is narrower.
    """
    import textwrap

    width = width or text_width()
    return textwrap.fill(
        text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, which is ``noun`` for one and takes an s otherwise."""
    return f"{number:,g} {noun}{'' if number == 1 else 's'}" if number < 1e6 else f"{number:,.0f} {noun}s"


def listed(things: Iterable[object], count: int = 5) -> str:
    """Return the first of many things, and how many more there are."""
    texts = [str(thing) for thing in things]
    more = f" and {len(texts) - count} more" if len(texts) > count else ""
    return ", ".join(texts[:count]) + more


def outlined(thing: Any) -> str:
    """Return a dataclass of arrays as its name and fields, each array as its type and shape."""
    from dataclasses import fields

    def told(value: Any) -> str:
        return f"{value.dtype} {value.shape}" if hasattr(value, "dtype") else shortened(repr(value), 60)

    texts = (f"{f.name}={told(getattr(thing, f.name))}" for f in fields(thing))
    return f"{type(thing).__name__}({', '.join(texts)})"


def shortened(thing: object, limit: int = 160) -> str:
    """Return a text, or what an error says, in one line, with dots where it was cut."""
    text = " ".join(str(thing).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def local_time(finished: str) -> str:
    """Return a time of a manifest as a clock here shows it; a text that is not a time, as it is."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(finished).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return finished


LINE_EVERY_S = 10.0

PACE_OF_LAST_S = 30.0
"""Seconds of reports whose pace is taken for that of what is left."""


_heard: ContextVar[tuple[list[str], ...]] = ContextVar("heard", default=())
_silent: ContextVar[bool] = ContextVar("silent", default=False)
_once: ContextVar[set[str] | None] = ContextVar("once", default=None)


def say(text: str, *, passing: bool = False) -> None:
    """Print one line on standard error, where progress goes; where it cannot be written, work continues.

    A ``passing`` line is about the moment: it is not repeated when the run is found finished later.
    """
    for lines in () if passing else _heard.get():
        lines.append(text)
    said = _once.get()
    if _silent.get() or (said is not None and not passing and text in said):
        return
    if said is not None:
        said.add(text)
    with suppress(OSError, ValueError):  # a full disk, a pipe that nobody reads, a closed stream
        _print(text, sys.stderr)


T = TypeVar("T")


@contextmanager
def _meanwhile(variable: ContextVar[T], value: T) -> Iterator[T]:
    """Have a value meanwhile, in this thread alone."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def unsaid() -> AbstractContextManager[bool]:
    """Say nothing meanwhile: looking at a run repeats nothing that was said when it was made."""
    return _meanwhile(_silent, True)


def said_once() -> AbstractContextManager[set[str] | None]:
    """Say nothing twice meanwhile: members of a sweep share most messages."""
    return _meanwhile(_once, set())


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what is said meanwhile."""
    lines: list[str] = []
    with _meanwhile(_heard, (*_heard.get(), lines)):
        yield lines


def spoken_duration(seconds: float) -> str:
    """Return a duration as people say it: ``under a second``, ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 1:
        return "under a second"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def about(seconds: float) -> str:
    """Return a duration that is estimated: ``about 40 s``, ``under a second``."""
    return f"{'about ' * (seconds >= 1)}{spoken_duration(seconds)}"


def spoken_pace(seconds_each: float) -> str:
    """Return how fast items come, in two digits: ``120 items/s``, ``2.5 items/s``, ``4.0 s an item``."""
    if seconds_each > 1:
        return f"{seconds_each:.1f} s an item"
    rate = 1 / max(seconds_each, 1e-9)
    return f"{rate:.0f} items/s" if rate >= 10 else f"{rate:.1f} items/s"


class Progress:
    """Progress over items, with their pace and the time left.

    The pace is that of the last reports; the time before the first, mostly the start of workers, does not
    count.
    """

    def __init__(
        self, total: int, label: str, *, unit: str = "item", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.label, self.done, self._clock = total, label, 0, clock
        self._spoke = clock()
        self._reports: deque[tuple[float, int]] = deque()
        self._bar: Any = None
        if total and (_is_terminal(sys.stderr) or _in_notebook()):
            self._bar = _bar_class()(total=total, desc=label, unit=unit, dynamic_ncols=True)

    def add(self, count: int) -> None:
        """Count items that are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            return
        now = self._clock()
        self._reports.append((now, self.done))
        while len(self._reports) > 2 and now - self._reports[1][0] >= PACE_OF_LAST_S:
            self._reports.popleft()
        if now - self._spoke >= LINE_EVERY_S:
            self._spoke = now
            say(self._line(), passing=True)

    def _line(self) -> str:
        (before, had), (now, has) = self._reports[0], self._reports[-1]
        line = f"{self.label}: {self.done}/{self.total} items"
        if has == had or now == before:
            return line
        each = (now - before) / (has - had)
        left = about(each * (self.total - self.done))
        return f"{line}, {spoken_pace(each)}, {left} left"

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def _bar_class() -> Any:
    """Return the bar of a notebook that can show one, else the bar of a terminal."""
    import importlib.util

    if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar
    from tqdm import tqdm

    return tqdm


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    active = shell.get_ipython() if shell is not None else None
    return active is not None and "IPKernelApp" in active.config


# --- a browser -----------------------------------------------------------------------------------


def open_browser(address: str) -> bool:
    """Open a page where there is a screen; tell whether that was tried."""
    import webbrowser

    has_screen = sys.platform == "darwin" or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
    return has_screen and webbrowser.open(address)
