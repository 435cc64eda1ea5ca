"""EDF and BDF files with known signals, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import edfio
import numpy as np
from numpy.typing import NDArray

from hms.competition import CHANNELS, EEG_CHANNELS

DOUBLE_BANANA = (
    "Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "Fp1-F3", "F3-C3", "C3-P3", "P3-O1",
    "Fp2-F8", "F8-T4", "T4-T6", "T6-O2", "Fp2-F4", "F4-C4", "C4-P4", "P4-O2",
)  # fmt: skip

BDF_RANGE = (-8_388_608, 8_388_607)


def noise(
    n_samples: int, *, seed: int = 0, names: Sequence[str] = CHANNELS
) -> dict[str, NDArray[np.float64]]:
    """Return 20 µV of white noise per channel."""
    return dict(zip(names, _drawn(n_samples, seed, len(names)).copy(), strict=True))


@lru_cache(4)
def _drawn(n_samples: int, seed: int, n_channels: int) -> NDArray[np.float64]:
    return 20 * np.random.default_rng(seed).standard_normal((n_channels, n_samples)).clip(-5, 5)


def write_edf(
    path: Path,
    signals: Mapping[str, NDArray[np.float64]],
    *,
    sfreq: float = 200.0,
    unit: str = "uV",
    limit: float = 1000.0,
    **header: Any,
) -> Path:
    """Write signals, in the unit of the file, and return the path."""
    made = [
        edfio.EdfSignal(data, sfreq, label=label, physical_dimension=unit, physical_range=(-limit, limit))
        for label, data in signals.items()
    ]
    edfio.Edf(made, **header).write(path)
    return path


def write_bdf(path: Path, signals: Mapping[str, NDArray[np.float64]], *, sfreq: float = 200.0) -> Path:
    """Write signals in µV in 24 bits and return the path."""
    made = [
        edfio.BdfSignal(
            data,
            sfreq,
            label=label,
            physical_dimension="uV",
            physical_range=(-1e4, 1e4),
            digital_range=BDF_RANGE,
        )
        for label, data in signals.items()
    ]
    edfio.Bdf(made).write(path)
    return path


def bipolar(signals: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the pairs of the double banana, labelled as the CHB-MIT files do."""
    new = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    pairs = {name: name.split("-") for name in DOUBLE_BANANA}
    return {
        "-".join(new.get(part, part) for part in pair).upper(): signals[pair[0]] - signals[pair[1]]
        for pair in pairs.values()
    }


def patched(path: Path, at: int, text: str, width: int) -> Path:
    """Write a text over a field of a file's header."""
    data = bytearray(path.read_bytes())
    data[at : at + width] = f"{text:<{width}}".encode()
    path.write_bytes(data)
    return path


def field_at(n_signals: int, name: str, signal: int) -> int:
    """Return where a field of a signal stands in the header."""
    before = {"label": 0, "unit": 96, "physical_min": 104, "physical_max": 112, "digital_min": 120}[name]
    width = {"label": 16}.get(name, 8)
    return 256 + before * n_signals + width * signal


__all__ = [
    "CHANNELS",
    "DOUBLE_BANANA",
    "EEG_CHANNELS",
    "bipolar",
    "field_at",
    "noise",
    "patched",
    "write_bdf",
    "write_edf",
]


def write_brainvision(
    path: Path, signals: Mapping[str, NDArray[np.float64]], *, sfreq: float = 200.0, marks: str = ""
) -> Path:
    """Write signals in µV as float32 with header and markers, and return the header's path."""
    channels = "\n".join(f"Ch{i}={name},,1,µV" for i, name in enumerate(signals, start=1))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(signals)}\n"
        f"SamplingInterval={1e6 / sfreq:g}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n"
        f"[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\n{marks}",
        encoding="utf-8",
    )
    np.stack(list(signals.values()), axis=1).astype("<f4").tofile(path.with_suffix(".eeg"))
    return path


def write_eeglab(path: Path, signals: Mapping[str, NDArray[np.float64]], *, sfreq: float = 200.0) -> Path:
    """Write signals in µV as an EEGLAB file that holds its samples, and return the path."""
    from scipy.io import savemat

    data = np.stack(list(signals.values())).astype(np.float32)
    chanlocs = np.array([(name, "EEG") for name in signals], dtype=[("labels", "O"), ("type", "O")])
    eeg = {
        "data": data,
        "nbchan": float(len(signals)),
        "pnts": float(data.shape[1]),
        "trials": 1.0,
        "srate": sfreq,
        "xmin": 0.0,
        "xmax": (data.shape[1] - 1) / sfreq,
        "chanlocs": chanlocs,
        "event": [],
        "ref": "common",
    }
    savemat(path, {"EEG": eeg}, appendmat=False)
    return path
