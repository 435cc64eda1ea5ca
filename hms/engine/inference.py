"""One recording through the same function as the run's: for plots, checks and inference."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.reading import regular_bytes
from hms.config.schema import Config, build_config
from hms.config.threads import one_thread
from hms.engine.evaluate import evaluate, evaluate_together, row_of, steps_of
from hms.engine.plan import Plan, plan_of
from hms.errors import ConfigError, StorageError, Unusable
from hms.pipeline.selection import (
    block_margins_s,
    block_seconds,
    choose_stages,
    needed_channels,
    needed_context_s,
)
from hms.pipeline.stage import ItemStage, registered_order, registered_stage
from hms.registry import did_you_mean, lookup
from hms.sources.base import RECORDING, Part, Reader, Recording, Segment, open_part
from hms.sources.channels import find_channels
from hms.sources.spectrograms import SPECTROGRAM, SpectrogramFile
from hms.store.files import digest_bytes
from hms.store.package import Package
from hms.terminal import outlined

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = 17
"""Recordings of a list that are in memory together: the code of a stage stays in the processor's cache."""

# --- a recording that no run has seen --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run would have written for one recording; None where the run does not make it.

    Attributes
    ----------
    spec : shape (n_outputs, n_freqs, n_frames), the scaled scalograms
    freqs : float32, shape (n_freqs,), Hz
    wave : float32, shape (n_outputs, n_samples), µV
    fs : sampling rate of ``wave`` in Hz
    spec_lr : float32, shape (4, n_freqs_lr, 300), the competition's spectrogram, cut and scaled
    freqs_lr : float32, shape (n_freqs_lr,), Hz
    """

    spec: NDArray[Any] | None = None
    freqs: NDArray[np.float32] | None = None
    wave: NDArray[np.float32] | None = None
    fs: float | None = None
    spec_lr: NDArray[np.float32] | None = None
    freqs_lr: NDArray[np.float32] | None = None

    __repr__ = outlined


def _offsets(offset_s: float | Sequence[float], n: int) -> NDArray[np.float64]:
    """Return where the sub-window of each recording starts, in seconds."""
    offsets = np.asarray(offset_s, np.float64)
    if offsets.shape not in ((), (n,)) or not np.isfinite(offsets).all():
        raise ValueError(f"offset_s is a number of seconds, or one for each of {n}; got {offset_s!r}")
    return np.broadcast_to(offsets, n)


def transform(
    recording: Any,
    cfg_or_run: Config | Package | Any,
    *,
    channels: Sequence[str] | None = None,
    sfreq: float = SFREQ_HZ,
    offset_s: float | Sequence[float] = 0.0,
    spectrogram: pd.DataFrame | str | Path | None = None,
    spectrogram_offset_s: float = 0.0,
) -> Prepared | list[Prepared]:
    """Prepare recordings as a run does, bit for bit: it is the run's own function; see `hms.transform`.

    A list is as quick a recording as a run with one worker, also where it names one recording again and again
    for windows that overlap. Raises `ValueError` if the recording lacks a channel, ends before its window or
    has no usable sample, the spectrogram is damaged or ends before its ten minutes, or the arguments do not
    fit together; of a list, naming which. ConfigError is one.
    """
    cfg, wanted = (
        (cfg_or_run.config, tuple(cfg_or_run.manifest["stages"]))
        if isinstance(cfg_or_run, Package)
        else (build_config(cfg_or_run), None)
    )
    stages = _stages_of(cfg, wanted, RECORDING)
    if not stages:
        raise ConfigError("none of the stages is computed from a recording; name scalograms or waveforms")
    is_list = isinstance(recording, (list, tuple))
    recordings = list(recording) if is_list else [recording]
    if is_list and spectrogram is not None:
        raise ValueError("a list of recordings cannot be combined with a spectrogram; give them one by one")
    offsets = _offsets(offset_s, len(recordings))
    starts = lookup("window", cfg.window.kind).function(offsets, cfg.window)
    aliases = dict(cfg.at("data.aliases"))
    window_s, channels_read, block_s = cfg.at("window.length_s"), needed_channels(stages), block_seconds(cfg)
    margins_s = block_margins_s(cfg)

    last: list[tuple[Any, Reader]] = []

    def segment(number: int) -> Segment:
        if not last or not _is_same(recordings[number], last[0][0]):
            opened = _open(recordings[number], aliases, channels, sfreq)
            reader = Reader(opened, window_s, needed_context_s(stages), channels_read, block_s, margins_s)
            last[:] = [(recordings[number], reader)]
        return last[0][1].segment(float(starts[number]))

    named = (lambda number: f"recording {number}") if is_list else (lambda _: "the recording")
    arrays = _arrays_of_many(stages, len(recordings), segment, named)
    if spectrogram is not None:
        of_spectrogram = _stages_of(cfg, wanted, SPECTROGRAM)
        if not of_spectrogram:
            raise ConfigError("this run uses no spectrogram; choose spectrograms=kaggle")
        opened = _open_spectrogram(spectrogram)
        arrays[0] |= _arrays_of_many(
            of_spectrogram, 1, lambda _: opened.segment(spectrogram_offset_s), lambda _: "the recording"
        )[0]
    prepared = [_prepared(found) for found in arrays]
    return prepared if is_list else prepared[0]


def _is_same(recording: Any, other: Any) -> bool:
    """Tell whether two entries of a list are one recording, of which windows share what they can."""
    return recording is other or (
        isinstance(recording, (str, Path)) and isinstance(other, (str, Path)) and str(recording) == str(other)
    )


def _arrays_of_many(
    stages: Sequence[ItemStage],
    count: int,
    segment: Callable[[int], Any],
    named: Callable[[int], str],
) -> list[dict[str, dict[str, Any]]]:
    """Return what stages keep of segments, by stage; a few are in memory together, as in a worker."""
    found: list[dict[str, dict[str, Any]]] = []
    for first in range(0, count, TOGETHER):
        together = range(first, min(first + TOGETHER, count))
        segments, memos = {}, {number: dict[str, Any]() for number in together}
        number = first
        try:
            for number in together:
                segments[number] = segment(number)
            with one_thread():
                for stage in steps_of(tuple(stages)):
                    evaluate_together(stage, list(memos.values()))
                    for number in together:
                        evaluate(stage, segments[number], memos[number])
        except Unusable as reason:
            raise ValueError(f"{named(number)} cannot be prepared: {reason.reason}") from None
        except ConfigError:
            raise
        except ValueError as error:
            raise ValueError(f"{named(number)}: {error}" if count > 1 else str(error)) from None
        found += [{s.name: dict(s.arrays(memos[number][s.key])) for s in stages} for number in together]
    return found


def _prepared(arrays: dict[str, dict[str, Any]]) -> Prepared:
    spec, wave, spec_lr = (arrays.get(name, {}) for name in ("scalograms", "waveforms", "spectrograms"))
    fs = float(wave["fs"]) if wave else None
    return Prepared(
        spec.get("x"), spec.get("freqs"), wave.get("x"), fs, spec_lr.get("x"), spec_lr.get("freqs")
    )


@lru_cache(maxsize=16)
def _stages_of(cfg: Config, wanted: tuple[str, ...] | None, origin: str) -> tuple[ItemStage, ...]:
    """Return the stages of a configuration that write a file per item, made from a file of one kind."""
    return tuple(
        stage
        for stage in choose_stages(cfg)[0]
        if stage.folder is not None and stage.origin == origin and (wanted is None or stage.name in wanted)
    )


def _open_spectrogram(spectrogram: Any) -> SpectrogramFile:
    """Return a spectrogram in memory or in a file as what sources open: through the same decoder."""
    if isinstance(spectrogram, (str, Path)):
        path = Path(spectrogram)
        if not path.is_file():
            raise ValueError(f"{path} does not exist")
        return SpectrogramFile(regular_bytes(path))
    if not hasattr(spectrogram, "columns"):
        raise ValueError(f"a spectrogram is a DataFrame or a path, not {type(spectrogram).__name__}")
    buffer = io.BytesIO()
    spectrogram.to_parquet(buffer)
    return SpectrogramFile(buffer.getvalue())


def _open(recording: Any, aliases: dict[str, str], channels: Sequence[str] | None, sfreq: float) -> Recording:
    """Return a recording in memory or in a file as what sources open."""
    if sfreq != SFREQ_HZ:
        raise ValueError(
            f"sfreq={str(sfreq).removesuffix('.0')} Hz, but recordings are prepared at {SFREQ_HZ:g} Hz; "
            "resample it, for example with hms.sources.resample.resample"
        )
    if isinstance(recording, (str, Path)):
        return _open_file(Path(recording), aliases)
    if hasattr(recording, "columns"):
        return _open_frame(recording, aliases)
    given = np.asanyarray(recording)
    if given.ndim == 0:
        raise ValueError(
            "a recording is a DataFrame, the path of a parquet file, or an array with channels=[...]; "
            f"got {type(recording).__name__}"
        )
    if channels is None:
        raise ValueError("an array does not name its channels; give channels=[...]")
    return ArrayRecording(_floats(given), channels, aliases)


def _floats(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples as float32, NaN where they are masked."""
    if samples.dtype.kind not in "fiuO":
        raise ValueError(f"samples are real numbers in µV; got an array of {samples.dtype}")
    if isinstance(samples, np.ma.MaskedArray):
        return np.ma.filled(samples.astype(np.float64), np.nan).astype(np.float32)  # masked is anything
    return np.asarray(samples, dtype=np.float32)


