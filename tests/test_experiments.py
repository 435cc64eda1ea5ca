"""Experiments named after solutions of the competition: the numbers by which those are known."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", ["published", "third", "fourth", "seventh", "fifteenth"])
def test_the_head_of_an_experiment_says_what_differs_from_the_solution(name: str) -> None:
    assert "# Differences:" in (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()


def test_rows_of_a_mel_picture_are_nearly_even_in_hz() -> None:
    """Log(1 + f / 700) is nearly linear: steps grow by 719.5 / 700.5 less one step, 2.7 %."""
    from hms.signal.wavelets import frequencies

    steps = np.diff(frequencies(hms.compose("experiment=third").cwt).astype(np.float64))
    assert steps[-1] / steps[0] == pytest.approx((720 / 700.5) ** (46 / 47), rel=1e-4)
