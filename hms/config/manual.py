"""What every setting means, its unit, range, choices and default.

Nothing is written here: meanings come from the comments in the YAML files and the ``Attributes`` of the
settings' classes, ranges and choices from their annotations, defaults from the YAML files.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hms.config.compose import SEARCH_PATH, conf_dir, config_folders, group_options
from hms.config.convert import convert
from hms.config.overrides import parse_overrides
from hms.config.pages import page_of, told_of_pages
from hms.config.schema import Config
from hms.errors import ConfigError
from hms.registry import Group, Limits, Params, did_you_mean, discover, import_plugins, kinds, lookup

EXPERIMENT = "experiment"
"""The one group whose options are lists of differences, and no section of their own."""

_SUFFIXES = {"_s": "s", "_hz": "Hz", "_uv": "µV", "_percent": "%", "_share": "share, 0 to 1"}
_LEADING_UNIT = re.compile(r"(µV|dB|Hz|samples|votes|radians|s)\b")
_FILE_NAME = re.compile(r"^\S+\.ya?ml\b:? *")
_KEY = re.compile(r"( *)(?:- )?([\w-]+):(?: |$)")


@dataclass(frozen=True)
class Shape:
    """What an annotation allows.

    Attributes
    ----------
    kind : int, float, bool, str, tuple (a list) or dict (a mapping of names)
    items : of a list or a mapping
    length : of a list of fixed length
    """

    kind: type
    limits: tuple[Limits, ...] = ()
    choices: tuple[str, ...] = ()
    nullable: bool = False
    items: Shape | None = None
    length: int | None = None

    def __str__(self) -> str:
        words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
        if self.choices:
            text = "one of " + ", ".join(self.choices)
        elif self.items is not None:
            what = "list of" if self.kind is tuple else "mapping of names to"
            each = str(self.items).replace(", or null", " or null")
            text = f"{what} {each}" if self.length is None else f"{what} {self.length}: {each}"
        else:
            text = ", ".join([words.get(self.kind, "section"), *map(str, self.limits)])
        return f"{text}, or null" if self.nullable else text


def shape_of(annotation: Any) -> Shape:
    """Return what the annotation of a setting allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, limits = shape_of(arguments[0]), tuple(m for m in arguments[1:] if isinstance(m, Limits))
        return replace(inner, limits=(*inner.limits, *limits))
    if origin in (Union, types.UnionType):
        return replace(shape_of(next(a for a in arguments if a is not type(None))), nullable=True)
    if origin is Literal:
        return Shape(str, choices=tuple(map(str, arguments)))
    if origin is tuple:
        return _shape_of_tuple(arguments)
    return Shape(annotation)


def _shape_of_tuple(arguments: tuple[Any, ...]) -> Shape:
    if len(arguments) != 2 or arguments[1] is not Ellipsis:
        return Shape(tuple, items=shape_of(arguments[0]), length=len(arguments))
    inner = get_args(arguments[0])
    is_pairs = get_origin(arguments[0]) is tuple and len(inner) == 2 and inner[1] is not Ellipsis
    return Shape(dict, items=shape_of(inner[1])) if is_pairs else Shape(tuple, items=shape_of(arguments[0]))


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    path : as it is typed, ``cwt.hop``
    meaning : what it is; empty where undocumented
    note : what the YAML says next to the value, where the class says what it is
    elsewhere : what it is in options where that is something else
    unit : empty where it has none
    shape : what is allowed
    defaults : value by the option of its group that sets it, the default option first; by the empty text
        outside groups
    """

    path: str
    meaning: str
    note: str
    unit: str
    shape: Shape
    defaults: Mapping[str, Any]
    elsewhere: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Option:
    """An option of a group: its kind, its settings' class, and the sentence that says when to choose it."""

    name: str
    kind: str
    meaning: str
    params: type[Params] | None


@dataclass(frozen=True)
class Manual:
    """All groups and settings.

    Attributes
    ----------
    groups : what each group decides, in the order of config.yaml
    options : of each group, the default first
    settings : by path, in the order of the classes
    """

    groups: Mapping[str, str]
    options: Mapping[str, tuple[Option, ...]]
    settings: Mapping[str, Setting]

    def below(self, path: str) -> list[Setting]:
        """Return the settings of a group or section."""
        return [s for s in self.settings.values() if s.path.startswith(f"{path}.")]

    def check(self, path: str) -> None:
        """Raise ConfigError if nothing has this name; the text names the nearest."""
        if path in self.groups or path in self.settings or self.below(path):
            return
        group, dot, name = path.rpartition(".")
        names = [*self.groups, *self.settings]
        same_end = [n for n in self.settings if not dot and n.endswith(f".{name}")]
        near = f" (did you mean {' or '.join(same_end[:3])}?)" if same_end else did_you_mean(path, names)
        inside = [s.path for s in self.below(group)] if group else [*self.groups, *self.outside_groups()]
        there = inside or [*self.groups, *self.outside_groups()]
        raise ConfigError(f"'{path}' is not a setting{near}; there are {', '.join(there)}")

    def that_follow(self, path: str) -> list[str]:
        """Return the settings whose default is that of another setting."""
        return [s.path for s in self.settings.values() if f"${{{path}}}" in s.defaults.values()]

    def outside_groups(self) -> list[str]:
        """Return the names at the top level that are not groups: single settings and sections."""
        heads = dict.fromkeys(name.partition(".")[0] for name in self.settings)
        return [head for head in heads if head not in self.groups]


