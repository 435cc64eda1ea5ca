"""Sweeps: members, what they share, what can be compared, and what a failure leaves."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import numpy as np
import pytest
from browser import browser, find_chromium
from conftest import ROOT
from omegaconf import OmegaConf
from small_sets import write_set

import hms.engine.runner
from hms.competition import VOTE_COLUMNS
from hms.engine.plan import make_plan
from hms.errors import ConfigError, StorageError
from hms.main import main
from hms.results.run import find_run
from hms.store.folders import StageFolder
from hms.sweep.leaderboard import Leaderboard, Row, make_leaderboard, told_apart
from hms.sweep.members import Member
from hms.sweep.page import sweep_page
from hms.sweep.run import Planned, _member_lines, expand, plan_sweep, uses_hydras_sweeper
from hms.sweep.scores import (
    Scored,
    WindowVotes,
    compare,
    confirm,
    objective_of,
    stand,
    window_votes,
)
from hms.sweep.search import _built
from hms.training.baseline import SET_ASIDE

pytestmark = pytest.mark.slow

TABLES = "stages=[labels,splits]"
FAST = ("cwt.n_freqs=8", "cwt.hop=40")


def sweep_folder(outputs: Path) -> Path:
    (folder,) = (outputs / "sweeps").iterdir()
    return folder


def rows_of(outputs: Path) -> list[dict[str, str]]:
    with open(sweep_folder(outputs) / "leaderboard.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def computed(outputs: Path, stage: str) -> list[int]:
    """How often a stage computed, per key in the store."""
    return sorted(StageFolder(path).load().computed for path in (outputs / "store").glob(f"{stage}-*"))


@pytest.fixture
def multirun(command: Callable[..., Any], small_set: Path) -> Callable[..., Any]:
    """Call ``run.py -m`` on the small set."""

    def call(*overrides: str) -> Any:
        return command("-m", "data=kaggle", f"data.root={small_set}", *overrides)

    return call


# --- members -------------------------------------------------------------------------------------


def test_members_are_every_value_with_every_other_in_the_order_typed() -> None:
    keys, members = expand(["cwt=morlet,gmw", "n_jobs=1", "weight=log,sqrt"])
    assert keys == ["cwt", "weight"]
    assert members == [
        ["cwt=morlet", "n_jobs=1", "weight=log"],
        ["cwt=morlet", "n_jobs=1", "weight=sqrt"],
        ["cwt=gmw", "n_jobs=1", "weight=log"],
        ["cwt=gmw", "n_jobs=1", "weight=sqrt"],
    ]


def test_one_at_a_time_changes_one_value_of_the_first_member() -> None:
    _, members = expand(["cwt=morlet,gmw", "weight=log,sqrt,linear"], combine="one_at_a_time")
    assert members == [
        ["cwt=morlet", "weight=log"],
        ["cwt=gmw", "weight=log"],
        ["cwt=morlet", "weight=sqrt"],
        ["cwt=morlet", "weight=linear"],
    ]


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("cwt.n_freqs=range(8,25,8)", ["cwt.n_freqs=8", "cwt.n_freqs=16", "cwt.n_freqs=24"]),
        ("weight=choice(log,sqrt)", ["weight=log", "weight=sqrt"]),
        ("weight=glob(l*)", ["weight=linear", "weight=log"]),
        ("stages=[labels],[splits]", ["stages=[labels]", "stages=[splits]"]),
        ("weight=log,log", ["weight=log"]),
    ],
)
def test_every_finite_list_of_values_is_expanded(override: str, values: list[str]) -> None:
    assert expand([override])[1] == [[value] for value in values]


def test_a_comma_is_part_of_a_path_only_where_there_is_such_a_path(tmp_path: Path) -> None:
    for name in ("one", "two", "a,b"):
        (tmp_path / name).mkdir()
    assert expand([f"data.root={tmp_path}/one,two"])[1] == [[f"data.root={tmp_path}/one"], ["data.root=two"]]
    assert len(expand([f"data.root={tmp_path}/a,b"])[1]) == 1


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("cwt.w0=interval(4,8)", "is not a list of values"),
        ("weight=glob(x*)", "gives no value"),
        ("n_jobs=1,2", "n_jobs applies to the whole sweep"),
        ("sweep.name=a,b", "sweep.name applies to the whole sweep"),
        ("weight = log", "there must be no space around '='; write weight=log"),
    ],
)
def test_what_is_no_list_of_values_is_refused_before_any_work(override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        expand([override])


def test_only_another_sweeper_or_launcher_goes_to_hydra() -> None:
    assert not uses_hydras_sweeper(["cwt=morlet,gmw", "experiment=published"])
    assert uses_hydras_sweeper(["hydra/sweeper=optuna"])
    assert uses_hydras_sweeper(["experiment=search"])


# --- sharing -------------------------------------------------------------------------------------


def test_a_sweep_computes_what_members_share_once_and_nothing_when_typed_again(
    multirun: Callable[..., Any], outputs: Path
) -> None:
    typed = ("cwt=morlet,gmw", "weight=linear,log", "stages=[scalograms,labels]", *FAST[:2])
    first = multirun(*typed)
    assert first.code == 0
    assert re.search(r"scalograms +2 +4 +2 \(20 items\)", first.err)
    assert computed(outputs, "scalograms") == [10, 10]
    assert computed(outputs, "labels") == [1, 1]
    assert computed(outputs, "meta") == [1]
    before = {path.name: path.read_bytes() for path in sweep_folder(outputs).iterdir()}
    again = multirun(*typed)
    assert "4 finished" in again.err
    assert "nothing is left to compute" in again.err
    assert again.out == first.out
    assert {path.name: path.read_bytes() for path in sweep_folder(outputs).iterdir()} == before
    assert computed(outputs, "scalograms") == [10, 10]


def test_adding_a_value_computes_only_that(multirun: Callable[..., Any], outputs: Path) -> None:
    shared = ("sweep.name=mine", "stages=[scalograms,labels]", *FAST[:2])
    multirun("weight=linear,log", *shared)
    multirun("weight=linear,log,sqrt", *shared)
    assert computed(outputs, "scalograms") == [10]
    assert computed(outputs, "labels") == [1, 1, 1]
    assert [row["overrides"] for row in rows_of(outputs)] == ["weight=linear", "weight=log", "weight=sqrt"]


def test_a_plan_says_what_is_shared_and_computes_nothing(multirun: Callable[..., Any], outputs: Path) -> None:
    planned = multirun("cwt=morlet,gmw", "weight=linear,log,sqrt", "plan=true")
    assert planned.code == 0
    assert re.search(r"scalograms +2 +6 +2 \(20 items\)", planned.out)
    assert not list((outputs / "store").glob("scalograms-*"))
    assert not (outputs / "sweeps").exists()


def test_the_next_plan_says_how_long_it_takes(multirun: Callable[..., Any]) -> None:
    shared = ("stages=[scalograms]", *FAST[:2])
    multirun("cwt=morlet", *shared)
    planned = multirun("cwt=gmw,superlet", "plan=true", *shared).out
    assert re.search(r"(about \d+ s|under a second) in all\b", planned)


# --- failures ------------------------------------------------------------------------------------


def test_a_misspelt_member_is_a_row_and_the_others_go_on(multirun: Callable[..., Any], outputs: Path) -> None:
    done = multirun("weight=linear,lgo,sqrt", TABLES)
    assert done.code == 1
    rows = rows_of(outputs)
    assert [row["overrides"] for row in rows] == ["weight=linear", "weight=sqrt", "weight=lgo"]
    assert [bool(row["run"]) for row in rows] == [True, True, False]
    assert rows[2]["error"].startswith("weight=lgo is not an option (did you mean 'log'?)")
    assert "1 of 3 members failed" in done.err
    assert "Traceback" not in done.err


def test_settings_that_conflict_fail_only_their_member(multirun: Callable[..., Any], outputs: Path) -> None:
    assert multirun("filter.low_hz=0.5,30", TABLES).code == 1
    good, bad = rows_of(outputs)
    assert good["error"] == ""
    assert "filter." in bad["error"]


def test_every_member_failing_still_ends_in_a_table(multirun: Callable[..., Any], outputs: Path) -> None:
    done = multirun("weight=linear,log", "cwt.colour=red", TABLES)
    assert done.code == 1
    assert all("cwt.colour is not a setting" in row["error"] for row in rows_of(outputs))
    assert b"No member has a score" in (sweep_folder(outputs) / "leaderboard.html").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (RuntimeError("no luck"), 1, "RuntimeError: no luck"),
        (StorageError("the disk is full"), 4, "the disk is full"),
        (MemoryError("no room"), 4, "MemoryError: no room"),
    ],
    ids=repr,
)
def test_a_member_that_fails_at_work_is_a_row(
    multirun: Callable[..., Any],
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    told: str,
) -> None:
    """An error of any kind inside one member does not end the sweep; the code says whose it was."""
    real = hms.engine.runner.run

    def run(cfg: Any) -> Any:
        if cfg.weight.kind == "log":
            raise error
        return real(cfg)

    monkeypatch.setattr(hms.engine.runner, "run", run)
    assert multirun("weight=log,linear", TABLES).code == code
    rows = rows_of(outputs)
    assert [row["error"] for row in rows] == ["", told]


def test_an_interrupted_sweep_ends_as_if_it_had_not_been(
    multirun: Callable[..., Any], outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("weight=linear,log", TABLES)
    real = hms.engine.runner.run

    def run(cfg: Any) -> Any:
        if cfg.weight.kind == "log":
            raise KeyboardInterrupt
        return real(cfg)

    with monkeypatch.context() as patch:
        patch.setattr(hms.engine.runner, "run", run)
        assert multirun(*typed).code == 130
    assert [row["error"] for row in rows_of(outputs)] == ["", "interrupted"]
    assert multirun(*typed).code == 0
    assert [row["error"] for row in rows_of(outputs)] == ["", ""]
    assert computed(outputs, "labels") == [1, 1]


def test_a_sweep_of_one_member_is_a_sweep(multirun: Callable[..., Any], outputs: Path) -> None:
    assert multirun("weight=log", TABLES).code == 0
    (row,) = rows_of(outputs)
    assert row["member"] == "1"
    assert row["error"] == ""


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("sweep.objective=kl", "sweep.objective=kl is not allowed"),
        ("sweep.name=a/b", "sweep.name 'a/b' becomes a folder"),
        ("sweep.reference=7", "sweep.reference=7 names no members"),
        (
            "sweep.reference='weight=lag'",
            "names no members; give the number or the overrides of one: 1: weight",
        ),
        ("experiment=serach", "did you mean 'search'"),
    ],
)
def test_a_wrong_setting_of_the_sweep_ends_it_before_any_work(
    multirun: Callable[..., Any], outputs: Path, override: str, text: str
) -> None:
    done = multirun("weight=linear,log", TABLES, override)
    assert done.code == 2
    assert text in done.err
    assert not (outputs / "sweeps").exists()


# --- the comparison ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of a sweep over label rules with a baseline; see `compared`."""
    outputs = tmp_path_factory.mktemp("swept")
    base = ("-m", "data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    assert main([*base, "labels=window,sum", "baseline=logreg", TABLES, "sweep.reference=2", *FAST]) == 0
    return outputs


@pytest.fixture
def compared(swept: Path, outputs: Path) -> list[dict[str, str]]:
    """Return the rows of that sweep, in outputs of one's own."""
    shutil.copytree(swept, outputs, symlinks=True)
    return rows_of(outputs)


def test_members_are_scored_against_the_votes_of_the_window_whatever_they_learned(
    compared: list[dict[str, str]], outputs: Path, small_set: Path
) -> None:
    """The divergence is worked out again from the votes table and the predictions, term by term."""
    import pandas as pd

    votes = pd.read_csv(small_set / "train.csv", dtype={"eeg_id": str})
    counts = votes[list(VOTE_COLUMNS)].to_numpy(float)
    votes["total"] = counts.sum(axis=1)
    for row in compared:
        run = find_run(row["run"], outputs)
        oof = run.arrays("baseline/oof.npz")
        sub = dict(zip(run.meta["eeg_id"].astype(str), run.meta["eeg_sub_id"].astype(int), strict=True))
        terms = []
        for name, p in zip(oof["item_id"].tolist(), oof["prediction"], strict=True):
            own = votes[(votes["eeg_id"] == name) & (votes["eeg_sub_id"] == sub[name])]
            y = own[list(VOTE_COLUMNS)].to_numpy(float)[0] / own["total"].iloc[0]
            terms.append(sum(a * np.log(a / b) for a, b in zip(y, p, strict=True) if a > 0))
        assert float(row["kl_all"]) == pytest.approx(np.mean(terms), rel=1e-6)
        assert row["n_compared"] == "10"


def test_the_difference_is_that_of_the_objective_to_the_reference(compared: list[dict[str, str]]) -> None:
    of = {row["overrides"]: row for row in compared}
    other, reference = of["labels=window"], of["labels=sum"]
    assert reference["difference"] == ""
    expected = float(other["kl_high"]) - float(reference["kl_high"])
    assert float(other["difference"]) == pytest.approx(expected, abs=1e-9)
    # Ten patients are too few for an interval.
    assert (other["difference_lower"], other["difference_upper"]) == ("", "")


def test_a_better_member_has_a_better_rank(compared: list[dict[str, str]]) -> None:
    assert [row["rank"] for row in compared] == ["1", "2"]
    assert float(compared[0]["kl_high"]) <= float(compared[1]["kl_high"])


def test_a_run_returns_the_objective_that_its_row_shows(
    compared: list[dict[str, str]], outputs: Path, small_set: Path
) -> None:
    row = next(row for row in compared if row["overrides"] == "labels=window")
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}")
    cfg = hms.compose(*base)
    assert objective_of(find_run(row["run"], outputs), cfg) == pytest.approx(float(row["kl_high"]))
    low = hms.compose(*base, "sweep.objective=kl_low")
    assert objective_of(find_run(row["run"], outputs), low) == pytest.approx(float(row["kl_low"]))


