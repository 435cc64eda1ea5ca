"""The whole configuration as one dataclass, checked.

What Hydra lets pass (an appended key, a removed group, a text where a number belongs) is
refused here, with one message that says what is allowed.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from hms.config.convert import build, convert, first_lines
from hms.config.identity import plain
from hms.config.pages import yaml_of
from hms.config.paths import fault_of_outputs
from hms.errors import ConfigError
from hms.registry import (
    Group,
    Limits,
    NonNegativeFloat,
    Params,
    Share,
    added,
    check_options,
    discover_needed,
    import_plugins,
)
from hms.terminal import shortened

JOBS = Annotated[int, Limits(at_least=-1)]


@dataclass(frozen=True)
class PackageSettings:
    """Forms of the package; ``link`` and ``format`` are in no key.

    Attributes
    ----------
    format : one file per item, or shards of many items
    pack : adds a memory-mapped float16 array of all scalograms
    link : whether the files of a run are links to the store or copies
    waveforms : adds one of all waveforms
    spectrograms : adds one of the competition's spectrograms, with spectrograms=kaggle
    derivations : adds one of the derivations with their context in µV
    derivations_dtype : type of the array of derivations
    shift_s : seconds of derivations beyond what the transform needs, so that a window can be moved that far
    """

    pack: bool
    link: Literal["auto", "symlink", "hardlink", "copy"]
    format: Literal["files", "shards"] = added(before="files")
    waveforms: bool = added(before=False)
    spectrograms: bool = added(before=False)
    derivations: bool = added(before=False)
    derivations_dtype: Literal["float32", "float16"] = added(before="float32")
    shift_s: NonNegativeFloat = added(before=0.0)


@dataclass(frozen=True)
class SweepSettings:
    """How the members of a sweep are compared; see `hms.sweep`."""

    name: str | None
    combine: Literal["all", "one_at_a_time"]
    reference: str | None
    objective: Literal["kl_high", "kl_low", "kl_all"]
    confirm: bool

    def __post_init__(self) -> None:
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                f"name '{self.name}' becomes a folder: letters, digits, '_', '-' and '.' inside are allowed"
            )


@dataclass(frozen=True)
class Config:
    """A whole validated configuration: one section per config group, then the top level."""

    data: Annotated[Params, Group("data")]
    unit: Annotated[Params, Group("unit")]
    labels: Annotated[Params, Group("labels")]
    window: Annotated[Params, Group("window")]
    filter: Annotated[Params, Group("filter")]
    montage: Annotated[Params, Group("montage")]
    cwt: Annotated[Params, Group("cwt")]
    scaling: Annotated[Params, Group("scaling")]
    weight: Annotated[Params, Group("weight")]
    folds: Annotated[Params, Group("folds")]
    qc: Annotated[Params, Group("qc")]
    augment: Annotated[Params, Group("augment")]
    baseline: Annotated[Params, Group("baseline")]
    spectrograms: Annotated[Params, Group("spectrograms")]
    engine: Annotated[Params, Group("engine")]
    marks: Annotated[Params, Group("marks")]
    package: PackageSettings
    sweep: SweepSettings
    stages: tuple[str, ...]
    outputs_dir: str
    n_jobs: JOBS
    seed: Annotated[int, Limits(at_least=0)]
    max_failed_share: Share
    disk_check: bool
    plan: bool
    plugins: tuple[str, ...]
    from_run: str | None

    def __repr__(self) -> str:
        kinds = {name: getattr(getattr(self, name), "kind", None) for name in self.__dataclass_fields__}
        return f"<Config: {' '.join(f'{name}={kind}' for name, kind in kinds.items() if kind)}>"

    def __post_init__(self) -> None:
        if self.n_jobs == 0:
            raise ValueError("n_jobs=0 starts no worker; give -1 for all cores or a positive number")
        if fault := fault_of_outputs(self.outputs_dir):
            raise ValueError(f"outputs_dir={self.outputs_dir} {fault}")

    def at(self, path: str) -> Any:
        """Return the value at a dotted path such as ``montage.waveform``."""
        value: Any = self
        for part in path.split("."):
            value = getattr(value, part)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain nested dictionaries, lists and scalars."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    def to_yaml(self) -> str:
        """Return the configuration as YAML text."""
        return yaml_of(self.to_dict())

    def override(self, *overrides: str) -> Config:
        """Return a copy with single values changed: ``cfg.override("cwt.n_freqs=32")``.

        Options of a group are chosen in `compose`; here only values are set.
        """
        from omegaconf import OmegaConf

        tree = OmegaConf.create(self.to_dict())
        for override in overrides:
            path, sign, _ = override.partition("=")
            if not sign or OmegaConf.select(tree, path, default=_ABSENT) is _ABSENT:
                raise ConfigError(f"'{override}' does not set a value that the configuration has")
        return build_config(OmegaConf.merge(tree, OmegaConf.from_dotlist(list(overrides))))

    def __str__(self) -> str:
        return self.to_yaml()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{_html_value(value)}</td></tr>"
            for name, value in self.to_dict().items()
        )
        return f"<table><caption>hms configuration</caption>{rows}</table>"


_ABSENT = object()


def _html_value(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{html.escape(k)}: <code>{_in_short(v)}</code>" for k, v in value.items())
    return f"<code>{_in_short(value)}</code>"


def _in_short(value: Any) -> str:
    return html.escape(shortened(json.dumps(value) if isinstance(value, (dict, list)) else value, 90))


# --- validating ----------------------------------------------------------------------------------


def build_config(raw: Any) -> Config:
    """Turn a composed configuration (DictConfig or nested dictionaries) into a `Config`.

    Raises `ConfigError`, naming the setting, the value received and what is allowed.
    """
    if isinstance(raw, Config):
        return raw
    if isinstance(raw, (str, list, tuple)):
        given = [raw] if isinstance(raw, str) else raw
        texts = ", ".join(json.dumps(text) for text in given if isinstance(text, str))
        raise ConfigError(f"a configuration is composed first: hms.run(hms.compose({texts}))")
    if isinstance(raw, dict) and _is_plain(raw):
        return build_tree(raw)
    from omegaconf import OmegaConf

    return build_tree(resolved(OmegaConf.create(raw)))


def _is_plain(value: Any) -> bool:
    """Tell whether OmegaConf, which is slow, would leave a tree as it is: no value refers to another."""
    if type(value) is dict:
        return all(type(name) is str and _is_plain(inner) for name, inner in value.items())
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is str:
        return "${" not in value and value != "???"
    return value is None or type(value) in (bool, int, float)


def build_tree(tree: dict[str, Any]) -> Config:
    """Turn nested dictionaries into a `Config`, as `build_config`; none of their values refers to another."""
    plugins = convert(tree.get("plugins", []), tuple[str, ...], "plugins")
    import_plugins(plugins)
    discover_needed(plugins)
    check_options(tree, plugins)
    return build(Config, tree, "")


def resolved(raw: Any) -> dict[str, Any]:
    """Return a configuration of OmegaConf's as plain nested dictionaries, references resolved.

    Raises `ConfigError` if it is not a mapping, or refers to what is not there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        tree = OmegaConf.to_container(raw, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(first_lines(error)) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"a configuration is a mapping, not {type(raw).__name__}")
    return tree  # type: ignore[return-value]


def n_workers(n_jobs: int) -> int:
    """Return the number of workers that ``n_jobs`` stands for.

    It is 1 where none may be started, in a worker of another pool for instance; joblib warns of that.
    """
    import joblib

    with joblib.parallel_config("loky"):
        return int(joblib.effective_n_jobs(n_jobs))
