"""From composed YAML to validated dataclasses, and from those to an identity.

Composition is Hydra's. What Hydra lets pass (an appended key, a removed group, a text
where a number belongs) is refused here, with one message that says what is allowed.
"""

from __future__ import annotations

import html
import importlib
import json
import math
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import Field, dataclass, fields, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hms.registry import ConfigError, Group, Limits, Params, Share, added, did_you_mean, lookup

__all__ = [
    "Config",
    "ConfigError",
    "Package",
    "build_config",
    "canonical_json",
    "compose",
    "conf_dir",
    "default_stages",
    "digest_of",
    "first_lines",
    "flatten",
    "group_options",
    "import_kinds",
    "import_plugins",
    "is_as_before",
    "plain",
    "settings_before",
]

T = TypeVar("T")
JOBS = Annotated[int, Limits(at_least=-1)]


@dataclass(frozen=True)
class Package:
    """Optional forms of the package."""

    pack: bool
    waveforms: bool = added(before=False)
    spectrograms: bool = added(before=False)
    derivations: bool = added(before=False)
    derivations_dtype: Literal["float32", "float16"] = added(before="float32")


@dataclass(frozen=True)
class SweepSettings:
    """How the members of a sweep are compared; see `hms.sweep`."""

    name: str | None
    combine: Literal["all", "one_at_a_time"]
    reference: str | None
    objective: Literal["kl_high", "kl_low", "kl_all"]

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
    package: Package
    sweep: SweepSettings
    stages: tuple[str, ...]
    outputs_dir: str
    n_jobs: JOBS
    seed: Annotated[int, Limits(at_least=0)]
    max_failed_share: Share
    plan: bool
    plugins: tuple[str, ...]
    from_run: str | None

    def __post_init__(self) -> None:
        if self.n_jobs == 0:
            raise ValueError("n_jobs 0 starts no worker; give -1 for all cores or a positive number")

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
        from omegaconf import OmegaConf

        return str(OmegaConf.to_yaml(self.to_dict()))

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
        return "<br>".join(
            f"{html.escape(k)}: <code>{html.escape(_short(v))}</code>" for k, v in value.items()
        )
    return f"<code>{html.escape(_short(value))}</code>"


def _short(value: Any, limit: int = 90) -> str:
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


# --- composing -----------------------------------------------------------------------------------


def conf_dir() -> Path:
    """Return the folder of the YAML files, in a checkout as in an installed wheel."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "conf", here.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"conf/config.yaml is neither in {here} nor beside it; install hms again")


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
            raw = hydra_compose("config", overrides=[*texts, *extra])
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            groups = group_options(folders)
            chosen = [text for text in texts if text.partition("=")[0] in groups]
            _refuse_unknown_keys(texts, groups, lambda: hydra_compose("config", overrides=[*chosen, *extra]))
            raise ConfigError(first_lines(error)) from None
    from hms.frozen import with_frozen_settings

    return with_frozen_settings(build_config(raw), texts)


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


def first_lines(error: BaseException) -> str:
    """Return an error's text without Hydra's advice to append a key, and why an override failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith(("Could not override", "Error merging override")):
        lines[0] = lines[0].rstrip(".")
        lines += str(error.__cause__ or "").splitlines()[:1]
        if "is not in struct" in lines[-1]:
            lines[-1] += "; a mapping gets new names in a YAML of your own, chosen with --config-dir"
    kept = [
        line for line in lines if "use +" not in line and not line.startswith(("full_key", "object_type"))
    ]
    return "; ".join(kept) or type(error).__name__


# --- validating ----------------------------------------------------------------------------------


def build_config(raw: Any) -> Config:
    """Turn a composed configuration (DictConfig or nested dictionaries) into a `Config`.

    Raises
    ------
    ConfigError
        Naming the setting, the value received and what is allowed.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(raw, Config):
        return raw
    try:
        tree = OmegaConf.to_container(OmegaConf.create(raw), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(first_lines(error)) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"a configuration is a mapping, not {type(raw).__name__}")
    plugins = convert(tree.get("plugins", []), tuple[str, ...], "plugins")
    import_plugins(plugins)
    import_kinds()
    return _build(Config, tree, "")


def import_plugins(names: Iterable[str]) -> None:
    """Import the modules with a user's own registered functions.

    Raises
    ------
    ConfigError
        If a module cannot be imported.
    """
    for name in names:
        if os.getcwd() not in sys.path and "" not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"plugins: module '{name}' cannot be imported: {error}") from error


def import_kinds() -> None:
    """Import the modules whose functions register themselves."""
    importlib.import_module("hms.kinds")


def _build(cls: type[T], tree: Any, path: str) -> T:
    """Build a dataclass from a mapping; unknown and missing keys are errors."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path or 'the configuration'} is a section with keys, not {tree!r}")
    hints = get_type_hints(cls, include_extras=True)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key in tree:
        if key not in names:
            where = f"{path}.{key}" if path else str(key)
            raise ConfigError(
                f"{where} is not a setting{did_you_mean(str(key), names)}; "
                f"{path or 'the top level'} has {', '.join(names)}"
            )
    # A YAML of one's own that is older than a setting means what was before it.
    tree = {f.name: f.metadata["before"] for f in fields(cls) if "before" in f.metadata} | dict(tree)  # type: ignore[arg-type]
    missing = [name for name in names if name not in tree]
    if missing:
        raise ConfigError(f"{path or 'the configuration'} lacks {', '.join(missing)}")
    values = {name: convert(tree[name], hints[name], f"{path}.{name}" if path else name) for name in names}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}.{error}" if path else str(error)) from None


