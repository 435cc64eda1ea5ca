"""hms help, the JSON schema, Tab completion, --version and python -m hms: all from one manual."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import ROOT
from omegaconf import OmegaConf

import hms
from hms import registry
from hms.cli import main
from hms.config.completion import SCRIPTS, complete, words_of
from hms.config.compose import conf_dir, group_options
from hms.config.json_schema import schema_of_experiments, schema_of_group
from hms.config.manual import EXPERIMENT, Manual, read_manual
from hms.config.schema import Config
from hms.pipeline.selection import choose_stages
from hms.pipeline.stage import (
    first_of,
    made_from,
    meanings,
    registered_stage,
    stage_names,
    stages_of_setting,
)
from hms.registry import register
from hms.report.reproduce import _same

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def manual() -> Manual:
    return read_manual()


def test_every_setting_and_group_has_a_meaning_and_every_option_says_when_to_choose_it(
    manual: Manual,
) -> None:
    assert [s.path for s in manual.settings.values() if not s.meaning] == []
    assert [group for group, meaning in manual.groups.items() if not meaning] == []
    options = [(group, option) for group, found in manual.options.items() for option in found]
    assert [f"{group}={option.name}" for group, option in options if not option.meaning] == []


def test_every_setting_of_the_default_configuration_is_in_the_manual(manual: Manual) -> None:
    def leaves(tree: Any, path: str) -> list[str]:
        if not isinstance(tree, dict) or path in manual.settings:
            return [path]
        return [leaf for name, below in tree.items() for leaf in leaves(below, f"{path}.{name}")]

    tree = hms.compose().to_dict()
    found = [leaf for name, below in tree.items() for leaf in leaves(below, name)]
    assert [path for path in found if path not in manual.settings] == []
    assert len(found) > 100


def test_a_setting_is_told_with_meaning_unit_range_default_and_stages(capsys: Capture) -> None:
    assert main(["help", "cwt.hop"]) == 0
    out = capsys.readouterr().out
    meaning = "samples from one frame to the next"
    for text in (meaning, "whole number, at least 1", "unit     samples", "default  8"):
        assert text in out
    named = out.partition("a change recomputes")[2]
    assert "scalograms" in named
    assert "waveforms" not in named


def test_the_page_on_help_shows_what_the_command_prints(capsys: Capture) -> None:
    assert main(["help", "cwt.hop"]) == 0
    assert f"$ hms help cwt.hop\n{capsys.readouterr().out}```" in (ROOT / "docs" / "help.md").read_text()


@pytest.mark.parametrize(
    ("path", "shape", "unit", "defaults"),
    [
        ("filter.high_hz", "number, above 0", "Hz", {"bandpass": 20.0, "wide": 40.0}),
        ("cwt.norm", "one of amplitude, energy", "", {"morlet": "amplitude"}),
        ("baseline.set_aside", "number, at least 0 and at most 0.9", "", {"logreg": 0.0}),
        ("filter.clip_uv", "number, above 0, or null", "µV", {"none": None, "wide": 500.0}),
        ("qc.channel.faint", "number, at least -200 and at most 200, or null", "dB", {"strict": -14.0}),
        ("montage.ears", "list of 2: text", "", {"referential": ["A1", "A2"]}),
        ("augment.changes.mixup.alpha", "number, above 0", "", {"strong": 0.4}),
        ("filter.gaps.hold_s", "number, at least 0", "s", {"bandpass": 0.5}),
        ("n_jobs", "whole number, at least -1", "", {"": -1}),
    ],
)
def test_what_the_manual_says_is_what_the_classes_and_the_yaml_say(
    manual: Manual, path: str, shape: str, unit: str, defaults: dict[str, Any]
) -> None:
    setting = manual.settings[path]
    assert (str(setting.shape), setting.unit) == (shape, unit)
    assert {option: setting.defaults[option] for option in defaults} == defaults


def test_a_comment_of_the_yaml_is_read_and_its_own_option_is_named(capsys: Capture) -> None:
    assert main(["help", "data.root"]) == 0
    out = capsys.readouterr().out
    assert "of kaggle" in out
    assert "$HMS_DATA" in " ".join(out.split())
    assert main(["help", "experiment"]) == 0
    assert "Choose it for BIOT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("cwt.hopp", "did you mean 'cwt.hop'?"),
        ("hop", "did you mean cwt.hop?"),
        ("cwtt", "did you mean 'cwt'?"),
    ],
)
def test_a_mistyped_setting_ends_with_2_and_the_nearest(word: str, told: str, capsys: Capture) -> None:
    assert main(["help", word]) == 2
    assert told in capsys.readouterr().err


def _keys(cfg: Config) -> dict[str, str]:
    items, tables = choose_stages(cfg)
    return {stage.name: stage.key for stage in (*items, *tables)}


@cache
def _keys_with(*overrides: str) -> dict[str, str]:
    base = ("baseline=logreg", "package.derivations=true", "package.waveforms=true")
    return _keys(hms.compose(*base, *overrides))


@pytest.mark.parametrize(
    "override",
    [
        "cwt.hop=16", "cwt.w0=7", "cwt.min_hz=1", "filter.order=3", "filter.clip_uv=400",
        "montage.output=derivations", "window.start_s=10", "labels.high_confidence_votes=8", "weight.cap=2",
        "folds.n_splits=4", "qc.duplicate_corr=0.99", "scaling.low_percent=2", "data.missing=dead",
        "data.block_s=300", "filter.gaps.order=0", "unit.item_id=sub_window", "baseline.l2=1",
        "package.pack=true", "seed=3",
        "package.derivations_dtype=float16", "max_failed_share=0.5", "labels.unlabelled=keep",
    ],
)  # fmt: skip
def test_no_key_changes_that_the_manual_does_not_name(override: str) -> None:
    before, after = _keys_with(), _keys_with(override)
    changed = {name for name in after if after[name] != before.get(name)}
    path = override.partition("=")[0]
    hidden = {"reading", "inspections", "signal", "derivations"}
    named = set(stages_of_setting(path))
    assert {name for name in changed - hidden if not name.startswith("report_")} <= named
    assert bool(changed) == bool(named)


def test_what_is_made_from_the_first_stages_is_what_a_change_recomputes(manual: Manual) -> None:
    """The site names the first stages of each setting; with what is made from them they are all."""
    after = {name: {name, *made_from(name)} for name in meanings()}
    sets = {stages_of_setting(path) for path in manual.settings}
    assert len(sets) > 15
    for stages in sets:
        assert set(stages) == set().union(*(after[name] for name in first_of(stages)))


def test_a_group_tells_of_each_setting_what_a_change_recomputes(capsys: Capture) -> None:
    assert main(["help", "montage"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "montage.waveform.kind: a change recomputes waveforms, measures, quality" in told
    assert "montage.allow_degenerate: a change recomputes nothing" in told
    assert main(["help", "data.aliases"]) == 0
    assert "a change recomputes scalograms" in capsys.readouterr().out
    assert main(["help", "seed"]) == 0
    assert "data.seed follows it" in capsys.readouterr().out


def _option_files() -> list[tuple[str, str]]:
    return [(group, name) for group, names in group_options([conf_dir()]).items() for name in names]


@pytest.fixture(scope="module")
def checker_of(manual: Manual) -> Callable[[str], jsonschema.Draft7Validator]:
    """Return a function that gives what checks the options of a group."""

    @cache
    def checker(group: str) -> jsonschema.Draft7Validator:
        schema = schema_of_group(manual, group)
        jsonschema.Draft7Validator.check_schema(schema)
        return jsonschema.Draft7Validator(schema)

    return checker


@pytest.mark.parametrize(("group", "name"), _option_files())
def test_the_schema_admits_every_yaml_and_refuses_what_the_configuration_refuses(
    checker_of: Callable[[str], jsonschema.Draft7Validator], group: str, name: str
) -> None:
    checker = checker_of(group)
    tree = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"), resolve=False)
    assert [error.message for error in checker.iter_errors(tree)] == []
    assert not checker.is_valid({**tree, "unheard_of": 1})
    if group == EXPERIMENT:
        assert not checker.is_valid({"cwt": {"n_freqs": -4}})


def test_the_schema_of_everything_has_meanings_defaults_and_ranges(manual: Manual) -> None:
    schema = schema_of_experiments(manual)
    hop = schema["properties"]["cwt"]["properties"]["hop"]
    assert "samples from one frame to the next" in hop["description"]
    assert hop["default"] == 8
    assert hop["anyOf"][0] == {"type": "integer", "minimum": 1}
    main_page = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"), resolve=False)
    assert jsonschema.Draft7Validator(schema).is_valid(main_page)


@pytest.mark.slow
def test_the_schema_is_printed_or_written(tmp_path: Path, capsys: Capture) -> None:
    assert main(["help", "cwt", "--schema"]) == 0
    assert {"morlet", "gmw"} <= {
        s["properties"]["kind"]["const"] for s in json.loads(capsys.readouterr().out)["anyOf"]
    }
    assert main(["help", "--schema", str(tmp_path / "hms.json")]) == 0
    assert json.loads((tmp_path / "hms.json").read_text())["title"] == "hms: settings"
    assert main(["help", "cwt.hop", "--schema"]) == 2


def test_the_contents_name_options_of_a_folder_of_ones_own(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "montage").mkdir()
    (tmp_path / "montage" / "midline.yaml").write_text("# Choose it for the midline.\nkind: bipolar\n")
    assert main(["run", "--help", "--config-dir", str(tmp_path)]) == 0
    assert "midline" in capsys.readouterr().out


def test_help_knows_the_options_of_a_plugin_and_of_a_folder(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weight").mkdir()
    (tmp_path / "weight" / "told.yaml").write_text(
        "# Choose it to test.\nkind: told\nstep: 4 # votes in a step\n"
    )
    (tmp_path / "told_plugin.py").write_text(
        "from dataclasses import dataclass\n"
        "from hms.registry import Params, PositiveFloat, register\n"
        "@dataclass(frozen=True)\n"
        "class Told(Params):\n"
        "    step: PositiveFloat\n"
        "register('weight', 'told', Told)(lambda vote_sum, params: vote_sum)\n"
    )
    folder = ["--config-dir", str(tmp_path)]
    assert main(["help", "weight", *folder]) == 0
    assert "plugins=[MODULE]" in capsys.readouterr().out
    try:
        assert main(["help", *folder, "weight.step", "plugins=[told_plugin]"]) == 0
        told = capsys.readouterr().out
        assert "weight.step: votes in a step" in told
        assert "default  4 (weight=told)" in told
    finally:
        registry._entries["weight"].pop("told", None)
        sys.modules.pop("told_plugin", None)
    assert main(["help", "cwt", "weight"]) == 2


def test_a_registered_function_of_ones_own_is_in_the_manual_as_soon_as_a_yaml_chooses_it(
    tmp_path: Path,
) -> None:
    from hms.labels.weights import Weight
    from hms.registry import _entries

    register("weight", "own_for_help", Weight)(lambda votes, params: votes)
    try:
        (tmp_path / "weight").mkdir()
        text = "# Choose it to see.\nkind: own_for_help\nreference_count: 4 # votes that weigh 1\ncap: 2.0\n"
        (tmp_path / "weight" / "own.yaml").write_text(text)
        manual = read_manual([conf_dir(), tmp_path])
        assert manual.settings["weight.reference_count"].defaults["own"] == 4
        assert manual.options["weight"][-2].name == "own"
    finally:
        del _entries["weight"]["own_for_help"]


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("cw", ["cwt=", "cwt."]),
        ("cwt=m", ["cwt=morlet"]),
        ("cwt=morlet,g", ["cwt=morlet,gmw"]),
        ("cwt.h", ["cwt.hop="]),
        ("cwt.norm=", ["cwt.norm=amplitude", "cwt.norm=energy"]),
        ("filter.gaps.h", ["filter.gaps.hold_s="]),
        ("plan=", ["plan=true", "plan=false"]),
        ("marks.resolve=n", ["marks.resolve=null"]),
        ("unheard_of=", []),
    ],
)
def test_an_override_is_completed(manual: Manual, word: str, found: list[str]) -> None:
    assert complete(manual, word) == found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hms run cwt=", ["run", "cwt="]),
        ("/opt/bin/hms  ls ", ["ls", ""]),
        ("python run.py -m we", ["run", "-m", "we"]),
        ("/usr/bin/python3 code/run.py ", ["run", ""]),
    ],
)
def test_a_line_is_parted_as_the_shell_parts_it(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hms ver", ["verify"]),
        ("hms run weight=l", ["weight=linear", "weight=log"]),
        ("hms explain weight=l", ["weight=linear", "weight=log"]),
        ("hms help cwt.h", ["cwt.hop"]),
        ("hms completion z", ["zsh"]),
        ("hms gc x", []),
    ],
)
def test_the_command_completes_lines(line: str, found: list[str], capsys: Capture) -> None:
    assert main(["completion", "--line", line]) == 0
    assert capsys.readouterr().out.split() == found


def test_runs_are_completed(tmp_path: Path, capsys: Capture) -> None:
    for name in ("0123456789abcdef", "0fff456789abcdef", "store"):
        (tmp_path / name).mkdir()
    assert main(["completion", "--line", f"hms --outputs {tmp_path} show 0"]) == 0
    assert capsys.readouterr().out.split() == ["0123456789abcdef", "0fff456789abcdef"]


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_a_shell_can_read_its_script(shell: str, capsys: Capture) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "reply"),
    [("hms run cwt=mor", "morlet"), ("hms ver", "verify"), ("python run.py cwt.h", "cwt.hop=")],
)
def test_bash_offers_what_the_command_says(line: str, reply: str) -> None:
    """Readline completes what follows '=' alone, and so must the replies."""
    script = f"""
        hms() {{ {sys.executable} -m hms "$@"; }}
        python() {{ {sys.executable} "$@"; }}
        compopt() {{ :; }}
        {SCRIPTS["bash"]}
        COMP_LINE='{line}' COMP_POINT={len(line)}
        COMP_WORDS=({line})
        {"_hms hms" if line.startswith("hms") else "_hms_run_py python"}
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout.strip(), done.stderr) == (reply, "")


