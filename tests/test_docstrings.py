"""The examples in the docstrings of `hms` do what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hms
from hms.results.run import Run
from hms.store.package import Package, PackageLabels
from hms.training.dataset import DatasetChoices, SpecDataset

MODULES = ("hms.results.run", "hms.store.package", "hms.training.dataset", "hms.training.metric",
           "hms.training.submission", "hms.training.torch")  # fmt: skip
PUBLIC = (Run, Package, PackageLabels, SpecDataset)
NEEDS = {"to_torch": "torch", "to_braindecode": "braindecode", "to_mne": "mne", "browse": "uvicorn"}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_every_public_method_of_a_run_and_of_a_dataset_has_an_example() -> None:
    lacking = [
        f"{cls.__name__}.{name}"
        for cls in PUBLIC
        for name, member in vars(cls).items()
        if not name.startswith("_") and (callable(member) or hasattr(member, "__get__"))
        if ">>>" not in (inspect.getdoc(getattr(member, "__func__", member)) or "")
    ]
    assert lacking == []
    assert all(">>>" in (getattr(hms, name).__doc__ or "") for name in hms.__all__)


@pytest.fixture(scope="module")
def example(
    small_set_with_spectrograms: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Return the names that examples use: a run of four recordings that has everything, and an item."""
    folder, before = tmp_path_factory.mktemp("examples"), Path.cwd()
    os.chdir(folder)
    settings = ("folds.n_splits=2", "spectrograms=kaggle", "package.derivations=true", "n_jobs=1")
    run = hms.run(hms.compose("data=kaggle", f"data.root={small_set_with_spectrograms}", *settings))
    yield {"hms": hms, "run": run, "item_id": run.meta["item_id"].iloc[0], "np": np, "pd": pd, "os": os}
    os.chdir(before)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_runs_and_datasets_hold(module: str, example: dict[str, Any]) -> None:
    if module == "hms.training.torch":
        pytest.importorskip("torch", reason="torch is not installed: its examples are NOT run")
    there = importlib.import_module(module)
    found = list(_examples(there))
    assert found
    skipped = [_run(test, there, example) for test in found]
    if any(skipped):
        pytest.skip(f"NOT run for want of {', '.join(filter(None, skipped))}")


def _examples(module: ModuleType) -> Iterator[doctest.DocTest]:
    """Yield those of a module; doctest's own search passes cached properties over."""
    for name, what in vars(module).items():
        if getattr(what, "__module__", None) != module.__name__:
            continue
        members = {f"{name}.{n}": member for n, member in vars(what).items()} if inspect.isclass(what) else {}
        for path, member in {name: what, **members}.items():
            doc = inspect.getdoc(member) or ""
            if ">>>" in doc and not path.rpartition(".")[2].startswith("_"):
                yield doctest.DocTestParser().get_doctest(doc, {}, path, None, 0)


def _run(test: doctest.DocTest, module: ModuleType, names: dict[str, Any]) -> str | None:
    """Run the examples of one docstring, or return the extra that is lacking."""
    extra = NEEDS.get(test.name.rpartition(".")[2])
    if extra is not None and find_spec(extra) is None:
        return extra
    test.globs = {**vars(module), **names}
    said: list[str] = []
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append).failed == 0, "".join(said)
    return None


@pytest.mark.slow
def test_the_examples_of_the_four_functions_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(hms, optionflags=FLAGS)
    assert found.attempted >= 8
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