SAYS_WHAT_THERE_IS = ("plugins=", f"{SEARCH_PATH}=")
"""Overrides that add to what there is to choose from."""


def manual_of(overrides: Sequence[str], config_dir: str | Path | None = None) -> Manual:
    """Return the manual with what the plugins and folders that a command names add to it.

    Raises `ConfigError` if a plugin cannot be imported, or a folder does not exist.
    """
    told = [text for text in overrides if text.lstrip("+").startswith(SAYS_WHAT_THERE_IS)]
    for override in parse_overrides(told):
        if override.key_or_group == "plugins":
            import_plugins(convert(override.value(), tuple[str, ...], "plugins"))
    return read_manual(config_folders(told, config_dir))


def read_manual(folders: Sequence[Path] = ()) -> Manual:
    """Read the manual from the YAML files and the registered settings.

    Parameters
    ----------
    folders : config folders, as `hms.config.compose.config_folders` returns them; none: our own
    """
    discover()
    places = list(folders) or [conf_dir()]
    main = _Page.read(conf_dir() / "config.yaml")
    entries = [entry for entry in main.values["defaults"] if isinstance(entry, dict)]
    chosen = {name: option for entry in entries for name, option in entry.items() if "/" not in name}
    available = group_options(places)
    groups = {group: main.comments.get(f"defaults.{group}", "") for group in (*chosen, *available)}
    options: dict[str, tuple[Option, ...]] = {}
    settings: dict[str, Setting] = {}
    for group in groups:
        first = chosen.get(group)
        names = [name for name in available.get(group, ()) if name == first]
        names += [name for name in available.get(group, ()) if name != first]
        pages = {name: _find(places, group, name) for name in names}
        options[group] = tuple(_option(group, name, page) for name, page in pages.items())
        settings |= _settings_of_group(group, options[group], pages)
    return Manual(groups, options, settings | _settings_outside_groups(main, groups))


# --- the YAML files ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """A YAML file: the sentence at its head, its values, and the comment next to each key, by path."""

    head: str
    values: dict[str, Any]
    comments: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> _Page:
        with told_of_pages([path.parent]):
            return _page_of(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=256)
def _page_of(text: str) -> _Page:
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    told = (_FILE_NAME.sub("", line.lstrip("# ")) for line in lines[:first] if "@package" not in line)
    head = " ".join(filter(None, told))
    values = page_of(text)
    assert isinstance(values, dict)
    return _Page(head, {str(key): value for key, value in values.items()}, _comments(lines))


