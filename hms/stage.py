"""Stages: frozen dataclasses whose fields are their whole configuration.

A field is either a setting, found in the configuration under the field's own name (or
the path given by `setting`), or another stage that this one reads; one that may be None
is a stage that it can do without. From both follows the stage's key: two stages with equal
keys compute the same numbers.

There are two kinds. An *item stage* maps the arrays of one recording to arrays; a
*table stage* maps tables to files. Neither opens a file, takes a lock or logs: that
belongs to the runner and the store.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar, get_args, get_type_hints

from hms.config import Config, digest_of, flatten, is_as_before
from hms.registry import ConfigError, Params, did_you_mean, lookup

if TYPE_CHECKING:
    from hms.store import Reason
    from hms.tables import Tables

__all__ = [
    "Content",
    "ItemStage",
    "Stage",
    "TableStage",
    "Unusable",
    "register_stage",
    "registered_order",
    "registered_stage",
    "section_function",
    "setting",
    "stage_class",
    "stage_names",
]

Content = bytes | Callable[[IO[bytes]], None]
"""What a file will hold: its bytes, or a function that writes a large file piece by piece."""


class Unusable(Exception):
    """An item cannot be prepared; the text is the reason that the user reads.

    ``failure`` tells a recording that could not be read or computed (counted against
    ``max_failed_share``) from one that was read and has nothing to give. A ``lasting``
    reason follows from the bytes of the recording; any other is tried again.
    """

    def __init__(self, reason: str, *, failure: bool = True, lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.failure, self.lasting = reason, failure, lasting


def setting(path: str) -> Any:
    """Return a field whose value stands at ``path`` in the configuration."""
    return field(metadata={"path": path})


@dataclass(frozen=True)
class Stage:
    """Base of all stages."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when the numbers change."""

    needs_votes: ClassVar[bool] = False
    """Whether there is nothing to make where the table of windows has no votes."""

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build the stage, and the stages it reads, from a configuration."""
        stages = _stage_fields(cls)
        values: dict[str, Any] = {}
        for f in fields(cls):
            if f.name in stages:
                values[f.name] = stages[f.name].kind.from_config(cfg)
            else:
                values[f.name] = cfg.at(f.metadata.get("path", f.name))
        return cls(**values)

    def without_votes(self) -> Self | None:
        """Return the stage as it is where the table of windows has no votes, or None where it makes nothing.

        What it reads is changed alike; a stage that it can do without becomes None.
        """
        if self.needs_votes:
            return None
        changed: dict[str, Stage | None] = {}
        for name, read in _stage_fields(type(self)).items():
            stage = getattr(self, name)
            now = None if stage is None else stage.without_votes()
            if now is None and not read.dispensable:
                return None
            if now is not stage:
                changed[name] = now
        return replace(self, **changed) if changed else self

    @cached_property
    def reads(self) -> tuple[Stage, ...]:
        """Stages whose results this one takes, in the order of its fields."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(value for value in values if isinstance(value, Stage))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The stage's own settings by the path under which the user sets them."""
        flat: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in _stage_fields(type(self)) and not is_as_before(f, value):
                flat |= flatten(value, f.metadata.get("path", f.name))
        return flat

    @cached_property
    def key_content(self) -> dict[str, Any]:
        """Everything the key is made of."""
        return {
            "stage": self.name,
            "version": self.version,
            "settings": self.settings,
            "reads": {stage.name: stage.key_content for stage in self.reads},
            "plugins": self._plugin_sources(),
        }

    @cached_property
    def key(self) -> str:
        """Digest of name, version, settings, the keys of what is read, and plugin sources."""
        content = self.key_content | {"reads": {stage.name: stage.key for stage in self.reads}}
        return digest_of(content)

    def all_settings(self) -> dict[str, Any]:
        """Return the settings of this stage and of everything it reads, by path."""
        flat: dict[str, Any] = {}
        for stage in self.reads:
            flat |= stage.all_settings()
        return flat | self.settings

    def chain(self) -> dict[str, Stage]:
        """Return this stage and everything it reads, by key."""
        found: dict[str, Stage] = {}
        for stage in self.reads:
            found |= stage.chain()
        return found | {self.key: self}

    def _plugin_sources(self) -> dict[str, str]:
        """Digest of the source of each plugin function among the settings."""
        found = {}
        for path, kind in self.settings.items():
            section = path.removesuffix(".kind")
            if section != path:
                entry = lookup(_group_of(self, section), kind)
                if entry.is_plugin:
                    found[section] = blake2b(entry.source.encode(), digest_size=16).hexdigest()
        return found

    @property
    def fingerprint(self) -> str:
        """Digest of the package's source that computes this stage, comments left out."""
        return _source_fingerprint(type(self).__module__)


class _Read(NamedTuple):
    """What a field says of the stage that it holds."""

    kind: type[Stage]
    dispensable: bool


_read: dict[type[Any], dict[str, _Read]] = {}


