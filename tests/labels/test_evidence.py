"""Votes as measurements: likelihood, tail probability and mixtures against SciPy and drawn truth."""

import itertools
import math

import numpy as np
import pytest

from hms.labels.evidence import (
    MOST_ENUMERATED,
    Mixture,
    Noise,
    dirichlet_multinomial_log,
    fit_mixture,
    fit_noise,
    posterior_mean,
    tail_probability,
)

ALPHA = np.array([0.5, 2.0, 0.3, 1.2])


def panels(alpha, n_votes, n_items, seed=0):
    """Draw votes around shares that are drawn from a Dirichlet."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_votes, rng.dirichlet(alpha, n_items))


def test_likelihood_agrees_with_scipy():
    from scipy import stats

    votes = panels(ALPHA, 7, 50)
    want = [stats.dirichlet_multinomial.logpmf(row, ALPHA, 7) for row in votes]
    np.testing.assert_allclose(dirichlet_multinomial_log(votes, ALPHA), want, rtol=1e-10)


def test_probabilities_of_all_panels_sum_to_1():
    every = [row for row in itertools.product(range(5), repeat=4) if sum(row) == 4]
    assert np.exp(dirichlet_multinomial_log(every, ALPHA)).sum() == pytest.approx(1)


def test_noise_finds_concentration_and_how_far_a_model_is_too_sure():
    rng = np.random.default_rng(4)
    true = rng.dirichlet(np.ones(4), 4000)
    votes = rng.multinomial(10, np.array([rng.dirichlet(5 * row + 1e-9) for row in true]))
    sure = true**2 / (true**2).sum(axis=1, keepdims=True)
    noise = fit_noise(votes, sure)
    assert noise.concentration == pytest.approx(5, rel=0.1)
    assert noise.sharpness == pytest.approx(0.5, rel=0.1)


def test_tail_probability_of_two_classes_is_that_of_the_beta_binomial():
    from scipy import stats

    shares, noise = np.array([[0.8, 0.2]] * 6), Noise(4.0, 1.0)
    votes = np.array([[5 - k, k] for k in range(6)])
    want = stats.betabinom.sf(np.arange(6) - 1, 5, 0.8, 3.2)
    np.testing.assert_allclose(tail_probability(votes, shares, noise), want, rtol=1e-10)


def test_tail_probability_by_drawing_agrees_with_the_exact_one():
    votes, shares, noise = np.array([[5, 2, 1, 4]]), np.array([[0.1, 0.6, 0.2, 0.1]]), Noise(8.0, 0.7)
    exact = tail_probability(votes, shares, noise)[0]
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(12, rng.dirichlet(noise.alpha(shares)[0], 200_000))
    logs = np.log(noise.calibrated(shares)[0])
    assert exact == pytest.approx((drawn @ logs <= votes[0] @ logs + 1e-9).mean(), abs=0.004)


def test_large_panels_are_drawn_and_never_impossible():
    shares = np.array([[0.9, 0.02, 0.02, 0.02, 0.02, 0.02]] * 2)
    votes = np.array([[95, 1, 1, 1, 1, 1], [0, 100, 0, 0, 0, 0]])
    assert math.comb(105, 5) > MOST_ENUMERATED
    likely, unlikely = tail_probability(votes, shares, Noise(50.0, 1.0))
    assert likely > 0.2
    assert 0 < unlikely < 1e-3


def test_tail_probabilities_of_true_predictions_are_at_most_uniform():
    """Under the noise as it is, at most 5 % of panels have a tail probability of 5 % or less."""
    rng = np.random.default_rng(8)
    shares, noise = rng.dirichlet(np.ones(5), 2000), Noise(6.0, 1.0)
    sizes = np.where(np.arange(2000) % 2, 3, 14)
    votes = np.array([rng.multinomial(n, rng.dirichlet(6 * p)) for n, p in zip(sizes, shares, strict=True)])
    tails = tail_probability(votes, shares, noise)
    for level in (0.01, 0.05, 0.2):
        assert (tails <= level).mean() <= level + 3 * math.sqrt(level / 2000)
    assert (tails <= 0.2).mean() > 0.12


def test_a_share_of_zero_is_improbable_not_impossible():
    assert 0 < tail_probability([[0, 3]], [[1.0, 0.0]], Noise(5.0, 1.0))[0] < 0.01


def test_averaged_votes_are_held_against_panels_of_their_total():
    whole, averaged = tail_probability([[2, 1], [1.5, 1.5]], [[0.9, 0.1]] * 2, Noise(5.0, 1.0))
    assert averaged <= whole


# --- mixtures ------------------------------------------------------------------------------------


def test_one_dirichlet_is_found_again():
    votes = panels(ALPHA, 9, 8000, seed=2)
    mixture = fit_mixture(votes, 1)
    assert mixture.weight.tolist() == [1]
    np.testing.assert_allclose(mixture.alpha[0], ALPHA, rtol=0.08)


def test_a_mixture_finds_kinds_that_are_apart():
    kinds = np.array([[18.0, 1, 1], [1, 9.0, 1], [1, 1, 30.0]])
    votes = np.vstack([panels(a, 12, n, seed=n) for a, n in zip(kinds, (3000, 2000, 1000), strict=True)])
    mixture = fit_mixture(votes)
    np.testing.assert_allclose(mixture.weight, [1 / 2, 1 / 3, 1 / 6], atol=0.02)
    means = mixture.alpha / mixture.alpha.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(means, kinds / kinds.sum(axis=1, keepdims=True), atol=0.03)


def test_a_mixture_never_loses_likelihood_and_does_not_depend_on_the_order_of_items():
    votes = panels(ALPHA, 6, 500, seed=6)
    likelihoods = []
    for n_rounds in (1, 5, 40):
        m = fit_mixture(votes, n_rounds=n_rounds)
        parts = [
            w * np.exp(dirichlet_multinomial_log(votes, a)) for w, a in zip(m.weight, m.alpha, strict=True)
        ]
        likelihoods.append(np.log(np.sum(parts, axis=0)).sum())
    assert likelihoods == sorted(likelihoods)
    again = fit_mixture(votes[::-1])
    np.testing.assert_array_equal(again.alpha, fit_mixture(votes).alpha)


def test_the_posterior_of_one_dirichlet_adds_its_alpha_to_the_votes():
    got = posterior_mean([[3, 0, 0, 0], [0, 0, 0, 0]], Mixture(np.ones(1), ALPHA[None]))
    np.testing.assert_allclose(got, [(np.array([3, 0, 0, 0]) + ALPHA) / 7, ALPHA / 4])


def test_the_posterior_of_a_mixture_weighs_its_kinds_by_the_votes():
    """Two kinds, two classes, three votes of the first: weights by Bayes, worked out by hand."""
    mixture = Mixture(np.array([0.5, 0.5]), np.array([[9.0, 1.0], [1.0, 9.0]]))
    first = 9 * 10 * 11 / (10 * 11 * 12)
    second = 1 * 2 * 3 / (10 * 11 * 12)
    share = (first * 12 / 13 + second * 4 / 13) / (first + second)
    np.testing.assert_allclose(posterior_mean([[3, 0]], mixture), [[share, 1 - share]])


def test_classes_never_voted_do_not_break_a_mixture():
    votes = np.column_stack([panels(ALPHA, 6, 200), np.zeros(200, int)])
    mixture = fit_mixture(votes)
    assert np.isfinite(mixture.alpha).all()
    shares = posterior_mean(votes, mixture)
    assert shares[:, -1].max() < 0.01
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_other_numbers_of_components_are_refused():
    with pytest.raises(ValueError, match="1 component or one per class, 4, not 2"):
        fit_mixture(panels(ALPHA, 6, 20), 2)
