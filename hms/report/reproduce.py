"""From a run's configuration back to the shortest command that composes it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence, Sized
from functools import cache
from pathlib import Path
from typing import Any

from hms.config.compose import conf_dir, group_options
from hms.config.pages import read_page

PLACES = {
    "root": "DATA",
    "windows": "WINDOWS",
    "patient_table": "PATIENTS",
    "extra": "EXTRA",
    "pseudonyms": "KEYFILE",
}
"""Settings of ``data`` that name a place, and the shell's variable that stands for it in a command."""


def command_of(config: Mapping[str, Any], stages: Sequence[str], data: Sequence[str]) -> str:
    """Return ``python run.py`` with the overrides that give this configuration, see `overrides_of`."""
    return " ".join(["python run.py", *overrides_of(config, stages, data)])


def overrides_of(config: Mapping[str, Any], stages: Sequence[str], data: Sequence[str]) -> list[str]:
    """Return the overrides that give this configuration: what differs from the defaults.

    A section that no option of the package comes near (a plugin's) is written value by value. ``data``:
    overrides that choose the recordings, see `data_overrides`.
    """
    folder = conf_dir()
    main = _load(folder / "config.yaml")
    defaults = {
        group: option
        for entry in main["defaults"]
        if isinstance(entry, dict)
        for group, option in entry.items()
    }
    overrides = list(data)
    for section, values in config.items():
        if section == "data":
            continue
        if isinstance(values, Mapping):
            overrides += _section(folder, section, values, str(defaults.get(section)))
        elif main.get(section) != values:
            overrides.append(_override(section, values))
    if list(stages) != list(main["stages"]):
        overrides.append(_override("stages", list(stages)))
    return overrides


def data_overrides(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the overrides that choose the recordings of a section ``data``; variables stand for places.

    Where the recordings are is not part of a run's identity, and no path is in a page. Behind
    pseudonyms texts are left out too.
    """
    folder = conf_dir() / "data"
    kind, private = section["kind"], section.get("pseudonyms") is not None
    options = {name: _load(folder / f"{name}.yaml") for name in _options()["data"]}
    option = next((name for name, values in options.items() if values.get("kind") == kind), str(kind))
    known = options.get(option, {})
    chosen = [f"data={option}"]
    for name, value in section.items():
        if name in PLACES:
            if kind != "synthetic" if name == "root" else value is not None:
                chosen.append(f'data.{name}="${PLACES[name]}"')
        elif not _same(_resolved(known.get(name, _ABSENT)), value) and not (
            private and not isinstance(value, int | float)
        ):
            chosen.append(_override(f"data.{name}", value))
    return tuple(chosen)


def _section(folder: Path, section: str, values: Mapping[str, Any], default: str) -> list[str]:
    """Return the nearest option of a group, and what differs from it."""
    flat = _flat(values, section)
    options = _options().get(section, [])
    candidates = {}
    for option in sorted(options, key=lambda name: name != default):
        known = _flat(_load(folder / section / f"{option}.yaml"), section)
        candidates[option] = [p for p, value in flat.items() if not _same(known.get(p, _ABSENT), value)]
        if not candidates[option]:
            break
    if not candidates:
        return [_override(path, value) for path, value in flat.items()]
    best = min(candidates, key=lambda option: len(candidates[option]))
    chosen = [] if best == default else [f"{section}={best}"]
    return chosen + [_override(path, flat[path]) for path in candidates[best]]


_ABSENT = object()


def _same(a: Any, b: Any) -> bool:
    """Tell whether two values are the same, chains in their order; an empty list is an empty mapping."""
    if isinstance(a, Sized) and isinstance(b, Sized) and not isinstance(a, str) and not a and not b:
        return not isinstance(b, str)
    return bool(a == b) and (not isinstance(a, Mapping) or list(a) == list(b))


def _resolved(value: Any) -> Any:
    """Return a value of a YAML; a reference to a top-level setting becomes that setting's default."""
    found = re.fullmatch(r"\$\{(\w+)\}", value) if isinstance(value, str) else None
    return _load(conf_dir() / "config.yaml").get(found[1]) if found else value


def _flat(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        deeper = isinstance(value, Mapping) and name != "chains"
        flat |= _flat(value, f"{path}.{name}") if deeper else {f"{path}.{name}": value}
    return flat


def _override(path: str, value: Any) -> str:
    """Return an override as a shell takes it."""
    if value is None:
        return f"{path}=null"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shlex.quote(f"{path}={text}") if re.search(r"[^\w.=,\[\]+:/-]", text) else f"{path}={text}"


_load = cache(read_page)


@cache
def _options() -> dict[str, list[str]]:
    return group_options([conf_dir()])
