"""Colours and names of the report's pictures.

References
----------
M. Okabe, K. Ito, "Color Universal Design" (2008): eight colours that readers with any
common colour vision tell apart; the classes take six of them. The ramp is viridis
(S. van der Walt, N. Smith, matplotlib 1.5), even in lightness and readable in grey.
"""

from __future__ import annotations

from hms.competition import CLASS_NAMES

__all__ = ["CLASS_COLOURS", "GRADES", "GRADE_COLOURS", "GRID_LINE", "INK", "MARK", "MUTED", "RAMP"]

CLASS_COLOURS = ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#8a8a8a")
"""One per class, in the order of `hms.competition.CLASSES`."""

assert len(CLASS_COLOURS) == len(CLASS_NAMES)

GRADES = ("good", "usable", "poor", "unusable")
GRADE_COLOURS = ("#b8dcee", "#5aa6cf", "#e69f00", "#9c3a00")
"""Lighter is better; blue against orange."""

INK = "#1c2733"
MUTED = "#5b6875"
GRID_LINE = "#d9dee3"
MARK = "#b3261e"

RAMP = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e",
    "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