def _comments(lines: Sequence[str]) -> dict[str, str]:
    """Return the comment at the end of the line of each key, by dotted path."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in lines:
        match = _KEY.match(line)
        if match is not None:
            above = [*above[: len(match[1]) // 2], match[2]]
            _, sign, comment = line.partition(" # ")
            if sign:
                found[".".join(above)] = comment.strip()
    return found


def notes_of(group: str, option: str) -> dict[str, str]:
    """Return the comment next to each setting of a shipped option, by its path in the group."""
    return _comments((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines())


def _find(folders: Sequence[Path], group: str, name: str) -> _Page:
    """Return the page of an option, with what it inherits.

    Of several folders the first that has it counts, as Hydra takes it.
    """
    found = (path for folder in folders if (path := folder / group / f"{name}.yaml").is_file())
    page = _Page.read(next(found))
    bases = page.values.get("defaults", ())
    page = replace(page, values={name: value for name, value in page.values.items() if name != "defaults"})
    for base in bases:
        if isinstance(base, str) and base != "_self_":
            below = _find(folders, group, base.removesuffix(".yaml"))
            page = _Page(page.head, {**below.values, **page.values}, {**below.comments, **page.comments})
    return page


def _option(group: str, name: str, page: _Page) -> Option:
    kind = str(page.values.get("kind", ""))
    known = group != EXPERIMENT and kind in kinds(group)
    return Option(name, kind, page.head, lookup(group, kind).params if known else None)


# --- the settings' classes -----------------------------------------------------------------------


def _settings_of_group(
    group: str, options: Sequence[Option], pages: Mapping[str, _Page]
) -> dict[str, Setting]:
    """Return the settings of a group over its options; a text that one lacks is taken from another."""
    found: dict[str, Setting] = {}
    for option in options:
        if option.params is None:
            continue
        page = pages[option.name]
        for path, name, cls, annotation, value in _leaves(option.params, "", page.values):
            shape = shape_of(annotation) if path != "kind" else Shape(str, choices=kinds(group))
            comment = page.comments.get(path, "")
            now = _setting(f"{group}.{path}", name, cls, shape, comment, {option.name: value})
            found[now.path] = _with(found[now.path], now) if now.path in found else now
    return found


def _with(setting: Setting, other: Setting) -> Setting:
    """Return a setting of some options with what another option says of it."""
    if not setting.meaning:
        setting = replace(setting, meaning=other.meaning, note=other.note)
    differs = other.meaning not in ("", setting.meaning)
    told = "; ".join(filter(None, (other.meaning, other.note)))
    return replace(
        setting,
        unit=setting.unit or other.unit,
        defaults={**setting.defaults, **other.defaults},
        elsewhere={**setting.elsewhere, **({next(iter(other.defaults)): told} if differs else {})},
    )


def _settings_outside_groups(main: _Page, groups: Mapping[str, str]) -> dict[str, Setting]:
    return {
        path: _setting(path, name, cls, shape_of(annotation), main.comments.get(path, ""), {"": value})
        for path, name, cls, annotation, value in _leaves(Config, "", main.values)
        if path.partition(".")[0] not in groups
    }


def _setting(
    path: str, name: str, cls: type[Any], shape: Shape, comment: str, defaults: Mapping[str, Any]
) -> Setting:
    """Return a setting; the class says what it means, the YAML what a value of it does."""
    own, said = _plain(_attributes(cls).get(name, "")), _plain(comment)
    unit = next((unit for end, unit in _SUFFIXES.items() if name.endswith(end)), "")
    for text in (own, said):
        match = _LEADING_UNIT.match(text)
        unit = unit or (match[1] if match else "")
    own, said = (text.removeprefix(f"{unit}; ") for text in (own, said))
    if shape.kind not in (int, float):
        unit = ""
    value = {option: given for option, given in defaults.items() if given is not _ABSENT}
    return Setting(path, own or said, said if own and said not in own else "", unit, shape, value)


def _plain(text: str) -> str:
    """Return a text of a docstring as a person reads it who types YAML."""
    return re.sub(r"\bNone\b", "null", text.replace("``", "").replace("`", ""))


_ABSENT = object()

Leaf = tuple[str, str, type[Any], Any, Any]
"""Path, name of the field, its class, its annotation and its value (None where no option gives one)."""


def _leaves(cls: type[Any], above: str, values: Any) -> Iterator[Leaf]:
    """Yield the settings of a class, those of its sections too."""
    hints = get_type_hints(cls, include_extras=True)
    given = values if isinstance(values, dict) else {}
    for f in fields(cls):
        path = f"{above}.{f.name}" if above else f.name
        yield from _leaves_of_field(
            cls, f, hints[f.name], path, given.get(f.name, f.metadata.get("before", _ABSENT))
        )


def _leaves_of_field(cls: type[Any], f: Field[Any], hint: Any, path: str, value: Any) -> Iterator[Leaf]:
    group = next((mark.name for mark in _marks(hint) if isinstance(mark, Group)), None)
    if group is not None and cls is not Config:
        yield from _leaves_of_kinds(group, path, value)
    elif is_dataclass(hint) and isinstance(hint, type):
        yield from _leaves(hint, path, value)
    elif group is None:
        yield path, f.name, cls, hint, value
        inner = get_args(get_args(hint)[0]) if get_origin(hint) is tuple else ()
        named = next((m.name for part in inner for m in _marks(part) if isinstance(m, Group)), None)
        for kind in kinds(named) if named is not None else ():
            of_kind = value.get(kind) if isinstance(value, dict) else None
            yield from _leaves(lookup(str(named), kind).params, f"{path}.{kind}", of_kind)


def _leaves_of_kinds(group: str, path: str, value: Any) -> Iterator[Leaf]:
    """Yield the settings of a section whose ``kind`` names a function: those of all its kinds."""
    chosen = value.get("kind") if isinstance(value, dict) else None
    yield f"{path}.kind", "kind", Params, Literal[kinds(group)], chosen
    for kind in sorted(kinds(group), key=lambda kind: kind != chosen):
        for leaf in _leaves(lookup(group, kind).params, path, value if kind == chosen else {}):
            if leaf[1] != "kind" and (kind == chosen or chosen is None):
                yield leaf


def _marks(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _attributes(cls: type[Any]) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say under ``Attributes``, by name."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, sign, rest = inspect.cleandoc(base.__doc__ or "").partition("Attributes\n----------\n")
        for entry in re.split(r"\n(?=\S)", rest.split("\n\n")[0]) if sign else ():
            names, _, meaning = entry.partition(" : ")
            found |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return found
