"""What the user sees while a run works: a bar when a person watches, plain lines when not."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text with their columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


LINE_EVERY_S = 10.0


def say(text: str) -> None:
    """Print one line on standard error, where progress goes."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Progress over items, with rate and time left."""

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label, self.done = total, label, 0
        self._began = self._spoke = time.monotonic()
        self._bar: Any = None
        if total and (sys.stderr.isatty() or _in_notebook()):
            self._bar = _bar_class()(total=total, desc=label, unit="item", dynamic_ncols=True)

    def add(self, count: int) -> None:
        """Count items that are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._spoke >= LINE_EVERY_S:
            self._spoke = time.monotonic()
            say(self._line())

    def _line(self) -> str:
        rate = self.done / max(time.monotonic() - self._began, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        return f"{self.label}: {self.done}/{self.total} items, {rate:.0f} items/s, about {left:.0f} s left"

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
