"""Stages: frozen dataclasses whose fields are their whole configuration.

A field is either a setting, found in the configuration under the field's own name (or the path given by
`setting`), or another stage that this one reads. A stage of type ``X | None`` is optional. The stage's key is
computed from both: two stages with equal keys compute the same numbers.

There are two kinds. An *item stage* maps the arrays of one recording to arrays; a *table stage* maps tables
to files. Neither opens a file, takes a lock or logs: that belongs to the runner and the store.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar, get_args, get_type_hints

from hms.config.identity import digest_of, flatten, is_as_before
from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.fingerprint import source_fingerprint
from hms.registry import (
    Params,
    also_registers,
    did_you_mean,
    is_of_the_package,
    lookup,
    module_source,
    note_definition,
    place_of,
    why_unknown,
)  # fmt: skip
from hms.store.files import Content

if TYPE_CHECKING:
    from hms.pipeline.tables import View
    from hms.sources.tables import VotesTable
    from hms.store.columns import Reason


def setting(path: str) -> Any:
    """Return a field whose value is at ``path`` in the configuration."""
    return field(metadata={"path": path})


def derived(name: str, *, follows: tuple[str, ...] = (), **later: Any) -> Any:
    """Return a field whose value follows from settings: it is in the key, but cannot be set.

    ``follows`` are the paths of those settings, or of their sections; ``before=VALUE`` says that
    it came later, as `hms.registry.added` does.
    """
    return field(metadata={"path": f"derived.{name}", "derived": True, "follows": follows, **later})


def source_of_a_plugin() -> Any:
    """Return a field for the kind of a source that a plugin opens: how it reads is part of the key."""
    return derived("data.kind", follows=("data.kind",), before=None)


def kind_of_a_plugin(cfg: Config) -> str | None:
    """Return the kind of the source if a plugin opens it; what hms reads itself states its own versions."""
    return cfg.data.kind if lookup("data", cfg.data.kind).is_plugin else None


@dataclass(frozen=True)
class Stage:
    """Base of all stages."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when the numbers change."""

    needs_votes: ClassVar[bool] = False
    """Whether the stage makes nothing of a table of windows without votes."""

    follows: ClassVar[tuple[str, ...]] = ()
    """Paths of further settings that the stages it reads depend on when this stage builds them."""

    part_of: ClassVar[str | None] = None
    """Name of the stage whose result this one makes a part of; it comes with that one, unasked."""

    @classmethod
    def implied_by(cls, cfg: Config) -> bool:
        """Tell whether other settings than ``stages`` ask for the stage."""
        return False

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
        """Return the stage for a table of windows without votes, or None if it makes nothing then.

        The stages that it reads are changed in the same way; an optional one becomes None.
        """
        if self.needs_votes:
            return None
        changed: dict[str, Stage | None] = {}
        for name, read in _stage_fields(type(self)).items():
            stage = getattr(self, name)
            now = None if stage is None else stage.without_votes()
            if now is None and not read.optional:
                return None
            if now is not stage:
                changed[name] = now
        return replace(self, **changed) if changed else self

    def shared(self, known: dict[tuple[Any, ...], Stage]) -> Stage:
        """Return the stage, with equal stages among all that it reads made one: each works out its key."""
        read = {name: getattr(self, name) for name in _stage_fields(type(self))}
        one = {name: stage.shared(known) for name, stage in read.items() if stage is not None}
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        what = (type(self), *((id(one[n]),) if n in one else (type(value), value) for n, value in values))
        if what not in known:
            known[what] = replace(self, **one) if one else self
        return known[what]

    @cached_property
    def reads(self) -> tuple[Stage, ...]:
        """Stages whose results this one takes, in the order of its fields."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(value for value in values if isinstance(value, Stage))

    @cached_property
    def item_reads(self) -> tuple[ItemStage, ...]:
        """Those of `reads` that work on items."""
        return tuple(stage for stage in self.reads if isinstance(stage, ItemStage))

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

    @cached_property
    def paths(self) -> frozenset[str]:
        """Paths at which this stage, and what it reads, find their settings."""
        found = {path for stage in self.reads for path in stage.paths}
        for f in fields(self):
            if f.name not in _stage_fields(type(self)) and not f.metadata.get("derived"):
                above = f.metadata.get("path", f.name)
                found |= {p for p in self.settings if p == above or p.startswith(f"{above}.")}
        return frozenset(found)

    def chain(self) -> dict[str, Stage]:
        """Return this stage and everything it reads, by key."""
        found: dict[str, Stage] = {}
        for stage in self.reads:
            found |= stage.chain()
        return found | {self.key: self}

    def _plugin_sources(self) -> dict[str, str]:
        """Digest of the source of each plugin function among the settings, and of a plugin's stage."""
        found = {} if is_of_the_package(type(self)) else {"stage": _digest_of_source(type(self))}
        for section, kind in self._kinds():
            entry = lookup(_group_of(section), kind)
            if entry.is_plugin:
                found[section] = _digest_of_source(entry.function)
        return found

    def is_as_planned(self) -> bool:
        """Tell whether this process has the plugins' source that the key was made of.

        The key of a stage that came from another process holds the source that was imported there.
        """
        own = self.key_content["plugins"] == self._plugin_sources()
        return own and all(stage.is_as_planned() for stage in self.reads)

    def note(self) -> dict[str, Any]:
        """Return what the store notes of the key: what it is made of, and the source that computed it."""
        return {"key": self.key, "fingerprint": self.fingerprint, **self.key_content}

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the package's source that computes this stage, with the method of digesting."""
        functions = [lookup(_group_of(path), kind).function for path, kind in self._kinds()]
        reads = [read.kind for read in _stage_fields(type(self)).values()]
        return source_fingerprint(type(self), *functions, without=reads)

    def _kinds(self) -> Iterator[tuple[str, str]]:
        """Yield the sections among the settings that name a registered function, with its kind."""
        for path, kind in self.settings.items():
            if path.endswith(".kind"):
                yield path.removesuffix(".kind"), kind


