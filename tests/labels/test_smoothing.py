"""labels=smoothed: what further experts would vote, learned from the whole table."""

import numpy as np
import pytest
from test_items import choose, votes_of, votes_table

import hms.labels.smoothing  # noqa: F401  (registers the kind)
from hms.competition import VOTE_COLUMNS
from hms.errors import ConfigError
from hms.labels.evidence import fit_mixture, posterior_mean

RNG = np.random.default_rng(0)
SHARES = RNG.dirichlet([0.3, 0.3, 0.2, 0.2, 0.2, 0.8], 160)
FEW = RNG.multinomial(3, SHARES[:80])
MANY = RNG.multinomial(14, SHARES[80:])
ROWS = [(f"e{i}", 0, 0.0, i, *map(int, votes)) for i, votes in enumerate(np.vstack([FEW, MANY]))]


def test_smoothed_votes_are_the_posterior_mean_of_their_kind_times_their_total():
    items = choose(votes_table(*ROWS), labels="smoothed")
    got = np.array(votes_of(items))
    np.testing.assert_allclose(got[:80], 3 * posterior_mean(FEW, fit_mixture(FEW, 1)), rtol=1e-9)
    np.testing.assert_allclose(got[80:], 14 * posterior_mean(MANY, fit_mixture(MANY, 1)), rtol=1e-9)
    assert items["vote_sum"].tolist() == [3] * 80 + [14] * 80


def test_few_votes_move_further_than_many():
    items = choose(votes_table(*ROWS), labels="smoothed")
    shares = items[list(VOTE_COLUMNS)].to_numpy() / items["vote_sum"].to_numpy()[:, None]
    raw = np.vstack([FEW / 3, MANY / 14])
    moved = np.abs(shares - raw).sum(axis=1)
    assert moved[:80].mean() > 2 * moved[80:].mean()


def test_what_is_learned_does_not_depend_on_repeated_rows():
    """Overlapping sub-windows repeat a patient's votes; they are one judgement."""
    again = [(row[0], 1, 2.0, *row[3:]) for row in ROWS[:40]]
    once, twice = (choose(votes_table(*rows), labels="smoothed") for rows in (ROWS, [*ROWS, *again]))
    np.testing.assert_allclose(votes_of(once), votes_of(twice), rtol=1e-12)


def test_items_without_votes_stay_without():
    items = choose(votes_table(*ROWS, ("none", 0, 0.0, 999, 0, 0, 0, 0, 0, 0)), labels="smoothed")
    assert votes_of(items)[-1] == [0.0] * 6
    assert items["vote_sum"].tolist()[-1] == 0


def test_a_table_with_one_kind_of_rows_is_fine():
    assert len(choose(votes_table(*ROWS[80:]), labels="smoothed")) == 80


def test_too_few_rows_to_learn_from_are_refused_with_their_number():
    with pytest.raises(ConfigError, match=r"has 9 different rows with few votes; it needs 40"):
        choose(votes_table(*ROWS[80:], *ROWS[:9]), labels="smoothed")
