"""What a notebook does: the same scalograms and waveforms, written the plain way.

    python benchmarks/notebook_style.py DATA_FOLDER OUTPUT_FOLDER [--method conv] [--first 20]

pandas reads the whole file, SciPy filters channel by channel, PyWavelets transforms pair by
pair, power is averaged over a chain's pairs and scaled with NumPy's percentiles, and NumPy
writes compressed files. The transform sees the ten seconds alone, which is cheapest and wrong at the edges.
`throughput.py` compares with this script.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pywt
from joblib import Parallel, delayed
from scipy.signal import butter, filtfilt

SFREQ = 200
CHAINS = {
    "LL": ["Fp1", "F7", "T3", "T5", "O1"],
    "LP": ["Fp1", "F3", "C3", "P3", "O1"],
    "RL": ["Fp2", "F8", "T4", "T6", "O2"],
    "RP": ["Fp2", "F4", "C4", "P4", "O2"],
}
FREQS = np.geomspace(0.5, 20, 48)
WAVELET = "cmor1.5-1.0"
HOP = 8


def prepare(path: str, offset_s: float, out: str, method: str) -> None:
    """Read one recording and write its scalogram and its waveform."""
    eeg = pd.read_parquet(path).interpolate(limit_direction="both").fillna(0)
    start = int((offset_s + 20) * SFREQ)
    b, a = butter(4, [0.5, 20], btype="band", fs=SFREQ)
    clean = {}
    for name in eeg.columns:
        clean[name] = np.clip(filtfilt(b, a, eeg[name].to_numpy()), -500, 500)
    scales = pywt.frequency2scale(WAVELET, FREQS / SFREQ)
    images, waves = [], []
    for electrodes in CHAINS.values():
        power = []
        for anode, cathode in itertools.pairwise(electrodes):
            pair = (clean[anode] - clean[cathode])[start : start + 2000]
            values, _ = pywt.cwt(pair, scales, WAVELET, method=method)
            power.append(np.abs(values[:, ::HOP]) ** 2)
        image = np.log1p(np.mean(power, axis=0))
        low, high = np.percentile(image, [1, 99])
        images.append(np.clip((image - low) / (high - low + 1e-9), 0, 1))
        waves.append((clean[electrodes[0]] - clean[electrodes[2]])[start : start + 2000])
    name = Path(path).stem
    np.savez_compressed(f"{out}/{name}_spec.npz", x=np.float32(images), freqs=np.float32(FREQS))
    np.savez_compressed(f"{out}/{name}_wave.npz", x=np.float32(waves), fs=SFREQ)


def main() -> None:
    """Prepare every recording of a folder with two workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--method", choices=("fft", "conv"), default="fft")
    parser.add_argument("--first", type=int, default=None)
    arguments = parser.parse_args()
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(f"{arguments.data}/train.csv").groupby("eeg_id", sort=False).head(1)
    table = table.head(arguments.first) if arguments.first else table
    began = time.perf_counter()
    Parallel(n_jobs=2)(
        delayed(prepare)(
            f"{arguments.data}/train_eegs/{eeg_id}.parquet", offset, arguments.out, arguments.method
        )
        for eeg_id, offset in zip(table["eeg_id"], table["eeg_label_offset_seconds"], strict=True)
    )
    print(f"{len(table) / (time.perf_counter() - began):.1f} recordings/s")


if __name__ == "__main__":
    main()