def test_the_objective_of_a_run_without_a_baseline_is_refused(
    multirun: Callable[..., Any], outputs: Path
) -> None:
    multirun("weight=log", TABLES)
    run = find_run(rows_of(outputs)[0]["run"], outputs)
    with pytest.raises(ConfigError, match="kl_high needs a baseline; add baseline=logreg"):
        objective_of(run, hms.compose())


@pytest.mark.parametrize(
    ("override", "text"),
    [("folds.n_splits=5,3", "it has other folds"), ("unit=per_eeg,per_row", "no item in common")],
)
def test_what_cannot_be_compared_is_said_not_ranked(
    multirun: Callable[..., Any], outputs: Path, override: str, text: str
) -> None:
    assert multirun(override, "baseline=logreg", TABLES, *FAST).code == 0
    first, second = rows_of(outputs)
    assert first["rank"] == "1"
    assert (second["rank"], second["kl_high"]) == ("", "")
    assert text in second["note"]


def test_without_a_baseline_members_are_listed_with_their_quality(
    multirun: Callable[..., Any], outputs: Path
) -> None:
    done = multirun("qc=default,strict", "stages=[labels,splits,quality,summary]")
    assert done.code == 0
    assert "they are listed, not ranked" in done.out
    for row in rows_of(outputs):
        assert row["rank"] == ""
        assert sum(int(row[grade]) for grade in ("good", "usable", "poor", "unusable")) == 10


