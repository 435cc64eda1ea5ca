"""Composing a configuration from YAML and overrides: by Hydra, or as Hydra does where these are plain."""

from __future__ import annotations

import json
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from hms.config.convert import as_typed, first_lines, settings_of_other_kinds
from hms.config.overrides import Plain, parse_overrides
from hms.config.pages import read_page, told_of_pages
from hms.config.paths import with_quoted_paths
from hms.config.reading import names_in, walked
from hms.config.schema import Config, build_tree, resolved
from hms.errors import ConfigError
from hms.registry import did_you_mean, discover, import_plugins, kinds, lookup

SEARCH_PATH = "hydra.searchpath"

# --- composing -----------------------------------------------------------------------------------

OPEN_MAPPINGS = ("data.aliases",)
"""Settings whose names are the user's own."""


def conf_dir() -> Path:
    """Return the folder of the YAML files, in a checkout as in an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    for candidate in (here / "conf", here.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise ConfigError(f"conf/config.yaml is neither in {here} nor next to it; install hms-eeg again")


NO_EXPERIMENT = "experiment=null"
"""What holds where no experiment is chosen."""


def compose(*overrides: str, config_dir: str | Path | None = None) -> Config:
    """Compose and validate a configuration as the command line would; see `composed_tree`.

    Raises `ConfigError` if an option, a key, a type or a value is not allowed; the text says what is.
    """
    return build_tree(composed_tree(*overrides, config_dir=config_dir))


def composed_tree(*overrides: str, config_dir: str | Path | None = None) -> dict[str, Any]:
    """Compose a configuration as the command line would; its values are not validated.

    Raises `ConfigError` if an option or a key is not allowed; the text says what is.

    Parameters
    ----------
    *overrides : in Hydra's grammar, for example ``"cwt=morlet"`` or ``"folds.n_splits=7"``
    config_dir : a further folder with config groups, as ``--config-dir`` names one
    """
    typed = with_quoted_paths(overrides)
    folders = config_folders(typed, config_dir)
    texts, extra = _without_search_path(typed), _search_path(folders[1:])
    _check_overrides(texts, folders)
    texts = [text for text in texts if text != NO_EXPERIMENT]  # Hydra takes no null here
    plain = None if extra else _without_hydra(texts, folders[0])
    if plain is None:
        with told_of_pages(folders[1:]):
            plain = _with_hydra(texts, folders, extra)
    return _with_typed_kinds(plain, texts)


# --- without Hydra -------------------------------------------------------------------------------


def _without_hydra(texts: Sequence[str], folder: Path) -> dict[str, Any] | None:
    """Compose as Hydra would, which takes as long to import as pandas, where pages and overrides are plain.

    None where a page is of Hydra's own, says where it belongs or builds on others, an override is more than
    one value, or one does not fit: Hydra says why.
    """
    parsed, groups = parse_overrides(texts), group_options([folder])
    chosen = {override.key_or_group: override for override in parsed if override.key_or_group in groups}
    if not all(isinstance(override, Plain) for override in parsed):
        return None
    options = [override.input_line for override in chosen.values()]
    tree = _once(
        ["plain", *options], folder, lambda: _sections({k: o.value() for k, o in chosen.items()}, folder)
    )
    fit = tree is not None and all(
        _set(tree, override.key_or_group, override.value())
        for override in parsed
        if override.key_or_group not in chosen
    )
    try:
        return {name: _referred(value, tree) for name, value in tree.items()} if fit else None
    except LookupError:
        return None


def _sections(chosen: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Return the sections that the default options give, or those chosen in their place."""
    try:
        own = read_page(folder / "config.yaml")
        defaults, tree = own.pop("defaults"), {}
        own.pop("hydra", None)
        names = [entry if entry == ITSELF else next(iter(entry)) for entry in defaults]
        options = {name: entry[name] for name, entry in zip(names, defaults, strict=True) if name != ITSELF}
        options = {
            n: o for n, o in (options | chosen).items() if o is not None and not n.startswith("override ")
        }
        if not options.keys().isdisjoint(own) or set(options) - set(names[: names.index(ITSELF)]):
            return None
        for group, option in options.items():
            page = folder / group / f"{option}.yaml"
            tree[group] = read_page(page)
            if "defaults" in tree[group] or "@package" in page.read_text(encoding="utf-8"):
                return None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):  # whatever it is, Hydra says it
        return None
    return tree | own


