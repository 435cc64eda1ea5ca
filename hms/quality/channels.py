"""Measures of each channel: of what was read, and of what reaches x."""

from __future__ import annotations

import numpy as np

from hms.quality.amplitudes import derive_amplitudes
from hms.quality.blocks import QUIET, Array, Rows
from hms.quality.coherence import derive_coherence
from hms.quality.spectra import derive_spectra

CHANNEL_MEASURES = (
    "gap_share", "window_gap_share", "window_flat_share", "longest_gap_s", "max_abs_uv", "offset_uv",
    "peak_uv", "drift_uv", "ptp_uv", "flat_ptp_uv", "extreme_samples", "jump_uv", "sd_uv", "line50_db",
    "line60_db", "hf_uv", "muscle_uv", "neighbour_corr", "polarity", "twin_corr", "gain_db", "own_uv",
    "own_db", "ekg_corr",
)  # fmt: skip
"""Measures of an electrode in the order of the tables; `derive_channels` says what each is."""

_READY = ("gap_share", "window_gap_share", "window_flat_share", "longest_gap_s")


def derive_channels(rows: Rows) -> dict[str, Array]:
    """Return the measures of the channels of many items.

    Parameters
    ----------
    rows : what `hms.quality.inspection.inspect` and `hms.quality.coherence.observe_coherence` observe of
        each item, stacked

    Returns
    -------
    dict of float32, shape (n_items, 20)
        Of what was read

        gap_share, window_gap_share : share of samples missing, of all and of the window
        window_flat_share : share of the window in stretches of 4 whole seconds or more that each
            stay within 3 µV
        longest_gap_s : seconds of the longest gap
        max_abs_uv : largest absolute sample
        offset_uv : mean; peak_uv : largest distance of a sample from it
        ptp_uv : median over whole seconds of the peak-to-peak amplitude
        flat_ptp_uv : smallest peak-to-peak that 4 whole seconds in a row stay within, gaps apart
            (5 s that do not change hold 4 whole seconds wherever they start)
        extreme_samples : how often the largest or the smallest value occurs, whichever is oftener;
            0 for a channel of one value
        drift_uv : range of the means of 2 s

        Of the window and 1 s on either side

        jump_uv : largest step between samples that no neighbour shares, less 6 times the RMS of the
            steps; a tone, muscle and a spike of the brain have none

        Of the window and 3 s on either side

        sd_uv : standard deviation between 1 and 20 Hz
        line50_db, line60_db : power density within 0.5 Hz of the mains over that 3 to 8 Hz next to it
        hf_uv : RMS between 25 and 95 Hz without the mains
        muscle_uv : RMS that 20 to 80 Hz would have with the density of the quieter of two bands,
            39 to 46 and 64 to 72 Hz, in the quietest difference to a neighbour
        ekg_corr : absolute correlation with the EKG, 8-40 Hz; NaN where that is a tone

        Of what reaches x: the filtered, clipped electrodes in the window; NaN for those that the
        montage does not use

        neighbour_corr : best correlation with a neighbouring electrode
        polarity : correlation with the sum of the neighbours, each scaled to the same amplitude
        twin_corr : largest absolute correlation with any other electrode
        gain_db : standard deviation over the geometric mean of the neighbours'
        own_uv : standard deviation of the quietest difference to a neighbour
        own_db : own_uv over the geometric mean of the neighbours'

        The last seven are NaN for the EKG and where a channel does not change.

    References
    ----------
    Bigdely-Shamlo et al., Front Neuroinform 9:16 (2015) (PREP): correlation with other
    electrodes. Gramfort et al., Front Neurosci 7:267 (2013) (MNE): peak to peak for flat
    segments. Whitham et al., Clin Neurophysiol 118:1877 (2007): above 20 Hz scalp EEG is
    mostly muscle, by comparison with paralysed subjects; Goncharova et al., Clin Neurophysiol
    114:1580 (2003): its spectrum is broad from 20 to 80 Hz. Limits on amplitudes relative to
    the *neighbours*, because a lateralised pattern is large on one side.
    """
    with np.errstate(**QUIET, divide="ignore"):
        found = {name: rows[name] for name in _READY}
        found |= derive_amplitudes(rows)
        found |= derive_spectra(rows)
        found |= derive_coherence(rows)
    return {name: found[name].astype(np.float32) for name in CHANNEL_MEASURES}
