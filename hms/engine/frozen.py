"""A run's frozen configuration for other recordings: the same preparation at inference.

``from_run=RUN`` takes every setting that changes numbers from a finished run. What was
typed next to it may only say where recordings come from and how to work; a setting that
contradicts the run is refused, because its results would not be what a model was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hms.config.compose import compose as compose_config
from hms.config.identity import plain
from hms.config.schema import Config, build_config
from hms.errors import ConfigError
from hms.pipeline.selection import WRITTEN_OUT, asked_stages
from hms.store.package import Package, find_package

OWN_SECTIONS = ("baseline",)
"""Sections of a run that do not say how a recording is prepared."""

MAY_DIFFER = ("folds", "qc")
"""Sections that are the run's unless typed: they do not change x."""

_ABSENT = object()


def compose(*overrides: str, config_dir: str | Path | None = None) -> Config:
    """Compose a configuration; with ``from_run=RUN``, take that run's settings.

    Raises `ConfigError` if something in it is not allowed, or contradicts the run that it names.
    """
    given: Sequence[Any] = overrides
    for override in given:
        if isinstance(override, (list, tuple)):
            one_by_one = ", ".join(json.dumps(str(text)) for text in override)
            raise ConfigError(f"overrides are given one by one, not as a list: hms.compose({one_by_one})")
    texts = [str(override) for override in overrides]
    return with_frozen_settings(compose_config(*texts, config_dir=config_dir), texts)


def with_frozen_settings(cfg: Config, overrides: Sequence[str]) -> Config:
    """Return a configuration with the settings of the run that ``from_run`` names.

    ``overrides`` are what was typed and composed: ``"cwt=gmw"``, ``"folds.n_splits=7"``. Raises `ConfigError`
    if there is no such run, an override contradicts it, or an experiment is named beside it.
    """
    if cfg.from_run is None:
        return cfg
    run = _run_of(cfg)
    typed = [override.partition("=")[0] for override in overrides]
    if "experiment" in typed:
        raise ConfigError(
            f"from_run={cfg.from_run} takes its settings from that run, and an experiment has its own; "
            "leave one of them out"
        )
    _refuse_contradictions(cfg, run, [key for key in typed if key != "from_run" and not _may_differ(key)])
    tree = cfg.to_dict()
    own = {key: cfg.at(key) for key in typed if _may_differ(key)}
    of_run = run.config.to_dict()
    for section, values in _frozen(run).items():  # of data, where the recordings are is not frozen
        tree[section] = tree[section] | values if section == "data" else of_run[section]
    for key, value in own.items():
        _set(tree, key, plain(value))
    tree["plugins"] = list(dict.fromkeys([*of_run["plugins"], *cfg.plugins]))
    if "stages" not in typed:
        tree["stages"] = stages_of(run)
    return build_config(tree)


def check_frozen(cfg: Config) -> None:
    """Raise ConfigError, naming the first such setting, if a configuration differs from its run."""
    if cfg.from_run is not None:
        run = _run_of(cfg)
        _refuse_contradictions(cfg, run, [name for name in _frozen(run) if not _may_differ(name)])


def _may_differ(key: str) -> bool:
    return key.partition(".")[0] in MAY_DIFFER


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set a value at a dotted path."""
    *above, name = path.split(".")
    for part in above:
        tree = tree[part]
    tree[name] = value


def _run_of(cfg: Config) -> Package:
    assert cfg.from_run is not None
    try:
        return find_package(cfg.from_run, cfg.outputs_dir)
    except ConfigError as error:
        raise ConfigError(f"from_run: {error}") from None


def _frozen(run: Package) -> dict[str, Any]:
    """Return the settings of a run that its results depend on, by section."""
    config: dict[str, Any] = run.manifest["config"]
    return {name: values for name, values in config.items() if name not in OWN_SECTIONS}


def stages_of(run: Package) -> list[str]:
    """Return the stages of a run that ``stages=[...]`` takes, without those that other settings imply."""
    known = run.manifest.get("asked")  # runs of earlier versions do not say it
    return asked_stages(run.config, run.manifest["stages"]) if known is None else list(known)


def _refuse_contradictions(cfg: Config, run: Package, typed: Iterable[str]) -> None:
    frozen, now = _leaves(_frozen(run)), _leaves(cfg.to_dict())
    for key in typed:
        for path, value in frozen.items():
            inside = path == key or path.startswith(f"{key}.")
            if path in WRITTEN_OUT and now.get(path) is None:
                continue
            if inside and now.get(path, _ABSENT) != value:
                given = f"is {now[path]}" if path in now else "is not there"
                raise ConfigError(
                    f"from_run={cfg.from_run}: {path} is {value} in that run but {given} here; "
                    f"leave {key} out to prepare recordings as that run did"
                )


def _leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted path."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{above}{name}"
        found |= _leaves(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
