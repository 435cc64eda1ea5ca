"""What the user sees while a run works: a bar when a person watches, plain lines when not."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with their columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


LINE_EVERY_S = 10.0

PACE_OF_LAST_S = 30.0
"""Seconds of reports whose pace is taken for that of what is left."""


def say(text: str) -> None:
    """Print one line on standard error, where progress goes."""
    print(text, file=sys.stderr, flush=True)


def spoken_duration(seconds: float) -> str:
    """Return a duration as people say it: ``under a second``, ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 1:
        return "under a second"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def spoken_pace(seconds_each: float) -> str:
    """Return how fast items come, in two digits: ``120 items/s``, ``2.5 items/s``, ``4.0 s an item``."""
    if seconds_each > 1:
        return f"{seconds_each:.1f} s an item"
    rate = 1 / max(seconds_each, 1e-9)
    return f"{rate:.0f} items/s" if rate >= 10 else f"{rate:.1f} items/s"


class Progress:
    """Progress over items, with their pace and the time left.

    The pace is that of the last reports, from one to a later one: what lies before the first, the
    start of workers above all, says nothing of the rest.
    """

    def __init__(
        self,
        total: int,
        label: str,
        *,
        unit: str = "item",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.label, self.done, self._clock = total, label, 0, clock
        self._spoke = clock()
        self._reports: deque[tuple[float, int]] = deque()
        self._bar: Any = None
        if total and (sys.stderr.isatty() or _in_notebook()):
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
            say(self._line())

    def _line(self) -> str:
        (before, had), (now, has) = self._reports[0], self._reports[-1]
        line = f"{self.label}: {self.done}/{self.total} items"
        if has == had or now == before:
            return line
        each = (now - before) / (has - had)
        left = spoken_duration(each * (self.total - self.done))
        return f"{line}, {spoken_pace(each)}, about {left} left"

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def _bar_class() -> Any:
    """Return the bar of a notebook that can show one, else the bar of a terminal."""
    if _in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar
    from tqdm import tqdm

    return tqdm


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    active = shell.get_ipython() if shell is not None else None
    return active is not None and "IPKernelApp" in active.config
