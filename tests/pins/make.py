"""Make the recordings that the pins are made from, or renew the pins.

``python tests/pins/make.py --expected``
    prepares every configuration of `observed` anew, writes expected.json and says what changed. Do this only
    for a change of behaviour that is meant: its commit then shows which keys, versions and numbers moved.
``python tests/pins/make.py --check``
    says what differs and writes nothing; with ``--bytes`` also where only the last bits differ.
``python tests/pins/make.py --recordings``
    writes the recordings. They are committed as bytes, for what a library writes differs by version, and no
    test makes them; with other recordings every run hash changes.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from observed import CONFIGURATIONS, EXPECTED, RECORDINGS, differences, observe, surroundings, unpack

CHANNELS = (
    "Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "Fz", "Cz",
    "Pz", "Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2", "EKG",
)  # fmt: skip
CLASSES = ("seizure", "lpd", "gpd", "lrda", "grda", "other")
PERIOD_S, STRETCH_S = 0.5, 28
"""What is repeated, and for how long: so that a minute of 20 channels is a few kilobytes."""

CHANGED_SHARE = 0.001
"""Samples 1 µV off: without a floor of noise, ratios of power would divide rounding by rounding."""

PEAK_EVERY_S = 7
"""Each of these samples is farther out than the ones before: equal extremes would be flagged as clipped."""


def made_up(duration_s: int, sfreq: int, seed: int) -> NDArray[np.int16]:
    """Return whole µV, shape (20, duration_s * sfreq): in each stretch other slow waves."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(PERIOD_S * sfreq)) / sfreq
    stretches = []
    for _ in range(-(-duration_s // STRETCH_S)):
        hz = rng.choice(np.arange(1, 7), 3, replace=False)[:, None] / PERIOD_S
        wave = np.sin(2 * np.pi * (hz * time + rng.random((3, 1))))
        period = np.rint(rng.uniform(3, 15, (len(CHANNELS), 3)) @ wave)
        stretches.append(np.tile(period, round(STRETCH_S / PERIOD_S)))
    eeg = np.concatenate(stretches, axis=1)[:, : duration_s * sfreq]
    eeg += (rng.random(eeg.shape) < CHANGED_SHARE) * rng.choice((-1, 1), eeg.shape)
    for number, start in enumerate(range(0, eeg.shape[1] - sfreq, PEAK_EVERY_S * sfreq)):
        second = eeg[:, start : start + sfreq]
        rows = np.arange(len(second))
        second[rows, second.argmax(axis=1)] += 2 + number
        second[rows, second.argmin(axis=1)] -= 2 + number
    return eeg.astype(np.int16)


SMALL: dict[str, Any] = {"write_statistics": False, "store_schema": False, "use_dictionary": False}
"""How pyarrow leaves out what a file can do without."""


# --- the competition's layout --------------------------------------------------------------------


def write_parquet(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    """Write columns as compressed as the reader allows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=19, **SMALL)


def make_kaggle(folder: Path) -> None:
    """Write four recordings of 56 s, one with a gap, one with a dead channel, and one too short."""
    (folder / "train_eegs").mkdir(parents=True, exist_ok=True)
    (folder / "train_spectrograms").mkdir(exist_ok=True)
    for number, name in enumerate(("1001", "1002", "1003", "1004", "1005")):
        eeg = made_up(25 if name == "1005" else 56, 200, seed=number).astype(np.float32)
        if name == "1002":
            eeg[3:5, 5_000:5_200] = np.nan
        if name == "1003":
            eeg[7] = 0.0
        write_parquet(folder / "train_eegs" / f"{name}.parquet", dict(zip(CHANNELS, eeg, strict=True)))
    for number, name in enumerate(("71", "72")):
        write_parquet(folder / "train_spectrograms" / f"{name}.parquet", spectrogram(number))
    (folder / "train.csv").write_bytes(TRAIN.encode())


def spectrogram(seed: int) -> dict[str, NDArray[Any]]:
    """Return 305 rows, 2 s each, at three frequencies; the chains stand in the competition's order."""
    rng = np.random.default_rng(seed)
    columns: dict[str, NDArray[Any]] = {"time": np.arange(1, 611, 2)}
    for chain in ("LL", "RL", "LP", "RP"):
        for hz in ("0.59", "0.78", "0.98"):
            columns[f"{chain}_{hz}"] = np.tile(rng.integers(1, 60, 61), 5).astype(np.float32) / 4
    columns["LL_0.59"][40:44] = np.nan
    return columns


TRAIN = """\
eeg_id,eeg_sub_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_sub_id,spectrogram_label_offset_seconds,\
label_id,patient_id,expert_consensus,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote
1001,0,0.0,71,0,0.0,501,91,Seizure,3,0,0,0,0,0
1001,1,4.0,71,1,4.0,502,91,Seizure,11,1,0,0,0,2
1001,2,6.0,71,2,6.0,503,91,Seizure,11,1,0,0,0,2
1002,0,0.0,71,3,10.0,504,92,LPD,0,9,4,0,0,1
1002,1,6.0,72,0,0.0,505,92,LPD,0,7,0,0,0,0
1003,0,2.0,72,1,2.0,506,93,Seizure,5,0,1,0,1,0
1004,0,0.0,72,2,8.0,507,94,LPD,1,12,0,2,0,0
1005,0,0.0,72,3,6.0,508,94,LPD,0,3,0,0,0,0
"""


# --- EDF and BDF ---------------------------------------------------------------------------------


def make_edf(folder: Path) -> None:
    """Write an EDF of 110 s at 256 Hz, newer names of channels, and a BDF of 60 s at 200 Hz; packed by xz."""
    import edfio

    newer = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        night = [
            edfio.EdfSignal(
                row, 256, label=f"EEG {newer.get(name, name).upper()}-Ref", physical_dimension="uV",
                physical_range=(-3276.8, 3276.7), digital_range=(-32768, 32767),
            )
            for name, row in zip(CHANNELS, made_up(110, 256, seed=21).astype(float), strict=True)
        ]  # fmt: skip
        edfio.Edf(night).write(Path(made) / "night.edf")
        ward = [
            edfio.BdfSignal(
                row, 200, label=name, physical_dimension="uV",
                physical_range=(-8388.608, 8388.607), digital_range=(-8_388_608, 8_388_607),
            )
            for name, row in zip(CHANNELS, made_up(60, 200, seed=22).astype(float), strict=True)
        ]  # fmt: skip
        edfio.Bdf(ward).write(Path(made) / "ward.bdf")
        for file in Path(made).iterdir():
            packed = lzma.compress(file.read_bytes(), preset=9)
            (folder / f"{file.name}.xz").write_bytes(packed)
    (folder / "windows.csv").write_bytes(WINDOWS.encode())
    (folder / "windows_without_votes.csv").write_bytes(WITHOUT_VOTES.encode())


WINDOWS = """\
recording,patient_id,start_s,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote
night,p1,0,0,0,0,3,9,1
night,p1,30.5,0,0,0,2,0,0
night,p1,60,0,0,0,0,0,14
ward,p2,10,0,0,2,8,0,0
"""

WITHOUT_VOTES = """\
recording,patient_id,start_s
ward,p2,3.5
night,p1,12
"""


# --- IIIC ----------------------------------------------------------------------------------------


def make_iiic(folder: Path) -> None:
    """Write two samples of 50 s, one of them twice as loud, and the look-up table of their votes."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    table = np.empty((2, 5), dtype=object)
    for number, (name, votes) in enumerate((("GPD_1", (1, 0, 2, 13, 0, 0)), ("LRDA_2", (4, 0, 0, 0, 9, 1)))):
        seg = (1 + number) * made_up(50, 200, seed=31 + number)
        savemat(folder / f"{name}.mat", {"seg": seg}, do_compression=True)
        table[number] = [name, np.array([votes], np.uint8), np.zeros((1, 6)), *2 * [np.ones((1, 1))]]
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = table
    savemat(folder / "votes_LUT.mat", {"LUT": cell}, do_compression=True)


# --- the pins ------------------------------------------------------------------------------------


def observed_now() -> dict[str, Any]:
    """Prepare every configuration and return what is pinned of it."""
    with tempfile.TemporaryDirectory() as place:
        recordings = unpack(Path(place) / "recordings")
        runs = {name: observe(name, recordings, Path(place) / "outputs") for name in CONFIGURATIONS}
    return {"made_with": surroundings(), "runs": runs}


def _changes(known: dict[str, Any], now: dict[str, Any], *, of_bytes: bool) -> list[str]:
    names = dict.fromkeys([*known["runs"], *now["runs"]])
    found = []
    for name in names:
        before, after = known["runs"].get(name), now["runs"].get(name)
        if before is None or after is None:
            found.append(f"{name}: {'added' if before is None else 'removed'}")
        else:
            found += [f"{name}: {text}" for text in differences(before, after, of_bytes=of_bytes)]
    return found


def _renew(*, write: bool, of_bytes: bool) -> int:
    """Say what changed since the pins were made; return 1 if something did and nothing is written."""
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {"runs": {}}
    now = observed_now()
    found = _changes(known, now, of_bytes=of_bytes)
    print("\n".join(found) or "nothing changed")
    if write:
        EXPECTED.write_bytes((_written(now) + "\n").encode())
        print(f"{EXPECTED.name} is written; what changed belongs into the commit's message")
    return int(bool(found) and not write)


def _written(tree: Any, depth: int = 0) -> str:
    """Return JSON with a line for every entry of the outer dictionaries, so that a change reads as one."""
    if not isinstance(tree, dict) or depth > 3:
        return json.dumps(tree)
    pad = " " * (depth + 1)
    rows = (f"{pad}{json.dumps(name)}: {_written(value, depth + 1)}" for name, value in tree.items())
    return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}"


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for and return the exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--expected", action="store_true", help="renew expected.json and say what changed")
    what.add_argument("--check", action="store_true", help="say what differs; exit code 1 if something does")
    what.add_argument("--recordings", action="store_true", help="write the recordings anew")
    parser.add_argument("--bytes", action="store_true", help="compare the bytes of arrays and tables too")
    given = parser.parse_args(arguments)
    if given.recordings:
        make_kaggle(RECORDINGS / "kaggle")
        make_edf(RECORDINGS / "edf")
        make_iiic(RECORDINGS / "iiic")
        return 0
    return _renew(write=given.expected, of_bytes=given.bytes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
