"""Experiments named after solutions of the competition: the numbers by which those are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import hms
from hms.labels.weights import confidence_weights

VOTES = np.array([1, 2, 3, 7, 10, 14, 28])


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("fifteenth", np.log(VOTES + 1) / np.log(3)),
        ("fourth", VOTES / 28),
        ("third", np.minimum(VOTES / 10, 1)),
        ("published", np.minimum(VOTES / 10, 1.5)),
    ],
)
def test_weights_are_those_of_the_solution(name: str, weights: np.ndarray) -> None:
    cfg = hms.compose(f"experiment={name}")
    np.testing.assert_allclose(confidence_weights(VOTES, cfg.weight), weights, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_rows", "frames"),
    [("published", 4, 250), ("third", 16, 1250), ("fourth", 16, 1250), ("seventh", 18, 1250),
     ("fifteenth", 18, 1250)],
)  # fmt: skip
def test_an_experiment_prepares_recordings(name, n_rows, frames, small_set: Path, prepare) -> None:
    """Rows of the montage, frames of the window, and a head that says what differs."""
    run = prepare(small_set, f"experiment={name}", "stages=[scalograms,waveforms]", "folds=none")
    x = run.spec(run.meta["item_id"].iloc[0])
    assert x.shape == (n_rows, 48, frames)
    assert np.isfinite(x).all()
    head = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    assert "# Differences:" in head


def test_rows_of_a_mel_picture_are_nearly_even_in_hz() -> None:
    """Log(1 + f / 700) is nearly linear: steps grow by 719.5 / 700.5 less one step, 2.7 %."""
    from hms.signal.wavelets import frequencies

    steps = np.diff(frequencies(hms.compose("experiment=third").cwt).astype(np.float64))
    assert steps[-1] / steps[0] == pytest.approx((720 / 700.5) ** (46 / 47), rel=1e-4)
