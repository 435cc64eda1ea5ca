"""Which stages a configuration asks for, and what they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from hms.competition import CHANNELS, SUB_WINDOW_S
from hms.config.identity import plain
from hms.config.schema import Config
from hms.errors import ConfigError
from hms.pipeline.stage import (
    ItemStage,
    Stage,
    TableStage,
    registered_order,
    registered_stage,
    stage_class,
    stage_names,
)
from hms.registry import check_in_use, is_in_use, lookup
from hms.signal.montage import Chains
from hms.signal.referential import Referential
from hms.sources.base import Margins, SourceParams
from hms.sources.usable import Demand
from hms.terminal import say

if TYPE_CHECKING:
    from hms.sources.tables import VotesTable


def needed_channels(stages: Iterable[ItemStage]) -> tuple[str, ...]:
    """Return the channels to read, in the files' order if all of the 10-20 system are among them."""
    names = tuple(dict.fromkeys(name for stage in stages for name in stage.needed_channels()))
    if set(CHANNELS) <= set(names):
        return (*CHANNELS, *sorted(set(names) - set(CHANNELS)))
    return names


def demand_of(cfg: Config) -> Demand:
    """Return what the montage asks of a recording from any source."""
    chains: Chains = cfg.at("montage.chains")
    missing = getattr(cfg.data, "missing", "exclude")
    if isinstance(cfg.montage, Referential):
        return Demand(chains, missing, cfg.montage.reference, cfg.montage.optional)
    return Demand(chains, missing)


def needed_context_s(stages: Iterable[ItemStage]) -> float:
    """Return the seconds to read on each side of the window for some stages."""
    return max((stage.needed_context_s() for stage in stages), default=0.0)


BLOCK_S = 120.0
"""Length of the blocks of windows that share a transform, where no setting gives one."""

TRANSFORM_S = 26.0
"""Most seconds of a stretch that overlapping windows share a transform of (docs/decisions/stretches.md)."""


def transform_seconds(cfg: Config) -> float:
    """Return the seconds of the stretches whose wavelet transform windows share; 0: windows share none."""
    data: SourceParams = cfg.at("data")
    if data.transform_s is not None:
        return data.transform_s
    pays = cfg.at("unit.kind") == "per_row" and data.overlaps(cfg.at("window.length_s"))
    return TRANSFORM_S if pays else 0.0


def block_seconds(cfg: Config) -> float | None:
    """Return the seconds of the blocks in which recordings are read and filtered; None: window by window."""
    data: SourceParams = cfg.at("data")
    return BLOCK_S if data.block_s is None and transform_seconds(cfg) else data.block_s


def block_margins_s(cfg: Config) -> Margins | None:
    """Return the seconds of a sub-window on either side of the window; None if they do not matter."""
    if not transform_seconds(cfg):
        return None
    starts = lookup("window", cfg.window.kind).function(np.zeros(1), cfg.window)
    before_s = min(max(0.0, float(starts[0])), SUB_WINDOW_S)
    return before_s, max(0.0, SUB_WINDOW_S - before_s - float(cfg.at("window.length_s")))


def say_what_needs_votes(cfg: Config) -> None:
    """Say which of the stages asked for are not made where the table of windows has no votes.

    Raises `ConfigError` if nothing else was asked for, or a baseline was.
    """
    asked = (*cfg.stages, *(name for name in implied_stages(cfg) if registered_stage(name).part_of is None))
    lacking = [name for name in asked if stage_class(name).from_config(cfg).without_votes() is None]
    is_all = set(cfg.stages) <= set(lacking) and not choose_stages(cfg, has_votes=False)[0]
    if cfg.baseline.kind != "none" or is_all:
        raise ConfigError(f"the table of windows has no votes, but {', '.join(lacking)} needs them")
    if lacking:
        say(f"the table of windows has no votes: {', '.join(lacking)} are not made")


def say_of_empty_classes(votes: VotesTable) -> None:
    """Name the classes without a vote if others have votes."""
    classes = votes.classes
    total = votes.frame[list(classes.vote_columns)].to_numpy().sum(axis=0)
    absent = [name for name, n in zip(classes.names, total.tolist(), strict=True) if not n]
    present = [name for name in classes.names if name not in absent]
    if absent and present:
        hint = f"; labels.classes=[{','.join(present)}] leaves them out" if len(present) > 1 else ""
        say(f"no window has a vote for {', '.join(absent)}{hint}")


def choose_stages(cfg: Config, *, has_votes: bool = True) -> tuple[list[ItemStage], list[TableStage]]:
    """Return the stages that make what ``stages`` asks for, each kind in running order.

    Without votes, the stages that need them are left out, and optional stages of others with them.
    """
    if not cfg.stages:
        raise ConfigError("stages=[] makes nothing; name at least one stage")
    found: dict[str, Stage] = {}
    known: dict[tuple[Any, ...], Stage] = {}
    for name in dict.fromkeys((*cfg.stages, *implied_stages(cfg))):
        check_in_use(stage_class(name), f"the stage '{name}'", cfg.plugins)
        whole = stage_class(name).from_config(cfg)
        asked = whole if has_votes else whole.without_votes()
        if asked is None:
            continue
        asked = asked.shared(known)
        for key, stage in asked.chain().items():
            if isinstance(stage, TableStage) or stage.key == asked.key or getattr(stage, "rows", False):
                found[key] = stage
    items = [stage for stage in found.values() if isinstance(stage, ItemStage)]
    tables = [stage for stage in found.values() if isinstance(stage, TableStage)]
    return items, _in_running_order(tables)


def _in_running_order(tables: Iterable[TableStage]) -> list[TableStage]:
    """Return table stages as they are registered, and each after what it reads."""
    order = registered_order()
    placed: dict[str, TableStage] = {}
    for stage in sorted(tables, key=lambda stage: order.index(stage.name)):
        placed |= {
            key: s for key, s in stage.chain().items() if isinstance(s, TableStage) and key not in placed
        }
    return list(placed.values())


def implied_stages(cfg: Config) -> tuple[str, ...]:
    """Return the stages that other settings than ``stages`` ask for, plugins' included."""
    classes = {name: registered_stage(name) for name in registered_order()}
    return tuple(n for n, cls in classes.items() if is_in_use(cls, cfg.plugins) and cls.implied_by(cfg))


def asked_names(made: Iterable[str]) -> list[str]:
    """Return which of the stages made to ask for: parts come with their whole."""
    names = set(made)
    return [name for name in stage_names() if name in names and registered_stage(name).part_of not in names]


def asked_stages(cfg: Config, made: Iterable[str]) -> list[str]:
    """Return which of the stages made ``stages=[...]`` has to name: other settings imply the rest."""
    implied = implied_stages(cfg)
    return [name for name in asked_names(made) if name not in implied]


WRITTEN_OUT = {"data.transform_s": transform_seconds}
"""Settings that follow from others where they are null: a run records the value that it used."""


def config_of(cfg: Config, stages: Iterable[Stage]) -> dict[str, Any]:
    """Return the part of a configuration that the stages' results depend on."""
    paths = {path for stage in stages for path in stage.paths}
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = WRITTEN_OUT[path](cfg) if path in WRITTEN_OUT else plain(cfg.at(path))
    return tree
