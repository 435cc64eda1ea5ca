"""Colours and names of the report's pictures.

References
----------
M. Okabe, K. Ito, "Color Universal Design" (2008): eight colours that readers with any
common colour vision tell apart; the classes take them in turn. The ramp is viridis
(S. van der Walt, N. Smith, matplotlib 1.5), even in lightness and readable in grey.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

CLASS_COLOURS = ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#8a8a8a")
"""Of the competition's six classes, in their order; two of them also draw what belongs to no class."""

MORE_COLOURS = ("#cc79a7", "#f0e442")
"""The two others of the eight; the eighth is black, which draws text."""


@lru_cache(maxsize=8)
def class_colours(n_classes: int) -> tuple[str, ...]:
    """Return a colour for each class: the eight that all readers tell apart, then evenly spaced hues."""
    known = (*CLASS_COLOURS, *MORE_COLOURS)
    extra = n_classes - len(known)
    hues = [colorsys.hls_to_rgb(i / max(extra, 1), 0.45, 0.5) for i in range(extra)]
    return (*known, *("#" + "".join(f"{round(255 * v):02x}" for v in rgb) for rgb in hues))[:n_classes]


GRADE_COLOURS = ("#b8dcee", "#5aa6cf", "#e69f00", "#9c3a00")
"""Lighter is better; blue against orange."""

INK = "#1c2733"
MUTED = "#5b6875"
MARK = "#b3261e"

RAMP = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e",
    "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