def test_members_that_leave_out_every_item_are_rows_with_the_reason(
    command: Callable[..., Any], outputs: Path, tmp_path: Path
) -> None:
    folder = write_set(tmp_path / "d", [np.full((20, 10_000), np.nan)] * 2, [1, 2], [0, 1])
    base = ("-m", "data=kaggle", f"data.root={folder}", "folds.n_splits=2", "baseline=logreg", TABLES)
    assert command(*base, "weight=linear,log").code == 1
    rows = rows_of(outputs)
    assert [row["rank"] for row in rows] == ["", ""]
    assert all("no channel has a usable sample" in row["error"] for row in rows)


def test_a_baseline_that_has_predicted_nothing_gives_no_figure_to_rank_by() -> None:
    """Every item lies outside the folds."""
    arrays = {"fold": np.full(2, -1), "item_id": np.array(["a", "b"]), "prediction": np.full((2, 6), np.nan)}
    run: Any = SimpleNamespace(manifest={"files": {"baseline/oof.npz": None}}, arrays=lambda path: arrays)
    with pytest.raises(ConfigError, match="the baseline predicted no item"):
        objective_of(run, hms.compose())


def scored(items: str, fold: int = 0, digest: str = "v") -> Scored:
    return Scored({i: np.full(6, 1 / 6) for i in items}, dict.fromkeys(items, fold), digest)


