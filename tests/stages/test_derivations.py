"""Derivations as a matrix: what forms them of samples forms them of transforms too."""

from __future__ import annotations

import numpy as np
import pytest

import hms
from hms.competition import CHANNELS
from hms.signal.arrays import Cleaned
from hms.signal.montage import electrodes
from hms.stages.derivations import Derivations


@pytest.mark.parametrize(
    "overrides",
    [(), ("montage=bipolar18",), ("montage=referential",)],
    ids=["double_banana", "bipolar18", "referential"],
)
@pytest.mark.parametrize("dead", [(), ("C3", "Fp2")], ids=["all alive", "two dead"])
def test_rows_times_the_weights_are_the_derivations(overrides: tuple[str, ...], dead: tuple[str, ...]):
    """The rows may stand in another order, with channels between that the montage does not use."""
    stage = Derivations.from_config(hms.compose(*overrides))
    channels = electrodes(stage.chains)
    rows = np.random.default_rng(0).standard_normal((len(CHANNELS), 50)).astype(np.float32)
    eeg = rows[[CHANNELS.index(name) for name in channels]]
    mask = np.array([name in dead for name in channels])
    eeg[mask] = 0
    rows[[CHANNELS.index(name) for name in dead]] = 0
    cleaned = Cleaned(eeg, channels, mask, 0, 200.0)
    np.testing.assert_allclose(stage.weights(cleaned, CHANNELS) @ rows, stage.form(cleaned), atol=1e-5)
    assert stage.weights(cleaned, CHANNELS) is stage.weights(cleaned, CHANNELS)


def test_a_channel_that_the_rows_lack_has_no_weight():
    stage = Derivations.from_config(hms.compose())
    channels = electrodes(stage.chains)
    cleaned = Cleaned(np.zeros((16, 4), np.float32), channels, np.zeros(16, bool), 0, 200.0)
    weights = stage.weights(cleaned, tuple(name for name in channels if name != "C3"))
    assert np.abs(weights).sum(axis=1).tolist().count(1) == 2
