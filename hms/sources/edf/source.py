"""A folder of EDF and BDF files, an hour or many days long.

A recording is read in blocks of ``data.block_s`` seconds, so that memory does not grow
with its length. What stands behind a window is the block it starts in and the two beside
it: their bytes, with the header's, are the window's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from hms.config.paths import Address
from hms.errors import Unusable
from hms.registry import register
from hms.sources.base import Part, Place
from hms.sources.bucket import Ahead
from hms.sources.edf.recording import HELD_BYTES, EdfRecording
from hms.sources.events import FolderParams
from hms.sources.folder import Found, base_anywhere, find_files
from hms.sources.patients import PatientParams
from hms.sources.recordings import FolderSource

ENDINGS = (".edf", ".bdf")

READER = 3
"""Raised when the numbers read from a file change."""


@dataclass(frozen=True)
class Edf(FolderParams, PatientParams):
    """Settings of a folder of EDF files.

    Attributes
    ----------
    unit : unit of channels whose header states none; None: such a recording is left out
    """

    unit: Literal["nV", "uV", "mV", "V"] | None

    @property
    def reader(self) -> str:
        """What samples depend on besides the bytes of a file."""
        return f"edf {READER}" + (f", {self.unit}" if self.unit else "")


@register("data", "edf", Edf)
def open_edf(params: Edf, *, outputs_dir: Path, n_jobs: int) -> EdfSource:
    """Open a folder of EDF and BDF files."""
    base, only = base_anywhere(params.root, "the .edf or .bdf files")
    return EdfSource(base, params, only)


@dataclass(frozen=True)
class EdfSource(FolderSource):
    """A folder of EDF and BDF files."""

    name: ClassVar[str] = "edf"
    endings: ClassVar[tuple[str, ...]] = ENDINGS

    params: Edf

    @cached_property
    def found(self) -> Found:
        """Files of the folder when it was first looked at."""
        return find_files(self.root, ENDINGS, only=self.only)

    def __getstate__(self) -> dict[str, Any]:
        # A worker is told where a recording lies; names of a hundred thousand others are not sent to it.
        return {name: value for name, value in self.__dict__.items() if name not in ("found", "_others")}

    def ahead(self, parts: Sequence[Part]) -> None:
        """Begin to read what is opened next, where it is in object storage."""
        if isinstance(self.root, Address):
            _ahead().expect(parts, self._read, HELD_BYTES)

    def open(self, place: Place) -> EdfRecording:
        """Read a file's header."""
        if isinstance(self.root, Address):
            return _ahead().take(Part(place), self._opened)
        return self._opened(Part(place))

    def _read(self, part: Part) -> EdfRecording:
        """Open a recording, and hold in memory what its digest is taken from."""
        recording = self._opened(part)
        with suppress(Unusable):  # said again by whoever asks for the digest
            recording.digest_of(part.part)
        return recording

    def _opened(self, part: Part) -> EdfRecording:
        return EdfRecording(
            part.place, aliases=dict(self.params.aliases), unit=self.params.unit, block_s=self.params.block_s
        )


@cache
def _ahead() -> Ahead:
    """Return what reads recordings of this process before they are opened."""
    return Ahead()
