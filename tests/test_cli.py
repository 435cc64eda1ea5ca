"""The hms command and run.py's plan, help and exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
from conftest import ROOT, Prepared

from hms.cli import main
from hms.engine.explain import _that_matter
from hms.engine.manifest import _command
from hms.results.run import Run

Cli = Callable[..., Prepared]
Prepare = Callable[..., Run]


@pytest.fixture
def cli(outputs: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> Prepared:
        capfd.readouterr()
        code = main(["--outputs", str(outputs), *arguments])
        out, err = capfd.readouterr()
        return Prepared(code, out, err)

    return call


def test_ls_and_show_tell_what_there_is(small_set: Path, prepare: Prepare, ready: Prepare, cli: Cli) -> None:
    assert "no finished run" in cli("ls").out
    first, second = ready(small_set, "stages=[labels]"), prepare(small_set, "stages=[labels,splits]")
    listed = cli("ls")
    assert listed.code == 0
    assert listed.out.index(second.hash) < listed.out.index(first.hash)
    short, shown = (cli("show", first.hash[:5], *more).out for more in ((), ("--all",)))
    assert "the defaults, but for: data=kaggle\n" in short
    assert len(short.splitlines()) < 16
    for text in (first.hash, "items used", "weight:", "kind: linear", "numpy", "labels-"):
        assert text in shown
    assert second.hash in cli("show", "latest").out


def test_ls_passes_over_sweeps_that_are_none(
    small_set: Path, ready: Prepare, cli: Cli, outputs: Path
) -> None:
    run = ready(small_set, "stages=[labels]")
    for name, content in (
        ("a", "[1]"),
        ("b", '{"rows": [{"run": ["x"], "overrides": 1}]}'),
        ("c", "no json"),
    ):
        (outputs / "sweeps" / name).mkdir(parents=True)
        (outputs / "sweeps" / name / "leaderboard.json").write_text(content)
    (outputs / "sweeps" / "d" / "leaderboard.json").mkdir(parents=True)
    (outputs / "sweeps" / "e").mkdir()
    (outputs / "sweeps" / "e" / "leaderboard.json").symlink_to(run.path / "manifest.json")
    (outputs / "sweeps" / "f").write_text("x")
    listed = cli("ls")
    assert (listed.code, listed.err) == (0, "")
    assert run.hash in listed.out


def test_ls_lists_what_is_whole_beside_a_run_whose_manifest_is_damaged(
    small_set: Path, prepare: Prepare, ready: Prepare, cli: Cli
) -> None:
    first, second = ready(small_set, "stages=[labels]"), prepare(small_set, "stages=[labels,splits]")
    manifest = first.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"used": 10', '"used": 11'))
    listed = cli("ls")
    assert listed.code == 0
    assert re.search(rf"{first.hash} +damaged", listed.out)
    assert re.search(rf"{second.hash}\* +20", listed.out)
    checked = cli("verify", first.hash)
    assert checked.code == 1
    assert "1 problem; run it again with the same command" in checked.out
    assert not prepare(small_set, "stages=[labels]").reused
    assert cli("verify", first.hash).code == 0


def test_options_stand_anywhere_among_the_words_of_a_command(
    small_set: Path, prepare: Prepare, cli: Cli, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = prepare(small_set, "stages=[labels]")
    (tmp_path / "weight").mkdir()
    (tmp_path / "weight" / "own.yaml").write_text("kind: log\nreference_count: 10\ncap: 1.5\n")
    base = ("data=kaggle", f"data.root={small_set}", "stages=[labels]")
    told = cli("explain", *base, "--config-dir", str(tmp_path), "weight=own")
    assert (told.code, "weight.kind: linear -> log" in told.out) == (0, True)
    assert main(["ls", "--outputs", str(run.path.parent)]) == 0
    assert run.hash in capfd.readouterr().out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["show", "a", "b"], "hms: hms show does not take b; see hms show --help"),
        (["completion", "tcsh"], "hms: 'tcsh' is not a shell; there are bash, zsh, fish"),
        (
            ["export", "a", "b", "--to", "zip"],
            "hms: 'zip' is not a value of --to; there are folder, huggingface",
        ),
        (["scan"], "required: DIR\n"),
        (["shwo"], "'shwo' is not a command (did you mean 'show'?)"),
    ],
)
def test_what_a_command_cannot_take_is_told_by_its_name(
    typed: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    assert told in capfd.readouterr().err


def test_outputs_that_are_no_folder_are_exit_code_2(capfd: pytest.CaptureFixture[str]) -> None:
    for outputs, told in (
        (__file__, f"--outputs {__file__} needs a folder"),
        ("", "--outputs  names no folder"),
    ):
        assert main(["ls", "--outputs", outputs]) == 2
        assert told in capfd.readouterr().err


def test_a_run_that_is_not_there_is_exit_code_2(cli: Cli) -> None:
    for command in (
        ["show", "abc"],
        ["verify", "latest"],
        ["rm", "abc"],
        ["export", "abc", "x"],
        ["diff", "a", "b"],
    ):
        ended = cli(*command)
        assert ended.code == 2, command
        assert ended.err.startswith("hms: ")


@pytest.mark.slow
def test_verify_tells_whole_damaged_and_repaired_by_its_exit_code(
    small_set: Path, ready: Prepare, cli: Cli
) -> None:
    run = ready(small_set, "stages=[waveforms,labels,splits]")
    whole = cli("verify", "latest")
    assert (whole.code, whole.err) == (0, ""), "what a run says when it is made is said again"
    path = (run.path / f"wave_hr_out/{run.meta['item_id'].iloc[0]}_hr.npz").resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    damaged = cli("verify", run.hash)
    assert damaged.code == 1
    assert path.name in damaged.out or run.meta["item_id"].iloc[0] in damaged.out
    assert cli("verify", run.hash, "--repair").code == 0
    assert cli("verify", run.hash).code == 0


def test_verify_of_a_run_without_its_manifest_is_exit_code_1(
    small_set: Path, ready: Prepare, cli: Cli
) -> None:
    run = ready(small_set, "stages=[labels]")
    (run.path / "manifest.json").unlink()
    ended = cli("verify", run.path.name)
    assert ended.code == 1
    assert "manifest.json" in ended.out


@pytest.mark.slow
def test_explain_names_the_setting_that_invalidated_each_stage(
    small_set: Path, ready: Prepare, cli: Cli
) -> None:
    ready(small_set)
    base = ("data=kaggle", f"data.root={small_set}")
    lines = {
        line.split()[0]: line for line in cli("explain", *base, "cwt.w0=6").out.splitlines() if line.strip()
    }
    assert "cwt.w0: 5.4414 -> 6" in lines["scalograms"]
    assert "10 items" in lines["scalograms"]
    assert "done" in lines["waveforms"]
    done = cli("explain", *base).out
    assert "missing" not in done
    changed = cli("explain", *base, "weight=log").out
    assert "weight.kind: linear -> log" in changed
    assert cli("explain", *base, "cwt=nothing").code == 2


@pytest.mark.slow
def test_explain_says_what_changed_since_the_nearest_run_and_names_it(
    small_set: Path, prepare: Prepare, cli: Cli
) -> None:
    """Nearest by its settings; a setting that one kind alone has follows from the kind."""
    far, near = prepare(small_set, "stages=[labels]", "weight=log"), prepare(small_set, "stages=[labels]")
    assert near.hash != far.hash
    told = cli("explain", "data=kaggle", f"data.root={small_set}", "stages=[labels]", "weight.cap=2").out
    assert "weight.cap: 1.5 -> 2" in told
    assert f"compared with run {near.hash}, by: " in told
    assert _that_matter(["cwt.kind: morlet -> gmw", "cwt.w0: 5 -> (absent)", "derived.reader: a -> b"]) == [
        "cwt.kind: morlet -> gmw"
    ]
    assert _that_matter(["derived.reader: a -> b"]) == ["reader: a -> b"]


def test_a_plan_says_how_much_is_partly_done_and_computes_nothing(
    small_set: Path, ready: Prepare, cli: Cli, outputs: Path
) -> None:
    run = ready(small_set, "stages=[waveforms]")
    for item in run.meta["item_id"][:4]:
        (run.path / f"wave_hr_out/{item}_hr.npz").resolve().unlink()
    before = sorted(p for p in outputs.rglob("*"))
    text = cli("explain", "data=kaggle", f"data.root={small_set}", "stages=[waveforms]").out
    assert "partly done 6/10" in text
    assert "4 items" in text
    assert sorted(p for p in outputs.rglob("*")) == before


@pytest.mark.slow
def test_diff_compares_settings_stages_and_numbers(
    small_set: Path, prepare: Prepare, ready: Prepare, cli: Cli
) -> None:
    a, b = ready(small_set), prepare(small_set, "weight=log", "cwt.w0=6", "folds.n_splits=3")
    text = cli("diff", a.hash, b.hash).out
    for part in ("cwt.w0: 5.4414 -> 6", "weight.kind: linear -> log", "folds.n_splits: 5 -> 3"):
        assert part in text
    assert "spec_hr_out: 10 of 10 differ" in text
    assert "wave_hr_out: 0 of 10 differ" in text
    assert "labels changed: 0, weights changed: " in text


def test_gc_asks_and_rm_forgets(small_set: Path, ready: Prepare, cli: Cli, outputs: Path) -> None:
    run = ready(small_set, "stages=[waveforms]")
    assert cli("rm", run.hash).code == 0
    assert not run.path.exists()
    shown = cli("gc")
    assert "remove with --yes" in shown.out
    assert list(outputs.glob("store/waveforms-*"))
    assert "removed" in cli("gc", "--yes").out
    assert not list(outputs.glob("store/waveforms-*"))


def test_rm_leaves_what_is_no_run_of_the_outputs(
    small_set: Path, ready: Prepare, cli: Cli, tmp_path: Path
) -> None:
    """A copy's folder holds its only files: forgetting it would lose them."""
    run = ready(small_set, "stages=[labels]")
    copy = tmp_path / "copy"
    assert cli("export", run.hash, str(copy)).code == 0
    ended = cli("rm", str(copy))
    assert ended.code == 2
    assert "delete its folder" in ended.err
    assert (copy / "data_package" / "labels.npz").is_file()
    elsewhere = Prepared(main(["--outputs", str(tmp_path / "other"), "rm", str(run.path)]), "", "")
    assert elsewhere.code == 2
    assert cli("rm", str(run.path)).code == 0


