"""Overrides and pages that are read without Hydra mean what they mean to Hydra and OmegaConf."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import hms
from hms.cli import main as hms_main
from hms.config import compose
from hms.config.compose import composed_tree, conf_dir
from hms.config.overrides import Plain, _plain
from hms.config.pages import page_of, yaml_of
from hms.main import main

WORDS = [*"a_/-.:',[]é$ \\=~+", "true", "Null", "inf", "NaN", "1", "-0", "01", "1.50", "1.", "1e5"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["a", "weight.cap", "a_1.b"]), st.lists(st.sampled_from(WORDS), max_size=6))
def test_what_is_read_without_hydra_is_what_hydra_reads(key: str, parts: list[str]) -> None:
    text = f"{key}={''.join(parts)}"
    plain = _plain(text)
    try:
        read = OverridesParser.create().parse_override(text)
    except HydraException:
        read = None
    if plain is not None:
        assert read is not None
        assert not read.is_sweep_override()
        assert (read.key_or_group, read.value()) == (plain.key_or_group, plain.value())
        assert repr(read.value()) == repr(plain.value())


@pytest.mark.parametrize(
    "text",
    ["n_jobs=2", "weight.cap=2.5", "outputs_dir=/a/b-1.5/c", "data.root='a b'", "stages=[labels,splits]"],
)
def test_common_overrides_need_no_hydra(text: str) -> None:
    assert isinstance(_plain(text), Plain)


@settings(max_examples=100, deadline=None)
@given(st.text("0123456789eE.+-_:nafiNy \n'\"#", max_size=8))
def test_texts_survive_yaml_as_omegaconf_writes_it(text: str) -> None:
    tree = {"a": text, "b": [text, 1, None], "c": {"d": 0.5}}
    assert yaml_of(tree) == OmegaConf.to_yaml(OmegaConf.create(tree))


@settings(max_examples=100, deadline=None)
@given(st.from_regex(re.compile(r"[-+.0-9_eEa-z:]{1,9}"), fullmatch=True))
def test_scalars_are_read_as_omegaconf_reads_them(text: str) -> None:
    def read(by: object) -> str:
        try:
            return repr(by(f"a: {text}\n"))  # type: ignore[operator]
        except Exception:
            return "refused"

    assert read(page_of) == read(lambda page: OmegaConf.to_container(OmegaConf.create(page), resolve=False))


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        page_of("a: 1\na: 2\n")


def test_a_page_that_builds_on_others_is_left_to_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "conf"
    for page in conf_dir().rglob("*.yaml"):
        (folder / page.parent.name if page.parent != conf_dir() else folder).mkdir(
            parents=True, exist_ok=True
        )
        (folder / page.relative_to(conf_dir())).write_text(page.read_text())
    monkeypatch.setattr(compose, "conf_dir", lambda: folder)
    (folder / "weight" / "own.yaml").write_text("defaults: [log]\ncap: 4\n")
    expected = composed_tree("weight=log")
    assert composed_tree("weight=own") == expected | {"weight": expected["weight"] | {"cap": 4}}


def test_a_usual_command_is_composed_without_hydra() -> None:
    code = (
        "import sys, hms\n"
        "hms.compose('data=kaggle', 'data.root=/a', 'weight=log', 'weight.cap=2.5', 'stages=[labels]')\n"
        "assert not {'hydra', 'omegaconf', 'antlr4'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(hms.__file__).parents[1])


def test_modules_of_options_that_nobody_chose_wait() -> None:
    """Until they are named, or all of a group are asked for."""
    code = (
        "import sys, hms, hms.errors\n"
        "from hms.registry import kinds\n"
        "hms.compose('data=kaggle', 'weight=log')\n"
        "assert 'hms.sources.kaggle' in sys.modules\n"
        "assert not {'hms.sources.edf', 'hms.sources.bids', 'hms.engine.pools.dask'} & set(sys.modules)\n"
        "hms.compose('data=edf', 'data.root=.')\n"
        "assert {'edf', 'bids', 'kaggle', 'mne'} <= set(kinds('data'))\n"
        "try: hms.compose('data.kind=kagle')\n"
        "except hms.errors.ConfigError as error: assert \"did you mean 'kaggle'\" in str(error), error\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(hms.__file__).parents[1])


@pytest.mark.parametrize("page", [b"kind: [log\n", b"kind: log\ncap: 2\ncap: 3\n", b"kind: \xff\n"])
@pytest.mark.parametrize("how", [[], ["-m"], ["-m", "hydra/sweeper=basic"]], ids=["run", "sweep", "hydra"])
def test_a_page_of_ones_own_that_cannot_be_read_is_named(page, how, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own/weight/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_bytes(page)
    code = main(["--config-dir", str(tmp_path / "own"), "weight=mine", *how])
    said = capfd.readouterr().err
    assert code == (1 if how == ["-m"] else 2)  # a member that failed ends a sweep with 1
    assert f"{own} cannot be read as settings: " in said
    assert "Traceback" not in said


def test_help_names_a_page_that_cannot_be_read(tmp_path, capfd):
    (tmp_path / "weight").mkdir()
    (tmp_path / "weight/mine.yaml").write_text("- a\n")
    assert hms_main(["help", "weight", "--config-dir", str(tmp_path)]) == 2
    assert f"{tmp_path}/weight/mine.yaml cannot be read as settings" in capfd.readouterr().err