@pytest.fixture
def target() -> WindowVotes:
    y = np.eye(6)[:4]
    return WindowVotes(
        y, np.array([3, 12, 12, 3]), np.array(list("pqrs")), dict(zip("abcd", range(4), strict=True)), "v", 10
    )


def test_members_are_compared_on_the_items_all_of_them_have(target: WindowVotes) -> None:
    found = compare({1: scored("abcd"), 2: scored("bcd"), 3: scored("abc")}, target, 1)
    assert found.items == ("b", "c")
    assert sorted(found.scored) == [1, 2, 3]


def test_an_item_without_votes_in_its_window_is_no_common_item(target: WindowVotes) -> None:
    assert compare({1: scored("abx")}, target, 1).items == ("a", "b")


def test_members_of_another_table_or_other_folds_are_refused(target: WindowVotes) -> None:
    found = compare(
        {1: scored("ab"), 2: scored("ab", digest="w"), 3: scored("ab", fold=1), 4: scored("cd")}, target, 1
    )
    assert sorted(found.scored) == [1]
    assert "it has another votes table" in found.refused[2]
    assert "2 of 2 common items moved" in found.refused[3]
    assert "no item in common" in found.refused[4]


def test_uniform_predictions_score_the_logarithm_of_six(
    compared: list[dict[str, str]], outputs: Path, monkeypatch: pytest.MonkeyPatch, target: WindowVotes
) -> None:
    """One-hot targets and a prediction of 1/6 each give log 6 in every stratum."""
    monkeypatch.setattr(
        "hms.sweep.leaderboard.read_scored",
        lambda run, set_aside=False: None if set_aside else scored("abcd"),
    )
    monkeypatch.setattr("hms.sweep.leaderboard.window_votes", lambda cfg: target)
    run: Any = find_run(compared[0]["run"], outputs)
    cfg: Any = SimpleNamespace()
    members = [Member(1, ("a=1",), cfg=cfg, run=run), Member(2, ("a=2",), cfg=cfg, run=run)]
    board = make_leaderboard(members, name="n", command="c", objective="kl_high", reference=1)
    for row in board.rows:
        assert [row.kl_high, row.kl_low, row.kl_all] == pytest.approx([np.log(6)] * 3)
        assert row.rank == 1
    assert board.rows[1].difference == 0


