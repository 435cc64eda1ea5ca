"""The plan of a run: what is asked for, what the store already holds, what is due."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hms.config.identity import digest_of
from hms.config.reading import is_file
from hms.config.schema import Config, build_config
from hms.engine.job import Job, Task, Work, item_key
from hms.labels.items import keeps_unlabelled
from hms.labels.marks import Marked
from hms.pipeline import fingerprint
from hms.pipeline.stage import ItemStage, Stage, TableStage
from hms.registry import lookup
from hms.sources.base import RECORDING, Part, Place, Source, SourceParams, making
from hms.sources.pseudonyms import pseudonymised, restored_settings
from hms.sources.recordings import FolderSource
from hms.store.folders import Reason, Record, StageFolder

if TYPE_CHECKING:
    import pandas as pd

    from hms.sources.tables import VotesTable
from hms.engine.digests import RecordingDigests
from hms.engine.origins import Origins, find_origins
from hms.pipeline.selection import (
    block_seconds,
    choose_stages,
    demand_of,
    needed_channels,
    needed_context_s,
    say_of_empty_classes,
    say_what_needs_votes,
)
from hms.store.files import digest_bytes
from hms.store.links import Way
from hms.store.package import Package
from hms.store.places import HASH_LENGTH, Outputs
from hms.store.seen import known_fingerprints, stamp
from hms.store.shards import Layout, is_shard
from hms.terminal import unsaid

LONGEST_PATH = 4096
"""Characters of a text that may name a file."""

TASK_ITEMS = 64
"""Items of one task, whose files a worker holds until all are made."""


@dataclass(frozen=True)
class StageState:
    """How far an item stage is."""

    stage: Stage
    done: int
    total: int

    @property
    def label(self) -> str:
        """``done``, ``partly done n/N`` or ``missing``."""
        if self.done == self.total:
            return "done"
        return f"partly done {self.done}/{self.total}" if self.done else "missing"


@dataclass
class Plan:
    """A run before it starts.

    Attributes
    ----------
    items : one row per item
    places : one per recording, in first-appearance order
    origins : what items are made from, by kind; recordings always, companions where a stage needs them
    tables : the table stages in running order
    item_stages, folders : the item stages that are kept, and their folders in the store, by key
    """

    cfg: Config
    outputs: Outputs
    source: Source
    votes: VotesTable
    items: pd.DataFrame
    places: list[Place]
    origins: dict[str, Origins]
    tables: list[TableStage]
    item_stages: dict[str, ItemStage]
    folders: dict[str, StageFolder]
    digests: RecordingDigests
    marked: Marked
    way: Way = "symlink"
    """How the run's folder names the files of the store; found out before any work."""

    watched: dict[str, str] | None = None
    """Stamps of what the votes table and the recordings were found in, as it was before, if that is known."""

    transient: dict[int, Reason] = field(default_factory=dict)
    """Reasons, by item row, that may not hold next time."""

    _keys: dict[str, tuple[int, list[str | None], list[str | None]]] = field(default_factory=dict, repr=False)
    """By kind of origin: the version of the digests, each item's digest, each item's identity."""

    @cached_property
    def run_hash(self) -> str:
        """Identity of the run: its stages, the votes table, every recording's name and size, the marks."""
        content: dict[str, Any] = {
            "stages": {stage.name: stage.key for stage in self.products},
            "votes": self.votes.digest,
            "recordings": [[place.recording, place.size] for place in self.places],
            "companions": [
                [part.name, part.place.size]
                for kind, origins in self.origins.items()
                if kind != RECORDING
                for part in origins.parts
            ],
        }
        if self.marked.excluded or self.marked.n_votes:
            content["marks"] = self.marked.digest
        if self.in_shards:
            content["format"] = self.cfg.package.format
        return digest_of(content)[:HASH_LENGTH]

    @property
    def in_shards(self) -> bool:
        """Whether results of many items go into one file."""
        return self.cfg.package.format == "shards"

    def layout(self, stage_key: str) -> Layout:
        """Return which row of which shard each item has."""
        starts = np.asarray(self.origins[self.item_stages[stage_key].origin].starts)
        ids = "\n".join(self.items["item_id"].tolist()).encode()
        texts = [len(patient) for _, patient in self._ids if isinstance(patient, str)]
        longest = max(len(str(patient)) for _, patient in self._ids) if texts else 0
        return Layout(digest_bytes(starts.tobytes() + ids)[:16], len(self.items), longest)

    @property
    def products(self) -> list[Stage]:
        """Every stage whose files are part of the run."""
        return [*self.item_stages.values(), *self.tables]

    @property
    def parts(self) -> list[Part]:
        """Every part of a file that items are made from."""
        return [part for origins in self.origins.values() for part in origins.parts]

    def key_of(self, row: int, stage_key: str) -> str | None:
        """Return the identity of an item in a stage, or None while the digest of its origin is not known."""
        return self.keys_of(stage_key)[row]

    def keys_of(self, stage_key: str) -> list[str | None]:
        """Return the identity of every item in a stage, as `key_of` does for one."""
        kind = self.item_stages[stage_key].origin
        known = self._keys.get(kind)
        if known is None or known[0] != self.digests.version:
            digests = self._digests_of(kind)
            before = known[1:] if known else ([None] * len(digests), [None] * len(digests))
            starts, ids = self.origins[kind].starts, self._ids
            keys = [
                old_key
                if digest == old
                else None
                if digest is None
                else item_key(digest, starts[row], *ids[row])
                for row, (digest, old, old_key) in enumerate(zip(digests, *before, strict=True))
            ]
            known = self._keys[kind] = (self.digests.version, digests, keys)
        return known[2]

    def _digests_of(self, kind: str) -> list[str | None]:
        """Return the digest of what every item is made from, None where it is not known."""
        origins = self.origins[kind]
        digests = [self.digests.of(part) for part in origins.parts]
        return [None if number is None else digests[number] for number in origins.part_of]

    def records_of(self, stage_key: str) -> dict[int, Record]:
        """Return a stage's records by item row, without items that are left out before it."""
        records, left_out = self.folders[stage_key].records, self.unread.keys() | self.transient.keys()
        return {
            row: records[key]
            for row, key in enumerate(self.keys_of(stage_key))
            if key in records and row not in left_out
        }

    @cached_property
    def _ids(self) -> list[tuple[int, int | str]]:
        patients = [npz_id(text) for text in self.items["patient_id"].tolist()]
        return list(zip(self.items["eeg_id"].tolist(), patients, strict=True))

    @cached_property
    def unread(self) -> dict[int, Reason]:
        """Items that are left out before any file is opened: by a mark, without votes, or without a file."""
        reasons = {row: Reason("marks", text, failure=False) for row, text in self.marked.excluded.items()}
        votes, keeps = self.items["vote_sum"].tolist(), keeps_unlabelled(self.cfg.labels)
        kinds = {stage.origin for stage in self.item_stages.values()}
        for row in range(len(self.items)):
            if row in reasons:
                continue
            if self.votes.has_votes and votes[row] == 0 and not keeps:
                reasons[row] = Reason("votes", "no votes", failure=False)
                continue
            for kind in sorted(kinds):
                part = self.origins[kind].of(row)
                if part is None:
                    reasons[row] = Reason("read", f"the table names no {kind} for it", failure=True)
                elif part.place.size is None:
                    text = part.place.problem or f"the {kind}'s file is missing"
                    reasons[row] = Reason("read", text, failure=True)
        return reasons

    def due(self) -> dict[int, tuple[str, ...]]:
        """Return, by item row, the keys of the stages that lack the item."""
        found: dict[int, tuple[str, ...]] = {}
        left_out = self.unread.keys() | self.transient.keys()
        for stage_key, folder in self.folders.items():
            for row, key in enumerate(self.keys_of(stage_key)):
                if (key is None or not folder.holds(key)) and row not in left_out:
                    found[row] = (*found.get(row, ()), stage_key)
        return dict(sorted(found.items()))

    def tasks(self, due: dict[int, tuple[str, ...]]) -> list[Task]:
        """Return the due items grouped by what they are made from, no more than `TASK_ITEMS` together."""
        tasks = []
        for kind, origins in self.origins.items():
            grouped: dict[int, list[Work]] = {}
            for row, keys in due.items():
                own = tuple(key for key in keys if self.item_stages[key].origin == kind)
                number = origins.part_of[row]
                if own and number is not None:
                    work = Work(row, origins.starts[row], *self._ids[row], own)
                    grouped.setdefault(number, []).append(work)
            for number, works in grouped.items():
                pieces = (works[i : i + TASK_ITEMS] for i in range(0, len(works), TASK_ITEMS))
                tasks += [Task(origins.parts[number], tuple(piece)) for piece in pieces]
        return tasks

    def job(self, due: dict[int, tuple[str, ...]], *, token: str, own_process: bool) -> Job:
        """Return what the tasks of a pass share."""
        keys = {key for stages in due.values() for key in stages}
        stages = tuple(stage for key, stage in self.item_stages.items() if key in keys)
        folders = [self.folders[stage.key] for stage in stages]
        return Job(
            source=self.source,
            stages=stages,
            # A worker that outlived an earlier run may stand in another folder.
            folders=tuple(folder.path.absolute() for folder in folders),
            channels=needed_channels(stages),
            window_s=self.cfg.at("window.length_s"),
            context_s=needed_context_s(stages),
            block_s=block_seconds(self.cfg),
            plugins=self.cfg.plugins,
            look_up=token if any(folder.records for folder in folders) else "",
            own_process=own_process,
            layouts={s.key: self.layout(s.key) for s in stages if self.in_shards and s.folder is not None},
        )

    def recording_digests(self) -> list[str | None]:
        """Return for every item the digest of what of its recording was read, None where nothing was."""
        return self._digests_of(RECORDING)

    def file_flags(self) -> list[str]:
        """Return for every item the flags of what was mended of its recording: ``cut;offset``."""
        flags = {
            name: ";".join(dict.fromkeys(flag for flag, _ in notes))
            for name, notes in self.digests.notes.items()
        }
        return [flags.get(name, "") for name in self.items["recording"].tolist()]

    def reasons(self) -> list[Reason | None]:
        """Return for every item why it is left out, or None."""
        found = self.transient | self.unread
        for stage_key, folder in self.folders.items():
            bad = {record.item: record.reason for record in folder.records.values() if record.reason}
            for row, key in enumerate(self.keys_of(stage_key) if bad else ()):
                if key in bad:
                    found.setdefault(row, bad[key])
        return [found.get(row) for row in range(len(self.items))]

    def states(self) -> list[StageState]:
        """Return how far every item stage is."""
        due = self.due()
        total = len(self.items) - len(self.unread)
        states = []
        for key in self.folders:
            lacking = sum(key in keys for keys in due.values())
            states.append(StageState(self.item_stages[key], total - lacking, total))
        return states

    def look_again(self) -> None:
        """Look into the store anew where something changed in it since the plan was made."""
        changed = [folder for folder in self.folders.values() if not folder.is_as_loaded()]
        for folder in changed:
            folder.load()
        if changed:
            self.digests.load()
            self.reconcile_files()

    def reconcile_files(self) -> None:
        """Compare the files that this run needs with their records; what differs counts as missing."""
        for stage_key, folder in self.folders.items():
            records = (folder.records.get(key) for key in self.keys_of(stage_key) if key)
            needed = {record.file for record in records if record and record.file}
            needed |= {f"{key}.npz" for key in self.keys_of(stage_key)} if folder.has_shards else set()
            whole = {name for name in folder.files if name in needed or is_shard(name)}
            folder.reconcile(whole | {name for name in needed if is_shard(name)})


