"""The examples in the docstrings of `hms` do what they say."""

import doctest
from pathlib import Path

import pytest

import hms


@pytest.mark.slow
def test_the_examples_of_the_four_functions_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(hms, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted >= 4
    assert found.failed == 0


def test_completion_offers_what_is_meant() -> None:
    assert set(dir(hms)) == {"compose", "run", "load", "transform", "__version__"}