def convert(value: Any, annotation: Any, path: str) -> Any:
    """Return ``value`` as the annotated type, or raise a ConfigError that says what is allowed."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _convert_annotated(value, arguments[0], arguments[1:], path)
    if origin in (Union, types.UnionType):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None and len(inner) < len(arguments) else convert(value, inner[0], path)
    if origin is Literal:
        if value not in arguments:
            options = [str(a) for a in arguments]
            raise ConfigError(
                f"{path}={value} is not allowed{did_you_mean(str(value), options)}; "
                f"it is one of {', '.join(options)}"
            )
        return value
    if origin is tuple:
        return _convert_tuple(value, arguments, path)
    if is_dataclass(annotation):
        return _build(annotation, value, path)  # type: ignore[arg-type]
    return _convert_scalar(value, annotation, path)


def _convert_annotated(value: Any, inner: Any, marks: tuple[Any, ...], path: str) -> Any:
    for mark in marks:
        if isinstance(mark, Group):
            return _convert_section(value, mark.name, path)
    result = convert(value, inner, path)
    for mark in marks:
        if isinstance(mark, Limits) and result is not None and not mark.admit(result):
            raise ConfigError(f"{path}={value} is out of range; it must be {mark}")
    return result


def _convert_section(value: Any, group: str, path: str) -> Params:
    if not isinstance(value, Mapping) or "kind" not in value:
        raise ConfigError(f"{path} is a section with a 'kind', not {value!r}")
    try:
        entry = lookup(group, str(value["kind"]))
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{group}.kind", f"{path}.kind", 1)) from None
    return _build(entry.params, value, path)


def _convert_tuple(value: Any, arguments: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        value = [[key, item] for key, item in value.items()]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{path} is a list, not {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(convert(item, arguments[0], f"{path}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{path} has {len(arguments)} parts, not {len(value)}")
    return tuple(convert(item, kind, path) for item, kind in zip(value, arguments, strict=True))


def _convert_scalar(value: Any, kind: Any, path: str) -> Any:
    result: Any = None
    if kind is bool:
        result = value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
    elif kind is str:
        result = None if isinstance(value, (Mapping, list)) or value is None else str(value)
    elif kind in (int, float) and not isinstance(value, bool):
        number = _number(value)
        if number is not None and kind is int and float(number).is_integer():
            result = int(number)
        elif number is not None and kind is float:
            result = float(number) + 0.0
    else:
        assert kind in (int, float), f"{path} is annotated with {kind}, which the configuration does not know"
    if result is None:
        article = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}[kind]
        raise ConfigError(f"{path}={value} is not {article}")
    return result


def _number(value: Any) -> int | float | None:
    """Return a finite number from a number or its text, else None."""
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


# --- identity ------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return dataclasses as dictionaries, tuples as lists and tuples of pairs as mappings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        if value and all(isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], str) for v in value):
            return {key: plain(item) for key, item in value}
        return [plain(item) for item in value]
    return value


def flatten(value: Any, path: str) -> dict[str, Any]:
    """Return the settings below a value by dotted path: ``{"cwt.w0": 5.4414, ...}``."""
    if is_dataclass(value) and not isinstance(value, type):
        flat: dict[str, Any] = {}
        for f in fields(value):
            if not is_as_before(f, getattr(value, f.name)):
                flat |= flatten(getattr(value, f.name), f"{path}.{f.name}")
        return flat
    return {path: _listed(value)}


def is_as_before(setting: Field[Any], value: Any) -> bool:
    """Tell whether a setting that came later (`hms.registry.added`) has the value that changes nothing."""
    return "before" in setting.metadata and bool(setting.metadata["before"] == value)


def settings_before(group: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a section that came later, at the values that change nothing."""
    if "kind" not in section:
        return {}
    found = fields(lookup(group, str(section["kind"])).params)
    return {f.name: plain(f.metadata["before"]) for f in found if "before" in f.metadata}


def _listed(value: Any) -> Any:
    """Return tuples as lists; the order of pairs stays, because it can change numbers."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def default_stages() -> list[str]:
    """Return the stages of the configuration when nothing is said of them."""
    from omegaconf import OmegaConf

    return list(OmegaConf.load(conf_dir() / "config.yaml").stages)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, no NaN."""
    return _encode(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def digest_of(value: Any, n_bytes: int = 16) -> str:
    """Return the blake2b digest, in hexadecimal, of a value's canonical JSON."""
    return blake2b(canonical_json(value).encode(), digest_size=n_bytes).hexdigest()