ITSELF = "_self_"
"""The page's own place in a list of defaults."""


def _set(tree: Any, path: str, value: Any) -> bool:
    """Set a value that is there; tell whether it is, and of that shape."""
    *above, name = path.split(".")
    for part in above:
        tree = tree.get(part) if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or name not in tree or isinstance(tree[name], dict):
        return False
    if isinstance(value, list) != isinstance(tree[name], list):
        return False
    tree[name] = value
    return True


def _referred(value: Any, tree: Mapping[str, Any]) -> Any:
    """Return a value with ``${seed}`` replaced by that setting; raises `LookupError` if it says more."""
    if isinstance(value, dict):
        return {name: _referred(inner, tree) for name, inner in value.items()}
    if isinstance(value, list):
        return [_referred(inner, tree) for inner in value]
    if not isinstance(value, str) or ("${" not in value and value != "???"):
        return value
    found = re.fullmatch(r"\$\{(\w+)\}", value)
    if found is None or isinstance(tree[found[1]], (dict, list, str)):
        raise LookupError(value)
    return tree[found[1]]


# --- with Hydra ----------------------------------------------------------------------------------


def _with_hydra(texts: Sequence[str], folders: Sequence[Path], extra: Sequence[str]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not extra and (kept := _with_values(texts, folders[0])) is not None:
        return resolved(kept)
    with _own_hydra(folders[0]):
        try:
            raw = hydra_compose("config", overrides=[*map(_with_new_names, texts), *extra])
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            groups = group_options(folders)
            chosen = [text for text in texts if text.partition("=")[0] in groups]
            _refuse_unknown_keys(texts, groups, lambda: hydra_compose("config", overrides=[*chosen, *extra]))
            raise ConfigError(first_lines(error)) from None
    return resolved(raw)


def _with_typed_kinds(tree: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Return a tree without settings that the kind before a typed one had (``filter.gaps.kind=median``).

    Groups are not meant: their options set kinds with their settings.
    """
    typed = {override.key_or_group: override.value() for override in parse_overrides(texts)}
    for key, value in typed.items():
        if key.endswith(".kind") and key.count(".") > 1:
            _drop_other_kinds(tree, key.removesuffix(".kind"), set(typed))
        elif "." in key and isinstance(value, dict) and "kind" in value:
            _drop_other_kinds(tree, key, {*typed, *(f"{key}.{name}" for name in value)})
    return tree


def _drop_other_kinds(tree: dict[str, Any], section: str, typed: set[str]) -> None:
    node, group = tree, section.rpartition(".")[2]
    for part in section.split("."):
        node = node[part]
    import_plugins(tuple(map(str, tree["plugins"])))
    discover()
    if node["kind"] in kinds(group):
        others = settings_of_other_kinds(group, lookup(group, node["kind"]).params)
        for name in [name for name in node if name in others and f"{section}.{name}" not in typed]:
            del node[name]


_kept: dict[tuple[Any, ...], bytes] = {}
"""What Hydra made, pickled, by the overrides and the state of the YAML files."""

_MOST_KEPT = 64


def _with_values(texts: Sequence[str], folder: Path) -> Any:
    """Set the single values in what Hydra made of the chosen options, now or earlier in this process.

    None where one cannot be set: composing the whole then says why. Raises `ConfigError` if one names no
    setting.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    groups = group_options([folder])
    chosen = [text for text in texts if _chooses(text, groups)]
    values = parse_overrides([text for text in map(_with_new_names, texts) if not _chooses(text, groups)])
    try:
        tree = _chosen(chosen, folder)
        for value in values:
            OmegaConf.update(tree, value.key_or_group, value.value(), force_add=value.is_force_add())
    except (HydraException, OmegaConfBaseException, ValueError):
        _refuse_unknown_keys(texts, groups, lambda: _chosen(chosen, folder))
        return None
    return tree


def _chosen(texts: Sequence[str], folder: Path) -> Any:
    """Return what options of groups compose to; Hydra takes 0.1 s, so it is kept while no YAML changes."""
    return _once(texts, folder, lambda: _by_hydra(texts, folder))


def _once(what: Sequence[str], folder: Path, make: Callable[[], Any]) -> Any:
    """Return what was made before of the same texts and YAML files, or make it."""
    key = (*what, *_stamps(folder))
    found = _kept.get(key)
    if found is None:
        found = pickle.dumps(make())
        if len(_kept) == _MOST_KEPT:
            _kept.clear()
        _kept[key] = found
    return pickle.loads(found)


def _by_hydra(texts: Sequence[str], folder: Path) -> Any:
    from hydra import compose as hydra_compose

    with _own_hydra(folder):
        return hydra_compose("config", overrides=list(texts))


def _stamps(folder: Path) -> Iterator[tuple[str, int, int]]:
    for place, _, names in walked(folder):
        for name in names:
            status = os.stat(path := os.path.join(place, name))
            yield path, status.st_size, status.st_ctime_ns  # unlike the other time, nothing keeps this one


def _chooses(text: str, groups: Iterable[str]) -> bool:
    """Tell whether an override chooses an option of a group, or is of Hydra's own settings."""
    path = text.partition("=")[0]
    return path in groups or path.partition(".")[0].partition("/")[0] == "hydra"


def _with_new_names(text: str) -> str:
    """Let an override give names to a mapping that takes any: ``data.aliases={X1: Fp1}`` adds to it."""
    path = text.partition("=")[0]
    is_open = any(path == name or path.startswith(f"{name}.") for name in OPEN_MAPPINGS)
    return f"++{text}" if is_open else text


def config_folders(overrides: Sequence[str], config_dir: str | Path | None = None) -> list[Path]:
    """Return the folders that hold config groups: our own, those of ``hydra.searchpath``, ``config_dir``.

    Raises `ConfigError` if one does not exist.
    """
    folders = [conf_dir()]
    for override in parse_overrides(overrides):
        if override.key_or_group == SEARCH_PATH:
            value = override.value()
            folders += [_searched(str(place)) for place in (value if isinstance(value, list) else [value])]
    if config_dir is not None:
        folder = Path(config_dir).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(f"the config folder '{config_dir}' does not exist")
        folders.append(folder)
    return folders


def _searched(place: str) -> Path:
    """Return the folder that an entry of hydra.searchpath means: a package, or a folder."""
    kind, mark, name = place.partition("://")
    if mark and kind == "pkg":
        try:
            return Path(str(resources.files(name)))
        except ModuleNotFoundError as error:
            raise ConfigError(f"{SEARCH_PATH}: {error}") from None
    if mark and kind != "file":
        raise ConfigError(f"{SEARCH_PATH}: '{place}' is neither file://FOLDER nor pkg://PACKAGE")
    folder = Path(name if mark else place).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{SEARCH_PATH}: the folder '{place}' does not exist")
    return folder


def _without_search_path(overrides: Sequence[str]) -> list[str]:
    return [text for text in overrides if text.lstrip("+").partition("=")[0] != SEARCH_PATH]


def _search_path(folders: Sequence[Path]) -> list[str]:
    """Return the override that makes Hydra look into folders too."""
    places = ",".join(json.dumps(folder.as_uri()) for folder in folders)
    return [f"{SEARCH_PATH}=[{places}]"] if folders else []


def hydra_settings(
    overrides: Sequence[str], config_dir: str | Path | None = None
) -> Mapping[str, Any] | None:
    """Return Hydra's mode, sweeper and launcher in a configuration; None where it cannot be composed.

    Values that vary are left out, and so is what is wrong with the rest: whoever runs the members says it.
    """
    folders = config_folders(overrides, config_dir)
    parsed = parse_overrides(overrides)
    texts = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    words = [*map(_with_new_names, _without_search_path(texts)), *_search_path(folders[1:])]
    make = partial(_settings_of_hydras, words, folders[0])
    return make() if folders[1:] else _once(["hydra", *words], folders[0], make)


def _settings_of_hydras(texts: Sequence[str], folder: Path) -> Mapping[str, Any] | None:
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    with _own_hydra(folder):
        try:
            raw = hydra_compose("config", overrides=list(texts), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError):  # composing says it
            return None
    found = {name: raw.hydra.get(name) for name in ("mode", "sweeper", "launcher")}
    plain = OmegaConf.to_container(OmegaConf.create(found), resolve=False)
    return plain if isinstance(plain, dict) else None  # type: ignore[return-value]


_composing = threading.RLock()
"""Hydra composes by objects of the whole process, one at a time."""


@contextmanager
def _own_hydra(folder: Path) -> Iterator[None]:
    """Compose from a folder, and leave a Hydra application that is under way as it was."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with _composing:
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
            near = near or did_you_mean(part, tree)
            raise ConfigError(
                f"{path} is not a setting{near}; {above or 'the top level'} has {', '.join(map(str, node))}"
            )
        node, above = node[part], f"{above}.{part}" if above else part


def group_options(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return every config group with its options, over several config folders.

    A file whose name begins with ``_`` is no option: it holds what options share.
    """
    found: dict[str, set[str]] = {}
    for folder in folders:
        for group in names_in(folder):
            names = names_in(folder / group)
            files = [Path(name) for name in names if name.endswith(".yaml") and not name.startswith("_")]
            if files:
                found.setdefault(group, set()).update(file.stem for file in files)
    return {group: sorted(options) for group, options in sorted(found.items())}


def _check_overrides(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse what Hydra accepts or explains badly, before anything is composed."""
    groups = group_options(folders)
    seen: dict[str, str] = {}
    for override in parse_overrides(overrides):
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
            raise ConfigError(f"'{text}' names several values; {_meant_by_several(key, text)}")
        if override.value() == {}:
            raise ConfigError(
                f"'{text}' changes nothing: names are added to those that are there; for other names, write "
                "your own YAML and choose it with --config-dir"
            )
        if key in groups:
            _check_option(key, override.value(), groups)


def _meant_by_several(key: str, text: str) -> str:
    """Return how several values of a setting are written: of a list in brackets, otherwise as a sweep."""
    discover()
    section, _, name = key.rpartition(".")
    classes: list[type[Any]] = [lookup(section, kind).params for kind in kinds(section)] or [Config]
    is_list = any(get_origin(get_type_hints(cls).get(name)) is tuple for cls in classes)
    return f"a list is written {key}=[{text.partition('=')[2]}]" if is_list else "that is a sweep, add -m"


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
                f"{group}={as_typed(name)} is not an option{did_you_mean(str(name), groups[group])}; "
                f"the options of {group} are {', '.join(groups[group])}; "
                f"one of your own is DIR/{group}/{name or 'NAME'}.yaml with --config-dir DIR"
            )


def default_stages() -> list[str]:
    """Return the stages of the configuration when nothing is said of them."""
    page = conf_dir() / "config.yaml"
    return list(_stages_in(page, os.stat(page).st_ctime_ns))


@lru_cache(maxsize=1)
def _stages_in(page: Path, ctime_ns: int) -> tuple[str, ...]:
    """Return the stages that a page names, which takes longer to read than a table to make."""
    return tuple(read_page(page)["stages"])
