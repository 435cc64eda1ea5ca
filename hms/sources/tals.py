r"""Annotations of EDF+ and BDF+: lists of texts with a time, between the samples.

A list is in an annotation signal as ``+onset[\x15duration]\x14text\x14text\x14\0``. The
first list of a data record has no text: its onset says when the record starts.

References
----------
Kemp & Olivan, European data format 'plus' (EDF+), an EDF alike standard format for the
exchange of physiological data, Clin Neurophysiol 114 (2003), section 2.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAL = re.compile(rb"([+-]\d+(?:[.,]\d*)?)(?:\x15(\d*(?:[.,]\d*)?))?\x14([^\x00]*)\x00")


@dataclass(frozen=True, slots=True)
class Tal:
    """Texts at a time.

    Attributes
    ----------
    onset_s : s from the start of the file
    duration_s : None where none is stated
    texts : empty where the list only tells when its record starts
    """

    onset_s: float
    duration_s: float | None
    texts: tuple[str, ...]


def parse_tals(data: bytes) -> list[Tal]:
    """Return the lists in the bytes of an annotation signal, in order; anything else is skipped.

    Texts are UTF-8; bytes that are not are read as Latin-1, as older software writes them.
    """
    found = []
    for onset, duration, texts in _TAL.findall(data + b"\0"):
        parts = [part for part in texts.split(b"\x14") if part]
        found.append(Tal(_number(onset), _number(duration) if duration else None, tuple(map(_text, parts))))
    return found


def _number(text: bytes) -> float:
    return float(text.decode("ascii").replace(",", "."))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return data.decode("latin-1").strip()