def _digest_of_source(what: Any) -> str:
    return blake2b(module_source(what).encode(), digest_size=16).hexdigest()


class _Read(NamedTuple):
    """The stage that a field holds, and whether it may be None."""

    kind: type[Stage]
    optional: bool


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


def _group_of(section: str) -> str:
    """Return the config group of a section: the last part of its path."""
    return section.rpartition(".")[2]


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

    def needed_context_s(self) -> float:
        """Return the seconds on each side of the window that this stage, or one it reads, needs."""
        return max((stage.needed_context_s() for stage in self.item_reads), default=0.0)

    def needed_channels(self) -> tuple[str, ...]:
        """Return the channels that this stage, or one it reads, looks at; a source gives those it has."""
        return tuple(dict.fromkeys(name for stage in self.item_reads for name in stage.needed_channels()))

    def compute(self, *inputs: Any) -> Any:
        """Return the result from the results of what is read, in the order of `reads`."""
        raise NotImplementedError

    is_quicker_together: ClassVar[bool] = False
    """Whether `compute_together` is asked for several items."""

    def compute_together(self, inputs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the results of several items, each bit for bit what `compute` gives of it alone."""
        return [self.compute(*some) for some in inputs]

    def arrays(self, result: Any) -> Mapping[str, Any]:
        """Return the arrays of a result that are kept."""
        raise NotImplementedError

    def item_bytes(self) -> int:
        """Return about how many bytes one item takes on disk, 0 where settings do not tell.

        A run checks with it beforehand whether the disk has room; sizes of earlier results take precedence.
        """
        return 0

    def derive_rows(self, rows: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the rows to keep of many items.

        Small arithmetic costs mostly calls, so it is done for many items at once. Any items may
        stand next to each other: an item's row must be the same, bit for bit, beside any others.

        Parameters
        ----------
        rows : what `arrays` returns of each item, stacked along a first axis
        """
        return rows


class TableStage(Stage):
    """A pure function from tables to the files of a run."""

    inputs: ClassVar[tuple[str, ...]] = ()
    """What it reads, as `View` takes it: all of it, and nothing else, is in the identity of its files."""

    files: ClassVar[tuple[str, ...]] = ()
    """Paths inside the run's folder of what is written."""

    @property
    def declared(self) -> tuple[str, ...]:
        """What this stage reads: its `inputs`, unless they follow from something else."""
        return self.inputs

    def check(self, votes: VotesTable) -> None:
        """Raise ConfigError where the votes table rules the stage out; called before any work."""
        return

    def table_bytes(self, n_items: int) -> int:
        """Return about how many bytes the files take, 0 where they are small or settings do not tell."""
        return 0

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the content of each of `files`."""
        raise NotImplementedError

    @property
    def chooses(self) -> bool:
        """Whether its files may leave items out."""
        return type(self).exclusions is not TableStage.exclusions

    def exclusions(self, tables: View) -> Mapping[int, Reason]:
        """Return items, by row, that this stage's files leave out; called when the files are there."""
        return {}


# --- the registry of stages ----------------------------------------------------------------------

_stages: dict[str, type[Stage]] = {}
also_registers(_stages)
S = TypeVar("S", bound=type[Stage])


def register_stage(cls: S) -> S:
    """Register a stage class under its name."""
    note_definition(cls, f"the stage '{cls.name}'")
    present = _stages.get(cls.name)
    if present is not None and place_of(present) != place_of(cls):
        raise ConfigError(
            f"the stage '{cls.name}' is registered twice: by {place_of(present)} and by {place_of(cls)}"
        )
    _stages[cls.name] = cls
    return cls


def stage_names() -> tuple[str, ...]:
    """Return the names that ``stages=[...]`` takes, in running order."""
    return tuple(name for name, cls in _stages.items() if _is_product(cls))


def registered_stage(name: str) -> type[Stage]:
    """Return any stage class by its name."""
    return _stages[name]


def registered_order() -> tuple[str, ...]:
    """Return the names of all stages in running order: as registered, and parts before their whole."""
    order: list[str] = []
    for name, cls in _stages.items():
        if cls.part_of not in order:
            order.append(name)
        else:
            order.insert(order.index(cls.part_of), name)
    return tuple(order)


def _is_product(cls: type[Stage]) -> bool:
    return issubclass(cls, TableStage) or (issubclass(cls, ItemStage) and cls.folder is not None)


def stages_of_setting(path: str) -> tuple[str, ...]:
    """Return the stages whose key a setting, or a section, can change, in running order.

    Those of a page's parts are left out: the page names them all.
    """
    shown = (n for n in registered_order() if _is_shown(_stages[n]))
    return tuple(name for name in shown if any(_meet(path, used) for used in _paths_of(_stages[name])))


def first_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the stages among ``names`` that read none of the others: the rest is made from them."""
    classes = {_stages[name] for name in names}
    return tuple(name for name in names if _made_of(_stages[name]) & classes == {_stages[name]})


def made_from(name: str) -> tuple[str, ...]:
    """Return the stages that read a stage, or read what is made from it, in running order."""
    shown = (n for n in registered_order() if n != name and _is_shown(_stages[n]))
    return tuple(n for n in shown if _stages[name] in _made_of(_stages[n]))


def meanings() -> dict[str, str]:
    """Return what every stage is that ``stages=[...]`` takes or a page of help names, by name."""
    shown = [name for name in registered_order() if _is_shown(_stages[name])]
    return {name: (inspect.getdoc(_stages[name]) or "").partition("\n")[0] for name in shown}


def _is_shown(cls: type[Stage]) -> bool:
    return cls.part_of is None and (_is_product(cls) or getattr(cls, "rows", False))


def _paths_of(cls: type[Stage]) -> set[str]:
    """Return the paths of settings and sections that the key of a class can depend on."""
    found: set[str] = set()
    for made in _made_of(cls):
        found |= set(made.follows)
        for f in fields(made):
            if f.name not in _stage_fields(made):
                found |= set(f.metadata.get("follows", (f.metadata.get("path", f.name),)))
    return found


def _made_of(cls: type[Stage]) -> set[type[Stage]]:
    """Return a class, its parts, and the classes of all that they read."""
    below = [read.kind for read in _stage_fields(cls).values()]
    below += [part for part in _stages.values() if part.part_of == cls.name]
    return {cls}.union(*map(_made_of, below))


def _meet(a: str, b: str) -> bool:
    """Tell whether one of two paths is the other, or a section that holds it."""
    return f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.")


def stage_class(name: str) -> type[Stage]:
    """Return the stage class of a name that ``stages=[...]`` takes.

    Raises `ConfigError` if there is none; the text lists the names there are.
    """
    names = stage_names()
    if name not in names:
        known = f"{did_you_mean(name, names)}; there are {', '.join(names)}{why_unknown()}"
        raise ConfigError(f"stages: '{name}' is not a stage{known}")
    return _stages[name]


def section_function(group: str, params: Params) -> Callable[..., Any]:
    """Return the registered function that a section's ``kind`` names."""
    return lookup(group, params.kind).function
