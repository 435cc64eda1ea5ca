"""Montages: electrodes to derivations, and derivations to the rows of the output.

A derivation is the difference of two electrodes, written ``anode-cathode``; a chain is a run of derivations
from front to back. Derivations keep what chains blur: the mean of a chain's four *signals* telescopes to
``(Fp1-O1)/4`` and is the same for the lateral and the parasagittal chain of a side. So power is averaged over
a chain's pairs (`output_groups`), and waveforms have reductions of their own (`hms.signal.waveform`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS
from hms.registry import Group, Params, register
from hms.terminal import listed

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Chains = tuple[tuple[str, tuple[str, ...]], ...]
"""Chains in output order: (name, derivations from front to back)."""

NOTHING = -1
"""Row that stands for the reference of an electrode, which is zero."""


@dataclass(frozen=True)
class Montage(Params):
    """Chains of derivations, what becomes a row of the output, and how waveforms are reduced.

    Attributes
    ----------
    chains : derivations by chain, front to back, in output order
    output : whether a row is a chain or a derivation
    waveform : how the pairs of a chain become one signal
    allow_degenerate : whether to allow a waveform that makes the chains of a side equal
    """

    chains: Chains
    output: Literal["chains", "derivations"]
    waveform: Annotated[Params, Group("waveform")]
    allow_degenerate: bool

    def __post_init__(self) -> None:
        self._check_chains()
        if self.output == "chains" and self.waveform.kind == "mean" and not self.allow_degenerate:
            raise ValueError(
                "waveform 'mean' averages a chain's signals, which telescopes to its ends: (Fp1-O1)/4 for LL "
                "as for LP, so that LL equals LP and RL equals RP; choose another waveform "
                "(principal, anterior, posterior, curvature), or set montage.allow_degenerate=true"
            )

    def _check_chains(self) -> None:
        check_names(self.chains, "derivation", "Fp1-F7", parts=2)

    @property
    def optional(self) -> tuple[str, ...]:
        """Channels that are read as well, if the recording has them."""
        return ()

    @property
    def derivations(self) -> tuple[str, ...]:
        """Names of all derivations, chain after chain."""
        return all_derivations(self.chains)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the rows of the output: chains or derivations."""
        return tuple(name for name, _ in self.chains) if self.output == "chains" else self.derivations


@lru_cache(maxsize=32)
def all_derivations(chains: Chains) -> tuple[str, ...]:
    """Return the names of all derivations, chain after chain."""
    return tuple(name for _, pairs in chains for name in pairs)


def check_names(chains: Chains, what: str, example: str, *, parts: int) -> None:
    """Check the names of chains and of their members.

    Raises `ValueError` if there is none, one is written otherwise, or one is listed twice.

    Parameters
    ----------
    what : what a member is: a derivation, or an electrode
    example : a member, for messages
    parts : electrodes in the name of a member, joined by dashes
    """
    if not chains:
        raise ValueError(f"chains must name at least one chain of {what}s; got none")
    for chain, names in chains:
        if not names:
            raise ValueError(f"chains: chain {chain} has no {what}; list at least one, such as {example}")
        for name in names:
            _check_name(chain, name, what, example, parts)
    for kind, given in (("chain", [name for name, _ in chains]), (what, all_derivations(chains))):
        twice = sorted({name for name in given if list(given).count(name) > 1})
        if twice:
            raise ValueError(f"chains: {kind} {', '.join(twice)} is listed more than once")


def _check_name(chain: str, name: str, what: str, example: str, parts: int) -> None:
    found = name.split("-")
    is_plain = all(part == part.strip() and part for part in found)
    if len(found) != parts or not is_plain or len(set(found)) != parts:
        form = "write anode-cathode, such as" if parts == 2 else "write its name alone, such as"
        raise ValueError(f"chains: '{name}' in chain {chain} is no {what}; {form} {example}")


@lru_cache(maxsize=32)
def electrodes(chains: Chains) -> tuple[str, ...]:
    """Return the electrodes of all derivations, see `electrodes_of`."""
    return electrodes_of(all_derivations(chains))


def electrodes_of(derivations: Sequence[str]) -> tuple[str, ...]:
    """Return the electrodes of derivations: in the order of the competition's files, then others."""
    return _in_file_order(dict.fromkeys(part for name in derivations for part in name.split("-")))


