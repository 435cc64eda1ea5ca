"""Waveforms: reductions of a chain to one signal."""

import numpy as np
import pytest

from hms.registry import Params, lookup
from hms.signal.waveform import reduce_waveforms

CHAIN = (("LL", ("Fp1-F7", "F7-T3", "T3-T5", "T5-O1")),)
RNG = np.random.default_rng(0)


def reduced(pairs, kind):
    return lookup("waveform", kind).function(np.asarray(pairs, np.float32), Params(kind))


def chain(*electrodes):
    """Return the derivations of electrodes from front to back."""
    return -np.diff(np.array(electrodes, np.float32), axis=0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("anterior", 1.0 - 16.0),
        ("posterior", 16.0 - 256.0),
        ("curvature", (1.0 + 256.0) / 2 - 16.0),
        ("mean", (1.0 - 256.0) / 4),
    ],
)
def test_fixed_weights_telescope_to_what_they_are_named_after(kind, expected):
    """Electrodes 1, 4, 16, 64, 256 µV from front to back: T3 is 16, O1 is 256."""
    assert reduced(chain([1], [4], [16], [64], [256]), kind)[0] == expected


@pytest.mark.parametrize(
    ("n_pairs", "anterior", "posterior", "curvature"),
    [
        (2, [1, 0], [0, 1], [0.5, -0.5]),
        (3, [1, 0, 0], [0, 0, 1], [0.5, 0, -0.5]),
        (5, [1, 1, 0, 0, 0], None, None),
    ],
)
def test_weights_adapt_to_other_lengths(n_pairs, anterior, posterior, curvature):
    """A unit signal in one pair at a time reads the weights off."""
    for kind, weights in (("anterior", anterior), ("posterior", posterior), ("curvature", curvature)):
        if weights is not None:
            np.testing.assert_array_equal(reduced(np.eye(n_pairs), kind), weights)


def test_curvature_has_weights_of_length_one():
    weights = reduced(np.eye(4), "curvature")
    np.testing.assert_array_equal(weights, [0.5, 0.5, -0.5, -0.5])
    assert np.sum(weights**2) == 1


def test_the_principal_component_is_the_direction_of_most_variance():
    """Signals along (3, 4, 0, 0) / 5: the component is the signal times the vector's length."""
    source = RNG.standard_normal(2000)
    source -= source.mean()
    np.testing.assert_allclose(reduced(np.outer([3, 4, 0, 0], source), "principal"), 5 * source, atol=1e-5)


def test_the_principal_component_keeps_at_least_the_variance_of_any_fixed_weights():
    pairs = RNG.standard_normal((4, 4)) @ RNG.standard_normal((4, 2000))
    best = reduced(pairs, "principal").var()
    for _ in range(20):
        weights = RNG.standard_normal(4)
        assert best >= (weights / np.linalg.norm(weights) @ pairs).var()


@pytest.mark.parametrize(
    "field", [(1, 1, 1, 1), (1, 1, -1, -1), (2, 1, -1, -1.5), (0.1, 1, 1, -0.5), (1, 0, 0, 0)]
)
def test_the_sign_of_the_principal_component_does_not_depend_on_noise(field):
    """Twenty draws of noise at a tenth of the signal: always the same sign."""
    source = RNG.standard_normal(2000)
    for _ in range(20):
        pairs = np.outer(field, source) + 0.1 * RNG.standard_normal((4, 2000))
        assert np.corrcoef(reduced(pairs, "principal"), source)[0, 1] > 0.9


def test_the_sign_follows_the_falling_weights():
    """(-1, -1, 1, 1) has the product -4 with (4, 3, 2, 1) and is turned round."""
    source = RNG.standard_normal(500)
    out = reduced(np.outer([-1, -1, 1, 1], source), "principal")
    np.testing.assert_allclose(out, -2 * source, atol=1e-4)


def test_an_offset_does_not_choose_the_component():
    """A pair with 5000 µV of offset and no variance has no weight."""
    source = RNG.standard_normal(2000)
    pairs = np.outer([1, 1, 0, 0], source) + np.array([[0], [0], [0], [5000]])
    np.testing.assert_allclose(reduced(pairs, "principal"), np.sqrt(2) * source, atol=0.05)


def test_nan_gives_nan_and_not_an_error():
    assert np.isnan(reduced(np.array([[1, np.nan], [1, 2]]), "principal")).all()


def test_constant_pairs_give_a_finite_component():
    assert np.isfinite(reduced(np.zeros((4, 10)), "principal")).all()


def waveforms(derivations, alive, kind="anterior", output="chains", chains=CHAIN):
    return reduce_waveforms(
        np.asarray(derivations, np.float32),
        np.array(alive),
        chains=chains,
        output=output,
        waveform=Params(kind),
    )


def test_a_dead_pair_takes_no_part():
    """Of pairs 1, 10, 100, 1000 the second is dead: the front half of the other three is the first."""
    derivations = [[1], [10], [100], [1000]]
    assert waveforms(derivations, [True, True, True, True])[0, 0] == 11
    assert waveforms(derivations, [True, False, True, True])[0, 0] == 1


@pytest.mark.parametrize("kind", ["anterior", "posterior", "curvature", "principal", "mean"])
def test_the_only_live_pair_is_the_waveform(kind):
    assert waveforms([[1], [10], [-100], [1000]], [False, False, True, False], kind)[0, 0] == -100


def test_a_chain_without_a_live_pair_is_zeros():
    np.testing.assert_array_equal(waveforms(np.ones((4, 3)), [False] * 4), np.zeros((1, 3)))


def test_derivations_come_out_as_they_are_and_dead_ones_as_zeros():
    out = waveforms([[1], [np.nan], [3], [4]], [True, False, True, True], output="derivations")
    np.testing.assert_array_equal(out, [[1], [0], [3], [4]])


def test_each_chain_reduces_its_own_pairs():
    chains = (("A", ("a-b", "b-c")), ("B", ("d-e", "e-f")))
    np.testing.assert_array_equal(waveforms([[1], [2], [10], [30]], [True] * 4, chains=chains), [[1], [10]])


def test_only_the_mean_makes_the_two_chains_of_a_side_equal():
    """Chains between the same ends: the mean is one signal, the others are two."""
    ends = RNG.standard_normal((2, 300))
    pairs = [chain(ends[0], *RNG.standard_normal((3, 300)), ends[1]) for _ in range(2)]
    chains = (CHAIN[0], ("LP", ("Fp1-F3", "F3-C3", "C3-P3", "P3-O1")))
    for kind in ("anterior", "posterior", "curvature", "principal", "mean"):
        lateral, parasagittal = waveforms(np.concatenate(pairs), [True] * 8, kind, chains=chains)
        assert (np.corrcoef(lateral, parasagittal)[0, 1] > 0.999) == (kind == "mean")
