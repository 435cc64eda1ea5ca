"""Units of voltage: from the spellings of files to a factor into µV. One place for all sources."""

from __future__ import annotations

import re

UNITS = ("nV", "uV", "mV", "V")
"""Units as messages and settings spell them."""

_FACTORS = {"n": 1e-3, "u": 1.0, "m": 1e3, "": 1e6}
_PREFIXES = {"nano": "n", "micro": "u", "mu": "u", "milli": "m"}
# A header cuts "MicroVolt" to its 8 characters.
_VOLTS = re.compile(r"(nano|micro|milli|mu|n|u|m)?\s*(v|vol|volts?)", re.IGNORECASE)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def unit_text(raw: bytes) -> str:
    """Return a unit's text from the bytes of a header.

    Of the prefixes that a volt can have, µ alone is not ASCII, so any bytes beyond ASCII before
    a ``V`` are a µ in some encoding: latin-1 (b5), Greek (ec, ce bc in UTF-8), UTF-8 (c2 b5),
    Shift-JIS (83 ca), the IBM code pages (e6), or one of these encoded twice.
    """
    text = raw.replace(b"\0", b" ").decode("latin-1").strip(" .")
    return _with_plain_mu(text)


def scale_uv(unit: str) -> float:
    """Return what one of a unit is in µV: 1000 for mV; letter case does not matter.

    Raises `ValueError` if it is not a unit of voltage; the text names those that are known.
    """
    found = _VOLTS.fullmatch(_with_plain_mu(unit.strip(" .")))
    if found is None:
        raise ValueError(f"its unit is '{unit}', not one of {', '.join(UNITS)}")
    prefix = (found[1] or "").lower()
    return _FACTORS[_PREFIXES.get(prefix, prefix)]


def _with_plain_mu(text: str) -> str:
    """Write a prefix beyond ASCII as u."""
    prefix = _NOT_ASCII.match(text)
    return f"u{text[prefix.end() :]}" if prefix and text[prefix.end() :].lower().startswith("v") else text
