"""Composition and validation: what is allowed, what is refused, and with which words."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

import hms
from hms.config import compose
from hms.config.compose import composed_tree, conf_dir, group_options
from hms.config.identity import flatten
from hms.config.schema import build_config, resolved
from hms.errors import ConfigError
from hms.registry import Params

REFUSED = [
    ("cwt=morle", "cwt=morle is not an option (did you mean 'morlet'?); the options of cwt are gmw, morlet"),
    ("weight=lin", "did you mean 'linear'"),
    ("cwt.nfreqs=3", "cwt.nfreqs is not a setting (did you mean 'cwt.n_freqs'?); cwt has kind, w0"),
    ("cwt.scales=abc", "cwt.scales is not a setting"),
    ("filter.gap.kind=median", "did you mean 'filter.gaps'"),
    ("colour=red", "colour is not a setting; the top level has data, unit"),
    ("+cwt.foo=1", "'+cwt.foo=1' adds a key"),
    ("++cwt.n_freqs=8", "adds a key; settings are declared, write 'cwt.n_freqs=8'"),
    ("~cwt", "'~cwt' removes a setting"),
    ("~cwt.hop", "removes a setting"),
    ("cwt.n_freqs=-4", "cwt.n_freqs=-4 is out of range; it must be at least 1"),
    (
        "cwt.n_freqs=100000000",
        "cwt.n_freqs=100000000 is out of range; it must be at least 1 and at most 4096",
    ),
    ("montage.chains={}", "'montage.chains={}' changes nothing"),
    ("cwt.n_freqs=many", "cwt.n_freqs=many is not a whole number"),
    ("cwt.n_freqs=2.5", "cwt.n_freqs=2.5 is not a whole number"),
    ("cwt.n_freqs=true", "is not a whole number"),
    ("cwt.min_hz=nan", "cwt.min_hz=nan is not a number"),
    ("cwt.min_hz=inf", "cwt.min_hz=inf is not a number"),
    ("cwt.norm=loud", "cwt.norm=loud is not allowed; it is one of amplitude, energy"),
    ("filter.high_hz=120", "filter.high_hz must be below 100 Hz"),
    ("filter.low_hz=30", "filter."),
    ("filter.gaps.kind=magic", "filter.gaps.kind 'magic' is not known"),
    ("cwt.kind=gmw", "cwt.kind=gmw has no w0: choose it by an option, hms help cwt lists them"),
    ("folds.n_splits=1", "folds.n_splits=1 is out of range; it must be at least 2"),
    ("weight.cap=-1", "weight.cap=-1 is out of range"),
    ("montage.waveform.kind=mean", "LL equals LP"),
    ("montage.chains.LL=[Fp1-F7,nonsense]", "nonsense"),
    ("window.length_s=60", "window."),
    ("n_jobs=0", "n_jobs=0 starts no worker"),
    ("n_jobs=-2", "n_jobs=-2 is out of range"),
    ("max_failed_share=2", "max_failed_share=2 is out of range"),
    ("plan=perhaps", "plan=perhaps is not true or false"),
    ("stages=labels", "stages is a list"),
    ("plugins=[no_such_module]", "plugins: module 'no_such_module' cannot be imported"),
    ("cwt.n_freqs=1,2", "that is a sweep, add -m"),
    ("cwt", "'cwt' gives no value; write cwt=VALUE"),
    ("cwt.hop.x=1", "cwt.hop is a value, not a section"),
    ("cwt=null", "cwt=null is not an option"),
    ("n_jobs=null", "n_jobs=null is not a whole number"),
    ("outputs_dir=null", "outputs_dir=null is not a text"),
    ("outputs_dir=", "outputs_dir= names no folder"),
    (f"outputs_dir={__file__}/x", f"needs a folder, but {__file__} is a file"),
]


@pytest.mark.parametrize(("override", "text"), REFUSED, ids=[o for o, _ in REFUSED])
def test_a_wrong_override_is_refused_with_what_is_allowed(override: str, text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        hms.compose(override)
    assert text in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("override", ["filter.gaps.kind=median", "filter.gaps={kind: median}"])
def test_a_kind_of_a_section_without_options_replaces_the_settings_of_the_one_before(override: str) -> None:
    assert hms.compose("filter=wide", override).at("filter.gaps") == Params("median")
    assert hms.compose("filter.gaps.kind=interpolate").filter == hms.compose().filter
    with pytest.raises(ConfigError, match=r"filter.gaps.kind=median has no hold_s; filter.gaps has kind"):
        hms.compose(override, "filter.gaps.hold_s=1")


def test_no_experiment_is_what_holds_anyway() -> None:
    assert hms.compose("experiment=null", "weight=log") == hms.compose("weight=log")


def test_the_same_key_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight is given twice: 'weight=log' and 'weight=linear'"):
        hms.compose("weight=log", "weight=linear")


def test_a_text_for_a_number_is_that_number() -> None:
    a, b, c = (hms.compose(f"cwt.max_hz={text}") for text in ("18", "18.0", "'18'"))
    assert a == b == c
    assert flatten(a.cwt, "cwt") == flatten(c.cwt, "cwt")


def every_option() -> list[list[str]]:
    """Return the first option of every group, the second of every group, and so on."""
    groups = {g: [f"{g}={o}" for o in options] for g, options in group_options([conf_dir()]).items()}
    del groups["experiment"]
    return [[name for name in names if name] for names in itertools.zip_longest(*groups.values())]


@pytest.mark.parametrize("name", group_options([conf_dir()])["experiment"])
def test_every_experiment_composes(name: str) -> None:
    """Hydra composes it: it overrides options."""
    assert hms.compose(f"experiment={name}") != hms.compose()


@pytest.mark.parametrize("overrides", every_option(), ids=" ".join)
def test_every_option_composes_and_as_hydra_composes_it(overrides: list[str]) -> None:
    cfg = hms.compose(*overrides)
    for name in overrides:
        group, _, option = name.partition("=")
        assert cfg.to_dict()[group], option
    with compose._own_hydra(conf_dir()):
        whole = hydra_compose("config", overrides=overrides)
    assert list(composed_tree(*overrides).items()) == list(resolved(whole).items())


def test_every_yaml_is_headed_by_a_sentence_that_says_when_to_choose_it() -> None:
    for path in conf_dir().glob("*/*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# "), path
        assert lines[0].rstrip().endswith("."), path


@pytest.mark.slow
def test_groups_combine_freely() -> None:
    for cwt, filter_, montage in itertools.product(
        ("morlet", "superlet"), ("bandpass", "none"), ("double_banana", "bipolar18")
    ):
        assert hms.compose(f"cwt={cwt}", f"filter={filter_}", f"montage={montage}").at("cwt.kind") == cwt


def test_a_configuration_survives_its_own_yaml() -> None:
    from omegaconf import OmegaConf

    cfg = hms.compose("cwt=gmw", "montage=bipolar18", "filter.clip_uv=null")
    assert build_config(OmegaConf.create(cfg.to_yaml())) == cfg


def test_override_changes_a_copy() -> None:
    cfg = hms.compose()
    other = cfg.override("cwt.n_freqs=12", "weight.cap=2")
    assert (other.at("cwt.n_freqs"), other.at("weight.cap")) == (12, 2.0)
    assert cfg.at("cwt.n_freqs") == 48
    with pytest.raises(ConfigError, match=r"cwt\.nfreqs"):
        cfg.override("cwt.nfreqs=12")


def test_compose_works_from_any_folder_and_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hms.compose("weight=log")
    monkeypatch.chdir(tmp_path)
    assert hms.compose("weight=log") == first


def test_compose_leaves_another_hydra_application_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra import initialize_config_dir

    (tmp_path / "own.yaml").write_text("a: 1\n")
    monkeypatch.setattr(compose, "_kept", {})
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        hms.compose()
        assert hydra_compose("own").a == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["cwt=gmw", "cwt.n_freqs=12", "seed=5", "stages=[labels,splits]"],
        ["data=kaggle", "data.root='/a b'", "data.aliases={X1: Fp1}", "montage.chains.LL=[Fp1-F7,F7-T3]"],
        ["experiment=search", "outputs_dir=there", "hydra.sweeper.n_trials=3", "filter.clip_uv=null"],
    ],
)
def test_values_are_set_as_hydra_sets_them(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [composed_tree(*overrides) for _ in range(2)]
    monkeypatch.setattr(compose, "_with_values", lambda *_: None)
    assert twice == 2 * [composed_tree(*overrides)]


def test_a_yaml_that_changed_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(conf_dir(), tmp_path / "conf"))
    monkeypatch.setattr(compose, "conf_dir", lambda: folder)
    before = hms.compose("weight=linear").to_dict()
    page = folder / "weight" / "linear.yaml"
    page.write_text(re.sub("cap: .*", "cap: 7", page.read_text()))
    assert hms.compose("weight=linear").to_dict() == before | {"weight": before["weight"] | {"cap": 7.0}}


def test_a_configuration_has_a_readable_html_form() -> None:
    page = hms.compose()._repr_html_()
    assert "morlet" in page
    assert "<table>" in page


def test_a_missing_config_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        hms.compose(config_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("group", "default"), [("cwt", "morlet"), ("filter", "bandpass")], ids=["wavelets", "filters"]
)
def test_what_options_of_ones_own_inherit_is_as_in_the_default(group: str, default: str) -> None:
    common, whole = (
        OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"))
        for name in ("_common", default)
    )
    assert isinstance(common, dict)
    assert isinstance(whole, dict)
    assert common == {name: value for name, value in whole.items() if name in common}
    assert "_common" not in group_options([conf_dir()])[group]


def test_an_option_of_ones_own_inherits_another(tmp_path: Path) -> None:
    (tmp_path / "filter").mkdir()
    (tmp_path / "filter" / "to30.yaml").write_text("defaults: [bandpass]\nhigh_hz: 30\n")
    ours = hms.compose("filter=to30", config_dir=tmp_path).filter
    assert ours == hms.compose("filter.high_hz=30").filter


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages=labels,splits", r"stages=\[labels,splits\]"),
        ("labels.classes=a,b", r"labels.classes=\[a,b\]"),
        ("cwt=morlet,gmw", "add -m"),
        ("plugins=my_wave", r"plugins=\[my_wave\]"),
        ("engine.n_jobs=2", "did you mean 'n_jobs'"),
        (r"data.patient_regex=pat(\d+)", "needs quotes: write"),
        ("data.n_recordings=12", "add data.n_patients=5"),
        ("cwt=bump", r"DIR/cwt/bump.yaml with --config-dir DIR"),
    ],
)
def test_what_was_meant_is_shown_as_it_is_typed(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        hms.compose(override)


def test_a_list_of_overrides_is_shown_one_by_one() -> None:
    with pytest.raises(ConfigError, match=r'hms.compose\("cwt=gmw", "weight=log"\)'):
        hms.compose(["cwt=gmw", "weight=log"])  # type: ignore[arg-type]