def test_a_failed_reference_gives_way_to_the_first_member_with_scores(
    multirun: Callable[..., Any], outputs: Path
) -> None:
    done = multirun("weight=lgo,linear,log", "baseline=logreg", TABLES, *FAST)
    assert done.code == 1
    assert "member 1 has no predictions; the differences are to member 2" in done.out


def test_window_votes_do_not_depend_on_the_label_rule(small_set: Path, outputs: Path) -> None:
    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}")
    one, other = (window_votes(hms.compose(*base, f"labels={name}")) for name in ("window", "sum"))
    assert one.row == other.row
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_allclose(one.y.sum(axis=1), 1)


def test_window_votes_are_of_the_ids_that_a_run_behind_pseudonyms_has(
    small_set: Path, outputs: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    cfg = hms.compose(
        "data=kaggle",
        f"data.root={small_set}",
        f"outputs_dir={outputs}",
        f"data.pseudonyms={tmp_path / 'key'}",
    )
    items = make_plan(cfg).items
    found = window_votes(cfg)
    assert found.row.keys() == set(items["item_id"][items["vote_sum"] > 0])
    assert set(found.patient_id) <= set(items["patient_id"])


# --- pages ---------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_shows_every_member(compared: list[dict[str, str]], outputs: Path) -> None:
    page = (sweep_folder(outputs) / "leaderboard.html").read_text(encoding="utf-8")
    assert page.count('<div class="forest"') == 2
    # Links lead to runs beside it and nowhere else.
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#|../../)[^"']*""", page)
    for row in compared:
        assert row["overrides"] in page
        assert row["run"][:8] in page


def test_the_json_holds_the_same_rows_and_the_command(compared: list[dict[str, str]], outputs: Path) -> None:
    tree = json.loads((sweep_folder(outputs) / "leaderboard.json").read_text())
    assert [row["run"] for row in tree["rows"]] == [row["run"] for row in compared]
    assert tree["command"].startswith("python run.py -m")
    assert tree["reference"] == 2


def test_text_of_an_override_cannot_become_markup(multirun: Callable[..., Any], outputs: Path) -> None:
    multirun("weight=linear,'<b>x</b>'", TABLES)
    page = (sweep_folder(outputs) / "leaderboard.html").read_text(encoding="utf-8")
    assert "<b>x</b>" not in page


def test_a_planned_sweep_names_its_folder_by_what_varies(small_set: Path, outputs: Path) -> None:
    typed = ["data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "cwt=morlet,gmw", "n_jobs=1"]
    planned = plan_sweep(typed)
    assert re.fullmatch(r"cwt-[0-9a-f]{8}", planned.name)
    assert plan_sweep([*typed[:-1], "n_jobs=2"]).name == planned.name


# --- searches ------------------------------------------------------------------------------------

SEARCH = ("optuna", "hydra_plugins.hydra_optuna_sweeper._impl")
"""What a search finds imported."""


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="the extra 'search' is not installed")
def test_a_search_is_the_same_twice_and_ends_in_a_leaderboard(small_set: Path, outputs: Path) -> None:
    typed = [
        "experiment=search", "data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1",
        "hydra.sweeper.n_trials=2", "cwt=morlet", "filter=bandpass", TABLES, *FAST,
    ]  # fmt: skip
    tables = []
    for _ in range(2):
        done = forked.run([ROOT / "run.py", "-m", *typed], cwd=outputs.parent, modules=SEARCH)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        tables.append(done.stdout)
    assert tables[0] == tables[1]
    (folder,) = (outputs / "sweeps").glob("search-*")
    rows = json.loads((folder / "leaderboard.json").read_text())["rows"]
    assert rows
    assert all(row["kl_high"] is not None for row in rows)
    assert (outputs / "sweeps" / "search" / "optimization_results.yaml").is_file()


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="the extra 'search' is not installed")
def test_a_search_of_which_no_member_can_be_composed_says_why(small_set: Path, outputs: Path) -> None:
    typed = [
        "experiment=search", "data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1",
        "hydra.sweeper.n_trials=2", "cwt.n_freqs=-3", TABLES,
    ]  # fmt: skip
    done = forked.run([ROOT / "run.py", "-m", *typed], cwd=outputs.parent, modules=SEARCH)
    assert done.returncode == 2
    assert "cwt.n_freqs=-3 is out of range" in done.stderr
    assert "Traceback" not in done.stderr


