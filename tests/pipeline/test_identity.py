"""Identity: which setting invalidates which stage, and what is the same whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import hms
from hms.config.identity import flatten, plain
from hms.errors import ConfigError
from hms.pipeline.selection import choose_stages
from hms.registry import Params, added

CWT = {"scalograms", "measures", "sketches", "quality", "summary"}
SIGNAL = CWT | {"waveforms"}
ITEMS = {"meta", "labels", "splits", "agreement", "summary"}

# For every setting of the default configuration: another value, and the stages it invalidates.
TABLE: dict[str, tuple[str, set[str]]] = {
    "unit.item_id": ("sub_window", ITEMS),
    "labels.high_confidence_votes": ("5", ITEMS),
    "window.start_s": ("10", ITEMS),
    "window.length_s": ("12", SIGNAL | ITEMS),
    "filter.low_hz": ("1", SIGNAL),
    "filter.high_hz": ("30", SIGNAL),
    "filter.order": ("3", SIGNAL),
    "filter.notch_hz": ("50", SIGNAL),
    "filter.clip_uv": ("300", SIGNAL),
    "filter.gaps.kind": ("median", SIGNAL),
    "filter.gaps.hold_s": ("0.1", SIGNAL),
    "filter.gaps.taper_s": ("1", SIGNAL),
    "filter.gaps.order": ("12", SIGNAL),
    "filter.gaps.fit_s": ("1", SIGNAL),
    "filter.gaps.longest_s": ("0.1", SIGNAL),
    "montage.chains": ("", SIGNAL),
    "montage.output": ("derivations", SIGNAL),
    "montage.waveform.kind": ("anterior", {"waveforms", "measures", "quality", "summary"}),
    "montage.allow_degenerate": ("true", set()),
    "cwt.w0": ("6", CWT),
    "cwt.min_hz": ("1", CWT),
    "cwt.max_hz": ("18", CWT),
    "cwt.n_freqs": ("32", CWT),
    "cwt.hop": ("4", CWT),
    "cwt.norm": ("energy", CWT),
    "cwt.dtype": ("float16", CWT),
    "cwt.backend": ("pywt", CWT),
    "scaling.low_percent": ("2", CWT),
    "scaling.high_percent": ("98", CWT),
    "weight.kind": ("log", {"labels", "summary"}),
    "weight.reference_count": ("8", {"labels", "summary"}),
    "weight.cap": ("2", {"labels", "summary"}),
    "folds.kind": ("stratified", {"splits", "summary"}),
    "folds.n_splits": ("4", {"splits", "summary"}),
}


AS_BEFORE = {"filter.gaps.fit_s", "filter.gaps.longest_s"}
"""Later settings, at the value that leaves keys as they were without them."""


def keys(*overrides: str) -> dict[str, str]:
    items, tables = choose_stages(hms.compose(*overrides))
    return {stage.name: stage.key for stage in [*items, *tables]}


@pytest.fixture(scope="module")
def base() -> dict[str, str]:
    return keys()


@pytest.mark.parametrize("path", sorted(TABLE))
def test_a_setting_invalidates_exactly_what_is_downstream_of_it(path: str, base: dict[str, str]) -> None:
    value, expected = TABLE[path]
    override = f"{path}={value}"
    if path == "montage.chains":
        override = "montage.chains.LL=[Fp1-F7,F7-T3,T3-T5]"
    elif path == "filter.gaps.kind":
        pytest.skip("another kind has other settings; covered by the options of the group")
    changed = keys(override)
    differing = {name for name in base if changed[name] != base[name]}
    known = set(base)
    assert differing - {n for n in known if n.startswith("report")} == expected & known


GROUPS_IN_KEYS = ("unit", "labels", "window", "filter", "montage", "cwt", "scaling", "weight", "folds")


def test_no_setting_is_left_out_of_the_table() -> None:
    cfg = hms.compose()
    declared = {path for group in GROUPS_IN_KEYS for path in flatten(cfg.at(group), group)}
    fixed = {f"{group}.kind" for group in GROUPS_IN_KEYS} - {"weight.kind", "folds.kind"}
    assert declared - fixed == set(TABLE) - AS_BEFORE


EXECUTION = [
    "n_jobs=1",
    "outputs_dir=elsewhere",
    "max_failed_share=0.5",
    "plan=true",
    "data.root=elsewhere",
]


@pytest.mark.parametrize("override", EXECUTION)
def test_how_a_run_is_carried_out_is_in_no_key(override: str, base: dict[str, str]) -> None:
    assert keys(override) == base


def test_a_seed_is_in_the_key_of_the_page_that_says_how_to_make_the_recordings_and_in_no_other() -> None:
    assert {name for name, key in keys("seed=3").items() if key != keys()[name]} == {"report"}
    kaggle = ("data=kaggle", "data.root=here")
    assert keys(*kaggle, "seed=3") == keys(*kaggle)


def test_order_and_number_types_do_not_matter() -> None:
    one = keys("cwt.w0=6", "weight.cap=2", "folds.n_splits=4")
    other = keys("folds.n_splits=4.0", "weight.cap='2.0'", "cwt.w0=6.0")
    assert one == other


def test_aliases_in_another_order_are_the_same() -> None:
    assert keys("data.aliases={T8: T4, T7: T3, P8: T6, P7: T5}") == keys()


def test_the_order_of_chains_matters() -> None:
    chains = plain(hms.compose().at("montage.chains"))
    swapped = {name: chains[name] for name in reversed(chains)}
    from hms.config.schema import build_config

    tree = hms.compose().to_dict()
    tree["montage"]["chains"] = swapped
    items, _ = choose_stages(build_config(tree))
    assert {s.name: s.key for s in items}["scalograms"] != keys()["scalograms"]


def test_yaml_command_line_and_notebook_agree(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /weight: log\ncwt:\n  n_freqs: 32.0\n"
    )
    items, tables = choose_stages(hms.compose("experiment=mine", config_dir=tmp_path))
    from_yaml = {stage.name: stage.key for stage in [*items, *tables]}
    assert from_yaml == keys("weight=log", "cwt.n_freqs=32")


def test_an_experiment_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="experiment=mine is not an option"):
        hms.compose("experiment=mine")


def test_a_longer_wavelet_does_not_touch_the_waveforms() -> None:
    lower, base = keys("cwt.min_hz=0.2"), keys()
    assert lower["scalograms"] != base["scalograms"]
    assert lower["waveforms"] == base["waveforms"]


def test_a_setting_that_came_later_leaves_keys_as_they_were_at_the_value_that_changes_nothing() -> None:
    @dataclass(frozen=True)
    class Earlier(Params):
        step: float

    @dataclass(frozen=True)
    class Later(Params):
        step: float
        shift: float = added(before=0.0)

    earlier = flatten(Earlier("stepped", 4.0), "weight")
    assert earlier == {"weight.kind": "stepped", "weight.step": 4.0}
    assert flatten(Later("stepped", 4.0, 0.0), "weight") == earlier
    assert flatten(Later("stepped", 4.0, 1.0), "weight") == earlier | {"weight.shift": 1.0}
