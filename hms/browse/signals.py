"""Stretches of recordings as a page shows them: read through the run's own source, or from the package."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.browse.montages import EARS, View, views_of
from hms.competition import CHANNELS, SFREQ_HZ
from hms.engine.plan import open_source, plan_of, with_restored_data
from hms.errors import ConfigError, Unusable
from hms.signal.filters import FilterParams, apply_filter, clip, design_filter, notch
from hms.signal.gaps import fill_gaps
from hms.sources.base import Part, Recording, Source, making, open_part, present
from hms.sources.pseudonyms import Pseudonymised
from hms.stages.reading import Reading
from hms.stages.signal import dead_channels
from hms.store.package import Package
from hms.store.places import Outputs

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float32]

BANDS = ("prepared", "recorded")
LONGEST_S = 120.0
"""Seconds of one page at most."""

KEPT = 4
"""Recordings that stay open: the one that is looked at, and its neighbours."""

SEGMENT_S = 2.0
"""Of Welch's segments, so that frequencies are half a hertz apart."""

SPECTRUM_TO_HZ = 70.0


@dataclass(frozen=True)
class Wanted:
    """What is to be shown of a recording.

    Attributes
    ----------
    start_s, length_s : of the page, from the start of the recording
    montage : a key of `hms.browse.montages.views_of`
    band : prepared, filtered and clipped as the run does; or recorded
    notch_hz : mains frequency that is taken out next to that, None for none
    """

    start_s: float
    length_s: float
    montage: str
    band: str
    notch_hz: float | None = None


@dataclass(frozen=True)
class Traces:
    """A page of traces.

    Attributes
    ----------
    names : of the rows, top to bottom
    values : float32, shape (n_rows, n_samples), µV; NaN where nothing was recorded, and as recorded in gaps
    dead : bool, shape (n_rows,); formed of a channel without signal
    gaps : starts and ends in s of stretches in which some channel has no sample
    duration_s : of the recording
    missing : what cannot be shown, and why; empty if all can
    """

    names: tuple[str, ...]
    values: Array
    dead: NDArray[np.bool_]
    start_s: float
    sfreq: float
    gaps: tuple[tuple[float, float], ...]
    duration_s: float
    missing: str = ""


@dataclass(frozen=True)
class Spectrum:
    """Power of each row of a stretch: float32, shape (n_rows, n_freqs), dB re 1 µV²/Hz."""

    names: tuple[str, ...]
    freqs_hz: NDArray[np.float64]
    power_db: Array


