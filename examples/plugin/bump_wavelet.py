"""A wavelet of one's own: the bump, whose response is nothing outside a band."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hms.registry import PositiveFloat, register
from hms.signal.wavelets import Cwt


@dataclass(frozen=True)
class Bump(Cwt):
    """Width of the bump.

    Attributes
    ----------
    width : half the band, as a part of the centre frequency
    """

    width: PositiveFloat


@register("cwt", "bump", Bump)
def bump(freqs_hz: NDArray[np.float64], centre_hz: float, params: Bump) -> NDArray[np.float64]:
    """Return the response, ``exp(1 - 1 / (1 - u²))`` where u = (f / f0 - 1) / width is below 1.

    Parameters
    ----------
    freqs_hz : float64, shape (n_freqs,), Hz, above 0
    centre_hz : float
    params : Bump

    Returns
    -------
    float64, shape (n_freqs,), 0 to 1
    """
    squared = ((freqs_hz / centre_hz - 1) / params.width) ** 2
    inside = squared < 1
    response = np.zeros_like(freqs_hz)
    response[inside] = np.exp(1 - 1 / (1 - squared[inside]))
    return response
