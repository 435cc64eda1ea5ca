"""Waveforms: the derivations of a chain reduced to one signal in µV.

A reduction takes the live pairs of a chain from front to back, at least two (float32, shape (n_pairs,
n_samples), µV), and no settings; it returns float32, shape (n_samples,), µV. So one rule serves chains of any
length and chains with a dead electrode. A chain with a single live pair is that pair, whatever the reduction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.registry import Params, lookup, register
from hms.signal.montage import Chains, output_groups

Array = NDArray[np.float32]


def reduce_waveforms(
    derivations: Array, alive: NDArray[np.bool_], *, chains: Chains, output: str, waveform: Params
) -> Array:
    """Return one signal per chain, or the derivations themselves.

    Parameters
    ----------
    derivations : float32, shape (n_derivations, n_samples), µV
        NaN stays NaN in the rows it takes part in.
    alive : bool, shape (n_derivations,)
        Derivations that are not alive take no part.
    chains : chains of the montage
    output : "chains" or "derivations"
    waveform : Params
        Settings of a kind of the group ``waveform``; not used for ``derivations``.

    Returns
    -------
    float32, shape (n_chains or n_derivations, n_samples), µV
        A row without any live derivation is zeros.
    """
    if output == "derivations":
        return np.where(alive[:, np.newaxis], derivations, np.float32(0))
    reduce: Any = lookup("waveform", waveform.kind).function
    out = np.zeros((len(chains), derivations.shape[1]), np.float32)
    for row, members in zip(out, output_groups(chains, output, alive), strict=True):
        if len(members) == 1:
            row[:] = derivations[members[0]]
        elif members:
            is_run = members[-1] - members[0] == len(members) - 1
            pairs = slice(members[0], members[-1] + 1) if is_run else list(members)  # a slice copies nothing
            row[:] = reduce(derivations[pairs], waveform)
    return out


@register("waveform", "anterior")
def anterior(pairs: Array, params: Params) -> Array:
    """Return the sum of the front half of a chain: Fp1-T3 for Fp1-F7, F7-T3, T3-T5, T5-O1.

    The middle one of an odd number of pairs belongs to neither half.
    """
    front: Array = pairs[: len(pairs) // 2].sum(axis=0)
    return front


@register("waveform", "posterior")
def posterior(pairs: Array, params: Params) -> Array:
    """Return the sum of the back half of a chain: T3-O1 for the left lateral one."""
    back: Array = pairs[-(len(pairs) // 2) :].sum(axis=0)
    return back


@register("waveform", "curvature")
def curvature(pairs: Array, params: Params) -> Array:
    """Return half the difference of front and back half: T3 stands out against (Fp1+O1)/2, sign reversed.

    With four pairs the weights are ½, ½, -½, -½, a vector of length one; the sum is
    (Fp1+O1)/2 - T3. Unlike a mean it does not telescope to the chain's ends.
    """
    return np.float32(0.5) * (anterior(pairs, params) - posterior(pairs, params))


@register("waveform", "mean")
def mean(pairs: Array, params: Params) -> Array:
    """Return the mean of a chain's pairs, which is the difference of its ends over their number.

    The same for every chain between the same two electrodes: `hms.signal.montage.Montage`
    refuses it unless ``allow_degenerate`` is set.
    """
    average: Array = pairs.mean(axis=0)
    return average


@register("waveform", "principal")
def principal(pairs: Array, params: Params) -> Array:
    """Return the first principal component of a chain's pairs.

    The weights are the covariance's first eigenvector, of length one, so uncorrelated pairs of equal size
    give that size. An eigenvector has no sign: it is turned so that its product with the falling weights (n,
    n - 1, ..., 1) is positive. That reference points along the chain's sum and its curvature alike, so the
    sign holds still for fields of either shape. Where ``pairs`` has a NaN, the component is NaN throughout.
    """
    centred = pairs.astype(np.float64) - pairs.mean(axis=1, keepdims=True, dtype=np.float64)
    covariance = centred @ centred.T
    if not np.isfinite(covariance).all():
        return np.full(pairs.shape[1], np.nan, np.float32)
    weights = np.linalg.eigh(covariance)[1][:, -1]
    if weights @ np.arange(len(pairs), 0, -1) < 0:
        weights = -weights
    component: Array = weights.astype(np.float32) @ pairs
    return component
