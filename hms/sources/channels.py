"""Channel names: from the habits of files to the names used here, each with its reference.

One place for all sources. ``EEG FP1-REF``, ``Fp1.``, ``fp1-le`` and ``POL Fp1`` all name the electrode Fp1;
``FP1-F7`` names a derivation that the file has formed already, and keeps both of its electrodes. A name that
is not an electrode stays as it is, so that a montage of one's own can ask for it.

What an electrode was recorded against is kept: the difference of two electrodes means
what it says only where both have one reference.

References
----------
Acharya et al., American Clinical Neurophysiology Society Guideline 2: Standard Electrode
Position Nomenclature, J Clin Neurophysiol 33 (2016): the names of the 10-10 system, and
that T3, T4, T5, T6 of the 10-20 system are its T7, T8, P7, P8.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hms.competition import EKG_CHANNEL

UNSTATED = ""
"""Reference of a channel whose label states none."""

SHARED_BY = 3
"""From as many electrodes on, what they all are recorded against is their reference.

In a chain of pairs an electrode ends two at most: O1 ends T5-O1 and P3-O1.
"""

_ELECTRODE = re.compile(r"(fp|af|f|ft|fc|t|tp|c|cp|p|po|o|i)(z|10|[1-9])", re.IGNORECASE)
_EAR = re.compile(r"[am][12]", re.IGNORECASE)
_PREFIX = re.compile(r"^(eeg|pol|seeg)[\s_:.-]+", re.IGNORECASE)
_REFERENCES = {
    "AVG": r"ar|av|avg|ave|average|car",
    "A1A2": r"a1\W?a2|\(a1\+a2\)/2|a12",
    "M1M2": r"m1\W?m2|\(m1\+m2\)/2|m12",
    "REF": r"ref|reference",
}
"""Spellings of one reference; any other in `_KNOWN_REFERENCE` is itself, in capitals."""

_KNOWN_REFERENCE = re.compile(
    r"ref[0-9]|le|cle|ler|re|aa|[am][12]|vref|gnd|g[12]|org|" + "|".join(_REFERENCES.values()), re.IGNORECASE
)
_WORD = re.compile(r"[A-Za-z0-9+/()$]{1,12}")
_HEART = re.compile(r"(ekg|ecg)[\s_-]*([0-9]|l|r)?([\s_-]*(ref|le|ekg|ecg)[0-9]?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a file.

    Attributes
    ----------
    label : as the file spells it
    name : an electrode (``Fp1``; an ear or mastoid, ``A1``), a derivation (``Fp1-F7``), ``EKG``,
        or the label itself
    reference : what an electrode was recorded against (``REF``, ``A1``, ``Cz``); empty where
        the label does not say, and for what is not an electrode
    place : number of the channel in the file
    """

    label: str
    name: str
    reference: str
    place: int


