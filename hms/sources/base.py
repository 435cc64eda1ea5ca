"""What every source gives: places of recordings, open recordings, and segments of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hms.competition import SUB_WINDOW_S
from hms.config.paths import Address
from hms.errors import ConfigError, StorageError, Unusable, machine_fault
from hms.registry import NonNegativeFloat, Params, PositiveFloat, settings_of
from hms.signal.arrays import Block
from hms.signal.levels import extremes
from hms.sources.channels import Channels, View

if TYPE_CHECKING:
    import pandas as pd

    from hms.labels.classes import Ballot
    from hms.sources.tables import VotesTable

Array = NDArray[np.float32]
Stretch = tuple[int, int]
"""First sample of a stretch, and the first after it."""

Margins = tuple[float, float]
"""Seconds of a sub-window before the window and after it: no window lies nearer to a recording's ends."""

RECORDING = "recording"
"""Kind of the files that items come from; other kinds are companions of a recording."""


@settings_of("data")
@dataclass(frozen=True)
class SourceParams(Params):
    """Settings of every source that can change numbers; a source's own settings extend them.

    Attributes
    ----------
    aliases : names in files, mapped to names used here
    missing : what happens to an item whose recording lacks a channel of the montage: it is left out, or the
        pairs that need the channel are treated like those of a dead one
    block_s : length of the blocks in which recordings are filtered; windows that start in a block share it.
        None filters every window alone, or in blocks of 120 s where windows share a transform
    transform_s : most seconds of a stretch whose wavelet transform overlapping windows share; 0: each window
        has its own; None: 26 where every row is an item and windows overlap, else 0
    pseudonyms : file with a key, kept outside the runs, that turns names of recordings and patients into ids
        (`hms.sources.pseudonyms`); None: names stay as they are
    """

    aliases: tuple[tuple[str, str], ...]
    missing: Literal["exclude", "dead"]
    block_s: PositiveFloat | None
    # Not `added(...)`: a checker would take that for a default, which no setting has.
    transform_s: NonNegativeFloat | None = field(metadata={"before": 0.0})
    pseudonyms: str | None = field(metadata={"before": None})

    def overlaps(self, window_s: float) -> bool:
        """Tell whether windows of this length overlap where each is an item, as far as settings tell."""
        return False

    @property
    def reader(self) -> str:
        """What samples depend on besides the bytes of a file and the settings above; part of keys.

        A source says here its own version of reading, raised when its numbers change, and settings
        of its own that change them. Empty: nothing.
        """
        return ""

    @property
    def answers_every_row(self) -> bool:
        """Whether every row of the table must be answered, so that failures never stop a run."""
        return False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording is; size and time are None when it is missing or cannot be accessed."""

    recording: str
    path: str
    size: int | None
    mtime_ns: int | None
    problem: str | None = None
    """Why it cannot be accessed, where the file is not simply missing."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is behind some items: a file, or the part of a long one that is read for them."""

    place: Place
    part: str = ""
    kind: str = RECORDING

    @property
    def name(self) -> str:
        """What journals call it; ids hold neither '#' nor ':'."""
        kind = "" if self.kind == RECORDING else f"{self.kind}:"
        return f"{kind}{self.place.recording}" + (f"#{self.part}" if self.part else "")


