"""Hydra as its users use it: remedies, launchers, sweeps of an experiment, search paths, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hms
from hms.cli import main as hms_main
from hms.config.overrides import Words, parse_overrides, split_words
from hms.errors import ConfigError
from hms.main import main

pytestmark = pytest.mark.slow

TABLES = ("stages=[labels,splits]", "folds.n_splits=2")


# --- remedies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "remedy"),
    [
        (["data.root=~/d"], "the shell does not expand ~ after '='; write data.root=$HOME/d"),
        (["cwt =morlet"], "there must be no space around '='; write cwt=morlet"),
        (["=morlet"], "'=morlet' names no setting"),
        (["cwt"], "'cwt' gives no value; write cwt=VALUE"),
        (["cwt:morlet"], "'cwt:morlet' gives no value; write cwt=morlet"),
        (["cwt==morlet"], "one '=' is enough; write cwt=morlet"),
        (["cwt=morlet,"], "a value is missing next to a comma; write cwt=morlet"),
        (["cwt=,morlet"], "a value is missing next to a comma; write cwt=morlet"),
        (
            ["stages=[labels,", "splits]"],
            "'stages=[labels,': a bracket is not closed or not opened; the shell",
        ),
        (["stages=[labels"], "write a list without them (stages=[labels,splits]) or the whole in quotes"),
        (["n_jobs=1", "splits]"], "'splits]': a bracket is not closed or not opened"),
        (["data.aliases={A:B"], "a bracket is not closed"),
        (["data.root='a"], """a quote is not closed; write 'data.root="a"'"""),
        (["data.root=a=b"], """write 'data.root="a=b"', with both kinds of quotes"""),
        (["data.root=/x/(copy)/y"], """write 'data.root="/x/(copy)/y"', with both kinds of quotes"""),
        (["data.root=/é"], """write 'data.root="/é"', with both kinds of quotes"""),
    ],
)
def test_each_kind_of_parse_error_has_its_own_remedy(texts: list[str], remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_overrides(texts)
    assert remedy in str(refused.value)
    assert "See https" not in str(refused.value)


@pytest.mark.parametrize("value", ["a=b", "/x/(copy)/y", "/é/ü", "a b", "a#b"])
def test_what_the_remedy_writes_is_read_as_it_stands(value: str) -> None:
    """The inner quotes are Hydra's; the outer ones are the shell's."""
    assert parse_overrides([f'data.root="{value}"'])[0].value() == value


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("--cwt=gmw", "'--cwt=gmw': settings are written without dashes: cwt=gmw"),
        ("-n_jobs=2", "settings are written without dashes: n_jobs=2"),
        ("--verbose", "'--verbose' is not a flag; settings are written"),
    ],
)
def test_dashes_before_a_setting_are_answered_by_what_was_meant(argument, text, capfd) -> None:
    assert main([argument]) == 2
    assert text in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--config-dir"], "--config-dir is followed by nothing"),
        (["--config-dir=", "cwt=gmw"], "--config-dir is followed by nothing"),
        (["--cfg", "cwt=gmw"], "--cfg is followed by 'cwt=gmw'; write --cfg job|hydra|all"),
        (["-p", "plan=true"], "--package changes what --cfg shows"),
        (["--resolve"], "--resolve changes what --cfg shows"),
        (["--experimental-rerun", "x"], "'--experimental-rerun' is not a flag"),
        (["--cfg", "job", "cwt.nfreqs=3"], "did you mean 'cwt.n_freqs'?"),
    ],
)
def test_a_flag_without_what_it_needs_starts_nothing(words, text, capfd) -> None:
    assert main(words) == 2
    told = capfd.readouterr().err
    assert text in told
    assert told.count("\n") == 1


def test_overrides_and_flags_stand_in_any_order() -> None:
    words = split_words(["cwt=gmw", "-c", "job", "weight=log", "-m", "--config-dir", "mine", "seed=1"])
    assert words == Words(["cwt=gmw", "weight=log", "seed=1"], "mine", True, ["--cfg", "job"])


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("explan", "'explan' is not a command (did you mean 'explain'?); there are ls, show"),
        ("cwt=gmw", "'cwt=gmw' is a setting; hms run cwt=gmw prepares with it"),
    ],
)
def test_a_mistyped_command_is_answered_by_what_was_meant(argument, text, capfd) -> None:
    with pytest.raises(SystemExit) as ended:
        hms_main([argument])
    assert ended.value.code == 2
    assert text in capfd.readouterr().err


def test_overrides_given_to_run_are_told_to_be_composed() -> None:
    with pytest.raises(ConfigError, match=r'hms.run\(hms.compose\("cwt=morlet"\)\)'):
        hms.run("cwt=morlet")
    with pytest.raises(ConfigError, match=r'hms.run\(hms.compose\("cwt=morlet", "n_jobs=1"\)\)'):
        hms.run("cwt=morlet", "n_jobs=1")


# --- sweeps --------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Return a folder of options with an experiment that is a sweep."""
    folder = tmp_path / "conf"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nfolds:\n  n_splits: 2\nstages: [labels, splits]\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      weight: linear,log\n"
    )
    (folder / "weight").mkdir()
    (folder / "weight" / "mine.yaml").write_text("kind: linear\nreference_count: 3\ncap: 1.0\n")
    return folder


