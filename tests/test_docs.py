"""The documentation that docs/make.py makes from what there is, and the programs that pages name."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["study", "badge-python", "badge-licence", "badge-version"])
def test_pages_and_badges_are_those_of_today(make: ModuleType, name: str) -> None:
    assert make.is_current(name), f"python docs/make.py {name}"


def test_every_page_with_measurements_names_the_program_that_made_them(make: ModuleType) -> None:
    assert make.unnamed() == []


def test_a_badge_states_a_name_and_a_value_and_fetches_nothing(make: ModuleType) -> None:
    svg = make.badge("licence", "MIT")
    assert 'aria-label="licence: MIT"' in svg
    assert svg.count("http") == svg.count("http://www.w3.org/2000/svg") == 1
