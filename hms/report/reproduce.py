"""From a run's configuration back to the shortest command that composes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hms.config.compose import conf_dir, group_options

__all__ = ["command_of", "yaml_text"]


def command_of(config: Mapping[str, Any], stages: Sequence[str]) -> str:
    """Return ``python run.py`` with the overrides that give this configuration.

    Where the recordings come from is not part of a run's identity and is left to the
    reader, as ``data=…``. A section that no option of the package comes near (a plugin's)
    is written value by value.
    """
    folder = conf_dir()
    main = _load(folder / "config.yaml")
    defaults = {
        group: option
        for entry in main["defaults"]
        if isinstance(entry, dict)
        for group, option in entry.items()
    }
    overrides = ["data=…"]
    for section, values in config.items():
        if section == "data":
            overrides += _aliases(values, folder)
        elif isinstance(values, Mapping):
            overrides += _section(folder, section, values, str(defaults.get(section)))
        elif main.get(section) != values:
            overrides.append(_override(section, values))
    if list(stages) != list(main["stages"]):
        overrides.append(_override("stages", list(stages)))
    return " ".join(["python run.py", *overrides])


def yaml_text(config: Mapping[str, Any]) -> str:
    """Return a configuration as YAML."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def _section(folder: Path, section: str, values: Mapping[str, Any], default: str) -> list[str]:
    """Return the option of a group that is nearest, and what differs from it."""
    flat = _flat(values, section)
    options = group_options([folder]).get(section, [])
    candidates = {}
    for option in sorted(options, key=lambda name: name != default):
        known = _flat(_load(folder / section / f"{option}.yaml"), section)
        candidates[option] = [path for path, value in flat.items() if known.get(path, _ABSENT) != value]
        if not candidates[option]:
            break
    if not candidates:
        return [_override(path, value) for path, value in flat.items()]
    best = min(candidates, key=lambda option: len(candidates[option]))
    chosen = [] if best == default else [f"{section}={best}"]
    return chosen + [_override(path, flat[path]) for path in candidates[best]]


def _aliases(values: Mapping[str, Any], folder: Path) -> list[str]:
    known = _load(folder / "data" / "kaggle.yaml")["aliases"]
    return [] if values.get("aliases", known) == known else [_override("data.aliases", values["aliases"])]


_ABSENT = object()


def _flat(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        deeper = isinstance(value, Mapping) and name != "chains"
        flat |= _flat(value, f"{path}.{name}") if deeper else {f"{path}.{name}": value}
    return flat


def _override(path: str, value: Any) -> str:
    if value is None:
        return f"{path}=null"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{path}={text}" if " " not in text else f"'{path}={text}'"


@cache
def _load(path: Path) -> dict[str, Any]:
    """Return a YAML of the package as it stands there; read once, which takes a millisecond."""
    from omegaconf import OmegaConf

    loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}