def _stage_fields(cls: type[Stage]) -> dict[str, _Read]:
    """Return the fields of a stage class that hold stages; looked up once, for a class's hints are slow."""
    if cls not in _read:
        hints = get_type_hints(cls)
        kinds = {f.name: get_args(hints[f.name]) or (hints[f.name],) for f in fields(cls)}
        _read[cls] = {
            name: _Read(kind, type(None) in choices)
            for name, choices in kinds.items()
            for kind in choices
            if isinstance(kind, type) and issubclass(kind, Stage)
        }
    return _read[cls]


def _group_of(stage: Stage, section: str) -> str:
    """Return the config group of a section: the last part of its path."""
    return section.rpartition(".")[2]


@cache
def _source_fingerprint(module_name: str) -> str:
    digest = blake2b(digest_size=8)
    for name in sorted(_own_modules(module_name, set())):
        digest.update(_module_digest(name))
    return digest.hexdigest()


@cache
def _module_digest(name: str) -> bytes:
    tree = _without_docstrings(ast.parse(inspect.getsource(sys.modules[name])))
    return blake2b(ast.dump(tree).encode(), digest_size=16).digest()


_PLUMBING = ("hms.stage", "hms.config", "hms.registry", "hms.competition", "hms.tables")


def _own_modules(name: str, seen: set[str]) -> set[str]:
    """Return a module and the package's modules whose functions or classes it uses."""
    seen.add(name)
    for value in vars(sys.modules[name]).values():
        other = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        if (
            isinstance(other, str)
            and other.startswith("hms.")
            and other not in seen
            and other not in _PLUMBING
        ):
            _own_modules(other, seen)
    return seen


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
    return tree


def _is_text(statement: object) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


class ItemStage(Stage):
    """A pure function from one recording's arrays to arrays."""

    folder: ClassVar[str | None] = None
    """Folder of the run that holds one file per item, or None where nothing is kept as a file."""

    rows: ClassVar[bool] = False
    """Whether the result is one row per item, kept many to a file."""

    suffix: ClassVar[str] = "hr"
    """Ending of the name of an item's file, after its id."""

    origin: ClassVar[str] = "recording"
    """Kind of the file that an item is made from: its recording, or a companion of it."""

    def compute(self, *inputs: Any) -> Any:
        """Return the result from the results of what is read, in the order of `reads`."""
        raise NotImplementedError

    def arrays(self, result: Any) -> Mapping[str, Any]:
        """Return the arrays of a result that are kept."""
        raise NotImplementedError

    def derive_rows(self, rows: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is kept of many items, where it is one row per item.

        Small arithmetic costs mostly calls, and less for many items at once. Which items stand
        beside each other follows from nothing that a user sets: an item's row must be the same,
        bit for bit, whatever stands beside it.

        Parameters
        ----------
        rows : what `arrays` returns of each item, stacked along a first axis
        """
        return rows


class TableStage(Stage):
    """A pure function from tables to the files of a run."""

    inputs: ClassVar[tuple[str, ...]] = ()
    """Names of what goes into the identity of the result, as `Tables.digest` takes them."""

    files: ClassVar[tuple[str, ...]] = ()
    """Paths inside the run's folder of what is written."""

    def compute(self, tables: Tables) -> Mapping[str, Content]:
        """Return the content of each of `files`."""
        raise NotImplementedError

    def exclusions(self, tables: Tables) -> Mapping[int, Reason]:
        """Return items, by row, that this stage's files leave out; called when the files are there."""
        return {}


# --- the registry of stages ----------------------------------------------------------------------

_stages: dict[str, type[Stage]] = {}
S = TypeVar("S", bound=type[Stage])


def register_stage(cls: S) -> S:
    """Register a stage class under its name."""
    present = _stages.get(cls.name)
    if present is not None and present.__qualname__ != cls.__qualname__:
        raise ConfigError(f"the stage '{cls.name}' is registered twice")
    _stages[cls.name] = cls
    return cls


def stage_names() -> tuple[str, ...]:
    """Return the names that ``stages=[...]`` takes, in running order."""
    return tuple(name for name, cls in _stages.items() if _is_product(cls))


def registered_stage(name: str) -> type[Stage]:
    """Return any stage class by its name."""
    return _stages[name]


def registered_order() -> tuple[str, ...]:
    """Return the names of all stages in running order."""
    return tuple(_stages)


def _is_product(cls: type[Stage]) -> bool:
    return issubclass(cls, TableStage) or (issubclass(cls, ItemStage) and cls.folder is not None)


def stage_class(name: str) -> type[Stage]:
    """Return the stage class of a name that ``stages=[...]`` takes.

    Raises
    ------
    ConfigError
        If there is none; the text lists the names there are.
    """
    names = stage_names()
    if name not in names:
        raise ConfigError(
            f"stages: '{name}' is no stage{did_you_mean(name, names)}; there are {', '.join(names)}"
        )
    return _stages[name]


def section_function(group: str, params: Params) -> Callable[..., Any]:
    """Return the registered function that a section's ``kind`` names."""
    return lookup(group, params.kind).function
