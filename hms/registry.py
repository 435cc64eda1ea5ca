"""Names to functions: every option of a config group is a registered function and its settings.

A configuration section such as ``weight`` has a ``kind`` (which function) and that
function's settings. The settings are a frozen dataclass that stands beside the
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
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

__all__ = [
    "ConfigError",
    "Entry",
    "Group",
    "Limits",
    "NonNegativeFloat",
    "Params",
    "PositiveFloat",
    "PositiveInt",
    "Share",
    "added",
    "did_you_mean",
    "kinds",
    "lookup",
    "register",
]


class ConfigError(ValueError):
    """A configuration or an input table that cannot be worked with (exit code 2)."""

    def _render_traceback_(self) -> list[str]:
        """Show a notebook the message alone: the way to it through the library says nothing more."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Limits:
    """Range allowed for a number, both ends included unless ``above`` is given."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None

    def admit(self, value: float) -> bool:
        """Tell whether a number lies in the range; NaN never does."""
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
        return not self.function.__module__.startswith("hms.")

    @property
    def source(self) -> str:
        """Source text of the module that defines the function (part of a plugin's key)."""
        module = inspect.getmodule(self.function)
        return inspect.getsource(module if module is not None else self.function)


_entries: dict[str, dict[str, Entry]] = {}
F = TypeVar("F", bound=Callable[..., Any])


def register(group: str, kind: str, params: type[Params] = Params) -> Callable[[F], F]:
    """Register a function under ``group`` and ``kind`` with the dataclass of its settings."""

    def add(function: F) -> F:
        present = _entries.setdefault(group, {}).get(kind)
        if present is not None and _place(present.function) != _place(function):
            raise ConfigError(
                f"{group} '{kind}' is registered twice: "
                f"by {_place(present.function)} and by {_place(function)}"
            )
        _entries[group][kind] = Entry(group, kind, function, params)
        return function

    return add


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def lookup(group: str, kind: str) -> Entry:
    """Return the entry of a kind.

    Raises
    ------
    ConfigError
        If the group has no such kind; the text lists those it has.
    """
    options = _entries.get(group, {})
    if kind not in options:
        raise ConfigError(
            f"{group}.kind '{kind}' is not known{did_you_mean(kind, options)}; "
            f"the kinds of {group} are {', '.join(sorted(options)) or 'none'}"
        )
    return options[kind]


def kinds(group: str) -> tuple[str, ...]:
    """Return the registered kinds of a group in alphabetical order."""
    return tuple(sorted(_entries.get(group, {})))


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of ``words``, or an empty text."""
    near = difflib.get_close_matches(str(word), list(words), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
