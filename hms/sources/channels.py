"""Channel names: from the habits of files to the names used here.

One place for all sources. ``EEG FP1-REF``, ``Fp1.``, ``fp1-le`` and ``POL Fp1`` all name
the electrode Fp1; ``FP1-F7`` names a derivation that the file has formed already, and
keeps both of its electrodes. A name that is no electrode stays as it is, so that a
montage of one's own can ask for it.

References
----------
Acharya et al., American Clinical Neurophysiology Society Guideline 2: Standard Electrode
Position Nomenclature, J Clin Neurophysiol 33 (2016): the names of the 10-10 system, and
that T3, T4, T5, T6 of the 10-20 system are its T7, T8, P7, P8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hms.competition import EKG_CHANNEL

__all__ = ["canonical_name", "find_channels", "is_derivation"]

_ELECTRODE = re.compile(r"(fp|af|f|ft|fc|t|tp|c|cp|p|po|o|i)(z|10|[1-9])", re.IGNORECASE)
_PREFIX = re.compile(r"^(eeg|pol|seeg)[\s_:.-]+", re.IGNORECASE)
_REFERENCE = re.compile(
    r"(ref[0-9]?|reference|le|re|ar|av|avg|ave|average|car|[am][12]|a1[+/]?a2|m1[+/]?m2|gnd|g[12]|org)",
    re.IGNORECASE,
)
_HEART = re.compile(r"(ekg|ecg)[\s_-]*([0-9]|l|r)?([\s_-]*(ref|le|ekg|ecg)[0-9]?)?", re.IGNORECASE)


def is_derivation(name: str) -> bool:
    """Tell whether a name used here is that of a pair which the file has formed already."""
    anode, dash, cathode = name.partition("-")
    return bool(dash and _ELECTRODE.fullmatch(anode) and _ELECTRODE.fullmatch(cathode))


def canonical_name(label: str, aliases: Mapping[str, str]) -> str:
    """Return the name used here of a channel that a file calls ``label``.

    Parameters
    ----------
    label : str
        As the file spells it: with prefix, reference, dots, in any letter case.
    aliases : mapping
        Names in files to names used here; tried on the whole label first, then on the
        electrode that was found in it.

    Returns
    -------
    str
        An electrode (``Fp1``), a derivation (``Fp1-F7``), ``EKG``, or the label itself.
    """
    if label in aliases:
        return aliases[label]
    bare = _PREFIX.sub("", label.strip()).strip(" .")
    if _HEART.fullmatch(bare):
        return aliases.get(EKG_CHANNEL, EKG_CHANNEL)
    parts = _parts(bare)
    names = [_electrode(part, aliases) for part in parts]
    if len(names) == 1 and names[0] is not None:
        return names[0]
    if len(names) == 2 and names[0] is not None and names[1] is not None:
        return f"{names[0]}-{names[1]}"
    return label


def _parts(bare: str) -> list[str]:
    """Split at the dash; a reference, and the number of a repeated pair, are no electrode."""
    parts = [part.strip(" .") for part in re.split(r"\s*-\s*|(?<=\w)[_ ](?=\w)", bare)]
    if len(parts) == 3 and parts[2].isdigit():
        parts = parts[:2]
    return parts[:1] if len(parts) == 2 and _REFERENCE.fullmatch(parts[1]) else parts


def _electrode(part: str, aliases: Mapping[str, str]) -> str | None:
    if part in aliases:
        return aliases[part]
    found = _ELECTRODE.fullmatch(part)
    if found is None:
        return None
    region, place = found.groups()
    name = ("Fp" if region.lower() == "fp" else region.upper()) + place.lower()
    return aliases.get(name, name)


def find_channels(labels: Sequence[str], aliases: Mapping[str, str]) -> dict[str, int]:
    """Return the names used here, each with the place of its channel in the file.

    Two labels may mean one channel (T3 beside an alias T7, or a pair that a file repeats,
    as the CHB-MIT recordings repeat T8-P8). The one that is spelled as used here is taken,
    else the first.
    """
    names = [canonical_name(label, aliases) for label in labels]
    found: dict[str, int] = {}
    for is_exact in (True, False):
        for place, (label, name) in enumerate(zip(labels, names, strict=True)):
            if (label == name) == is_exact:
                found.setdefault(name, place)
    return found