# --- who can be told apart -----------------------------------------------------------------------

PATIENTS = np.repeat([f"p{i:02}" for i in range(60)], 3)


def losses(*shifts: float, noise: float = 0.05, seed: int = 0) -> dict[int, Any]:
    """Members whose losses share what makes an item hard, each shifted and with noise of its own."""
    rng = np.random.default_rng(seed)
    common = rng.gamma(1, 0.5, len(PATIENTS))
    return {
        number: common + shift + noise * rng.normal(size=len(PATIENTS))
        for number, shift in enumerate(shifts, start=1)
    }


def test_a_member_that_is_better_is_named_and_told_from_the_others() -> None:
    got = stand(losses(0.0, -0.1, 0.1, 0.0), 1, PATIENTS)
    assert (got.best, got.winner) == (2, 2)
    assert got.to_reference[2].high < 0 < got.to_reference[3].low
    assert got.to_reference[4].low < 0 < got.to_reference[4].high
    assert all(one.low > 0 for one in got.to_best.values())


def test_the_best_of_equal_members_is_no_winner() -> None:
    """Alone its interval would exclude 0 in a third of such sweeps; 20 of them name at most two."""
    named = [stand(losses(*[0.0] * 19, seed=s), 1, PATIENTS).winner is not None for s in range(20)]
    assert sum(named) <= 2


def test_luck_grows_with_the_number_of_members() -> None:
    few, many = (stand(losses(*[0.0] * n), 1, PATIENTS).luck for n in (3, 20))
    assert 0 < few < many < 0.05


def test_a_reference_that_scores_best_is_no_winner() -> None:
    got = stand(losses(0.0, 0.2), 1, PATIENTS)
    assert (got.best, got.winner) == (1, None)
    assert set(got.to_best) == {2}


def test_fewer_patients_than_members_tell_nobody_apart() -> None:
    values = {number: np.arange(6.0) * number for number in range(1, 9)}
    got = stand(values, 1, np.array(list("aabbcc")))
    assert got.winner is None
    assert np.isnan(got.luck)
    assert not any(one.holds for one in (*got.to_reference.values(), *got.to_best.values()))


