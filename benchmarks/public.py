"""Public recordings of many recorders, read by hms and compared with MNE in µV.

``python benchmarks/public.py DIR`` wants the repositories of benchmarks/public.md in DIR, each in
a folder ``owner+name``; what is not there is named and passed over. Every channel that a
recording offers is compared over at most `MOST_S` seconds: MNE's samples, turned into µV and
brought to 200 Hz by the conversion that tests/sources/test_resample.py checks, against what ``data=edf``
or ``data=mne`` reads. A file that stands there in two formats is also compared with itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.errors import Unusable
from hms.sources.edf import EdfRecording
from hms.sources.files import place_of
from hms.sources.mne.files import files_of, place_of_files
from hms.sources.mne.recording import MneRecording, open_raw, quietly
from hms.sources.rates import conversion
from hms.sources.recordings import FileRecording

MOST_S = 60.0

TESTING = "mne-tools+mne-testing-data"
MNE = "mne-tools+mne-python/mne/io"
ANT = f"{TESTING}/antio"
TEMPLE = "ephrelm+ai4eu-aura/test/data/01_tcp_ar/002/00009578"
SCCN = "sccn+eeglab/sample_data/test_data"


@dataclass(frozen=True)
class Public:
    """A public recording: where it lies, what recorded or wrote it, and the same in another format."""

    path: str
    recorder: str
    same_as: str = ""
    cnt_format: str | None = None


FILES = (
    Public(f"{TESTING}/NihonKohden/MB0400FU.EDF", "Nihon Kohden, exported"),
    Public(f"{TESTING}/NihonKohden/MB0400FU.EEG", "Nihon Kohden", f"{TESTING}/NihonKohden/MB0400FU.EDF"),
    Public(f"{TESTING}/Persyst/sub-pt1_ses-02_task-monitor_acq-ecog_run-01_clip2.lay", "Persyst"),
    Public(f"{TEMPLE}/00009578_s002_t001.edf", "Temple (Nicolet), 250 Hz"),
    Public(f"{TEMPLE}/00009578_s006_t001.edf", "Temple (Nicolet), 256 Hz"),
    Public(f"{TESTING}/EDF/subsecond_starttime.edf", "Natus XLTEK, EDF+D"),
    Public("holgern+pyedflib/pyedflib/tests/data/test_subsecond.edf", "Natus XLTEK, EDF+D"),
    Public(f"{TESTING}/EDF/chtypes_edf.edf", "EDF+ with types in its labels"),
    Public(f"{TESTING}/EDF/test_edf_overlapping_annotations.edf", "BCI2000 (PhysioNet eegmmidb)"),
    Public("tefaltaxabor+mne_applications/data/S001R01.edf", "BCI2000 (PhysioNet eegmmidb), 160 Hz"),
    Public(f"{TESTING}/BDF/multiple_annotation_chans.bdf", "BDF+, several annotation channels"),
    Public(f"{SCCN}/test.bdf", "BioSemi"),
    Public(f"{MNE}/edf/tests/data/test.bdf", "BioSemi, 2,048 Hz"),
    Public(f"{MNE}/edf/tests/data/test.edf", "EDF, 139 channels, 512 Hz"),
    Public(f"{SCCN}/test.edf", "EDF, 256 Hz"),
    Public(f"{SCCN}/BIDS_test/sub-S1/ses-01/eeg/sub-S1_ses-01_task-Experiment_run-01_eeg.edf", "BIDS, EDF"),
    Public(f"{MNE}/edf/tests/data/test_edf_stim_channel.edf", "EDF, 128 Hz"),
    Public(f"{MNE}/edf/tests/data/duplicate_channel_labels.edf", "EDF, a label twice"),
    Public(f"{MNE}/edf/tests/data/test_uneven_samp.edf", "EDF, two rates, volts"),
    Public("idotta+edfio/Calib5.edf", "Polyman, µV and mV"),
    Public("vagnerfonseca+edf/inst/extdata/edfPlusC.edf", "EDFbrowser"),
    Public("vagnerfonseca+edf/inst/extdata/edfPlusD.edf", "EDFbrowser, EDF+D with gaps"),
    Public("vagnerfonseca+edf/inst/extdata/bdfPlusC.bdf", "EDFbrowser, BDF+"),
    Public(f"{TESTING}/EDF/test_utf8_annotations.edf", "EDFbrowser, annotations in Chinese"),
    Public(f"{MNE}/brainvision/tests/data/test.vhdr", "Brain Products"),
    Public(
        f"{TESTING}/montage/bv_dig_test.vhdr", "Brain Products, 5 kHz", f"{TESTING}/montage/bv_dig_raw.fif"
    ),
    Public(f"{TESTING}/Brainvision/test_VAmp.ahdr", "Brain Products V-Amp"),
    Public(
        "mne-tools+mne-bids/mne_bids/tests/data/tiny_bids/sub-01/ses-eeg/eeg/sub-01_ses-eeg_task-rest_eeg.vhdr",
        "BIDS, Brain Products, 5 kHz",
    ),
    Public("sccn+eeglab/sample_data/eeglab_data.set", "EEGLAB (Neuroscan)"),
    Public(f"{TESTING}/EEGLAB/test_raw_chanloc.set", "EEGLAB (Brain Products)"),
    Public(f"{TESTING}/CNT/scan41_short.cnt", "Neuroscan", cnt_format="int16"),
    Public(f"{ANT}/CA_208/test_CA_208.cnt", "ANT Neuro", f"{ANT}/CA_208/test_CA_208.vhdr"),
    Public(f"{ANT}/NA_271/test-na-271.cnt", "ANT Neuro", f"{ANT}/NA_271/test-na-271.vhdr"),
    Public(f"{TESTING}/nedf/testdata.nedf", "Neuroelectrics"),
    Public(f"{MNE}/nicolet/tests/data/test_nicolet_raw.data", "Nicolet (.data and .head)"),
    Public(f"{MNE}/egi/tests/data/test_egi.raw", "EGI, simple binary"),
    Public(f"{TESTING}/EGI/test_egi_pns.mff", "EGI"),
)


def opened(path: Path, public: Public) -> FileRecording:
    """Open a file as ``data=edf`` or ``data=mne`` does."""
    if path.suffix.lower() in (".edf", ".bdf"):
        return EdfRecording(place_of("r", str(path)), aliases={}, unit="uV")
    files = files_of(str(path))
    place = place_of_files("r", str(path), files)
    return MneRecording(place, {}, files, cnt_format=public.cnt_format, keeps_bad=True)


def by_mne(path: Path, public: Public, label: str, place: int, n: int) -> NDArray[np.float64] | None:
    """Return n samples at 200 Hz of a channel in µV, from MNE's volts; None where it gives none."""
    raw = _raw(path, public)
    row = raw.ch_names.index(label) if label in raw.ch_names else place
    if row >= len(raw.ch_names) or raw.info["chs"][row]["unit"] != 107:
        return None

    def samples(first: int, stop: int) -> NDArray[np.float64]:
        with quietly():
            inside: NDArray[np.float64] = raw.get_data([row], first, stop) * 1e6
        return inside - np.median(inside)  # beyond 4 mV, float32 is coarse

    rate = conversion(float(raw.info["sfreq"]), SFREQ_HZ)
    return rate.resampled(samples, raw.n_times, 0, n)[0].astype(np.float64)