# --- doors ---------------------------------------------------------------------------------------


def test_version_and_the_module_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hms", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, f"hms {hms.__version__}\n")


@pytest.mark.slow
def test_help_starts_without_tables_signals_and_hydra() -> None:
    code = (
        "import sys\nfrom hms.cli import main\n"
        "heavy = ('pandas', 'scipy', 'sklearn', 'matplotlib', 'hydra', 'torch', 'joblib', 'pyarrow')\n"
        "for line in ('--version', 'help', 'help cwt.hop', 'run --help'):\n"
        "    try: main(line.split())\n"
        "    except SystemExit: pass\n"
        "    print('loaded by', line, [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded by")]
    assert len(loaded) == 4
    assert [line for line in loaded if not line.endswith("[]")] == []


def test_help_says_of_every_stage_what_it_makes(capsys: Capture) -> None:
    assert main(["help", "stages"]) == 0
    told = capsys.readouterr().out
    for name in (*stage_names(), "sketches", "features"):
        shown = registered_stage(name).part_of is None
        assert bool(re.search(rf"^  {name} +\S", told, re.M)) == shown


def test_the_schema_of_a_group_takes_an_option_that_inherits() -> None:
    check = jsonschema.Draft202012Validator(schema_of_group(read_manual(), "filter"))
    assert check.is_valid({"defaults": ["bandpass"], "high_hz": 30})
    assert check.is_valid({"kind": "none", "clip_uv": None})
    assert not check.is_valid({"high_hz": 30})
    assert not check.is_valid({"kind": "none", "high_hz": 30})


def test_the_command_completes_the_options_of_a_plugin_and_of_a_folder(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weight").mkdir()
    (tmp_path / "weight" / "lattice.yaml").write_text("kind: linear\nreference_count: 10\ncap: 1.5\n")
    line = f"hms run plugins=[nowhere_to_be_found] --config-dir {tmp_path} weight=la"
    assert main(["completion", "--line", line]) == 0
    assert (
        capsys.readouterr().out.split() == []
    )  # a plugin that is not there adds nothing, and breaks nothing
    assert main(["completion", "--line", line.replace("plugins=[nowhere_to_be_found] ", "")]) == 0
    assert capsys.readouterr().out.split() == ["weight=lattice"]


def test_an_empty_list_and_an_empty_mapping_are_one_setting() -> None:
    assert _same([], {})
    assert not _same([], "")
    assert not _same({}, None)
    assert not _same({"b": 1, "a": 1}, {"a": 1, "b": 1})