def _open_frame(frame: Any, aliases: dict[str, str]) -> Recording:
    """Return a table of samples as what sources open; columns that name no channel may hold anything."""
    labels = [str(label) for label in frame.columns]
    try:
        return ArrayRecording(frame.to_numpy(dtype=np.float32).T, labels, aliases)
    except (TypeError, ValueError):  # a column of texts, for example
        eeg = np.full((len(labels), len(frame)), np.nan, np.float32)
    named = find_channels(labels, aliases)
    for place in named.places.values():
        try:
            eeg[place] = frame.iloc[:, place].to_numpy(dtype=np.float32)
        except (TypeError, ValueError) as error:
            if labels[place] not in named.unknown:
                raise ValueError(f"column '{labels[place]}' holds more than numbers: {error}") from None
    return ArrayRecording(eeg, labels, aliases)


def _open_file(path: Path, aliases: dict[str, str]) -> Recording:
    from hms.sources.kaggle import ParquetRecording

    if path.suffix != ".parquet":
        raise ValueError(f"{path} is not a parquet file; read it and give a DataFrame or an array")
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    return cast(Recording, ParquetRecording(regular_bytes(path), aliases))


class ArrayRecording:
    """A recording that is an array in memory, float32, shape (n_channels, n_samples), µV."""

    sfreq = SFREQ_HZ

    def __init__(self, eeg: NDArray[np.float32], labels: Sequence[str], aliases: dict[str, str]) -> None:
        if eeg.ndim != 2 or len(eeg) != len(labels):
            text = f"an array needs shape (n_channels, n_samples); got {eeg.shape} and {len(labels)} channels"
            is_turned = eeg.ndim == 2 and eeg.shape[1] == len(labels)
            raise ValueError(f"{text}; transpose it" if is_turned else text)
        self._eeg = eeg
        self.named = find_channels([str(label) for label in labels], aliases)

    def digest_of(self, part: str) -> str:
        """Return the digest of the samples."""
        return digest_bytes(np.ascontiguousarray(self._eeg).tobytes())

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the channels."""
        return self.named.keys

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return int(self._eeg.shape[1])

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV, NaN outside the recording."""
        first, last = max(start, 0), min(stop, self.n_samples)
        eeg = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        rows = [self.named.places[key] for key in channels]
        eeg[:, first - start : last - start] = self._eeg[rows, first:last]
        return eeg