def test_one_member_stands_alone() -> None:
    got = stand(losses(0.0), 1, PATIENTS)
    assert (got.best, got.winner, got.to_reference, got.to_best) == (1, None, {}, {})


@pytest.mark.parametrize(
    ("reference", "best", "said"),
    [
        ("better", "", "better than the reference"),
        ("worse", "worse", "worse than the reference; worse than the best"),
        ("no", "no", "from neither"),
        ("", "no", "no"),
        ("too few patients", "no", "too few patients"),
        ("", "", ""),
    ],
)
def test_who_a_member_can_be_told_from_is_said_in_words(reference: str, best: str, said: str) -> None:
    row = Row(1, 1, "a=1", None, told_from_reference=reference, told_from_best=best)
    assert told_apart(row) == said


def test_the_best_is_confirmed_on_items_that_both_have(target: WindowVotes) -> None:
    """Uniform predictions score log 6; those of the best are right with 0.9 and so score -log 0.9."""
    right = Scored({n: np.where(target.y[target.row[n]] > 0, 0.9, 0.02) for n in "abc"}, {}, "v")
    got = confirm({1: scored("bcd"), 2: right}, target, "kl_all", best=2, reference=1)
    assert got is not None
    assert got.difference is not None
    assert got.scores[1].value == pytest.approx(np.log(6))
    assert got.scores[2].value == pytest.approx(-np.log(0.9))
    assert got.difference.value == pytest.approx(-np.log(0.9) - np.log(6))
    assert got.scores[1].n_items == 2


def test_nothing_is_confirmed_without_patients_set_aside(target: WindowVotes) -> None:
    assert confirm({1: scored("bcd")}, target, "kl_all", best=2, reference=1) is None
    assert confirm({}, target, "kl_all", best=1, reference=1) is None


def test_confirming_scores_the_best_and_the_reference_on_patients_set_aside(
    multirun: Callable[..., Any], outputs: Path
) -> None:
    """No fold learns from them or predicts them, in any member."""
    done = multirun(
        "weight=linear,constant",
        "baseline=logreg",
        "sweep.confirm=true",
        "sweep.objective=kl_all",
        TABLES,
        *FAST,
    )
    assert done.code == 0
    rows = rows_of(outputs)
    for row in rows:
        oof = find_run(row["run"], outputs).arrays("baseline/oof.npz")
        aside = oof["fold"] == SET_ASIDE
        assert aside.any()
        assert set(oof["patient_id"][aside]).isdisjoint(oof["patient_id"][~aside])
        assert np.isfinite(oof["prediction"]).all()
        assert int(row["n_compared"]) == (~aside).sum()
    board = json.loads((sweep_folder(outputs) / "leaderboard.json").read_text())
    confirmed = {row["member"] for row in board["rows"] if row["confirmed"] is not None}
    assert confirmed == {board["best"], board["reference"]}
    assert "patients set aside before" in done.out


def test_confirming_needs_a_baseline(multirun: Callable[..., Any]) -> None:
    done = multirun("weight=linear,log", "sweep.confirm=true", TABLES)
    assert done.code == 1
    assert "sweep.confirm=true scores a baseline on patients set aside; add baseline=logreg" in done.out


# --- the page ------------------------------------------------------------------------------------

LONG = "filter.gaps.kind=ar montage.waveform.kind=posterior scaling.low_percentile=0.5"


def board_of(*rows: Row, **fields: Any) -> Leaderboard:
    given: dict[str, Any] = {"reference": 1, "best": 2, "winner": 2, "luck": 0.01, "notes": ()} | fields
    return Leaderboard("name", "python run.py -m a=1,2", "kl_high", rows=rows, **given)


def members_to_show() -> tuple[Row, ...]:
    scores = {"kl_high": 0.5, "kl_high_lower": 0.4, "kl_high_upper": 0.6, "kl_low": 0.9}
    better = {"difference": -0.05, "difference_lower": -0.08, "difference_upper": -0.02}
    return (
        Row(1, 2, f"{LONG} cwt=gmw", "0a3c79d9fcc63ab1", "../../0a3c79d9fcc63ab1/qc/report.html", 300, 4,
            **scores, **better, told_from_reference="better"),
        Row(2, 1, f"{LONG} cwt=morlet", "1a3c79d9fcc63ab1", "../../1a3c79d9fcc63ab1/", 300, 0, **scores),
        Row(None, 3, "cwt=<b>", None, error="cwt '<b>' is not an option"),
    )  # fmt: skip


