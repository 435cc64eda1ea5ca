"""Augmentation: what each change does, and that seed, epoch and index alone decide it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hms
from hms.errors import ConfigError
from hms.registry import Params, kinds, lookup
from hms.training import augment as module
from hms.training.augment import (
    Around,
    Augmentation,
    Change,
    Masks,
    Mixup,
    Noise,
    Scale,
    TimeShift,
    augment_sample,
)
from hms.training.mirror import mirrored_electrode, mirrored_outputs

BANANA = hms.compose().at("montage.chains")
MIRROR = mirrored_outputs(BANANA, "chains")
OPTIONS = {name: hms.compose(f"augment={name}").augment for name in ("none", "light", "strong")}


def sample(number: int = 0) -> dict:
    """Return a scalogram and a waveform in which every value tells where it was."""
    rng = np.random.default_rng(number)
    x = rng.random((4, 8, 20), dtype=np.float32)
    x[0, 0, 0], x[1, 0, 0] = 0, 1
    y = rng.dirichlet(np.ones(6)).astype(np.float32)
    wave = (40 * rng.standard_normal((4, 160))).astype(np.float32)
    return {"x": x, "wave": wave, "y": y, "weight": np.float32(0.3 + number), "item_id": str(number)}


AROUND = Around(MIRROR, sample, 5)


def changed(kind: str, params: Change, given_sample: dict | None = None, seed: int = 0) -> dict:
    return lookup("augmentation", kind).function(
        dict(given_sample or sample()), np.random.default_rng(seed), params, AROUND
    )


def augmented(option: str, *, seed: int = 0, epoch: int = 0, index: int = 0) -> dict:
    return augment_sample(
        sample(index),
        OPTIONS[option],
        seed=seed,
        epoch=epoch,
        index=index,
        around=AROUND,
    )


def same(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


# --- any recipe ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["light", "strong"]), st.integers(0, 2**31), st.integers(0, 99), st.integers(0, 4))
def test_every_recipe_keeps_range_shapes_types_and_the_label_sum(option, seed, epoch, index):
    before, after = sample(index), augmented(option, seed=seed, epoch=epoch, index=index)
    assert list(after) == list(before)
    assert after["x"].min() >= 0
    assert after["x"].max() <= 1
    for name in ("x", "wave", "y"):
        assert (after[name].shape, after[name].dtype) == (before[name].shape, np.float32)
        assert after[name].flags.c_contiguous
    assert np.isfinite(after["wave"]).all()
    assert after["y"].sum() == pytest.approx(1, abs=1e-6)
    assert isinstance(after["weight"], np.float32)


def test_seed_epoch_and_index_decide_and_each_of_them_matters():
    first = augmented("strong", seed=1, epoch=2, index=3)
    assert same(first, augmented("strong", seed=1, epoch=2, index=3))
    assert not same(first, augmented("strong", seed=2, epoch=2, index=3))
    assert not same(first, augmented("strong", seed=1, epoch=3, index=3))


def test_the_sample_given_is_not_changed():
    given_sample = sample(2)
    kept = {name: np.copy(value) for name, value in given_sample.items()}
    for epoch in range(20):
        augment_sample(
            given_sample,
            OPTIONS["strong"],
            seed=0,
            epoch=epoch,
            index=2,
            around=AROUND,
        )
    assert same(given_sample, kept)


def test_none_changes_nothing():
    assert same(augmented("none"), sample(0))


def test_each_change_is_made_to_its_share_of_the_samples():
    """With probability 0.3 over 1,000 epochs, 5 standard errors are 0.072."""
    only = Augmentation("sequence", (("turn", Change("time_reversal", 0.3)),))
    turned = [
        not np.array_equal(
            augment_sample(sample(), only, seed=0, epoch=epoch, index=0, around=AROUND)["x"],
            sample()["x"],
        )
        for epoch in range(1000)
    ]
    assert np.mean(turned) == pytest.approx(0.3, abs=0.072)


def test_switching_one_change_off_leaves_the_draws_of_the_others():
    shift, turn = TimeShift("time_shift", 1.0, 0.5), Change("time_reversal", 1.0)

    def after(first: Change) -> np.ndarray:
        both = Augmentation("sequence", (("turn", first), ("shift", shift)))
        return augment_sample(sample(), both, seed=0, epoch=0, index=0, around=AROUND)["x"]

    flipped, plain = after(turn), after(replace(turn, probability=0.0))
    moved = next(n for n in range(20) if np.array_equal(plain, np.roll(sample()["x"], n, axis=-1)))
    np.testing.assert_array_equal(flipped, np.roll(sample()["x"][..., ::-1], moved, axis=-1))


def test_a_probability_is_set_from_the_command_line():
    cfg = hms.compose("augment=strong", "augment.changes.mixup.probability=0")
    assert dict(cfg.augment.changes)["mixup"].probability == 0
    with pytest.raises(ConfigError, match=r"augment.changes.*probability=2 is out of range"):
        hms.compose("augment=strong", "augment.changes.mixup.probability=2")


# --- single changes ------------------------------------------------------------------------------


def test_time_shift_turns_both_signals_by_the_same_share_of_the_window():
    got = changed("time_shift", TimeShift("time_shift", 1.0, 0.5), seed=1)
    share = np.random.default_rng(1).uniform(-0.5, 0.5)
    np.testing.assert_array_equal(got["x"], np.roll(sample()["x"], round(20 * share), axis=-1))
    np.testing.assert_array_equal(got["wave"], np.roll(sample()["wave"], round(160 * share), axis=-1))


def test_time_reversal_twice_is_the_sample():
    once = changed("time_reversal", Change("time_reversal", 1.0))
    np.testing.assert_array_equal(once["x"][..., 0], sample()["x"][..., -1])
    assert same(changed("time_reversal", Change("time_reversal", 1.0), once), sample())


def test_time_mask_zeroes_the_same_stretch_in_all_outputs_and_nothing_else():
    got = changed("time_mask", Masks("time_mask", 1.0, 1, 0.5), seed=2)
    gone = (got["x"] == 0).all(axis=(0, 1))
    assert 0 < gone.sum() <= 10
    assert np.diff(np.flatnonzero(gone)).max(initial=1) == 1
    np.testing.assert_array_equal(got["x"][..., ~gone], sample()["x"][..., ~gone])
    silent = np.flatnonzero((got["wave"] == 0).all(axis=0))
    assert silent[0] / 160 == pytest.approx(np.flatnonzero(gone)[0] / 20, abs=1 / 20)


def test_frequency_mask_zeroes_bands_of_the_scalogram_and_leaves_the_waveform():
    got = changed("frequency_mask", Masks("frequency_mask", 1.0, 2, 0.5), seed=1)
    gone = (got["x"] == 0).all(axis=(0, 2))
    assert 0 < gone.sum() <= 8
    np.testing.assert_array_equal(got["x"][:, ~gone], sample()["x"][:, ~gone])
    np.testing.assert_array_equal(got["wave"], sample()["wave"])


def test_left_right_swap_exchanges_the_chains_of_the_two_sides():
    """LL LP RL RP becomes RL RP LL LP."""
    got = changed("left_right_swap", Change("left_right_swap", 1.0))
    np.testing.assert_array_equal(got["x"], sample()["x"][[2, 3, 0, 1]])
    np.testing.assert_array_equal(got["wave"], sample()["wave"][[2, 3, 0, 1]])


def test_a_montage_of_one_side_cannot_be_swapped():
    around = Around(np.array([-1, -1]), sample, 5)
    with pytest.raises(ValueError, match=r"left_right_swap needs a mirror image of every output, .*\[0, 1\]"):
        module.left_right_swap(sample(), np.random.default_rng(0), Change("left_right_swap", 1.0), around)


def test_chain_drop_silences_one_output_in_both_signals():
    got = changed("chain_drop", Change("chain_drop", 1.0))
    gone = [n for n in range(4) if not got["x"][n].any()]
    assert len(gone) == 1
    assert not got["wave"][gone[0]].any()
    kept = [n for n in range(4) if n not in gone]
    np.testing.assert_array_equal(got["x"][kept], sample()["x"][kept])


def test_amplitude_scale_multiplies_by_one_factor_and_keeps_the_range():
    params = Scale("amplitude_scale", 1.0, 2.0)
    factor = 2.0 ** np.random.default_rng(5).uniform(-1, 1)
    got = changed("amplitude_scale", params, seed=5)
    np.testing.assert_allclose(got["wave"], sample()["wave"] * factor, rtol=1e-6)
    np.testing.assert_allclose(got["x"], np.clip(sample()["x"] * factor, 0, 1), rtol=1e-6)


def test_gaussian_noise_has_at_most_the_stated_strength():
    got = changed("gaussian_noise", Noise("gaussian_noise", 1.0, 0.2), seed=3)
    share = np.random.default_rng(3).random() * 0.2
    noise = got["wave"] - sample()["wave"]
    assert noise.std() == pytest.approx(share * sample()["wave"].std(), rel=0.1)


def test_mixup_of_weighted_labels_by_hand():
    """Weights 0.3 and w2; the label is mixed by lambda w1 : (1 - lambda) w2."""
    rng = np.random.default_rng(7)
    share, other = rng.beta(0.4, 0.4), sample(int(rng.integers(5)))
    got = changed("mixup", Mixup("mixup", 1.0, 0.4), seed=7)
    w1, w2 = 0.3, float(other["weight"])
    w = share * w1 + (1 - share) * w2
    assert got["weight"] == pytest.approx(w, rel=1e-6)
    expected = (share * w1 * sample()["y"] + (1 - share) * w2 * other["y"]) / w
    np.testing.assert_allclose(got["y"], expected, rtol=1e-5)
    np.testing.assert_allclose(got["x"], share * sample()["x"] + (1 - share) * other["x"], rtol=1e-5)
    assert got["item_id"] == "0"


def test_mixup_keeps_the_weighted_loss_of_the_two_items():
    """W KL(y) is, up to the entropy of y, lambda w1 KL(y1) + (1 - lambda) w2 KL(y2): it is linear in w y."""
    rng = np.random.default_rng(7)
    share, other = rng.beta(0.4, 0.4), sample(int(rng.integers(5)))
    got = changed("mixup", Mixup("mixup", 1.0, 0.4), seed=7)
    logp = np.log(np.random.default_rng(1).dirichlet(np.ones(6)))
    left = got["weight"] * (got["y"] @ logp)
    right = share * 0.3 * (sample()["y"] @ logp) + (1 - share) * float(other["weight"]) * (other["y"] @ logp)
    assert left == pytest.approx(right, rel=1e-5)


def test_mixup_of_two_items_without_weight_is_still_a_label():
    empty = sample() | {"weight": np.float32(0)}
    around = Around(MIRROR, lambda number: sample(number) | {"weight": np.float32(0)}, 5)
    got = module.mixup(empty, np.random.default_rng(0), Mixup("mixup", 1.0, 0.4), around)
    assert got["weight"] == 0
    assert got["y"].sum() == pytest.approx(1, abs=1e-6)


# --- several signals at once ---------------------------------------------------------------------


def with_spectrogram(number: int = 0) -> dict:
    """Return a sample that also has ten minutes of a spectrogram."""
    rng = np.random.default_rng(100 + number)
    found = sample(number)
    return {
        "x": found["x"],
        "wave": found["wave"],
        "spec_lr": rng.random((4, 10, 30), dtype=np.float32),
    } | found


ALL = Around(MIRROR, with_spectrogram, 5)


def test_mirroring_reversal_gain_and_mixing_are_the_same_for_every_signal():
    given_sample = with_spectrogram()
    swapped = module.left_right_swap(
        given_sample, np.random.default_rng(0), Change("left_right_swap", 1.0), ALL
    )
    turned = module.time_reversal(given_sample, np.random.default_rng(0), Change("time_reversal", 1.0), ALL)
    scaled = module.amplitude_scale(
        given_sample, np.random.default_rng(5), Scale("amplitude_scale", 1.0, 2.0), ALL
    )
    mixed = module.mixup(given_sample, np.random.default_rng(7), Mixup("mixup", 1.0, 0.4), ALL)
    rng = np.random.default_rng(7)
    share, other = rng.beta(0.4, 0.4), with_spectrogram(int(rng.integers(5)))
    factor = 2.0 ** np.random.default_rng(5).uniform(-1, 1)
    for name in ("x", "wave", "spec_lr"):
        np.testing.assert_array_equal(swapped[name], given_sample[name][[2, 3, 0, 1]])
        np.testing.assert_array_equal(turned[name], given_sample[name][..., ::-1])
        np.testing.assert_allclose(
            mixed[name], share * given_sample[name] + (1 - share) * other[name], rtol=1e-5
        )
        top = np.inf if name == "wave" else given_sample[name].max()
        low = -np.inf if name == "wave" else given_sample[name].min()
        np.testing.assert_allclose(scaled[name], np.clip(given_sample[name] * factor, low, top), rtol=1e-6)


def test_a_spectrogram_of_ten_minutes_has_shifts_and_masks_of_its_own():
    given_sample = with_spectrogram()
    rng = np.random.default_rng(1)
    share, slow = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
    got = module.time_shift(given_sample, np.random.default_rng(1), TimeShift("time_shift", 1.0, 0.5), ALL)
    np.testing.assert_array_equal(got["x"], np.roll(given_sample["x"], round(20 * share), axis=-1))
    np.testing.assert_array_equal(got["spec_lr"], np.roll(given_sample["spec_lr"], round(30 * slow), axis=-1))
    for kind, axes in (("time_mask", (0, 1)), ("frequency_mask", (0, 2))):
        change = getattr(module, kind)
        got = change(given_sample, np.random.default_rng(5), Masks(kind, 1.0, 1, 0.5), ALL)
        gone = [np.flatnonzero((got[name] == 0).all(axis=axes)) for name in ("x", "spec_lr")]
        length = [got[name].shape[2 if kind == "time_mask" else 1] for name in ("x", "spec_lr")]
        assert all(part.size for part in gone)
        assert gone[0][0] / length[0] != pytest.approx(gone[1][0] / length[1], abs=0.02)


def test_a_spectrogram_beside_x_leaves_the_draws_of_x_as_they_were():
    for epoch in range(10):
        plain = augmented("strong", epoch=epoch)
        both = augment_sample(with_spectrogram(), OPTIONS["strong"], seed=0, epoch=epoch, index=0, around=ALL)
        assert same(plain, {name: both[name] for name in plain})


def test_a_band_is_taken_out_of_a_wave_and_of_the_rows_of_pictures_that_hold_it():
    """A sine inside the band is gone, one outside stays, and rows of the picture follow their frequency."""
    rng = np.random.default_rng(8)
    low = 2.0 * 2.0 ** rng.random()
    high = low * 2.0 ** rng.random()
    t = np.arange(2000) / 200
    inside, outside = np.sin(2 * np.pi * 3 * t), np.sin(2 * np.pi * 15 * t)
    assert low < 3 < high < 15
    freqs = np.linspace(1, 8, 8, dtype=np.float32)
    around = Around(MIRROR, sample, 5, freqs_hz={"x": freqs})
    given_sample = sample() | {
        "x": np.ones((4, 8, 20), np.float32),
        "wave": np.tile(inside + outside, (4, 1)),
    }
    params = module.BandStop("band_stop", 1.0, 2.0, 4.0, 2.0)
    got = module.band_stop(given_sample, np.random.default_rng(8), params, around)
    np.testing.assert_allclose(got["wave"][0], outside, atol=1e-5)
    np.testing.assert_array_equal(got["x"][0, :, 0] == 0, (freqs >= low) & (freqs <= high))


# --- derivations in µV ---------------------------------------------------------------------------


def derivations(number: int = 0) -> dict:
    """Return 16 derivations of 100 samples with 30 of context on each side, one of them dead."""
    rng = np.random.default_rng(number)
    x = rng.standard_normal((16, 160)).astype(np.float32)
    alive = np.ones(16, np.bool_)
    alive[number] = False
    x[number] = 0
    y = np.eye(6, dtype=np.float32)[number]
    return {"x": x, "alive": alive, "y": y, "weight": np.float32(1), "item_id": str(number)}


WIDE = Around(mirrored_outputs(BANANA, "derivations"), derivations, 5, n_context=30)


def test_derivations_are_moved_along_the_recording_and_not_turned_round():
    share = np.random.default_rng(0).uniform(-0.2, 0.2)
    by = round(100 * share)
    got = module.time_shift(derivations(), np.random.default_rng(0), TimeShift("time_shift", 1.0, 0.2), WIDE)
    assert by > 0
    np.testing.assert_array_equal(got["x"][:, by:], derivations()["x"][:, :-by])
    assert not got["x"][:, :by].any()


def test_a_mask_of_derivations_lies_in_the_window_and_leaves_the_context():
    got = module.time_mask(derivations(), np.random.default_rng(2), Masks("time_mask", 1.0, 2, 0.9), WIDE)
    before = derivations()["x"]
    np.testing.assert_array_equal(got["x"][:, :30], before[:, :30])
    np.testing.assert_array_equal(got["x"][:, -30:], before[:, -30:])
    assert (got["x"][1, 30:-30] == 0).any()


def test_what_is_known_of_derivations_goes_where_their_rows_go():
    swapped = module.left_right_swap(
        derivations(), np.random.default_rng(0), Change("left_right_swap", 1.0), WIDE
    )
    assert (
        np.flatnonzero(~swapped["alive"]).tolist()
        == np.flatnonzero(~swapped["x"].any(axis=1)).tolist()
        == [8]
    )
    dropped = module.chain_drop(derivations(), np.random.default_rng(0), Change("chain_drop", 1.0), WIDE)
    gone = np.flatnonzero(~dropped["x"].any(axis=1))
    assert len(gone) == 2
    assert np.flatnonzero(~dropped["alive"]).tolist() == gone.tolist()


def test_the_sum_of_two_recordings_is_alive_where_either_is():
    rng = np.random.default_rng(2)
    share, other = rng.beta(0.4, 0.4), int(rng.integers(5))
    assert other
    mixed = module.mixup(derivations(), np.random.default_rng(2), Mixup("mixup", 1.0, 0.4), WIDE)
    assert mixed["alive"].all()
    expected = share * derivations()["x"] + (1 - share) * derivations(other)["x"]
    np.testing.assert_allclose(mixed["x"], expected, rtol=1e-5, atol=1e-7)


# --- mirror images -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mirror"),
    [("Fp1", "Fp2"), ("T4", "T3"), ("O2", "O1"), ("Cz", "Cz"), ("EKG", "EKG"), ("F10", "F9")],
)
def test_electrodes_are_mirrored_by_their_numbers(name, mirror):
    assert mirrored_electrode(name) == mirror


def test_derivations_are_mirrored_pair_by_pair():
    chains = (("L", ("Fp1-F7", "F7-T3")), ("Z", ("Fz-Cz",)), ("R", ("Fp2-F8", "F8-T4")))
    assert mirrored_outputs(chains, "derivations").tolist() == [3, 4, 2, 0, 1]
    assert mirrored_outputs(chains, "chains").tolist() == [2, 1, 0]
    assert mirrored_outputs(chains[:2], "chains").tolist() == [-1, 1]


# --- a change of one's own -----------------------------------------------------------------------


@dataclass(frozen=True)
class Dim(Change):
    factor: float


def test_a_registered_change_takes_part(monkeypatch):
    from hms import registry

    monkeypatch.setitem(
        registry._entries["augmentation"],
        "dim",
        registry.Entry("augmentation", "dim", lambda s, rng, p, around: s | {"x": s["x"] * p.factor}, Dim),
    )
    assert "dim" in kinds("augmentation")
    own = Augmentation("sequence", (("dim", Dim("dim", 1.0, 0.5)),))
    got = augment_sample(sample(), own, seed=0, epoch=0, index=0, around=AROUND)
    np.testing.assert_array_equal(got["x"], sample()["x"] / 2)


def test_every_change_is_in_the_strong_recipe():
    strong: Params = OPTIONS["strong"]
    assert isinstance(strong, Augmentation)
    assert {change.kind for _, change in strong.changes} == set(kinds("augmentation"))
