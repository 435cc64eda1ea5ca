"""Drawing: a few SVG elements, axes with round ticks, and small PNG images.

Everything is text made from numbers in a fixed format, so that equal data give equal
bytes on every machine; there are no ids, dates or fonts in it.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hms.report.style import RAMP


def number(value: float, decimals: int = 2) -> str:
    """Return a number in as few characters as a drawing needs."""
    short = f"{value:.{decimals}f}"
    short = short.rstrip("0").rstrip(".") if "." in short else short
    return "0" if short == "-0" else short


def drawing(width: float, height: float, parts: Iterable[str], *, alt: str, css: str = "") -> str:
    """Return an SVG picture with a text alternative."""
    return (
        f'<svg class="{css or "plot"}" viewBox="0 0 {number(width)} {number(height)}" role="img" '
        f'aria-label="{escape(alt)}" style="max-width:{number(width * 1.25)}px">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, content: Any, css: str = "", *, turn: bool = False, tip: str = "") -> str:
    """Return a text; ``css`` names classes such as ``m`` (middle) and ``e`` (end)."""
    turned = f' transform="rotate(-90 {number(x)} {number(y)})"' if turn else ""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    style = f' class="{css}"' if css else ""
    return f'<text x="{number(x)}" y="{number(y)}"{style}{turned}>{title}{escape(str(content))}</text>'


def rect(
    x: float, y: float, width: float, height: float, fill: str, *, tip: str = "", extra: str = ""
) -> str:
    """Return a rectangle, with a tip for the pointer."""
    inner = f"><title>{escape(tip)}</title></rect>" if tip else "/>"
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" '
        f'height="{number(max(height, 0))}" fill="{fill}"{extra}{inner}'
    )


def path(points: Sequence[tuple[float, float]], *, closed: bool = False) -> str:
    """Return path data through points."""
    if not points:
        return ""
    # One format for all of them, and then `number` on the whole text: ten times as quick as one by one.
    text = ("L%.1f %.1f" * len(points) + "L") % tuple(value for point in points for value in point)
    text = text.replace(".0 ", " ").replace(".0L", "L").replace("L-0 ", "L0 ").replace(" -0L", " 0L")
    return "M" + text[1:-1] + "Z" * closed


def line(
    points: Sequence[tuple[float, float]], stroke: str, *, width: float = 1.5, dash: str = "", tip: str = ""
) -> str:
    """Return a line through points."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    inner = f"><title>{escape(tip)}</title></path>" if tip else "/>"
    data = path(points)
    return f'<path d="{data}" fill="none" stroke="{stroke}" stroke-width="{number(width)}"{dashed}{inner}'


def area(points: Sequence[tuple[float, float]], fill: str, *, opacity: float = 0.25) -> str:
    """Return a filled outline."""
    return f'<path d="{path(points, closed=True)}" fill="{fill}" fill-opacity="{number(opacity)}"/>'


def dotted(points: Sequence[tuple[float, float]], colour: str, *, tip: str, tips: Iterable[str]) -> list[str]:
    """Return a line through points with a dot at each."""
    dots = (rect(x - 2.5, y - 2.5, 5, 5, colour, tip=own) for (x, y), own in zip(points, tips, strict=True))
    return [line(points, colour, tip=tip), *dots]


