"""The examples in the docstrings of `hms` do what they say."""

import doctest
import inspect
from pathlib import Path

import pytest

import hms
from hms.results.run import Run
from hms.training.dataset import DatasetChoices, SpecDataset


@pytest.mark.slow
def test_the_examples_of_the_four_functions_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(hms, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted >= 4
    assert found.failed == 0


def test_completion_offers_what_is_meant() -> None:
    assert set(dir(hms)) == {"compose", "run", "load", "transform", "__version__"}


def test_what_a_dataset_may_be_asked_for_is_spelled_out_alike_wherever_it_is() -> None:
    there = dict(inspect.signature(SpecDataset).parameters)
    del there["run"]
    here = dict(inspect.signature(Run.dataset).parameters)
    del here["self"]
    assert list(here.items()) == list(there.items())
    del here["split"]
    assert DatasetChoices.__annotations__.keys() == here.keys()