def _in_file_order(names: Collection[str]) -> tuple[str, ...]:
    known = tuple(name for name in EEG_CHANNELS if name in names)
    return known + tuple(name for name in names if name not in known)


@lru_cache(maxsize=64)
def find_sources(
    channels: tuple[str, ...], derivations: tuple[str, ...], references: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the channels that derivations are formed from, and the derivations that cannot be.

    A derivation is the difference of its two electrodes, if both have one reference; an
    electrode alone, recorded against the other; or a channel of the derivation's name, which a
    bipolar recording has. Electrodes are preferred.

    Parameters
    ----------
    channels : names of the channels there are
    derivations : names ``anode-cathode``
    references : reference of each channel; empty where all have the same

    Returns
    -------
    needed : electrodes in the order of the competition's files, then others, then formed derivations
    lacking : derivations without a source
    """
    needed: dict[str, None] = {}
    lacking = []
    for name in derivations:
        terms = _terms(name, channels, references)
        needed |= dict.fromkeys(term for term in terms or () if term is not None)
        if terms is None:
            lacking.append(name)
    return _in_file_order(needed), tuple(lacking)


def _terms(
    name: str, channels: tuple[str, ...], references: tuple[str, ...]
) -> tuple[str | None, str | None] | None:
    """Return the two channels whose difference is the derivation, None for zero; None if it has no source."""
    anode, dash, cathode = name.partition("-")
    if not dash:
        return (name, None) if name in channels else None
    against = dict(zip(channels, references, strict=True)) if references else {}
    if against.get(anode) == cathode:
        return anode, None
    if against.get(cathode) == anode:
        return None, cathode
    has_both = anode in channels and cathode in channels
    if has_both and against.get(anode, "") == against.get(cathode, ""):
        return anode, cathode
    return (name, None) if name in channels else None


def what_lacks(
    lacking: Sequence[str],
    wanted: Sequence[str],
    channels: Sequence[str],
    references: Sequence[str],
    unknown: Sequence[str],
) -> str:
    """Return which derivations a recording lacks, why, what it has instead, and what can be done.

    Parameters
    ----------
    lacking, wanted : derivations that cannot be formed, and all
    channels, references : the wanted channels that the recording has, and what each is against
    unknown : labels of the recording that are not known
    """
    kind = "pairs" if any("-" in name for name in wanted) else "electrodes"
    shown = listed(lacking) if len(lacking) < len(wanted) else f"any of its {len(wanted)} {kind}"
    differing = _differing(lacking, channels, references)
    absent = [name for name in electrodes_of(lacking) if name not in channels]
    why = f": {differing}" if differing else ""
    parts = [f"the recording lacks what the montage needs for {shown}{why}"]
    parts += [f"it has {', '.join(channels) or 'none of the known names'}"]
    parts += [f"labels that are not known: {listed(unknown, 20)}"] if unknown else []
    remedies = []
    if absent and len(unknown) * 2 >= len(absent):
        remedies.append(f"{_alias(unknown[0], absent[0])} says what a label means")
    if len(lacking) < len(wanted):
        remedies.append(f"data.missing=dead counts such {kind} as dead: every chain must keep one")
    elif not remedies and not differing:
        remedies.append("choose a montage of what it has; take it out of the folder if it is no EEG")
    return "; ".join(parts + remedies)


_ESCAPED = re.compile(r"([(),:=\[\]{}])")
_UNTYPED = re.compile(r"[^\x20-\x7e]|[!\"#&';<>^`~]")
"""What a name may hold only after a backslash, and not at all, in an override of Hydra's."""


def _alias(label: str, name: str) -> str:
    """Return how a label is given a name: as an override where one can hold it, else as a YAML."""
    if _UNTYPED.search(label):
        quoted = json.dumps(label, ensure_ascii=False)
        return f"aliases: {{{quoted}: {name}}} in a YAML of your own (docs/sources.md)"
    escaped = _ESCAPED.sub(r"\\\1", label)
    return f"'data.aliases={{{escaped}: {name}}}'"


def _differing(lacking: Sequence[str], channels: Sequence[str], references: Sequence[str]) -> str:
    """Return which of the lacking derivations are not formed because their references differ, "" if none."""
    stated = (reference or "one not stated" for reference in references)
    against = dict(zip(channels, stated, strict=True)) if references else {}
    pairs = {name: name.split("-") for name in lacking}
    texts = [
        f"{name} ({' and '.join(f'{part} against {against[part]}' for part in pair)})"
        for name, pair in pairs.items()
        if len(pair) == 2 and all(part in against for part in pair)
    ]
    return f"the references differ in {listed(texts, 3)}" if texts else ""


@lru_cache(maxsize=64)
def pair_rows(
    channels: tuple[str, ...], derivations: tuple[str, ...], references: tuple[str, ...]
) -> NDArray[np.intp]:
    """Return the rows of anodes and cathodes, shape (2, n_derivations), `NOTHING` where there is none.

    Raises `ValueError` if a derivation has no source among ``channels``, see `find_sources`.
    """
    _, missing = find_sources(channels, derivations, references)
    if missing:
        lacking = {part: name for name in missing for part in name.split("-") if part not in channels}
        text = ", ".join(f"'{part}' (for {name})" for part, name in lacking.items())
        differing = _differing(missing, channels, references)
        wanted = f"montage needs channel {text}" if text else differing
        raise ValueError(f"{wanted}, but the recording has {', '.join(channels)}")
    terms = (_terms(name, channels, references) or (None, None) for name in derivations)
    rows = [[NOTHING if term is None else channels.index(term) for term in pair] for pair in terms]
    found = np.array(rows, np.intp)
    found.flags.writeable = False
    return found.reshape(-1, 2).T


@register("montage", "bipolar", Montage)
def derive(
    eeg: Array, channels: Sequence[str], derivations: Sequence[str], references: Sequence[str] = ()
) -> Array:
    """Return anode minus cathode for each derivation, or the channel that is the derivation already.

    Raises `ValueError` if a derivation has no source among ``channels``, see `find_sources`.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        A NaN in either electrode is a NaN in the derivation.
    channels : names of the rows of ``eeg``
    derivations : names ``anode-cathode``
    references : reference of each row; empty where all have the same

    Returns
    -------
    float32, shape (n_derivations, n_samples), µV
    """
    anodes, cathodes = pair_rows(tuple(channels), tuple(derivations), tuple(references))
    derived = np.empty((anodes.size, eeg.shape[1]), np.float32)
    for row, anode, cathode in zip(derived, anodes, cathodes, strict=True):
        if cathode == NOTHING:
            row[:] = eeg[anode]
        elif anode == NOTHING:
            np.negative(eeg[cathode], out=row)
        else:
            np.subtract(eeg[anode], eeg[cathode], out=row)
    return derived


def alive_derivations(
    dead: Mask, channels: Sequence[str], derivations: Sequence[str], references: Sequence[str] = ()
) -> Mask:
    """Tell which derivations are formed of live channels alone.

    Raises `ValueError` if a derivation has no source among ``channels``, see `find_sources`.

    Parameters
    ----------
    dead : bool, shape (n_channels,)
        True for an electrode without signal.
    channels : names of the electrodes
    derivations : names ``anode-cathode``
    references : reference of each channel; empty where all have the same

    Returns
    -------
    bool, shape (n_derivations,)
    """
    anodes, cathodes = pair_rows(tuple(channels), tuple(derivations), tuple(references))
    known_dead = np.append(dead, False)  # row `NOTHING`, the last
    alive: Mask = ~(known_dead[anodes] | known_dead[cathodes])
    return alive


def output_groups(chains: Chains, output: str, alive: Mask) -> tuple[tuple[int, ...], ...]:
    """Return the live derivations that each row of the output averages.

    Parameters
    ----------
    chains : chains of the montage
    output : "chains" or "derivations"
    alive : bool, shape (n_derivations,)

    Returns
    -------
    tuple of tuples of int
        Row numbers of derivations: one tuple per chain, or one per derivation. A row with
        nothing alive has an empty tuple; whether that excludes the recording is the caller's.
    """
    return _output_groups(chains, output, tuple(alive.tolist()))


@lru_cache(maxsize=64)
def _output_groups(chains: Chains, output: str, alive: tuple[bool, ...]) -> tuple[tuple[int, ...], ...]:
    if output == "derivations":
        return tuple((i,) if is_alive else () for i, is_alive in enumerate(alive))
    return tuple(tuple(i for i in rows if alive[i]) for rows in _chain_rows(chains))


def _chain_rows(chains: Chains) -> list[range]:
    """Row numbers of the derivations of each chain."""
    ends = np.cumsum([len(pairs) for _, pairs in chains]).tolist()
    return [range(end - len(pairs), end) for end, (_, pairs) in zip(ends, chains, strict=True)]