class Signals:
    """Recordings of a run, opened as they are looked at; a few stay open."""

    def __init__(self, run: Package) -> None:
        self.run, self.cfg = run, run.config
        self.views = views_of(self.cfg)
        self._open: OrderedDict[str, Recording] = OrderedDict()
        self._lock = threading.RLock()
        self._context_s = Reading.from_config(self.cfg).context_s
        self._used: dict[str, tuple[str, float]] = dict(
            zip(run.meta["item_id"].tolist(), _places(run.meta), strict=True)
        )

    # --- where an item is ----------------------------------------------------------------------

    @cached_property
    def source(self) -> Source:
        """The run's own source; raise `ConfigError` if the recordings are not there."""
        with making(self.run.trust):
            outputs = Outputs(self.run.path.parent)
            cfg = with_restored_data(self.cfg)
            source = open_source(cfg, outputs)
            if isinstance(source, Pseudonymised):
                source.votes(cfg.at("labels.ballot"))  # which id stands for which name
        return source

    @cached_property
    def _planned(self) -> dict[str, tuple[str, float]]:
        """Recording and start of all items; no file of a run has those of items left out."""
        items = plan_of(self.run).items
        return dict(zip(items["item_id"].tolist(), _places(items), strict=True))

    def window_of(self, item_id: str) -> tuple[str, float]:
        """Return the recording of an item, and where in it the window starts in s.

        Raises `ConfigError` if it was left out and its source is not there to ask.
        """
        if item_id in self._used:
            return self._used[item_id]
        with self._lock:
            if item_id not in self._planned:
                raise ConfigError(f"the source has no item '{item_id}' any more")
            return self._planned[item_id]

    def recording(self, item_id: str) -> Recording:
        """Open the recording of an item; raise `ConfigError` if it is not there or cannot be read."""
        name, start_s = self.window_of(item_id)
        with self._lock:
            if name not in self._open:
                self._open[name] = self._opened(name, start_s)
            self._open.move_to_end(name)
            while len(self._open) > KEPT:
                self._open.popitem(last=False)
            return self._open[name]

    def _opened(self, name: str, start_s: float) -> Recording:
        (place,) = self.source.places([name])
        if place.size is None:
            raise ConfigError(place.problem or "the recording's file is not there")
        try:
            opened: Any = open_part(self.source, Part(place, self.source.part(start_s)))
            opened.n_samples  # noqa: B018  a damaged file says so now
        except Unusable as reason:
            raise ConfigError(reason.reason) from None
        return opened  # type: ignore[no-any-return]

    # --- pages -----------------------------------------------------------------------------------

    def page(self, item_id: str, wanted: Wanted) -> Traces:
        """Return a page of an item's recording, or of what the package holds if the recording is gone.

        Raises `ConfigError` if the montage cannot be formed, or neither recording nor package hold anything.
        """
        try:
            recording = self.recording(item_id)
        except ConfigError as error:
            return self._stored(item_id, wanted, str(error))
        with self._lock:
            try:
                return self._page(recording, wanted)
            except Unusable as reason:
                raise ConfigError(reason.reason) from None

    def _page(self, recording: Recording, wanted: Wanted) -> Traces:
        sfreq, n_samples = recording.sfreq, recording.n_samples
        view = self.views[wanted.montage]
        found = present(recording, self._wanted_channels(view))
        if not found.keys:
            raise ConfigError("the recording has none of the channels of this montage")
        first, n_page = round(wanted.start_s * sfreq), round(wanted.length_s * sfreq)
        n_context = round(self._context_s * sfreq)
        eeg = recording.read(first - n_context, first + n_page + n_context, found.keys)
        dead, is_gap = dead_channels(eeg), ~np.isfinite(eeg)
        inside = slice(n_context, n_context + n_page)
        shown = _banded(eeg, wanted, self.cfg.at("filter"), sfreq)[:, inside]
        if wanted.band == "recorded":
            shown = _less_median(shown)
        try:
            names, values, is_dead = view.apply(shown, found.names, dead, found.references)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        at = np.arange(first, first + n_page)
        recorded = (at >= 0) & (at < n_samples)
        lost = is_gap[~dead][:, inside].any(axis=0) & recorded
        return Traces(
            names,
            np.where(recorded, values, np.nan).astype(np.float32),
            is_dead,
            first / sfreq,
            sfreq,
            _stretches(lost, first, sfreq),
            n_samples / sfreq,
            _lacking(view, names, recording),
        )

    def _wanted_channels(self, view: View) -> tuple[str, ...]:
        """Return electrodes, ears, EKG, and the pairs that a bipolar recording has instead of them."""
        parts = (part for name in view.rows for part in name.split("-"))
        ears = (ear for pair in EARS for ear in pair)
        return tuple(dict.fromkeys((*CHANNELS, *parts, *view.ears, *ears, *view.rows)))

    def _stored(self, item_id: str, wanted: Wanted, why: str) -> Traces:
        """Return what the package holds of an item, on the page's time axis."""
        if self.run.has_item("deriv_hr_out", item_id):
            names, what = self.views["prepared"].rows, "the stored derivations"
            kept = self.run.derivations(item_id).astype(np.float32)
            reach_s = (kept.shape[1] / SFREQ_HZ - float(self.cfg.at("window.length_s"))) / 2
        elif self.run.has_item("wave_hr_out", item_id):
            names, what = tuple(self.run.outputs), "the stored waveforms of the window"
            kept, reach_s = self.run.wave(item_id), 0.0
        else:
            raise ConfigError(f"the recording cannot be read ({why}), and the run keeps no waveform of it")
        _, start_s = self.window_of(item_id)
        n_page = round(wanted.length_s * SFREQ_HZ)
        values = np.full((len(kept), n_page), np.nan, np.float32)
        shift = round((start_s - reach_s - wanted.start_s) * SFREQ_HZ)
        first, last = max(shift, 0), min(shift + kept.shape[1], n_page)
        if first < last:
            values[:, first:last] = kept[:, first - shift : last - shift]
        missing = (
            f"The recording cannot be read: {why}. Shown are {what}, as prepared; other montages, the rest "
            "of the recording and the signal as recorded cannot be."
        )
        end_s = start_s + kept.shape[1] / SFREQ_HZ - reach_s
        dead = np.zeros(len(names), bool)
        return Traces(names, values, dead, wanted.start_s, SFREQ_HZ, (), end_s, missing)


