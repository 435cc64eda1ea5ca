"""An item as an object of MNE-Python, with what quality control found written next to it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EKG_CHANNEL
from hms.engine.plan import plan_of
from hms.errors import ConfigError, Unusable, needs_extra
from hms.pipeline.selection import needed_channels, needed_context_s
from hms.quality.grading import FLAGS
from hms.registry import did_you_mean
from hms.sources.base import RECORDING, Reader, Segment, open_part
from hms.store.parquet import read_table

if TYPE_CHECKING:
    from hms.store.package import Package

LEDGER = "qc/channels.parquet"
Note = tuple[float, float, str, tuple[str, ...]]
"""Onset and duration in s, description, channels (none: all)."""


def item_to_mne(run: Package, item_id: str) -> Any:
    """Return an item's window with its context, as recorded, as an ``mne.io.RawArray``.

    Raises `ConfigError` if MNE is not installed, the run has no such item, or its recording cannot be read.

    Returns
    -------
    mne.io.RawArray
        Volts; electrodes at the standard 10-20 places, the EKG as ``ecg``. Annotations: ``window`` over the
        seconds that become x, ``BAD_gap`` over samples that are missing in some channel (NaN, as recorded),
        and each flag of the ledger over everything, with its channels if it is of channels. ``info["bads"]``
        are the electrodes with a flag that costs a grade. A recording of derivations keeps them, without
        places. Time 0 is where the recording was first read.
    """
    segment = _read(run, item_id)
    harmless = run.config.at("qc.grading.harmless")
    return segment_to_mne(segment, _flags(run, item_id), costly=set(FLAGS).difference(harmless))


def segment_to_mne(
    segment: Segment, flags: dict[str, tuple[str, ...]], *, costly: Collection[str] = FLAGS
) -> Any:
    """Return a segment as an ``mne.io.RawArray`` with its gaps, its window and flags annotated.

    Parameters
    ----------
    segment : channels with names of the 10-20 system, µV
    flags : channels by flag, none for a flag of the item
    costly : flags that cost a grade; channels with one of them are ``info["bads"]``
    """
    with needs_extra("to_mne needs MNE-Python", "mne"):
        import mne
    inside = slice(segment.n_outside[0], segment.eeg.shape[1] - segment.n_outside[1])
    eeg = segment.eeg[:, inside]
    duration_s = eeg.shape[1] / segment.sfreq
    kinds = ["ecg" if name == EKG_CHANNEL else "eeg" for name in segment.channels]
    info = mne.create_info(list(segment.channels), segment.sfreq, kinds)
    raw = mne.io.RawArray(eeg.astype(np.float64) * 1e-6, info, verbose="error")
    raw.set_montage("standard_1020", on_missing="ignore", verbose="error")
    window = (
        (segment.n_context - inside.start) / segment.sfreq,
        segment.n_window / segment.sfreq,
        "window",
        (),
    )
    notes: list[Note] = [window, *_gaps(eeg, segment.sfreq)]
    notes += [(0.0, duration_s, name, channels) for name, channels in flags.items()]
    onsets, durations, texts, channels = zip(*notes, strict=True)
    bad = {name for flag, channels in flags.items() if flag in costly for name in channels}
    raw.info["bads"] = [name for name in segment.channels if name in bad and name != EKG_CHANNEL]
    raw.set_annotations(mne.Annotations(onsets, durations, texts, ch_names=channels), verbose="error")
    return raw


def _gaps(eeg: NDArray[np.float32], sfreq: float) -> list[Note]:
    """Return an annotation for each stretch in which some channel has no sample."""
    is_broken = ~np.isfinite(eeg).all(axis=0)
    edges = np.flatnonzero(np.diff(is_broken, prepend=False, append=False)).reshape(-1, 2)
    return [(start / sfreq, (stop - start) / sfreq, "BAD_gap", ()) for start, stop in edges.tolist()]


def _read(run: Package, item_id: str) -> Segment:
    plan = plan_of(run)
    ids = plan.items["item_id"].tolist()
    if item_id not in ids:
        raise ConfigError(f"run {run.hash} has no item '{item_id}'{did_you_mean(item_id, ids)}")
    row = ids.index(item_id)
    part = plan.origins[RECORDING].of(row)
    try:
        if part is None:
            raise Unusable("the table names no recording for it")
        recording: Any = open_part(plan.source, part)
        window_s = float(plan.items["window_length_s"].iloc[row])
        stages = plan.item_stages.values()
        channels = tuple(dict.fromkeys((*CHANNELS, *needed_channels(stages))))
        reader = Reader(recording, window_s, needed_context_s(stages), channels)
        return reader.segment(float(plan.origins[RECORDING].starts[row]))
    except Unusable as reason:
        raise ConfigError(f"item '{item_id}': {reason.reason}") from None


def _flags(run: Package, item_id: str) -> dict[str, tuple[str, ...]]:
    """Return the flags of the run's ledger with their channels, nothing where the run has none."""
    if LEDGER not in run.manifest["files"]:
        return {}
    table = read_table(run.file(LEDGER).read_bytes(), "item_id", "channel", "raised")
    table = table[table["item_id"] == item_id]
    items = run.qc.set_index("item_id")["raised"].fillna("")
    found: dict[str, list[str]] = {name: [] for name in items[item_id].split(";") if name}
    for channel, text in zip(table["channel"], table["raised"], strict=True):
        for name in filter(None, text.split(";")):
            found[name].append(channel)
    return {name: tuple(channels) for name, channels in found.items()}