def npz_id(text: str) -> int | str:
    """Return an id as it is written into npz files: a number where the text is one."""
    return int(text) if text.isdecimal() and str(int(text)) == text and int(text) < 2**63 else text


def make_plan(cfg: Config) -> Plan:
    """Read the votes table, choose the items and look into the store; computes nothing.

    Raises
    ------
    ConfigError
        If the configuration, the data folder or the votes table cannot be worked with.
    """
    from hms.engine.frozen import check_frozen
    from hms.labels.items import choose_items

    check_frozen(cfg)
    outputs = Outputs(Path(cfg.outputs_dir))
    fingerprint.known.update(known_fingerprints(outputs.store))
    cfg = with_restored_data(cfg)
    item_stages, tables = choose_stages(cfg)
    source = open_source(cfg, outputs, reads=bool(item_stages))
    watched = _watched(cfg, source)
    votes = source.votes(cfg.at("labels.ballot"))
    if not votes.has_votes:
        say_what_needs_votes(cfg)
        item_stages, tables = choose_stages(cfg, has_votes=False)
    say_of_empty_classes(votes)
    chosen = choose_items(votes.frame, cfg.unit, cfg.labels, cfg.window, votes.extra)
    marked: Marked = lookup("marks", cfg.marks.kind).function(cfg.marks, chosen)
    items = marked.items
    for stage in tables:
        stage.check(votes)
    recordings = list(dict.fromkeys(items["recording"].tolist()))
    places = source.places(recordings)
    plan = Plan(
        cfg=cfg,
        outputs=outputs,
        source=source,
        votes=votes,
        items=items,
        places=places,
        origins=find_origins(source, items, places, {stage.origin for stage in item_stages}),
        tables=tables,
        item_stages={stage.key: stage for stage in item_stages},
        folders={stage.key: StageFolder(outputs.stage(stage)).load() for stage in item_stages},
        digests=RecordingDigests(outputs.recordings(source.root)).load(),
        marked=marked,
        watched=watched,
    )
    plan.reconcile_files()
    return plan


