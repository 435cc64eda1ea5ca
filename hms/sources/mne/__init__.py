"""Any format that MNE reads: the files of a recording, its samples, the folder."""

from __future__ import annotations

from hms.sources.mne.recording import MneRecording
from hms.sources.mne.source import Mne, MneSource, open_mne

__all__ = ["Mne", "MneRecording", "MneSource", "open_mne"]
