"""Names to functions: every option of a config group is a registered function and its settings.

A configuration section such as ``weight`` has a ``kind`` (which function) and that
function's settings. The settings are a frozen dataclass that stands next to the
function; the values live in one YAML file of the group. Nothing else is edited to
add an option, and a module named in ``plugins`` registers the same way::

    @dataclass(frozen=True)
    class Stepped(Params):
        step: PositiveFloat

    @register("weight", "stepped", Stepped)
    def stepped(vote_sum, params):
        return np.floor(vote_sum / params.step)
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar

from hms.errors import ConfigError
from hms.registry.sources import forget, has_changed, home_of, note_import, source_of


@dataclass(frozen=True)
class Limits:
    """Range allowed for a number, both ends included unless ``above`` is given."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None

    def admit(self, value: float) -> bool:
        """Tell whether a number is in the range; NaN never does."""
        return (
            value == value
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        parts = []
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        return " and ".join(parts)


@dataclass(frozen=True)
class Group:
    """Mark of a field that is a section of its own: ``Annotated[Params, Group("gaps")]``."""

    name: str


PositiveInt = Annotated[int, Limits(at_least=1)]
PositiveFloat = Annotated[float, Limits(above=0)]
NonNegativeFloat = Annotated[float, Limits(at_least=0)]
Share = Annotated[float, Limits(at_least=0, at_most=1)]


def added(*, before: Any, path: str | None = None) -> Any:
    """Return a field for a setting that came after keys were first made.

    At the value ``before`` results are what they were without the setting, and keys leave it
    out, so that what was computed then still stands. ``path`` is where a stage finds it.
    """
    return field(metadata={"before": before} if path is None else {"before": before, "path": path})


@dataclass(frozen=True)
class Params:
    """Base of every section's settings; ``kind`` names the registered function.

    Fields have no defaults: the YAML file of the option is the one place for values.
    A check that needs several fields goes into ``__post_init__`` and raises ValueError
    with a text that starts with the name of the setting.

    Attributes
    ----------
    kind : name of the registered function; an option of the group sets it with its settings
    """

    kind: str


@dataclass(frozen=True)
class Entry:
    """One registered function with the dataclass of its settings."""

    group: str
    kind: str
    function: Callable[..., Any]
    params: type[Params]

    @property
    def is_plugin(self) -> bool:
        """Whether the function comes from outside the package."""
        return not is_of_the_package(self.function)


def is_of_the_package(what: Callable[..., Any] | type[Any]) -> bool:
    """Tell whether a function or class is in hms itself, and not in a plugin."""
    return what.__module__.startswith("hms.")


def is_in_use(what: Callable[..., Any] | type[Any], plugins: Iterable[str]) -> bool:
    """Tell whether a function or class is of hms, of an installed plugin, or of one of ``plugins``.

    A plugin that this process imported for another configuration does not count.
    """
    used = (*plugins, *_installed)
    return is_of_the_package(what) or any(f"{what.__module__}.".startswith(f"{name}.") for name in used)


def check_in_use(what: Callable[..., Any] | type[Any], called: str, plugins: Sequence[str]) -> None:
    """Raise ConfigError if a function or class is of a module that ``plugins`` does not name.

    Workers and later commands would not know it.
    """
    if not is_in_use(what, plugins):
        module = what.__module__
        add = f"plugins=[{','.join((*plugins, module))}]"
        raise ConfigError(f"{called} is of the module '{module}', which plugins does not name; add {add}")


def check_options(tree: Mapping[str, Any], plugins: Sequence[str]) -> None:
    """Raise ConfigError if a section of a configuration chose an option of a module not in ``plugins``."""
    entries = [entry for options in _entries.values() for entry in options.values() if entry.is_plugin]
    for entry in entries:
        if _is_chosen(entry, tree):
            check_in_use(entry.function, f"{entry.group} '{entry.kind}'", plugins)


def _is_chosen(entry: Entry, tree: Mapping[str, Any], name: str = "") -> bool:
    if name == entry.group and tree.get("kind") == entry.kind:
        return True
    return any(_is_chosen(entry, below, key) for key, below in tree.items() if isinstance(below, Mapping))


def module_source(what: Callable[..., Any] | type[Any]) -> str:
    """Return the source that defines a function or class of a plugin, as imported (part of its key)."""
    return source_of(what.__module__)


def note_definition(what: Callable[..., Any] | type[Any], called: str) -> None:
    """Note the source of a plugin's function or class as it is registered.

    Raises `ConfigError` if it is none that a module defines by a name.
    """
    if not hasattr(what, "__qualname__") or not hasattr(what, "__module__"):
        raise ConfigError(f"{called} is {what!r}; register a function that a module defines with def")
    if not is_of_the_package(what):
        note_import(what.__module__, called)


_entries: dict[str, dict[str, Entry]] = {}
_bases: dict[str, type[Params]] = {}
_CLOSED = {
    "montage": "a montage of your own is a YAML with its chains (docs/montages.md)",
    "qc": "limits of your own are a YAML (docs/quality.md)",
}
"""Groups whose functions nobody calls: an option of one's own is a YAML alone."""

F = TypeVar("F", bound=Callable[..., Any])


def register(group: str, kind: str, params: type[Params] = Params) -> Callable[[F], F]:
    """Register a function under ``group`` and ``kind`` with the dataclass of its settings."""

    def add(function: F) -> F:
        note_definition(function, f"{group} '{kind}'")
        if group in _CLOSED and not is_of_the_package(function):
            raise ConfigError(f"{group} '{kind}' cannot be a function; {_CLOSED[group]}")
        present = _entries.setdefault(group, {}).get(kind)
        if present is not None and place_of(present.function) != place_of(function):
            raise ConfigError(
                f"{group} '{kind}' is registered twice: "
                f"by {place_of(present.function)} and by {place_of(function)}"
            )
        _entries[group][kind] = Entry(group, kind, function, params)
        return function

    return add


P = TypeVar("P", bound=type[Params])


def settings_of(group: str) -> Callable[[P], P]:
    """Declare the class that the settings of every option of a group extend."""

    def declare(cls: P) -> P:
        _bases[group] = cls
        return cls

    return declare


def check_extends(entry: Entry) -> None:
    """Raise ConfigError if an option's settings lack what its group needs."""
    base = _bases.get(entry.group, Params)
    if entry.kind == "none" and entry.params is Params:  # chooses that there is nothing to set
        return
    if not issubclass(entry.params, base):
        raise ConfigError(
            f"{entry.group} '{entry.kind}': its settings {entry.params.__name__} must extend "
            f"{base.__module__}.{base.__name__}"
        )


def place_of(what: Callable[..., Any] | type[Any]) -> str:
    """Return where a function or class is defined: ``my_options.stepped``."""
    return f"{what.__module__}.{what.__qualname__}"


def lookup(group: str, kind: str) -> Entry:
    """Return the entry of a kind.

    Raises `ConfigError` if the group has no such kind; the text lists those it has.
    """
    if kind not in _entries.get(group, {}) and _are_some_left and not _import_one(group, kind):
        discover()
    options = _entries.get(group, {})
    if kind not in options:
        raise ConfigError(
            f"{group}.kind '{kind}' is not known{did_you_mean(kind, options)}; "
            f"the kinds of {group} are {', '.join(sorted(options)) or 'none'}; "
            f"plugins=[MODULE] imports one of your own{why_unknown()}"
        )
    return options[kind]


def kinds(group: str) -> tuple[str, ...]:
    """Return the registered kinds of a group in alphabetical order."""
    if _are_some_left:
        discover()
    return tuple(sorted(_entries.get(group, {})))


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of ``words``, or an empty text."""
    near = difflib.get_close_matches(str(word), list(words), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def import_plugins(names: Iterable[str]) -> None:
    """Import the modules with a user's own registered functions, anew if their files changed.

    Raises `ConfigError` if a module cannot be imported.
    """
    for name in names:
        _check_is_a_name(name)
        if os.getcwd() not in sys.path and "" not in sys.path:
            sys.path.append(os.getcwd())
        if name in sys.modules and has_changed(name):
            forget_plugin(name)
        try:
            with _no_bytecode():
                importlib.import_module(name)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            told = fault_of_plugin(error, [name]) or str(error)
            raise ConfigError(f"plugins: module '{name}' cannot be imported: {told}") from error
        source_of(name)
        if name not in _imported:
            _imported.append(name)


def _check_is_a_name(name: str) -> None:
    """Raise ConfigError if a plugin is given by its file."""
    if name.endswith(".py") or not {"/", "\\"}.isdisjoint(name):
        folder, file = os.path.split(name.removesuffix(".py"))
        where = "" if folder in ("", ".") else f", with {folder} in PYTHONPATH"
        raise ConfigError(
            f"plugins names modules, not files; write plugins=[{file}]{where} instead of '{name}'"
        )


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Keep no bytecode: Python would believe that of a file edited within the second to the same size."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def forget_plugin(name: str) -> None:
    """Let a plugin be imported anew: forget its modules, and what they registered."""
    modules = forget(name)
    for registered in (*_entries.values(), *_others):
        for key in [key for key, what in registered.items() if _defined_in(what) in modules]:
            del registered[key]


_others: list[dict[str, Any]] = []
"""Dictionaries of classes that plugins register elsewhere."""


def also_registers(classes: dict[str, Any]) -> None:
    """Let what a plugin registered in another dictionary be forgotten with it."""
    _others.append(classes)


def _defined_in(what: Entry | type[Any]) -> str:
    return (what.function if isinstance(what, Entry) else what).__module__


def folders_of(plugins: Iterable[str]) -> tuple[str, ...]:
    """Return the folders from which this process imported plugins."""
    return tuple(dict.fromkeys(filter(None, map(home_of, plugins))))


def fault_of_plugin(error: BaseException, names: Sequence[str] = ()) -> str:
    """Return what failed and in which line, where an error comes from a plugin's code, else an empty text.

    ``names`` are modules that count as plugins, beside those that were imported as such.
    """
    modules = (*names, *_imported, *_installed)
    own = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if any(f"{frame.f_globals.get('__name__')}.".startswith(f"{name}.") for name in modules)
    ]
    if not own:
        return ""
    frame, line = own[-1]
    codes = {frame.f_code for frame, _ in own}
    entries = (entry for options in _entries.values() for entry in options.values() if entry.is_plugin)
    options = [f"{e.group} '{e.kind}'" for e in entries if getattr(e.function, "__code__", None) in codes]
    place = f"{os.path.basename(frame.f_code.co_filename)}:{line}"
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{options[-1]} ({place}) failed: {said}" if options else f"{place}: {said}"


def needs_trust(names: Iterable[str]) -> list[str]:
    """Return the modules that only the user may have imported, among those that a run's folder names.

    Those that this process has imported already, and those of an installed package's entry point, are not.
    """
    installed = {point.value.partition(":")[0] for point in entry_points()}
    return [name for name in names if name not in sys.modules and name not in installed]


_HOMES = (
    "hms.signal",
    "hms.labels",
    "hms.sources",
    "hms.quality",
    "hms.training",
    "hms.stages",
    "hms.engine.pools",
)
"""Packages whose modules register functions and stages, in the order in which they are looked through."""


_LATER = ("hms.sources", "hms.training", "hms.engine.pools")
"""Of these, those whose modules can wait until an option of theirs is chosen."""

_are_some_left = False
"""Whether modules wait for that."""

_NEED_AN_EXTRA = ("hms.training.torch", "hms.training.device")
"""Modules that register nothing; they are imported when they are used."""

ENTRY_POINTS = "hms.plugins"
"""Group of entry points under which an installed package names modules to be imported."""

_imported: list[str] = []
"""Modules that ``plugins`` named and that this process imported."""

_installed: list[str] = []
"""Modules that entry points name."""

_broken: dict[str, str] = {}
"""Entry points that could not be imported, with the reason."""


@cache
def entry_points() -> tuple[metadata.EntryPoint, ...]:
    """Return what installed packages name as plugins; looking through all of them takes 0.1 s."""
    return tuple(metadata.entry_points(group=ENTRY_POINTS))


@cache
def discover() -> None:
    """Import every module that registers functions or stages, so that a configuration can name them.

    Installed packages add theirs by an entry point of the group ``hms.plugins``. One that cannot be
    imported stops nothing: whoever asks for something unknown is told of it.
    """
    global _are_some_left
    _are_some_left = False
    _import_all_of(_HOMES)
    for point in sorted(entry_points(), key=lambda point: point.name):
        try:
            point.load()
            _installed.append(point.module)
        except (Exception, SystemExit) as error:  # whatever somebody's module raises
            _broken[point.name] = f"{type(error).__name__}: {error}"


def discover_needed(plugins: Sequence[str]) -> None:
    """Do what `discover` does, but for modules that can wait: importing them takes a tenth of a second.

    Beside plugins all are imported, so that a name registered twice is refused.
    """
    global _are_some_left
    if plugins or _imported or entry_points():
        discover()
    elif not discover.cache_info().currsize:
        _are_some_left = True
        _import_all_of(home for home in _HOMES if home not in _LATER)


def _import_all_of(homes: Iterable[str]) -> None:
    for name in (name for home in homes for name in _modules_of(home)):
        importlib.import_module(name)


def _modules_of(home: str) -> Iterator[str]:
    names = (found.name for found in pkgutil.iter_modules(importlib.import_module(home).__path__, f"{home}."))
    return (name for name in names if name not in _NEED_AN_EXTRA)


def _import_one(group: str, kind: str) -> bool:
    """Import the module that registers an option, as its source says; tell whether there is one."""
    for name in (name for home in _LATER for name in _modules_of(home)):
        found = find_spec(name)
        path = found.origin if found is not None else None
        if path and f'@register("{group}", "{kind}"'.encode() in Path(path).read_bytes():
            importlib.import_module(name)
            return kind in _entries.get(group, {})
    return False


def why_unknown() -> str:
    """Return what to add to a message about a name that is not known: plugins that could not be imported."""
    texts = [
        f"; the entry point '{name}' of {ENTRY_POINTS} cannot be imported: {why}"
        for name, why in _broken.items()
    ]
    return "".join(texts)