# --- an item of a run, again -----------------------------------------------------------------------


def evaluate_item(run: Package, item_id: str, stage_name: str) -> Any:
    """Compute what an item stage gives for one item of a run, again from its recording.

    Of a stage that keeps rows, such as ``measures``, the row. Raises `ConfigError` if the run has no such
    item, or its recording is not there.
    """
    plan = plan_of(run)
    rows = plan.items.index[plan.items["item_id"] == item_id].tolist()
    if not rows:
        raise ConfigError(f"run {run.hash} has no item '{item_id}'")
    try:
        stage = item_stage(run.config, stage_name)
        result = _evaluate(plan, rows[0], [stage])[0][0]
        return row_of(stage, result) if stage.rows else result
    except Unusable as reason:
        raise ConfigError(f"item '{item_id}': {reason.reason}") from None


def item_stage(cfg: Config, name: str) -> ItemStage:
    """Return an item stage by name, as a configuration builds it.

    Raises `ConfigError` if there is no stage of that name that works on items; the text lists those there
    are.
    """
    classes = {known: registered_stage(known) for known in registered_order()}
    names = [known for known, cls in classes.items() if issubclass(cls, ItemStage)]
    if name not in names:
        raise ConfigError(
            f"'{name}' is not an item stage{did_you_mean(name, names)}; there are {', '.join(names)}"
        )
    stage = classes[name].from_config(cfg)
    assert isinstance(stage, ItemStage)
    return stage


def evaluate_row(plan: Plan, row: int, stages: Sequence[ItemStage]) -> list[Any]:
    """Compute what item stages give for one prepared item of a plan, again from its recording.

    Raises `StorageError` if the recording cannot be read any more, or is not the one that was prepared.
    """
    name = plan.items["recording"].iloc[row]
    try:
        results, part, digest = _evaluate(plan, row, stages)
    except Unusable as reason:
        raise StorageError(f"recording '{name}' cannot be read again: {reason.reason}") from None
    if digest != plan.digests.of(part):
        raise StorageError(f"recording '{name}' changed during the run; run it again")
    return results


def _evaluate(plan: Plan, row: int, stages: Sequence[ItemStage]) -> tuple[list[Any], Part, str]:
    """Return the result of each stage, all of one origin, with what was read and its digest."""
    (kind,) = {stage.origin for stage in stages}
    part = plan.origins[kind].of(row)
    if part is None:
        raise Unusable(f"the table names no {kind} for it")
    opened: Any = open_part(plan.source, part)
    digest = opened.digest_of(part.part)
    if kind == RECORDING:
        context_s = needed_context_s(stages)
        window_s = float(plan.items["window_length_s"].iloc[row])
        channels, block_s = needed_channels(stages), block_seconds(plan.cfg)
        opened = Reader(opened, window_s, context_s, channels, block_s, block_margins_s(plan.cfg))
    segment = opened.segment(float(plan.origins[kind].starts[row]))
    memo: dict[str, Any] = {}
    with one_thread():
        return [evaluate(stage, segment, memo) for stage in stages], part, digest
