"""Left and right: which output stands where another one stands after the head is mirrored."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from hms.signal.montage import Chains


def mirrored_electrode(name: str) -> str:
    """Return the electrode across the midline: odd numbers are left, even ones right, z is the middle.

    References
    ----------
    Jasper HH, "The ten-twenty electrode system of the International Federation",
    Electroencephalogr Clin Neurophysiol 10 (1958): odd numbers left, even numbers right.
    """
    found = re.fullmatch(r"([A-Za-z]+)(\d+)", name)
    if found is None:
        return name
    number = int(found[2])
    return f"{found[1]}{number + 1 if number % 2 else number - 1}"


def _mirrored_pair(name: str) -> str:
    return "-".join(mirrored_electrode(part) for part in name.split("-"))


def mirrored_outputs(chains: Chains, output: str) -> NDArray[np.int64]:
    """Return for each output the number of its mirror image, -1 where the montage has none.

    int64, shape (n_outputs,); an output on the midline is its own mirror image.

    Parameters
    ----------
    chains : the montage's chains, as `hms.signal.montage.Montage.chains`
    output : ``chains`` or ``derivations``
    """
    if output == "chains":
        units = [frozenset(pairs) for _, pairs in chains]
        images = [frozenset(map(_mirrored_pair, pairs)) for _, pairs in chains]
    else:
        names = [name for _, pairs in chains for name in pairs]
        units = [frozenset((name,)) for name in names]
        images = [frozenset((_mirrored_pair(name),)) for name in names]
    return np.array([units.index(image) if image in units else -1 for image in images], dtype=np.int64)
