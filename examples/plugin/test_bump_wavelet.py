"""The bump wavelet: its response by hand, and a run that takes it."""

from pathlib import Path

import numpy as np
import pytest
from bump_wavelet import Bump, bump

import hms

CONF = Path(__file__).parent / "conf"


def test_the_response_is_one_at_the_centre_and_nothing_outside_the_band() -> None:
    params = Bump("bump", 0.5, 20.0, 48, 8, "amplitude", "float32", "fft", "log", width=0.5)
    response = bump(np.array([4.9, 7.5, 10.0, 12.5, 15.1]), 10.0, params)
    assert response == pytest.approx([0, np.exp(1 - 4 / 3), 1, np.exp(1 - 4 / 3), 0])


def test_a_sine_is_found_at_its_frequency(tmp_path: Path) -> None:
    cfg = hms.compose("plugins=[bump_wavelet]", "cwt=bump", config_dir=CONF)
    time = np.arange(10_000) / 200
    names = ["Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "Fz", "Cz", "Pz",
             "Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2"]  # fmt: skip
    sine = np.stack([(i + 1) * 10 * np.sin(2 * np.pi * 6 * time) for i in range(len(names))])
    prepared = hms.transform(sine, cfg, channels=names, sfreq=200.0)
    loudest = prepared.freqs[prepared.spec.mean(axis=2).argmax(axis=1)]
    assert loudest == pytest.approx([6.0] * 4, rel=0.04)