@pytest.mark.parametrize(
    ("name", "flag"), [("joblib", ["-m"]), ("ray", ["-m"]), ("submitit_local", ["-m"]), ("joblib", [])]
)
def test_launchers_of_other_processes_are_refused_with_the_reason(name, flag, command, small_set) -> None:
    done = command(*flag, "data=kaggle", f"data.root={small_set}", f"hydra/launcher={name}", "weight=linear")
    assert done.code == 2
    if flag:
        assert f"hydra/launcher={name} starts members in separate processes" in done.err
        assert "leave it out" in done.err


def test_the_basic_launcher_is_what_there_is(command, small_set, outputs) -> None:
    done = command(
        "-m", "data=kaggle", f"data.root={small_set}", *TABLES, "hydra/launcher=basic", "weight=linear,log"
    )
    assert done.code == 0, done.err
    assert len(list((outputs / "sweeps").glob("*/leaderboard.csv"))) == 1


@pytest.mark.parametrize("how", ["dir", "searchpath"])
def test_an_experiment_with_sweeper_params_is_a_sweep(how, conf, command, small_set, outputs) -> None:
    """hydra.mode=MULTIRUN makes it one without -m; what is typed stands in the place of a parameter."""
    where = ["--config-dir", str(conf)] if how == "dir" else [f"hydra.searchpath=[file://{conf}]"]
    base = (*where, "data=kaggle", f"data.root={small_set}", "experiment=mine")
    done = command(*base)
    assert done.code == 0, done.err
    assert "2 members" in done.err
    assert "weight=linear" in done.out
    assert "weight=log" in done.out
    if how == "searchpath":
        return
    done = command(*base, "weight=sqrt,mine")
    assert done.code == 0, done.err
    assert "2 members" in done.err
    assert "weight=mine" in done.out
    assert "weight=log" not in done.out


def test_a_mode_that_is_typed_makes_a_sweep_too(command, small_set) -> None:
    done = command(
        "data=kaggle", f"data.root={small_set}", *TABLES, "hydra.mode=MULTIRUN", "weight=linear,log"
    )
    assert done.code == 0, done.err
    assert "2 members" in done.err


def test_settings_of_hydras_without_effect_say_so(command, small_set) -> None:
    base = ("data=kaggle", f"data.root={small_set}", *TABLES)
    done = command(*base, "hydra.run.dir=elsewhere", "hydra.verbose=true")
    assert done.code == 0, done.err
    assert "hydra.run.dir has no effect: outputs_dir and sweep.name say where hms writes" in done.err
    assert "hydra.verbose has no effect" in done.err
    plain = command(*base)
    assert "no effect" not in plain.err


# --- where options come from ---------------------------------------------------------------------


def test_a_search_path_adds_options(conf: Path) -> None:
    """As file://, as a folder, and beside config_dir."""
    assert hms.compose(f"hydra.searchpath=[file://{conf}]", "weight=mine").weight.reference_count == 3
    assert hms.compose(f"hydra.searchpath=[{conf}]", "weight=mine").weight.reference_count == 3
    other = conf.parent / "other"
    (other / "scaling").mkdir(parents=True)
    (other / "scaling" / "own.yaml").write_text("kind: none\n")
    cfg = hms.compose(f"hydra.searchpath=[{conf}]", "weight=mine", "scaling=own", config_dir=other)
    assert (cfg.weight.reference_count, cfg.scaling.kind) == (3, "none")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("/nowhere", "hydra.searchpath: the folder '/nowhere' does not exist"),
        ("s3://bucket", "hydra.searchpath: 's3://bucket' is neither file://FOLDER nor pkg://PACKAGE"),
        ("pkg://no.such.package", "hydra.searchpath: No module named 'no'"),
    ],
)
def test_a_search_path_that_leads_nowhere_is_refused(place: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        hms.compose(f"hydra.searchpath=['{place}']")
    assert text in str(refused.value)


def test_threads_compose_at_the_same_time_without_mixing_their_settings() -> None:
    """Hydra keeps what it composes with in one object of the process."""
    wanted = list(range(8, 24))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: hms.compose(f"cwt.n_freqs={n}").cwt.n_freqs, wanted))
    assert found == wanted
