"""EDF and BDF: the header as files have it, the times of data records, the samples, the folder."""

from __future__ import annotations

from hms.sources.edf.recording import EdfRecording
from hms.sources.edf.source import Edf, EdfSource, open_edf

__all__ = ["Edf", "EdfRecording", "EdfSource", "open_edf"]
