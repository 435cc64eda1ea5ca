"""Recordings whose scalograms are made together: the bits of each are those that it has alone."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import hms
from hms.competition import CHANNELS
from hms.config.threads import one_thread
from hms.engine.evaluate import evaluate, evaluate_together, steps_of
from hms.engine.inference import ArrayRecording, item_stage
from hms.pipeline.selection import needed_channels, needed_context_s
from hms.signal.arrays import Derived, Scalogram
from hms.sources.base import Reader
from hms.stages import scalograms
from hms.stages.measures import Measures
from hms.stages.scalograms import Scalograms

SEVENTEEN = 17


def scalograms_of(*overrides: str) -> Scalograms:
    stage = item_stage(hms.compose(*overrides), "scalograms")
    assert isinstance(stage, Scalograms)
    return stage


def derivations_for(stage: Scalograms, *, dead: dict[int, int]) -> list[Derived]:
    """Make up derivations of 17 recordings; of some, one is dead."""
    rng = np.random.default_rng(0)
    n_rows, n_context = stage.derivations.n_outputs("derivations"), 2400
    found = []
    for number in range(SEVENTEEN):
        values = 50 * rng.standard_normal((n_rows, 2000 + 2 * n_context)).astype(np.float32)
        values[:, :300] *= 100 if number % 3 == 0 else 1  # an artifact in the context
        alive = np.ones(n_rows, np.bool_)
        if number in dead:
            alive[dead[number]] = False
        found.append(Derived(values, alive, n_context, 200.0))
    return found


def made(stage: Scalograms, inputs: list[Derived], together: int) -> list[Scalogram]:
    memos: list[dict[str, Any]] = [{stage.derivations.key: derived} for derived in inputs]
    with one_thread():
        for first in range(0, len(memos), together):
            evaluate_together(stage, memos[first : first + together])
        return [evaluate(stage, None, memo) for memo in memos]


@pytest.mark.parametrize("overrides", [(), ("cwt=superlet",), ("cwt=ricker",), ("montage=bipolar18",)])
def test_a_scalogram_has_the_bits_that_it_has_alone_in_twos_and_in_seventeens(
    overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = scalograms_of(*overrides)
    inputs = derivations_for(stage, dead={5: 3, 6: 3, 9: 0})
    with one_thread():
        alone = [stage.compute(derived) for derived in inputs]
    for together in (1, 2, SEVENTEEN):
        monkeypatch.setattr(scalograms, "TOGETHER", together)
        for one, other in zip(alone, made(stage, inputs, together), strict=True):
            assert one.power.tobytes() == other.power.tobytes()
            assert one.x.tobytes() == other.x.tobytes()


def test_derivations_of_several_recordings_are_transformed_in_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = scalograms_of()
    calls = []
    own = Scalograms._power
    monkeypatch.setattr(Scalograms, "_power", lambda *given: calls.append(1) or own(*given))
    made(stage, derivations_for(stage, dead={2: 0, 7: 3}), SEVENTEEN)
    assert len(calls) == 2 + -(-(SEVENTEEN - 2) // scalograms.TOGETHER)


def test_one_recording_that_cannot_be_transformed_takes_none_along() -> None:
    stage = scalograms_of()
    inputs = derivations_for(stage, dead={})[:4]
    inputs[1].values[0] = np.nan
    memos: list[dict[str, Any]] = [{stage.derivations.key: derived} for derived in inputs]
    evaluate_together(stage, memos)
    with pytest.raises(ValueError, match="finite"):
        evaluate(stage, None, memos[1])
    for number in (0, 2, 3):
        assert np.isfinite(evaluate(stage, None, memos[number]).x).all()


def test_a_stage_that_gives_results_for_too_few_items_is_computed_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = scalograms_of()
    memos: list[dict[str, Any]] = [
        {stage.derivations.key: derived} for derived in derivations_for(stage, dead={})[:2]
    ]
    monkeypatch.setattr(Scalograms, "compute_together", lambda self, inputs: inputs[:1])
    evaluate_together(stage, memos)
    assert all(stage.key not in memo for memo in memos)


@pytest.mark.parametrize("overrides", [("unit=per_eeg",), ("unit=per_row",)])
def test_measures_have_the_bits_that_they_have_alone_in_twos_and_in_seventeens(
    overrides: tuple[str, ...],
) -> None:
    """Windows that overlap, or not; a gap, a dead channel and a recording without some channels."""
    stage = item_stage(hms.compose("data=kaggle", *overrides), "measures")
    assert isinstance(stage, Measures)
    reading = stage.reading
    eeg = np.cumsum(np.random.default_rng(1).standard_normal((20, 130 * 200)), axis=1).astype(np.float32)
    eeg[2, 9000:9003] = np.nan
    eeg[5, 12_000:] = 7
    few = [name for name in CHANNELS if name not in ("Fz", "EKG")]

    def prepared(together: int) -> list[bytes]:
        segments = []
        for channels in (CHANNELS, tuple(few)):
            rows = [CHANNELS.index(name) for name in channels]
            reader = Reader(
                ArrayRecording(eeg[rows], channels, {}),
                reading.window_s,
                needed_context_s([stage]),
                needed_channels([stage]),
                reading.block_s,
                reading.margins_s,
            )
            segments += [reader.segment(start) for start in (20.0, 22.0, 24.0, 30.5, 40.0, 66.0, 80.0, 90.0)]
        memos: list[dict[str, Any]] = [{} for _ in segments]
        with one_thread(), np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(segments), together):
                some = range(first, min(first + together, len(segments)))
                for step in steps_of((stage,)):
                    if together > 1:
                        evaluate_together(step, [memos[number] for number in some])
                    for number in some:
                        evaluate(step, segments[number], memos[number])
        return [pickle.dumps(sorted(stage.arrays(memo[stage.key]).items())) for memo in memos]

    assert prepared(1) == prepared(2) == prepared(SEVENTEEN)