def test_the_page_links_runs_and_shows_every_override_whole() -> None:
    page = sweep_page(board_of(*members_to_show())).decode()
    assert '<a href="../../0a3c79d9fcc63ab1/qc/report.html"><code>0a3c79d9</code></a>' in page
    assert '<a href="../../1a3c79d9fcc63ab1/"><code>1a3c79d9</code></a>' in page
    for override in (*LONG.split(), "cwt=gmw", "cwt=morlet"):
        assert page.count(f"<code>{override}</code>") >= 2
    assert '<b class="badge">reference</b>' in page
    assert '<b class="badge">winner</b>' in page
    assert "better than the reference" in page
    assert "<b>'" not in page
    assert "cwt=&lt;b&gt;" in page


def test_the_luck_of_the_best_stands_in_every_form_of_the_table() -> None:
    board = board_of(Row(1, 2, "a=2", None, kl_high=0.5, luck=0.0123), notes=("luck",))
    assert b",0.0123," in board.to_csv()
    assert json.loads(board.to_json())["luck"] == 0.01
    assert "  luck" in str(board)
    assert "0.012" in sweep_page(board).decode()


def test_where_no_interval_holds_its_place_says_so() -> None:
    board = board_of(Row(1, 1, "a=1", None, kl_high=0.5), best=1, winner=None)
    assert "0.500 (no interval)" in sweep_page(board).decode()
    too_few = Row(1, 2, "a=2", None, kl_high=0.5, difference=-0.1, told_from_reference="too few patients")
    assert "-0.100 (no interval)  too few patients  a=2" in str(board_of(too_few))


def test_the_leaderboard_fits_a_terminal_and_keeps_every_override_whole() -> None:
    """Columns in which all members are alike are left to the file."""
    note = "many words that are said of members " * 5
    lines = str(board_of(*members_to_show(), notes=(note,))).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "KL divergence, lower is better; the reference is member 1"
    assert lines[1].split()[:5] == ["rank", "member", "run", "left", "out"]
    assert "-0.050 (-0.080 to -0.020)  better" in lines[2]
    for override in LONG.split():
        assert sum(override in line.split() for line in lines) == 2
    unscored = (
        Row(None, 1, "a=1", "0a3c79d9fcc63ab1", n_items=3, good=3),
        Row(None, 2, "a=2", None, n_items=3),
    )
    assert str(board_of(*unscored, best=None)).splitlines()[0].split() == [
        "member",
        "run",
        "good",
        "overrides",
    ]


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_can_be_read_at_the_width_of_a_phone_and_of_a_desk(width: int, tmp_path: Path) -> None:
    """Nothing sticks out of the window, and no word of a heading of the table is broken."""
    file = tmp_path / "leaderboard.html"
    file.write_bytes(sweep_page(board_of(*members_to_show())))
    with browser() as page:
        page.resize(width, mobile=width < 600)
        page.open(file)
        assert page.run("document.documentElement.scrollWidth") <= width
        heights = page.run("[...document.querySelectorAll('.members th')].map(c => c.clientHeight)")
        assert max(heights) <= 60
        narrow = page.run("Math.min(...[...document.querySelectorAll('.who')].map(c => c.clientWidth))")
        assert narrow >= 200


def test_trials_of_a_search_set_patients_aside_too() -> None:
    cfg = hms.compose("baseline=logreg").override("sweep.confirm=true")
    built = _built(Member(1, ()), OmegaConf.create(cfg.to_dict()))
    assert built.cfg is not None
    assert built.cfg.at("baseline.set_aside") == 0.3
    without = _built(Member(1, ()), OmegaConf.create(hms.compose().override("sweep.confirm=true").to_dict()))
    assert "add baseline=logreg" in without.error


def test_what_several_members_are_refused_for_is_said_once() -> None:
    members = [Planned(Member(k, ("cwt=gmw",), error="no folder")) for k in (1, 2)]
    planned = SimpleNamespace(members=[*members, Planned(Member(3, ("cwt=stft",)), "abc")], reference=1)
    assert [*_member_lines(planned)] == [  # type: ignore[arg-type]
        "  1  cwt=gmw (the reference): no folder",
        "  2  cwt=gmw: refused as member 1",
        "  3  cwt=stft: run abc",
    ]
