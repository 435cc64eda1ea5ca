"""An open recording of any format that MNE reads: samples in µV at 200 Hz, from MNE's volts.

A recording is identified by all its files, read whole.

References
----------
Gramfort et al., MEG and EEG data analysis with MNE-Python, Front Neurosci 7 (2013).
"""

from __future__ import annotations

import io
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.identity import digest_of
from hms.errors import Unusable, needs_extra
from hms.labels.events import Event
from hms.sources.base import Place, Stretch
from hms.sources.channels import Channels, find_channels
from hms.sources.files import why_missing
from hms.sources.formats import ending_of
from hms.sources.rates import conversion, slow_notes
from hms.store.files import digest_file
from hms.terminal import shortened

_VOLT = 107
"""FIFF_UNIT_V of the FIF constants: MNE gives such a channel in volts."""

BREAK = re.compile(r"(edge |bad )?boundary|new segment/.*", re.IGNORECASE)
"""Annotations of an instant at which a recording goes on after an interruption."""

SKIP = "bad_acq_skip"
"""Annotation of a stretch that was not recorded; MNE fills it with zeros."""

EXACT_UV = 4_096.0
"""An offset above this is taken off before samples become float32, which is 2.5e-4 µV off there."""

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""Path, inode, size and times of each file of a recording."""


def import_mne() -> Any:
    """Return MNE.

    Raises `ConfigError` if it is not installed; the text names the extra that installs it.
    """
    with needs_extra("formats other than EDF and BDF are read with MNE", "mne"):
        import mne
    return mne


# --- reading -------------------------------------------------------------------------------------


_only_one = threading.Lock()


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what MNE and its helpers print from the output: remarks on files, some with texts of headers.

    One thread at a time, since the output is the process's.
    """
    mne = import_mne()
    with _only_one, warnings.catch_warnings(), mne.utils.use_log_level("error"):
        warnings.simplefilter("ignore")
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield


def open_raw(path: str, cnt_format: str | None = None) -> Any:
    """Return MNE's view of a recording, samples not loaded where the format allows.

    Raises `Unusable` if MNE cannot read it; the text has MNE's reason.
    """
    mne = import_mne()
    try:
        with quietly():
            return _reader(path, mne, cnt_format)(path)
    except FileNotFoundError as error:
        name = os.path.basename(str(error.filename or "")) or shortened(error)
        raise Unusable(f"a file of the recording is missing: '{name}'", permanent=False) from None
    except OSError as error:
        raise Unusable(f"the recording cannot be read: {_told(error)}", permanent=False) from None
    except Exception as error:  # MNE and what it calls raise whatever a file leads to
        lacks_package = isinstance(error, ImportError) or "could not be imported" in str(error)
        raise Unusable(f"MNE cannot read it: {_told(error)}", permanent=not lacks_package) from None


def _reader(path: str, mne: Any, cnt_format: str | None) -> Callable[[str], Any]:
    """Return the function that reads a file: by its first bytes where one ending has two formats."""
    ending = ending_of(path)
    if ending == ".cnt":
        with open(path, "rb") as file:
            is_ant = file.read(4) in (b"RIFF", b"RF64")
        # MNE would try both readers, and that of ANT ends the process at a Neuroscan file.
        if is_ant:
            return partial(mne.io.read_raw_ant, verbose="error")
        return partial(mne.io.read_raw_cnt, data_format=cnt_format or "auto", verbose="error")
    if ending == ".data":
        return partial(mne.io.read_raw_nicolet, ch_type="eeg", verbose="error")
    if ending == ".raw":
        return partial(mne.io.read_raw_egi, verbose="error")
    if ending == ".nedf":
        # Of pieces of a file MNE 1.13 returns too few samples; of the whole it does not.
        return partial(mne.io.read_raw_nedf, preload=True, verbose="error")
    return partial(mne.io.read_raw, verbose="error")