@dataclass(frozen=True, slots=True)
class View:
    """Channels of a file that are read together.

    Attributes
    ----------
    keys : their keys in `Channels`
    names : names used here, each once
    references : what each was recorded against; empty where no label says
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Channels:
    """The channels of a file under the names used here.

    Attributes
    ----------
    keyed : each channel that is of use by a key of its own: its name, or, where an electrode
        is in the file against several references, ``T3-A1``
    labels : all labels of the file, in its order
    is_private : whether labels that mean nothing here must not be told
    """

    keyed: Mapping[str, Channel]
    labels: tuple[str, ...]
    is_private: bool = False

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the channels: those spelled as used here first, then by place."""
        return tuple(self.keyed)

    @cached_property
    def places(self) -> dict[str, int]:
        """Place in the file of each key."""
        return {key: channel.place for key, channel in self.keyed.items()}

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Labels that name no electrode, derivation or heart; without any EEG, ears do not either."""
        found = (c for c in self.keyed.values() if not _is_known(c.name) or self._is_lone_ear(c.name))
        ordered = sorted(found, key=lambda c: c.place)
        return tuple(f"channel {c.place + 1}" if self.is_private else c.label for c in ordered)

    def _is_lone_ear(self, name: str) -> bool:
        return not self.has_eeg and bool(_EAR.fullmatch(name))

    @cached_property
    def references(self) -> tuple[str, ...]:
        """References that electrodes of the file have, each once."""
        found = (c.reference for c in self.keyed.values() if is_electrode(c.name))
        return tuple(dict.fromkeys(found))

    @cached_property
    def n_eeg(self) -> int:
        """How many channels are electrodes or derivations."""
        return sum(is_electrode(c.name) or is_derivation(c.name) for c in self.keyed.values())

    @property
    def has_eeg(self) -> bool:
        """Whether any channel is an electrode or a derivation."""
        return self.n_eeg > 0

    def chosen(self, wanted: tuple[str, ...]) -> View:
        """Return those of the wanted channels that there are, one for each name.

        Of an electrode with several references the copy is taken whose reference most of its
        partners in the wanted pairs have too; of equal ones that which most electrodes of the
        file have, then the first in the file.
        """
        known = self._chosen.get(wanted)
        if known is None:
            keys = tuple(filter(None, (self._key_of(name, wanted) for name in wanted)))
            channels = [self.keyed[key] for key in keys]
            references = tuple(c.reference for c in channels)
            known = self._chosen[wanted] = View(
                keys, tuple(c.name for c in channels), references if any(references) else ()
            )
        return known

    @cached_property
    def _chosen(self) -> dict[tuple[str, ...], View]:
        return {}

    @cached_property
    def _copies(self) -> dict[str, list[str]]:
        """Keys of each name."""
        found: dict[str, list[str]] = {}
        for key, channel in self.keyed.items():
            found.setdefault(channel.name, []).append(key)
        return found

    def _key_of(self, name: str, wanted: tuple[str, ...]) -> str | None:
        keys = self._copies.get(name, [])
        return max(keys, key=lambda key: self._fitness(key, wanted), default=None)

    def _fitness(self, key: str, wanted: tuple[str, ...]) -> tuple[int, int, int]:
        """Return how well a copy goes with others: partners, electrodes of its reference, its age."""
        name, reference = self.keyed[key].name, self.keyed[key].reference
        pairs = (pair.split("-") for pair in wanted if name in pair.split("-"))
        partners = (part for pair in pairs for part in pair if part != name)
        n_shared = sum(reference in self._references_of(part) or part == reference for part in partners)
        of_reference = [c.place for c in self.keyed.values() if c.reference == reference]
        return n_shared, len(of_reference), -min(of_reference)

    def _references_of(self, name: str) -> list[str]:
        return [self.keyed[key].reference for key in self._copies.get(name, [])]


def is_electrode(name: str) -> bool:
    """Tell whether a name used here is that of an electrode on the scalp."""
    return _ELECTRODE.fullmatch(name) is not None


def is_derivation(name: str) -> bool:
    """Tell whether a name used here is that of a pair which the file has formed already."""
    anode, dash, cathode = name.partition("-")
    return bool(dash and is_electrode(anode) and is_electrode(cathode))


def _is_known(name: str) -> bool:
    return name == EKG_CHANNEL or bool(_EAR.fullmatch(name)) or is_electrode(name) or is_derivation(name)


def find_channels(labels: Sequence[str], aliases: Mapping[str, str]) -> Channels:
    """Return the channels of a file under the names used here.

    Two labels may mean one channel (T3 next to an alias T7, or a pair that a file repeats, as the CHB-MIT
    recordings repeat T8-P8). The one that is spelled as used here is taken, else the first; an electrode with
    two references is two channels. A label without a reference has that of the others, if these have one
    alone.

    Parameters
    ----------
    labels : as the file spells them: with prefix, reference, dots, in any letter case
    aliases : names in files to names used here; tried on the whole label first, then on the electrode in it
    """
    channels = _with_common_reference(_read_labels(tuple(labels), tuple(aliases.items())))
    by_name: dict[tuple[str, str], Channel] = {}
    for is_exact in (True, False):
        for channel in channels:
            if (channel.label == channel.name) == is_exact:
                by_name.setdefault((channel.name, channel.reference), channel)
    count = Counter(name for name, _ in by_name)
    return Channels(
        {name if count[name] == 1 else f"{name}-{ref or '?'}": c for (name, ref), c in by_name.items()},
        tuple(labels),
    )


def canonical_name(label: str, aliases: Mapping[str, str]) -> str:
    """Return the name used here of a channel that a file calls ``label``, seen alone."""
    return _read_labels((label,), tuple(aliases.items()))[0].name


def _with_common_reference(channels: Sequence[Channel]) -> list[Channel]:
    """Give electrodes whose labels state no reference that of the others, if there is one alone."""
    stated = {c.reference for c in channels if c.reference and is_electrode(c.name)}
    if len(stated) != 1:
        return list(channels)
    (common,) = stated
    return [
        Channel(c.label, c.name, common if is_electrode(c.name) else c.reference, c.place) for c in channels
    ]


@lru_cache(maxsize=256)
def _read_labels(labels: tuple[str, ...], aliases: tuple[tuple[str, str], ...]) -> tuple[Channel, ...]:
    """Return name and reference of each label; which words are references follows from all of them."""
    names = dict(aliases)
    split = [_anode_and_rest(label, names) for label in labels]
    shared = _shared(split)
    return tuple(
        Channel(label, *_named(label, anode, rest, shared), place)
        for place, (label, (anode, rest)) in enumerate(zip(labels, split, strict=True))
    )


def _anode_and_rest(label: str, aliases: Mapping[str, str]) -> tuple[str | None, str]:
    """Return what a label names, None if that is nothing known, and what it is recorded against."""
    if label in aliases:
        return aliases[label], UNSTATED
    bare = _PREFIX.sub("", label.strip()).strip(" .")
    if _HEART.fullmatch(bare):
        return aliases.get(EKG_CHANNEL, EKG_CHANNEL), UNSTATED
    parts = _parts(bare)
    if len(parts) == 1 and (found := _beside_a_slash(bare, aliases)) is not None:
        return found
    anode = _electrode(parts[0], aliases)
    if anode is None or len(parts) > 2:
        return None, UNSTATED
    if len(parts) == 1:
        return anode, UNSTATED
    rest = _known_reference(parts[1]) or _electrode(parts[1], aliases)
    return anode, rest or f"?{parts[1]}"


def _beside_a_slash(bare: str, aliases: Mapping[str, str]) -> tuple[str, str] | None:
    """Read ``C3/A2``, ``C3:A2`` and ``T3/T7``, two names of one electrode; ``Fp1/F7`` need not be a pair."""
    found = re.fullmatch(r"([^/:]+?)\s*[/:]\s*([^/:]+)", bare)
    name = _electrode(found[1], aliases) if found else None
    if found is None or name is None:
        return None
    if _electrode(found[2], aliases) == name:
        return name, UNSTATED
    reference = _known_reference(found[2])
    return None if reference is None else (name, reference)


def _shared(split: Sequence[tuple[str | None, str]]) -> set[str]:
    """Return what enough electrodes are recorded against to be a reference."""
    pairs = {(anode, rest) for anode, rest in split if anode is not None and rest}
    count = Counter(rest for _, rest in pairs)
    return {rest for rest, n in count.items() if n >= SHARED_BY}


def _named(label: str, anode: str | None, rest: str, shared: set[str]) -> tuple[str, str]:
    """Return the name used here and the reference of a label that was split."""
    if anode is None:
        return label, UNSTATED
    if not rest or not (is_electrode(rest) or rest.startswith("?")):
        return anode, rest
    if rest in shared and (is_electrode(rest) or _WORD.fullmatch(rest[1:])):
        return anode, rest.removeprefix("?")
    return (f"{anode}-{rest}", UNSTATED) if is_electrode(rest) else (label, UNSTATED)


def _parts(bare: str) -> list[str]:
    """Split at the dash; the number of a repeated pair is not part."""
    parts = [part.strip(" .") for part in re.split(r"\s*-\s*|(?<=\w)[_ ](?=\w)", bare)]
    return parts[:2] if len(parts) == 3 and parts[2].isdigit() else parts


def _known_reference(part: str) -> str | None:
    """Return the one spelling of a reference, None if it is not known as one."""
    if not _KNOWN_REFERENCE.fullmatch(part):
        return None
    alike = (name for name, spelling in _REFERENCES.items() if re.fullmatch(spelling, part, re.IGNORECASE))
    return next(alike, part.upper())


def _electrode(part: str, aliases: Mapping[str, str]) -> str | None:
    if part in aliases:
        return aliases[part]
    found = _ELECTRODE.fullmatch(part)
    if found is None:
        return aliases.get(part.upper(), part.upper()) if _EAR.fullmatch(part) else None
    region, place = found.groups()
    name = ("Fp" if region.lower() == "fp" else region.upper()) + place.lower()
    return aliases.get(name, name)
