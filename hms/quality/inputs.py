"""Measures of an item as it was read: of its channels, and of all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EKG_CHANNEL
from hms.quality.amplitudes import ObservedAmplitudes, ObservedSteps
from hms.quality.blocks import Array, Mask, Row, Rows, field_names
from hms.quality.channels import derive_channels
from hms.quality.coherence import SILENT_UV, ObservedCoherence
from hms.quality.electrodes import IS_LEFT, IS_RIGHT, N_EEG
from hms.quality.inspection import Inspection
from hms.quality.signature import signatures, window_samples
from hms.quality.spectra import ObservedSpectra

if TYPE_CHECKING:
    from hms.signal.arrays import Cleaned
    from hms.sources.base import Segment


class ObservedInput(TypedDict):
    """Further observations of the input of one item.

    Attributes
    ----------
    present : bool, shape (20,); whether the recording has the channel
    window_samples : float32, shape (256,), µV; see `window_samples`
    """

    present: Mask
    window_samples: Array


INPUT_OBSERVATIONS = field_names(
    ObservedInput, ObservedAmplitudes, ObservedSteps, ObservedSpectra, ObservedCoherence
)
"""What is observed of what was read to derive measures from, and is none itself."""


def observe_input(
    inspection: Inspection, segment: Segment, cleaned: Cleaned, *, clip_uv: float | None
) -> Row:
    """Observe what was read, before anything was filled, and what clipping did.

    Parameters
    ----------
    inspection : of the segment
    segment : window and context as recorded
    cleaned : the montage's electrodes after the filter
    clip_uv : limit that the filtered electrodes were clipped to, None for none

    Returns
    -------
    dict
        What `derive_input` takes, of one item, beside `observe_coherence`; of the measures, these already
        nan_share : share of samples of the EEG channels present, or of the pairs of a bipolar
            recording, that are NaN or Inf
        window_nan_share : the same within the window, without its context
        n_flat_channels : electrodes of the montage without a changing sample
        outside_share : share of window and context that the recording does not reach
        clipped_share : share of the montage's window samples at the clipping limit
    """
    n_samples = segment.eeg.shape[1]
    nan_share, window_nan_share = _nan_shares(inspection)
    observed: ObservedInput = {
        "present": inspection.present[: len(CHANNELS)],
        "window_samples": window_samples(cleaned),
    }
    return {
        **observed,
        **inspection.channels,
        "nan_share": nan_share,
        "window_nan_share": window_nan_share,
        "n_flat_channels": np.int64(cleaned.dead.sum()),
        "outside_share": np.float64(sum(segment.n_outside) / n_samples),
        "clipped_share": _clipped_share(cleaned.window, clip_uv) if cleaned.reaches_limit else np.float64(0),
    }


def derive_input(rows: Rows) -> Row:
    """Return the measures of what was read of many items.

    Parameters
    ----------
    rows : what `observe_input` returns, stacked

    Returns
    -------
    dict
        The `CHANNEL_MEASURES`, each float32 of shape (n_items, 20), NaN for channels that a
        recording lacks, and of the items
        left_right_db : geometric mean of the left electrodes' own_uv over the right ones', dB
            (NaN if a side is dead)
        signature : see `signatures`
    """
    channels = derive_channels(rows)
    for values in channels.values():
        values[~rows["present"]] = np.nan
    return {
        **channels,
        "left_right_db": _left_right_db(channels["own_uv"]),
        "signature": signatures(rows["window_samples"]),
    }


def _nan_shares(seen: Inspection) -> tuple[np.float64, np.float64]:
    """Return the share of samples missing, of all and of the window, over the EEG channels present."""
    n_eeg = np.count_nonzero(seen.present) - int(seen.present[CHANNELS.index(EKG_CHANNEL)])
    if seen.is_gap is None or not n_eeg:
        return (np.float64(0 if n_eeg else np.nan),) * 2
    is_gap = seen.is_gap[seen.is_eeg]
    return np.float64(is_gap.mean()), np.float64(is_gap[:, seen.window].mean())


def _left_right_db(own_uv: Array) -> NDArray[np.float64]:
    """Return, from shape (n_items, 20), shape (n_items,)."""
    own = own_uv[:, :N_EEG].astype(np.float64)
    is_alive = own > SILENT_UV
    level = 20 * np.log10(np.where(is_alive, own, 1))
    with np.errstate(invalid="ignore"):
        left, right = (
            np.where(is_alive & side, level, 0).sum(axis=1) / (is_alive & side).sum(axis=1)
            for side in (IS_LEFT, IS_RIGHT)
        )
        return np.asarray(left - right)


def _clipped_share(window: Array, clip_uv: float | None) -> np.float64:
    if clip_uv is None:
        return np.float64(0)
    return np.float64((np.abs(window) >= np.float32(clip_uv)).mean())
