"""Every recipe of docs/recipes.md, as it is written there, on five recordings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from recordings import noise, write_edf

import hms
from hms import registry
from hms.cli import main
from hms.competition import EEG_CHANNELS

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(re.findall(r"<!-- recipe:(\w+) -->\n```\n(.*?)```", PAGE, re.S))
SHAPES = {name: [*map(int, x.split(","))] for name, x in re.findall(r"\| `(\w+)` \| \[([\d, ]+)\]", PAGE)}
"""What the page says of the arrays of an experiment."""
LOOK = "hms browse"
"""Opens a page and waits; what is done there is tested in test_browse.py."""


@pytest.fixture
def folder_of(tiny_set: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes the kind of folder that a command reads."""
    names = {"edf": "p{0}/night.edf", "bids": "sub-0{0}/eeg/sub-0{0}_task-rest_eeg.edf"}

    def make(kind: str) -> Path:
        folder = tmp_path / "recordings"
        if kind == "kaggle":
            return tiny_set
        if folder.exists():
            return folder
        for patient in range(5):
            path = folder / names[kind].format(patient)
            path.parent.mkdir(parents=True)
            eeg = noise(200 * 100, seed=patient)
            write_edf(path, {name: eeg[name] for name in EEG_CHANNELS})
        if kind == "bids":
            (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
        return folder

    return make


def test_every_recipe_has_an_experiment_and_every_experiment_a_recipe() -> None:
    named = set(re.findall(r"experiment=([a-z]\w*)", " ".join(RECIPES.values())))
    ours = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert all("experiment=" in recipe for recipe in RECIPES.values())
    assert ours - {"search"} <= named <= ours | {"bump"}
    table = PAGE[: PAGE.index("##")]
    assert all(f"`{name}`" in table for name in (*ours, "bump"))


def test_the_sweep_on_the_page_is_that_of_its_experiment() -> None:
    shown = re.search(r"```yaml\n(.*?)```", PAGE, re.S)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load((ROOT / "conf/experiment/band.yaml").read_text())


def words_of(line: str, folder_of: Callable[[str], Path], key: Path) -> list[str]:
    """Return the words of a command, with folders of the tests, after ``hms``."""
    kind = re.search(r"(?:data|experiment)=(kaggle|bids)", line)
    folder = str(folder_of(kind[1] if kind else "edf"))
    line = line.replace("DIR/night", f"{folder}/p0/night").replace("DIR", folder)
    name, *words = shlex.split(line.replace("KEYFILE", str(key)))
    assert name == "hms"
    return words


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "loop"])
def test_a_recipe_runs_as_it_is_written(
    recipe: str,
    folder_of: Callable[[str], Path],
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first line whole; what further lines make for people is left out."""
    monkeypatch.chdir(ROOT / "examples" / "plugin")
    monkeypatch.syspath_prepend(".")
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    more = [f"outputs_dir={outputs}", "n_jobs=1"]
    for number, line in enumerate(RECIPES[recipe].splitlines()):
        words = words_of(line, folder_of, tmp_path / "key")
        made = "scalograms" if recipe == "medals" else "waveforms"
        assert main([*words, *more, *([f"stages=[{made},labels,splits]"] if number else [])]) == 0
        run = hms.load(outputs=outputs)
        name = re.sub(r".*experiment=(\w+).*", r"\1", line)
        if arrays := [stage for stage in ("scalograms", "waveforms") if stage in run.manifest["stages"]]:
            first = run.meta["item_id"].iloc[0]
            array = run.spec(first) if "scalograms" in arrays else run.wave(first)
            assert list(array.shape) == SHAPES.get(name, list(array.shape))
            assert np.isfinite(array).all()


def test_the_filter_of_the_engineers_page_runs_and_its_test_passes(
    small_set: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "start" / "engineer.md").read_text()
    python, test = re.findall(r"```python\n# (?:test_)?my_filters.py\n(.*?)```", page, re.S)
    (tmp_path / "my_filters.py").write_text(python)
    (tmp_path / "my_conf" / "filter").mkdir(parents=True)
    option = re.search(r"```yaml\n(.*?)```", page, re.S)
    assert option is not None
    (tmp_path / "my_conf" / "filter" / "gaussian.yaml").write_text(option[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = re.search(r"`hms (run plugins=\[my_filters\][^`]*)`", page)
    assert command is not None
    given = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "stages=[waveforms]"]
    assert main([*shlex.split(command[1]), *given, "n_jobs=1"]) == 0
    names: dict[str, Callable[[], None]] = {}
    exec(test, names)
    names["test_one_standard_deviation_off_the_centre_passes_61_percent"]()


def test_the_options_of_the_readme_work_as_they_stand_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {
        group: {kind: entry for kind, entry in entries.items() if not entry.is_plugin}
        for group, entries in registry._entries.items()
    }
    monkeypatch.setattr(registry, "_entries", ours)
    page = (ROOT / "README.md").read_text()
    for name, text in re.findall(r"```(?:python|yaml)\n# (my_\S+)\n(.*?)```", page, re.S):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = re.search(r"python run.py (weight=stepped .*) --config-dir my_conf", page)
    assert command is not None
    cfg = hms.compose(*command[1].split(), "montage=midline", config_dir=tmp_path / "my_conf")
    assert [cfg.weight.kind, cfg.filter.kind, cfg.cwt.kind] == ["stepped", "gaussian", "bump"]
    seconds = np.arange(10_000) / 200
    noise = np.random.default_rng(0).normal(size=(3, seconds.size)).cumsum(axis=1)
    prepared = hms.transform(noise, cfg, channels=["Fz", "Cz", "Pz"], sfreq=200.0)
    assert np.isfinite(prepared.spec).all()


def test_marks_become_votes_and_votes_a_labelled_run(
    folder_of: Callable[[str], Path], outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop, with marks written as the page would write them."""
    monkeypatch.chdir(tmp_path)
    first, look, marks, again = RECIPES["loop"].splitlines()
    assert look.startswith(LOOK)
    more = [f"outputs_dir={outputs}", "n_jobs=1"]
    assert main([*words_of(first, folder_of, tmp_path), *more]) == 0
    items = hms.load(outputs=outputs).meta["item_id"].tolist()
    rows = [f"{item},,{['lpd', 'other'][k % 2]},,2026-01-01T00:00:00,a" for k, item in enumerate(items)]
    Path("marks.csv").write_text("\n".join(["item_id,mark,votes,note,when,who", *rows]) + "\n")
    assert main(words_of(marks, folder_of, tmp_path)) == 0
    assert main([*words_of(again, folder_of, tmp_path), *more]) == 0
    labelled = hms.load(outputs=outputs)
    assert np.array_equal(labelled.labels.y_soft.sum(axis=1), np.ones(len(items)))