_opened: dict[Path, Any] = {}


def _raw(path: Path, public: Public) -> Any:
    if path not in _opened:
        _opened.clear()
        _opened[path] = open_raw(str(path), public.cnt_format)
    return _opened[path]


def compared(path: Path, public: Public) -> tuple[int, int, float, float]:
    """Return channels offered, channels compared, the largest difference and the median size, µV."""
    recording = opened(path, public)
    # MNE puts the stretches of an interrupted file next to each other: the first has the same times in both.
    (_, end), *_ = getattr(recording, "stretches", ()) or ((0, recording.n_samples),)
    n = min(end, round(MOST_S * SFREQ_HZ))
    largest, sizes, n_compared = 0.0, [], 0
    for key, place in recording.named.places.items():
        try:
            ours = recording.read(0, n, (key,))[0].astype(np.float64)
        except Unusable:
            continue
        theirs = by_mne(path, public, recording.named.labels[place], place, n)
        both = np.isfinite(ours)
        if theirs is None or not both.any():
            continue
        difference = (ours - theirs)[both]
        # A constant that one of the two takes off is none of the signal.
        largest = max(largest, float(np.abs(difference - np.median(difference)).max()))
        sizes.append(float(np.std(theirs[both])))
        n_compared += 1
    return len(recording.channels), n_compared, largest, float(np.median(sizes)) if sizes else np.nan


def between_formats(path: Path, other: Path, public: Public) -> tuple[int, float]:
    """Return how many channels two files of a recording share, and their largest difference, µV."""
    one, two = opened(path, public), opened(other, public)
    n = min(one.n_samples, two.n_samples, round(MOST_S * SFREQ_HZ))
    shared = [key for key in one.channels if key in two.channels]
    pairs = [(key, key) for key in shared]
    if not pairs and len(one.named.labels) == len(two.named.labels):
        place = {p: key for key, p in two.named.places.items()}
        pairs = [(key, place[p]) for key, p in one.named.places.items() if p in place]
    largest, n_compared = 0.0, 0
    for mine, its in pairs:
        try:
            a, b = (r.read(0, n, (k,))[0].astype(np.float64) for r, k in ((one, mine), (two, its)))
        except Unusable:
            continue
        difference = a - b
        if np.isfinite(difference).any():
            n_compared += 1
            largest = max(largest, float(np.nanmax(np.abs(difference - np.nanmedian(difference)))))
    return n_compared, largest


def rows(folder: Path) -> Iterator[list[str]]:
    """Yield a row of the table for each file."""
    for public in FILES:
        path = folder / public.path
        name = public.path.rpartition("/")[2]
        if not path.exists():
            yield [name, public.recorder, "not there", "", "", ""]
            continue
        try:
            offered, n, largest, size = compared(path, public)
        except Unusable as reason:
            yield [name, public.recorder, f"refused: {reason.reason}", "", "", ""]
            continue
        twin = ""
        if public.same_as:
            count, apart = between_formats(path, folder / public.same_as, public)
            twin = f"{Path(public.same_as).suffix}: {apart:.1e} ({count})"
        recording = opened(path, public)
        length = f"{recording.duration_s:.0f} s"
        yield [name, public.recorder, length, f"{n} of {offered}", f"{largest:.1e} of {size:.1f}", twin]


def main() -> None:
    """Print the table as markdown."""
    warnings.simplefilter("ignore")
    print("| file | recorder | length | channels | largest difference, of an SD of, µV | the same in |")
    print("|---|---|---|---|---|---|")
    for row in rows(Path(sys.argv[1])):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
