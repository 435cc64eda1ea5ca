"""Montages: electrodes to derivations, and derivations to the rows of the output.

A derivation is the difference of two electrodes, written ``anode-cathode``; a chain is a
run of derivations from front to back. Derivations keep what chains blur: the mean of a
chain's four *signals* telescopes to ``(Fp1-O1)/4`` and is the same for the lateral and the
parasagittal chain of a side. So power is averaged over a chain's pairs (`output_groups`),
and waveforms have reductions of their own (`hms.signal.waveform`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from hms.competition import EEG_CHANNELS
from hms.registry import Group, Params, register

__all__ = [
    "Chains",
    "Montage",
    "alive_derivations",
    "all_derivations",
    "bipolar",
    "derive",
    "electrodes",
    "electrodes_of",
    "find_sources",
    "output_groups",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Chains = tuple[tuple[str, tuple[str, ...]], ...]
"""Chains in output order: (name, derivations from front to back)."""


@dataclass(frozen=True)
class Montage(Params):
    """Chains of derivations, what becomes a row of the output, and how waveforms are reduced."""

    chains: Chains
    output: Literal["chains", "derivations"]
    waveform: Annotated[Params, Group("waveform")]
    allow_degenerate: bool

    def __post_init__(self) -> None:
        _check_chains(self.chains)
        if self.output == "chains" and self.waveform.kind == "mean" and not self.allow_degenerate:
            raise ValueError(
                "waveform 'mean' averages a chain's signals, which telescopes to its ends: (Fp1-O1)/4 for LL "
                "as for LP, so that LL equals LP and RL equals RP; choose another waveform "
                "(principal, anterior, posterior, curvature), or set montage.allow_degenerate=true"
            )

    @property
    def derivations(self) -> tuple[str, ...]:
        """Names of all derivations, chain after chain."""
        return all_derivations(self.chains)

    @property
    def chain_of(self) -> tuple[str, ...]:
        """Name of the chain of each derivation."""
        return tuple(chain for chain, pairs in self.chains for _ in pairs)

    @property
    def channels(self) -> tuple[str, ...]:
        """Electrodes the derivations need, in the order of the competition's files."""
        return electrodes(self.chains)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the rows of the output: chains or derivations."""
        return tuple(name for name, _ in self.chains) if self.output == "chains" else self.derivations


@register("montage", "bipolar", Montage)
def bipolar(eeg: Array, channels: Sequence[str], params: Montage) -> Array:
    """Return the montage's derivations of a recording; see `derive`."""
    return derive(eeg, channels, params.derivations)


def all_derivations(chains: Chains) -> tuple[str, ...]:
    """Return the names of all derivations, chain after chain."""
    return tuple(name for _, pairs in chains for name in pairs)


def _check_chains(chains: Chains) -> None:
    if not chains:
        raise ValueError("chains must name at least one chain of derivations; got none")
    for chain, pairs in chains:
        if not pairs:
            raise ValueError(f"chains: chain {chain} has no derivation; list at least one, such as Fp1-F7")
        for name in pairs:
            _check_derivation(chain, name)
    for what, names in (("chain", [name for name, _ in chains]), ("derivation", all_derivations(chains))):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ValueError(f"chains: {what} {', '.join(twice)} is listed more than once")


def _check_derivation(chain: str, name: str) -> None:
    parts = name.split("-")
    if len(parts) != 2 or not all(part == part.strip() and part for part in parts) or parts[0] == parts[1]:
        raise ValueError(
            f"chains: '{name}' in chain {chain} is no derivation; write anode-cathode, such as Fp1-F7"
        )


@lru_cache(maxsize=32)
def electrodes(chains: Chains) -> tuple[str, ...]:
    """Return the electrodes of all derivations, see `electrodes_of`."""
    return electrodes_of(all_derivations(chains))


def electrodes_of(derivations: Sequence[str]) -> tuple[str, ...]:
    """Return the electrodes of derivations: in the order of the competition's files, then others."""
    needed = dict.fromkeys(part for name in derivations for part in name.split("-"))
    known = tuple(name for name in EEG_CHANNELS if name in needed)
    return known + tuple(name for name in needed if name not in known)


@lru_cache(maxsize=32)
def find_sources(
    channels: tuple[str, ...], derivations: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the channels that derivations are formed from, and the derivations that cannot be.

    A derivation is the difference of its two electrodes, or a channel of its own name: a
    bipolar recording has formed it already. Electrodes are preferred.

    Returns
    -------
    needed : electrodes in the order of the competition's files, then others, then formed derivations
    lacking : derivations without a source
    """
    needed: dict[str, None] = {}
    lacking = []
    for name in derivations:
        pair = name.split("-")
        if all(part in channels for part in pair):
            needed |= dict.fromkeys(pair)
        elif name in channels:
            needed[name] = None
        else:
            lacking.append(name)
    known = tuple(name for name in EEG_CHANNELS if name in needed)
    return known + tuple(name for name in needed if name not in known), tuple(lacking)


@lru_cache(maxsize=32)
def _pair_rows(channels: tuple[str, ...], derivations: tuple[str, ...]) -> NDArray[np.intp]:
    """Rows of anodes and cathodes, shape (2, n_derivations); a formed derivation is both of its own."""
    _, missing = find_sources(channels, derivations)
    if missing:
        lacking = {part: name for name in missing for part in name.split("-") if part not in channels}
        text = ", ".join(f"'{part}' (for {name})" for part, name in lacking.items())
        raise ValueError(f"montage needs channel {text}, but the recording has {', '.join(channels)}")
    rows = np.array([_rows_of(name, channels) for name in derivations], np.intp)
    rows.flags.writeable = False
    return rows.reshape(-1, 2).T


def _rows_of(name: str, channels: tuple[str, ...]) -> list[int]:
    pair = name.split("-")
    return [channels.index(part) for part in (pair if all(p in channels for p in pair) else [name, name])]


def derive(eeg: Array, channels: Sequence[str], derivations: Sequence[str]) -> Array:
    """Return anode minus cathode for each derivation, or the channel that is the derivation already.

    Parameters
    ----------
    eeg : float32, shape (n_channels, n_samples), µV
        A NaN in either electrode is a NaN in the derivation.
    channels : names of the rows of ``eeg``
    derivations : names ``anode-cathode``

    Returns
    -------
    float32, shape (n_derivations, n_samples), µV

    Raises
    ------
    ValueError
        If neither both electrodes nor the derivation are among ``channels``.
    """
    anodes, cathodes = _pair_rows(tuple(channels), tuple(derivations))
    derived = np.empty((anodes.size, eeg.shape[1]), np.float32)
    for row, anode, cathode in zip(derived, anodes, cathodes, strict=True):
        if anode == cathode:
            row[:] = eeg[anode]
        else:
            np.subtract(eeg[anode], eeg[cathode], out=row)
    return derived


def alive_derivations(dead: Mask, channels: Sequence[str], derivations: Sequence[str]) -> Mask:
    """Tell which derivations have two live electrodes.

    Parameters
    ----------
    dead : bool, shape (n_channels,)
        True for an electrode without signal.
    channels : names of the electrodes
    derivations : names ``anode-cathode``

    Returns
    -------
    bool, shape (n_derivations,)

    Raises
    ------
    ValueError
        If neither both electrodes nor the derivation are among ``channels``.
    """
    anodes, cathodes = _pair_rows(tuple(channels), tuple(derivations))
    alive: Mask = ~(dead[anodes] | dead[cathodes])
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