@dataclass(frozen=True)
class Segment:
    """One window of a recording with the context around it, as it was recorded.

    Attributes
    ----------
    eeg : float32, shape (n_channels, n_context + n_window + n_context), µV
        NaN where the recording has a gap or no samples.
    channels : names of the rows of ``eeg``: electrodes (``Fp1``), and derivations
        (``Fp1-F7``) where the recording is bipolar already
    sfreq : sampling rate in Hz
    n_context : samples before the window, and after it
    n_outside : samples of the window and its context that are outside the recording, before it and after it
    block : the stretch of the recording that the window is part of, if windows share one
    first : samples from the start of the block to the start of the window
    references : what each channel was recorded against; empty where all have the same
    unknown : labels of the recording's channels whose names mean nothing here
    """

    eeg: Array
    channels: tuple[str, ...]
    sfreq: float
    n_context: int
    n_outside: tuple[int, int]
    block: Block | None = None
    first: int = 0
    references: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def n_window(self) -> int:
        """Samples of the window."""
        return int(self.eeg.shape[1]) - 2 * self.n_context

    @property
    def inside(self) -> slice:
        """Samples of window and context that the recording reaches."""
        return slice(self.n_outside[0], self.eeg.shape[1] - self.n_outside[1])

    @cached_property
    def extremes(self) -> Array:
        """Highest and lowest sample of each channel in each second inside, as `hms.signal.levels` gives."""
        n_second, n_samples = max(1, round(self.sfreq)), self.inside.stop - self.inside.start
        shared = None
        if self.block is not None and not n_samples % n_second:
            shared = self.block.extremes(n_second, self.place, n_samples // n_second)
        return extremes(self.eeg[:, self.inside], n_second) if shared is None else shared

    @property
    def place(self) -> int:
        """Where in the samples of its block, with their context, the first one inside is."""
        assert self.block is not None, "a window alone is in no block"
        return self.first + self.block.n_context - self.n_context + int(self.inside.start)

    @cached_property
    def is_finite_inside(self) -> bool:
        """Whether every sample inside is finite."""
        return bool(np.isfinite(self.extremes).all())

    @property
    def is_finite(self) -> bool:
        """Whether every sample of window and context is there and finite."""
        return self.is_finite_inside and not any(self.n_outside)

    def cut_of(self, block: Block) -> Array:
        """Return the window with its context from what was made of its block."""
        return block.values[:, self.first : self.first + self.eeg.shape[1]]

    def narrowed(self, n_context: int) -> Segment:
        """Return the segment with less context around the same window."""
        cut = self.n_context - n_context
        if cut == 0:
            return self
        assert cut > 0, "a segment cannot be given context that was not read"
        before, after = (max(0, n - cut) for n in self.n_outside)
        eeg = self.eeg[:, cut : self.eeg.shape[1] - cut]
        return replace(self, eeg=eeg, n_context=n_context, n_outside=(before, after))


class Openable(Protocol):
    """An open file that items are made from."""

    def digest_of(self, part: str) -> str:
        """Return the xxh3-128 of the bytes behind a part of the file; part "" is all of it."""
        ...


class Recording(Openable, Protocol):
    """An open recording.

    It may say more of itself: ``named``, the `hms.sources.channels.Channels` of its labels, where
    these state references; ``stretches``, the samples from start to stop of each part without an
    interruption, where there are interruptions; and ``notes``, what of the file was mended.
    """

    sfreq: float

    @property
    def n_samples(self) -> int:
        """Samples per channel; raises `Unusable` where the file cannot be decoded."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the channels there are: names used here, see `hms.sources.channels.Channels`."""
        ...

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> Array:
        """Return samples start to stop in µV, NaN where the recording has none."""
        ...


class Source(Protocol):
    """A set of recordings with a table of windows, labelled or not."""

    @property
    def root(self) -> Path | Address:
        """Folder or address of the recordings."""
        ...

    def votes(self, ballot: Ballot) -> VotesTable:
        """Return the validated table of windows; ``has_votes`` says whether it is labelled."""
        ...

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return where each recording is, in the order asked for."""
        ...

    def part(self, start_s: float) -> str:
        """Return which part of a recording is behind a window, "" where it is read whole."""
        ...

    def watched(self) -> list[str] | None:
        """Return the files and folders whose size and time alone determine the table and the places.

        None where these are not known: everything is then looked through every time.
        """
        ...

    def ahead(self, parts: Sequence[Part]) -> None:
        """Take note of what is opened next, in order, to read it ahead."""
        ...

    def open(self, place: Place) -> Recording:
        """Open a recording; raise `Unusable` if it is missing or cannot be read."""
        ...

    def companions(self, kind: str, items: pd.DataFrame) -> tuple[list[Place | None], list[float]]:
        """Return, per item, where its companion file is (None: it has none), and the start in it.

        Raises `ConfigError` if the source has no such files.
        """
        ...

    def open_companion(self, place: Place, kind: str) -> Openable:
        """Open a companion file."""
        ...


class WholeFiles:
    """Base of a source whose recordings are read whole and have no companions."""

    name: ClassVar[str]

    def part(self, start_s: float) -> str:
        """Return "": a recording's identity is that of all its bytes."""
        return ""

    def watched(self) -> list[str] | None:
        """Return None: what the recordings are is looked for every time."""
        return None

    def ahead(self, parts: Sequence[Part]) -> None:
        """Do nothing: files of this machine are read when they are opened."""

    def companions(self, kind: str, items: pd.DataFrame) -> tuple[list[Place | None], list[float]]:
        """Raise: there are none."""
        raise ConfigError(f"data={self.name} has no {kind} files; choose {kind}s=none")

    def open_companion(self, place: Place, kind: str) -> Openable:
        """Raise: there are none."""
        raise AssertionError(f"data={self.name} has no {kind} files")


_making: ContextVar[bool] = ContextVar("making", default=True)


@contextmanager
def making(allowed: bool) -> Iterator[None]:
    """Let sources that make recordings do so, or not: a run that is only opened makes none."""
    token = _making.set(allowed)
    try:
        yield
    finally:
        _making.reset(token)


def check_making(folder: Path, count: int) -> None:
    """Raise ConfigError where no recordings are to be made; sources that make some ask before."""
    if not _making.get():
        raise ConfigError(
            f"the run's {count} recordings are not in {folder}, and a run that you open makes none unless "
            "you trust it: --trust, in Python hms.load(..., trust=True)"
        )


def open_part(source: Source, part: Part) -> Openable:
    """Open the file of a part; raises `Unusable` if it is missing or cannot be read."""
    if part.kind == RECORDING:
        return source.open(part.place)
    return source.open_companion(part.place, part.kind)


def current_digest(source: Source, part: Part) -> str | None:
    """Return the digest of a part as it is now, None if it cannot be read.

    Raises `StorageError` if the machine fails, so that nothing is known of the part.
    """
    try:
        return open_part(source, part).digest_of(part.part)
    except Exception as error:  # whatever damaged bytes lead to
        if fault := machine_fault(error):
            raise StorageError(f"cannot read {part.place.path}: {fault}") from error
        return None


@dataclass(frozen=True)
class Reader:
    """Reads windows of an open recording with ``context_s`` on each side, NaN where it does not reach.

    Channels that the recording lacks are left out; the stages that need one say so. Windows that start in one
    block of ``block_s`` are cut from it, and the last block is kept. Where ``margins_s`` are given, a block
    leaves out what no window of a whole sub-window can hold.
    """

    recording: Recording
    window_s: float
    context_s: float
    channels: tuple[str, ...]
    block_s: float | None = None
    margins_s: Margins | None = None
    _blocks: dict[Stretch, Block] = field(default_factory=dict)

    def segment(self, start_s: float) -> Segment:
        """Return a window; raise `Unusable` if the recording ends before it does, or is interrupted in it."""
        recording, sfreq = self.recording, self.recording.sfreq
        n_window, n_context = round(self.window_s * sfreq), round(self.context_s * sfreq)
        first = round(start_s * sfreq)
        stretch = stretch_of(recording, start_s, first, n_window, self.window_s)
        start, stop = first - n_context, first + n_window + n_context
        view, block, offset = present(recording, self.channels), None, 0
        if self.block_s is None:
            eeg = _read(recording, start, stop, view.keys, stretch)
        else:
            around = self._around(first, n_window, round(self.block_s * sfreq), stretch)
            block, offset = self._block(around, n_context, view.keys, stretch), first - around[0]
            eeg = block.values[:, offset : offset + stop - start]
        n_outside = _outside(start, stop, stretch)
        named: Channels | None = getattr(recording, "named", None)
        unknown = () if named is None else named.unknown
        return Segment(eeg, view.names, sfreq, n_context, n_outside, block, offset, view.references, unknown)

    def _around(self, first: int, n_window: int, n_block: int, stretch: Stretch) -> Stretch:
        """Return where the block of a window lies: to the end of the last window that can start in it."""
        start = first // n_block * n_block
        stop = min(start + n_block + n_window, stretch[1])
        if self.margins_s is None:
            return start, stop
        before, after = (round(margin_s * self.recording.sfreq) for margin_s in self.margins_s)
        inner = max(start, stretch[0] + before), min(stop, stretch[1] - after)
        return inner if inner[0] <= first and first + n_window <= inner[1] else (start, stop)

    def _block(self, around: Stretch, n_context: int, keys: tuple[str, ...], stretch: Stretch) -> Block:
        if around not in self._blocks:
            self._blocks.clear()
            eeg = _read(self.recording, around[0] - n_context, around[1] + n_context, keys, stretch)
            self._blocks[around] = Block(eeg, n_context)
        return self._blocks[around]


def present(recording: Recording, wanted: tuple[str, ...]) -> View:
    """Return those of the wanted channels that a recording has."""
    named: Channels | None = getattr(recording, "named", None)
    return _present(wanted, recording.channels) if named is None else named.chosen(wanted)


@lru_cache(maxsize=64)
def _present(wanted: tuple[str, ...], channels: tuple[str, ...]) -> View:
    names = tuple(name for name in wanted if name in channels)
    return View(names, names)


def stretch_of(recording: Recording, start_s: float, first: int, n_window: int, window_s: float) -> Stretch:
    """Return the samples from start to stop around a window without an interruption.

    Raises `Unusable` if the window is not in the recording, or is interrupted.
    """
    n_samples, sfreq = recording.n_samples, recording.sfreq
    stretches: Sequence[Stretch] = getattr(recording, "stretches", ()) or ((0, n_samples),)
    if first < 0 or first + n_window > n_samples:
        longest_s = max(stop - start for start, stop in stretches) / sfreq
        raise Unusable(_outside_text(start_s, window_s, n_samples / sfreq, longest_s))
    for stretch in stretches:
        if stretch[0] <= first and first + n_window <= stretch[1]:
            return stretch
    ends = [0, *(edge for stretch in stretches for edge in stretch)]
    gaps = zip(ends[::2], ends[1::2], strict=False)
    begin, end = next((b, e) for b, e in gaps if e > first and b < first + n_window and e > b)
    raise Unusable(
        f"the window from {start_s:g} s to {start_s + window_s:g} s meets the interruption of the recording "
        f"from {begin / sfreq:g} s to {end / sfreq:g} s",
        failure=False,
    )


def _outside_text(start_s: float, window_s: float, length_s: float, longest_s: float) -> str:
    text = f"the window ends at {start_s + window_s:g} s but the recording lasts {length_s:g} s"
    if start_s < 0:
        text = f"a window of {window_s:g} s does not fit into the recording, which lasts {length_s:g} s"
        if longest_s < length_s:
            text += f" but at most {longest_s:g} s without interruption"
    if start_s < 0 and length_s < SUB_WINDOW_S:
        text += "; window.start_s and window.length_s say what of 50 s it is"
    return text


def _outside(start: int, stop: int, stretch: Stretch) -> tuple[int, int]:
    return max(0, stretch[0] - start), max(0, stop - stretch[1])


def _read(recording: Recording, start: int, stop: int, keys: tuple[str, ...], stretch: Stretch) -> Array:
    """Return samples start to stop, NaN outside the stretch."""
    if stretch == (0, recording.n_samples):
        return recording.read(start, stop, keys)
    eeg = np.full((len(keys), stop - start), np.nan, np.float32)
    first, last = max(start, stretch[0]), min(stop, stretch[1])
    eeg[:, first - start : last - start] = recording.read(first, last, keys)
    return eeg