def _places(items: pd.DataFrame) -> list[tuple[str, float]]:
    """Return the recording of each item, and where in it the window starts in s."""
    starts = items["window_start_s"].astype(float).tolist()
    return list(zip(items["recording"].astype(str).tolist(), starts, strict=True))


def _banded(eeg: Array, wanted: Wanted, params: FilterParams, sfreq: float) -> Array:
    """Return channels as the run filters and clips them, or as recorded, with gaps."""
    if wanted.band == "prepared":
        return clip(_filtered(eeg, params, wanted, sfreq), params.clip_uv)
    if wanted.notch_hz is None:
        return eeg
    unfiltered = FilterParams("none", None, params.gaps)
    return np.where(np.isfinite(eeg), _filtered(eeg, unfiltered, wanted, sfreq), np.float32(np.nan))


def _less_median(eeg: Array) -> Array:
    """Return channels around zero; one without a sample stays as it is."""
    known = np.where(np.isfinite(eeg).any(axis=1, keepdims=True), eeg, 0)
    return np.asarray(eeg - np.nanmedian(known, axis=1, keepdims=True), np.float32)


def _filtered(eeg: Array, params: FilterParams, wanted: Wanted, sfreq: float) -> Array:
    filled = fill_gaps(eeg, params.gaps, sfreq=sfreq)
    gain = design_filter(params, n_samples=filled.shape[1], sfreq=sfreq)
    if wanted.notch_hz is not None:
        freqs_hz = np.linspace(0, sfreq / 2, gain.size)
        gain = (gain * notch(freqs_hz, wanted.notch_hz, sfreq=sfreq)).astype(np.float32)
    return apply_filter(filled, gain)


def _stretches(mask: NDArray[np.bool_], first: int, sfreq: float) -> tuple[tuple[float, float], ...]:
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return tuple(((first + a) / sfreq, (first + b) / sfreq) for a, b in edges.reshape(-1, 2).tolist())


def _lacking(view: View, names: tuple[str, ...], recording: Recording) -> str:
    lacking = [name for name in view.rows if name not in names]
    return f"The recording has nothing to form {', '.join(lacking)} of." if lacking else ""


def spectrum_of(traces: Traces) -> Spectrum:
    """Return Welch's power of each row of a page: segments of 2 s, Hann, half overlapping.

    Rows with a gap have NaN.

    References
    ----------
    Welch P. The use of fast Fourier transform for the estimation of power spectra. IEEE Trans
    Audio Electroacoust 1967;15:70-73.
    """
    from scipy.signal import welch

    whole = np.asarray(np.isfinite(traces.values).all(axis=1))
    n_segment = min(round(SEGMENT_S * traces.sfreq), traces.values.shape[1])
    filled = np.where(whole[:, np.newaxis], traces.values, 0)
    freqs_hz, power = welch(filled, traces.sfreq, nperseg=n_segment, axis=1)
    kept = np.asarray(freqs_hz) <= SPECTRUM_TO_HZ
    power_db = 10 * np.log10(np.maximum(power[:, kept], 1e-6))
    power_db[~whole] = np.nan
    return Spectrum(traces.names, freqs_hz[kept], power_db.astype(np.float32))
