r"""Annotations of EDF+ and BDF+, and when the data records of an interrupted file were recorded.

A list of annotations (TAL) is ``+onset[\x15duration]\x14text\x14text\x14\0``. The first list of a data record
has no text, as in ``+567\x14\x14``: its onset says when the record starts.

References
----------
Kemp & Olivan, European data format 'plus' (EDF+), an EDF alike standard format for the exchange of
physiological data, Clin Neurophysiol 114 (2003), sections 2.2 and 2.2.4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hms.competition import SFREQ_HZ
from hms.errors import Unusable

TOLERANCE_S = Fraction(1, 2) / Fraction(SFREQ_HZ)
"""Half a sample: what two records may lie apart and still follow each other."""

_TAL = re.compile(rb"([+-]\d+(?:[.,]\d*)?)(?:\x15(\d*(?:[.,]\d*)?))?\x14([^\x00]*)\x00")
_ONSET = re.compile(rb"\s*([+-]?[0-9]+(?:[.,][0-9]*)?)(?:\x15[0-9.]*)?\x14")


@dataclass(frozen=True)
class Stretch:
    """Data records that follow each other.

    Attributes
    ----------
    first, stop : number of its first record, and of the first after it
    start_s : when it begins, s from the start of the recording
    """

    first: int
    stop: int
    start_s: Fraction


def onset_of(tal: bytes) -> Fraction:
    """Return the onset that a data record's annotations begin with, s.

    Raises `Unusable` if they begin with none.
    """
    found = _ONSET.match(tal)
    if found is None:
        raise Unusable("the recording is interrupted (EDF+D), and a data record does not say when it begins")
    return Fraction(found[1].decode("ascii").replace(",", "."))


def stretches_of(onsets: Sequence[Fraction], record_s: Fraction) -> tuple[Stretch, ...]:
    """Return the stretches of data records that follow each other, from the onset of each.

    Raises `Unusable` if records overlap or are in another order than that of time.
    """
    starts = [0]
    for number in range(1, len(onsets)):
        apart = onsets[number] - onsets[number - 1] - record_s
        if apart < -TOLERANCE_S:
            raise Unusable(
                f"data records overlap: number {number + 1} begins at {float(onsets[number]):g} s, "
                f"the one before ends at {float(onsets[number - 1] + record_s):g} s"
            )
        if apart > TOLERANCE_S:
            starts.append(number)
    stops = [*starts[1:], len(onsets)]
    return tuple(
        Stretch(first, stop, onsets[first] - onsets[0]) for first, stop in zip(starts, stops, strict=True)
    )


# --- texts ---------------------------------------------------------------------------------------


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
