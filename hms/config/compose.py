"""Composing a configuration from YAML and overrides; the composition is Hydra's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hms.config.convert import first_lines
from hms.config.schema import Config, build_config
from hms.errors import ConfigError
from hms.registry import did_you_mean

# --- composing -----------------------------------------------------------------------------------

OPEN_MAPPINGS = ("data.aliases",)
"""Settings whose names are the user's own."""


def conf_dir() -> Path:
    """Return the folder of the YAML files, in a checkout as in an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    for candidate in (here / "conf", here.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"conf/config.yaml is neither in {here} nor beside it; install hms-eeg again")


def compose(*overrides: str, config_dir: str | Path | None = None) -> Config:
    """Compose and validate a configuration as the command line would.

    Parameters
    ----------
    *overrides : str
        Overrides in Hydra's grammar, for example ``"cwt=morlet"`` or ``"folds.n_splits=7"``.
    config_dir : path, optional
        A further folder with config groups, as ``--config-dir`` names one.

    Raises
    ------
    ConfigError
        If an option, a key, a type or a value is not allowed; the text says what is.
    """
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folders = [conf_dir()]
    extra: list[str] = []
    if config_dir is not None:
        folder = Path(config_dir).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"the config folder '{config_dir}' does not exist")
        folders.append(folder)
        extra = [f"hydra.searchpath=[{json.dumps(folder.as_uri())}]"]
    texts = [str(override) for override in overrides]
    _check_overrides(texts, folders)
    with _own_hydra(folders[0]):
        try:
            raw = hydra_compose("config", overrides=[*map(_with_new_names, texts), *extra])
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            groups = group_options(folders)
            chosen = [text for text in texts if text.partition("=")[0] in groups]
            _refuse_unknown_keys(texts, groups, lambda: hydra_compose("config", overrides=[*chosen, *extra]))
            raise ConfigError(first_lines(error)) from None
    return build_config(raw)


def _with_new_names(text: str) -> str:
    """Let an override give names to a mapping that takes any: ``data.aliases={X1: Fp1}`` adds to it."""
    path = text.partition("=")[0]
    is_open = any(path == name or path.startswith(f"{name}.") for name in OPEN_MAPPINGS)
    return f"++{text}" if is_open else text


@contextmanager
def _own_hydra(folder: Path) -> Iterator[None]:
    """Compose from a folder, and leave a Hydra application that is under way as it was."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def _refuse_unknown_keys(texts: Sequence[str], groups: Iterable[str], composed: Callable[[], Any]) -> None:
    """Name the first override whose key the configuration does not have, and the keys it has there."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        tree = OmegaConf.to_container(composed(), resolve=False)
    except (HydraException, OmegaConfBaseException):
        return
    for text in texts:
        path = text.partition("=")[0]
        if path not in groups and path.partition(".")[0] != "hydra":
            _refuse_unknown_key(path, tree)


def _refuse_unknown_key(path: str, tree: Any) -> None:
    node, above = tree, ""
    for part in path.split("."):
        if not isinstance(node, dict):
            raise ConfigError(f"{path} is not a setting; {above} is a value, not a section")
        if part not in node:
            near = did_you_mean(part, node).replace("'", f"'{above}." if above else "'", 1)
            raise ConfigError(
                f"{path} is not a setting{near}; {above or 'the top level'} has {', '.join(map(str, node))}"
            )
        node, above = node[part], f"{above}.{part}" if above else part


def group_options(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return every config group with its options, over several config folders."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*/*.yaml")):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(options) for group, options in sorted(found.items())}


def _check_overrides(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse what Hydra accepts or explains badly, before anything is composed."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        text = first_lines(error).partition("; See ")[0]
        raise ConfigError(f"{text}; an override is written key=value, with no space around '='") from None
    groups = group_options(folders)
    seen: dict[str, str] = {}
    for override in parsed:
        key, text = override.key_or_group, str(override.input_line)
        if key.partition(".")[0].partition("/")[0] == "hydra":
            continue
        if override.is_delete():
            raise ConfigError(
                f"'{text}' removes a setting; every setting is needed, choose another value instead"
            )
        if override.is_add() or override.is_force_add():
            plain = text.lstrip("+")
            raise ConfigError(
                f"'{text}' adds a key; settings are declared, write '{plain}' for one that exists"
            )
        if key in seen:
            raise ConfigError(f"{key} is given twice: '{seen[key]}' and '{text}'")
        seen[key] = text
        if override.is_sweep_override():
            raise ConfigError(f"'{text}' names several values; that is a sweep, add -m")
        if key in groups:
            _check_option(key, override.value(), groups)


def _check_option(group: str, option: Any, groups: Mapping[str, list[str]]) -> None:
    if isinstance(option, list) and group != "experiment":
        raise ConfigError(
            f"{group} takes one option, not the list {option}; a sweep over several is -m {group}=A,B; "
            f"the options of {group} are {', '.join(groups[group])}"
        )
    chosen = option if isinstance(option, list) else [option]
    for name in chosen:
        if name is None and group == "experiment":
            continue
        if str(name) not in groups[group]:
            raise ConfigError(
                f"{group}={name} is no option{did_you_mean(str(name), groups[group])}; "
                f"the options of {group} are {', '.join(groups[group])}"
            )


def default_stages() -> list[str]:
    """Return the stages of the configuration when nothing is said of them."""
    from omegaconf import OmegaConf

    return list(OmegaConf.load(conf_dir() / "config.yaml").stages)
