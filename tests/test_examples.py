"""The examples run, on a set that is far too small to learn from."""

from __future__ import annotations

from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import hms
from hms.results.run import Run

pytestmark = pytest.mark.slow

STAGES = "stages=[scalograms,waveforms,labels,splits]"


@pytest.fixture(scope="module")
def small_run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run in which every fold has items for both stages, with its derivations."""
    outputs = tmp_path_factory.mktemp("examples")
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    return hms.run(hms.compose(*base, STAGES, "labels.high_confidence_votes=2", "package.derivations=true"))


def example(name: str, *arguments: object) -> str:
    done = forked.run([ROOT / "examples" / name, *arguments], modules=("torch",))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_training_example_predicts_out_of_fold_and_writes_a_submission(
    small_run: Run, test_set: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: the training example is NOT tested")
    base = ("data=kaggle", f"data.root={test_set}", "data.subset=test", f"outputs_dir={tmp_path}", "n_jobs=1")
    test = hms.run(hms.compose(*base, f"from_run={small_run.path}", "stages=[scalograms]"))
    files = ("--predictions", tmp_path / "oof.csv", "--submission", tmp_path / "submission.csv")
    out = example("train_torch.py", "--run", small_run.path, "--test", test.path, "--epochs", "1,1", *files)
    assert "network KL" in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("all")] == [["all", "10"]]
    judged = small_run.judge(tmp_path / "oof.csv").to_dict()
    assert judged["n_items"] == 10
    stated = next(line.split()[2] for line in out.splitlines() if line.startswith("all"))
    assert f"{judged['scores'][0]['divergence']['all']['all']['value']:.3f}" == stated
    submitted = pd.read_csv(tmp_path / "submission.csv")
    assert submitted["eeg_id"].tolist() == pd.read_csv(test_set / "test.csv")["eeg_id"].tolist()
    assert np.allclose(submitted.iloc[:, 1:].sum(axis=1), 1)


def test_the_picture_of_the_augmentations_is_drawn(small_run: Run, tmp_path: Path) -> None:
    example("draw_augmentations.py", tmp_path / "new" / "a.png", "--run", small_run.path)
    assert (tmp_path / "new" / "a.png").read_bytes()[:4] == b"\x89PNG"