def _told(error: Exception) -> str:
    """Return what an error says, without the places in MNE's code that some texts begin with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if re.match(r"\w*Error: ", line)), " ".join(lines))
    text = re.sub(r"^\w*Error: ", "", last)
    hint = "; data.cnt_format=int16 or int32 says it" if "data_format" in text else ""
    return shortened(text) + hint


@lru_cache(maxsize=256)
def _digest(stamp: Stamp) -> str:
    """Return the digest of files, each read in pieces; once in a process while they stay as they are."""
    return digest_of([digest_file(Path(path)) for path, *_ in stamp])


class MneRecording:
    """An open recording; an unusable one raises `Unusable` when something is first asked of it.

    Parameters
    ----------
    files : what the recording consists of
    cnt_format : of a Neuroscan file that does not say it: int16 or int32
    keeps_bad : whether channels that the file marks as bad are read like others
    """

    sfreq = SFREQ_HZ

    def __init__(
        self,
        place: Place,
        aliases: Mapping[str, str],
        files: Sequence[str],
        *,
        cnt_format: str | None = None,
        keeps_bad: bool = False,
    ) -> None:
        if not files:
            raise Unusable(why_missing(place.path), permanent=False)
        self._path, self._aliases, self._files = place.path, dict(aliases), list(files)
        self._cnt_format, self._keeps_bad = cnt_format, keeps_bad
        self._stamp = self._stamped()

    @cached_property
    def _opened(self) -> tuple[Any, Unusable | None]:
        """MNE's view of it, or why there is none; opened when it is first needed."""
        try:
            raw, reason = open_raw(self._path, self._cnt_format), None
        except Unusable as error:
            raw, reason = None, error
        self._check_unchanged()  # MNE may have read other files than those that are digested
        return raw, reason

    @property
    def raw(self) -> Any:
        """MNE's view of the recording; raises `Unusable` with the reason where there is none."""
        raw, reason = self._opened
        if reason is not None:
            raise Unusable(reason.reason, failure=reason.failure, permanent=reason.permanent)
        return raw

    @cached_property
    def named(self) -> Channels:
        """The channels under the names used here; none where the recording cannot be read."""
        raw, _ = self._opened
        return find_channels([] if raw is None else list(raw.ch_names), self._aliases)

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the channels."""
        return self.named.keys

    @property
    def rates_hz(self) -> tuple[float, ...]:
        """Sampling rate of each channel; MNE gives all of a file the same."""
        return (float(self.raw.info["sfreq"]),) * len(self.named.labels)

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What is to be said of the EEG: a low rate."""
        return tuple(slow_notes(self.rates_hz if self.named.has_eeg else ()))

    @property
    def n_samples(self) -> int:
        """Samples of the whole recording at 200 Hz."""
        return self._at_200_hz(self.raw.n_times)

    @property
    def duration_s(self) -> float:
        """Length of the recording, s."""
        return float(self.raw.n_times / self.raw.info["sfreq"])

    @property
    def holds_annotations_alone(self) -> bool:
        """Whether the recording has no channel."""
        return not len(self.raw.ch_names)

    @property
    def patient(self) -> str:
        """Whom the file names, empty if nobody."""
        about = self.raw.info["subject_info"] or {}
        return str(about.get("his_id") or "").strip()

    def _at_200_hz(self, n_samples: float) -> int:
        return math.floor(n_samples * SFREQ_HZ / float(self.raw.info["sfreq"]) + 1e-6)

    # --- time ------------------------------------------------------------------------------------

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """Parts without an interruption, at 200 Hz; none where the recording has no interruption."""
        n = self.n_samples
        gaps = [(0, 0), *self._gaps(), (n, n)]
        found = [(gaps[i][1], gaps[i + 1][0]) for i in range(len(gaps) - 1)]
        return () if len(found) == 1 else tuple((begin, end) for begin, end in found if begin < end)

    def _gaps(self) -> list[Stretch]:
        """Return the interruptions, in order: samples that were not recorded, none at an instant."""
        found = []
        for onset_s, duration_s, text in self._annotations():
            first = self._at_200_hz(onset_s * self.raw.info["sfreq"])
            if text.lower() == SKIP:
                found.append((first, first + math.ceil(duration_s * SFREQ_HZ)))
            elif BREAK.fullmatch(text) and first > 0:
                found.append((first, first))
        return sorted(found)

    def _annotations(self) -> list[tuple[float, float, str]]:
        """Return onset from the first sample, duration and text of each annotation."""
        marks = self.raw.annotations
        onsets = np.asarray(marks.onset, dtype=np.float64) - self.raw.first_time
        return list(zip(onsets.tolist(), marks.duration.tolist(), map(str, marks.description), strict=True))

    def events(self) -> list[Event]:
        """Return the recording's annotations."""
        return [
            Event(onset_s, onset_s + duration_s if duration_s > 0 else None, text)
            for onset_s, duration_s, text in self._annotations()
        ]

    # --- identity --------------------------------------------------------------------------------

    def digest_of(self, part: str) -> str:
        """Return the digest of all files, whatever part is asked for."""
        try:
            found = _digest(self._stamp)
        except OSError as error:
            raise Unusable(f"the recording cannot be read: {error.strerror}", permanent=False) from None
        self._check_unchanged()
        return found

    def _stamped(self) -> Stamp:
        try:
            stats = [(path, os.stat(path)) for path in self._files]
        except OSError as error:
            raise Unusable(f"a file of the recording is missing: {error.strerror}", permanent=False) from None
        return tuple((path, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats)

    def _check_unchanged(self) -> None:
        if self._stamped() != self._stamp:
            raise Unusable("a file of the recording changed while it was read", permanent=False)

    # --- samples ---------------------------------------------------------------------------------

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV at 200 Hz, NaN outside the recording and of bad channels."""
        eeg = np.full((len(channels), stop - start), np.nan, dtype=np.float32)
        first, last = max(start, 0), min(stop, self.n_samples)
        places, bad = self.named.places, () if self._keeps_bad else self.raw.info["bads"]
        wanted = [row for row, key in enumerate(channels) if self.raw.ch_names[places[key]] not in bad]
        if last <= first or not wanted:
            return eeg
        usable = [self._usable(channels[row]) for row in wanted]
        eeg[wanted, first - start : last - start] = self._resampled(usable, first, last)
        self._check_unchanged()
        return eeg

    def _usable(self, key: str) -> int:
        """Return the place of a channel; raises `Unusable` if MNE does not give it in volts."""
        place = self.named.places[key]
        if self.raw.info["chs"][place]["unit"] != _VOLT:
            raise Unusable(f"channel '{self.raw.ch_names[place]}': MNE does not give it in volts")
        return place

    def _resampled(self, places: Sequence[int], start: int, stop: int) -> NDArray[np.float32]:
        """Return output samples start to stop of channels."""

        def samples(first: int, stop: int) -> NDArray[np.float64]:
            return self._samples(places, first, stop) - self._offsets_uv[list(places), None]

        rate = conversion(float(self.raw.info["sfreq"]), SFREQ_HZ)
        return rate.resampled(samples, int(self.raw.n_times), start, stop)

    def _samples(self, places: Sequence[int], first: int, stop: int) -> NDArray[np.float64]:
        """Return samples in µV as MNE gives them: float64, shape (n_places, stop - first)."""
        order = np.argsort(places, kind="stable")
        found = np.empty((len(places), stop - first))
        try:
            raw = self.raw
            with quietly():
                found[order] = raw.get_data(np.asarray(places)[order], first, stop, verbose="error")
        except OSError as error:
            raise Unusable(f"the recording cannot be read: {_told(error)}", permanent=False) from None
        except Exception as error:  # what a damaged file leads to in MNE
            self._check_unchanged()
            raise Unusable(f"MNE cannot read its samples: {_told(error)}") from None
        found *= 1e6
        return found

    @cached_property
    def _offsets_uv(self) -> NDArray[np.float64]:
        """The constant that is taken off each channel: 0, or what its ends and its middle are about."""
        n, second = int(self.raw.n_times), max(1, round(self.raw.info["sfreq"]))
        everything = range(len(self.raw.ch_names))
        starts = sorted({0, max(0, n // 2 - second // 2), max(0, n - second)})
        probed = [self._samples(everything, start, min(start + second, n)) for start in starts]
        middle = np.median(np.concatenate(probed, axis=1), axis=1)
        return np.where(np.abs(middle) > EXACT_UV, np.rint(middle), 0.0)