def test_rm_removes_a_run_whose_manifest_is_damaged(small_set: Path, ready: Prepare, cli: Cli) -> None:
    run = ready(small_set, "stages=[labels]")
    (run.path / "manifest.json").write_text("{}")
    assert cli("rm", run.path.name).code == 0
    assert not run.path.exists()


@pytest.mark.slow
def test_latest_means_the_outputs_and_not_a_folder_of_that_name_where_it_is_typed(
    small_set: Path,
    prepare: Prepare,
    ready: Prepare,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = ready(small_set, "stages=[labels]"), prepare(small_set, "stages=[labels,splits]")
    assert cli("export", first.hash, str(tmp_path / "here" / "latest")).code == 0
    monkeypatch.chdir(tmp_path / "here")
    assert second.hash in cli("show", "latest").out


def test_export_into_the_run_itself_is_refused(small_set: Path, ready: Prepare, cli: Cli) -> None:
    run = ready(small_set, "stages=[labels]")
    ended = cli("export", run.hash, str(run.path / "copy"))
    assert ended.code == 2
    assert "inside the run" in ended.err
    assert cli("verify", run.hash).code == 0


def test_verify_takes_no_other_folder_for_a_run(small_set: Path, ready: Prepare, cli: Cli) -> None:
    ready(small_set, "stages=[labels]")
    for name in ("store", ".", "", "store/locks"):
        ended = cli("verify", name)
        assert ended.code == 2, name
        assert ended.err.startswith("hms: no finished run")


def test_export_copies_and_checks(small_set: Path, ready: Prepare, cli: Cli, tmp_path: Path) -> None:
    ready(small_set, "stages=[labels]")
    assert "checked" in cli("export", "latest", str(tmp_path / "copy")).out
    labels = tmp_path / "copy" / "data_package" / "labels.npz"
    assert (
        "the export, which has no store behind it\n  all whole" in cli("verify", str(tmp_path / "copy")).out
    )
    labels.unlink()
    ended = cli("verify", str(tmp_path / "copy"))
    assert ended.code == 1
    assert "1 problem; export the run again" in ended.out


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"]])
def test_help_is_readable(arguments: list[str]) -> None:
    done = forked.run(["-m", "hms.cli", *arguments])
    assert done.returncode == 0
    assert "RUN" in done.stdout


@pytest.mark.slow
def test_the_help_of_run_py_lists_groups_options_and_exit_codes() -> None:
    done = forked.run([ROOT / "run.py", "--help"])
    assert done.returncode == 0
    for text in ("morlet, gmw, ricker, stft, superlet", "plan=true", "Exit codes", "hms help GROUP.SETTING"):
        assert text in done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 104


def test_hydras_own_flags_work(tmp_path: Path) -> None:
    done = forked.run([ROOT / "run.py", "--cfg", "job", "weight=log"], cwd=tmp_path)
    assert done.returncode == 0
    assert "kind: log" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_tab_completion_offers_groups_and_options() -> None:
    env = {"COMP_LINE": "python run.py cwt=", "COMP_POINT": "18", "PATH": "/usr/bin"}
    completed = forked.run([ROOT / "run.py", "-sc", "query=bash"], env=env)
    assert "cwt=morlet" in completed.stdout


def test_output_into_a_closed_pipe_is_no_error(small_set: Path, ready: Prepare, outputs: Path) -> None:
    ready(small_set, "stages=[labels]")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stdout:
        done = forked.run(["-m", "hms.cli", "--outputs", outputs, "show", "latest"], stdout=stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/x/bin/hms", "hms run cwt=gmw"),
        ("/x/hms/__main__.py", "hms run cwt=gmw"),
        ("/x/pytest/__main__.py", "hms.run, from Python"),
    ],
)
def test_a_run_says_the_command_that_made_it(program: str, command: str, monkeypatch: pytest.MonkeyPatch):
    plan: Any = SimpleNamespace(source=None)
    monkeypatch.setattr(sys, "argv", [program, "run", "cwt=gmw"])
    assert _command(plan) == command