# --- axes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """Limits of an axis; a logarithmic one needs limits above 0."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value is, from 0 at ``low`` to 1 at ``high``."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def places(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where each of many values is."""
        if self.log:
            return np.array([self.place(value) for value in values.tolist()])
        return (values - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """The plotting area in a picture, and its two axes."""

    left: float
    top: float
    width: float
    height: float
    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """Return the place of a value on the horizontal axis."""
        return self.left + self.width * self.across.place(value)

    def y(self, value: float) -> float:
        """Return the place of a value on the vertical axis."""
        return self.top + self.height * (1 - self.up.place(value))

    def points(self, xs: ArrayLike, ys: ArrayLike) -> list[tuple[float, float]]:
        """Return places of points; those that are not finite are left out."""
        across, up = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
        good = np.isfinite(across) & np.isfinite(up)
        x = self.left + self.width * self.across.places(across[good])
        y = self.top + self.height * (1 - self.up.places(up[good]))
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def dot(
        self, value: float, place: float, colour: str, *, tip: str, ends: tuple[float, float] | None
    ) -> list[str]:
        """Return a dot at a value and a line over its interval, if there is one."""
        x, y = self.x(value), self.y(place)
        parts = [rect(x - 3, y - 3, 6, 6, colour, tip=tip, extra=' rx="3"')]
        return parts if ends is None else [*parts, line([(self.x(end), y) for end in ends], colour)]

    @property
    def bottom(self) -> float:
        """Lower end of the area."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """Right end of the area."""
        return self.left + self.width


def ticks(axis: Axis, count: int = 5) -> list[float]:
    """Return round values on an axis: 1, 2 or 5 times powers of ten."""
    if axis.log:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        steps = (1,) if axis.high / axis.low > 2000 else (1, 2, 5)
        values = [step * 10.0**power for power in powers for step in steps]
        return [v for v in values if axis.low * (1 - 1e-9) <= v <= axis.high * (1 + 1e-9)]
    span = axis.high - axis.low
    rough = span / max(count, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(axis.low / step - 1e-9)
    return [i * step for i in range(first, math.floor(axis.high / step + 1e-9) + 1)]


def axes(
    frame: Frame,
    *,
    xlabel: str = "",
    ylabel: str = "",
    xticks: Sequence[tuple[float, str]] | None = None,
    yticks: Sequence[tuple[float, str]] | None = None,
    grid: bool = True,
) -> list[str]:
    """Return lines, ticks and names of both axes."""
    across = [(v, _label(v)) for v in ticks(frame.across)] if xticks is None else xticks
    up = [(v, _label(v)) for v in ticks(frame.up)] if yticks is None else yticks
    parts = []
    for value, label in up:
        y = frame.y(value)
        if grid:
            parts.append(f'<path class="grid" d="{path([(frame.left, y), (frame.right, y)])}"/>')
        parts.append(text(frame.left - 6, y + 4, label, "e"))
    for value, label in across:
        x = frame.x(value)
        parts.append(f'<path class="axis" d="{path([(x, frame.bottom), (x, frame.bottom + 4)])}"/>')
        parts.append(text(x, frame.bottom + 17, label, "m"))
    base = path([(frame.left, frame.bottom), (frame.right, frame.bottom)])
    parts.append(f'<path class="axis" d="{base}"/>')
    if xlabel:
        parts.append(text(frame.left + frame.width / 2, frame.bottom + 35, xlabel, "m n"))
    if ylabel:
        parts.append(text(13, frame.top + frame.height / 2, ylabel, "m n", turn=True))
    return parts


def _label(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def legend(
    x: float, y: float, entries: Sequence[tuple[str, str]], *, width: float
) -> tuple[list[str], float]:
    """Return colour patches with names, in lines no longer than ``width``, and the height taken."""
    parts: list[str] = []
    left, top = x, y
    for colour, name in entries:
        needed = 18 + 6.9 * len(name) + 12
        if left > x and left + needed > x + width:
            left, top = x, top + 18
        parts += [rect(left, top, 11, 11, colour, extra=' rx="2"'), text(left + 16, top + 10, name)]
        left += needed
    return parts, top + 18 - y


# --- images --------------------------------------------------------------------------------------


def png(values: NDArray[Any], *, levels: int = 64) -> str:
    """Return an image of values from 0 to 1 as a data URI; NaN is light grey.

    Parameters
    ----------
    values : shape (n_rows, n_columns); the first row is at the top
    levels : shades, at most 255; fewer make a smaller file
    """
    shade = np.clip(np.nan_to_num(values, nan=0.0), 0, 1) * (levels - 1)
    index = np.where(np.isnan(values), levels, np.round(shade)).astype(np.uint8)
    return png_of(index, _shades(levels))


@cache
def _shades(levels: int) -> NDArray[np.uint8]:
    """Return the colours from dark to light, and after them that of NaN."""
    places = np.linspace(0, len(RAMP) - 1, levels)
    ramp = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in RAMP], float)
    palette = np.stack([np.interp(places, np.arange(len(RAMP)), ramp[:, i]) for i in range(3)], axis=1)
    return np.vstack([np.round(palette), [[225, 225, 225]]]).astype(np.uint8)


def png_of(index: NDArray[np.uint8], colours: NDArray[np.uint8]) -> str:
    """Return an image as a data URI from indices into a table of colours, shape (n, 3)."""
    rows = np.hstack([np.zeros((len(index), 1), np.uint8), index]).tobytes()
    header = struct.pack(">IIBBBBB", index.shape[1], index.shape[0], 8, 3, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(rows, 4)),  # 9 takes twice as long for one percent
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def image(x: float, y: float, width: float, height: float, uri: str, *, crisp: bool = False) -> str:
    """Return an image in a picture, stretched over its area."""
    css = ' class="crisp"' if crisp else ""
    return (
        f'<image x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" '
        f'preserveAspectRatio="none"{css} href="{uri}"/>'
    )


def colour_bar(x: float, y: float, width: float, low: str, high: str, name: str) -> list[str]:
    """Return a horizontal bar of the colour scale with its ends and its name."""
    uri = png(np.linspace(0, 1, 64)[None, :])
    return [
        text(x - 6, y + 9, low, "e"),
        image(x, y, width, 10, uri),
        text(x + width + 6, y + 9, f"{high}  {name}"),
    ]