def _watched(cfg: Config, source: Source) -> dict[str, str] | None:
    """Return the stamps of what a source looks at, and of every file that a setting names."""
    places = source.watched()
    if places is None:
        return None
    texts = {text for text in _texts(cfg.to_dict()) if text and len(text) < LONGEST_PATH and "\0" not in text}
    paths = (os.path.join(base, os.path.expanduser(text)) for text in texts for base in ("", source.root))
    try:
        return {place: stamp(place) for place in (*places, *(path for path in paths if is_file(path)))}
    except OSError:  # whoever reads it says what is wrong
        return None


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in nested mappings and lists."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def open_source(cfg: Config, outputs: Outputs, *, reads: bool = False) -> Source:
    """Return the source that the section ``data`` names, behind pseudonyms where it asks for them.

    Parameters
    ----------
    reads : whether signals are to be read, so that the montage asks something of a recording
    """
    opened: Source = lookup("data", cfg.data.kind).function(
        cfg.data, outputs_dir=outputs.root, n_jobs=cfg.n_jobs
    )
    if reads and isinstance(opened, FolderSource):
        opened = replace(opened, demand=demand_of(cfg))
    return pseudonymised(opened, cfg.data, outputs.root) if isinstance(cfg.data, SourceParams) else opened


def with_restored_data(cfg: Config) -> Config:
    """Return a configuration whose section ``data``, hidden in a run of pseudonyms, is whole again."""
    if not isinstance(cfg.data, SourceParams):
        return cfg
    section = restored_settings(cfg.data, Path(cfg.outputs_dir))
    return cfg if section is None else build_config(cfg.to_dict() | {"data": section})


def plan_of(run: Package, cfg: Config | None = None) -> Plan:
    """Return the plan of a finished run, or of a configuration made from its own.

    Raises
    ------
    ConfigError
        If it needs code or recordings that only a run that is trusted gets, see `hms.load`.
    """
    with making(run.trust), unsaid():
        return make_plan(run.config if cfg is None else cfg)
