"""The plan of a run: what is asked for, what the store already holds, what is due."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hms.config.identity import digest_of
from hms.config.memory import lean
from hms.config.reading import is_file
from hms.config.schema import Config, build_config
from hms.engine.digests import RecordingDigests
from hms.engine.job import Job, Task, Tasks, Work, item_keys
from hms.engine.origins import Origins, find_origins
from hms.labels.items import choose_items, keeps_unlabelled
from hms.labels.marks import Marked
from hms.pipeline import fingerprint
from hms.pipeline.selection import (
    block_margins_s,
    block_seconds,
    choose_stages,
    demand_of,
    needed_channels,
    needed_context_s,
    say_of_empty_classes,
    say_what_needs_votes,
)
from hms.pipeline.stage import ItemStage, Stage, TableStage
from hms.registry import lookup
from hms.sources.base import RECORDING, Part, Place, Source, SourceParams, making
from hms.sources.pseudonyms import pseudonymised, restored_settings
from hms.sources.recordings import FolderSource
from hms.store.columns import NO_FILE, Keys, Reason, Record, number_of
from hms.store.files import digest_bytes
from hms.store.folders import StageFolder
from hms.store.links import Way
from hms.store.package import Package
from hms.store.places import HASH_LENGTH, Outputs
from hms.store.seen import known_fingerprints, listed_once, stamp
from hms.store.shards import Layout, npz_id
from hms.terminal import unsaid

if TYPE_CHECKING:
    import pandas as pd

    from hms.sources.tables import VotesTable

LONGEST_PATH = 4096
"""Characters of a text that may name a file."""

KEYS_TOGETHER = 1 << 16
"""Items whose identities are made together."""

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
    """How the run's folder names the store's files; found out before any work."""

    watched: dict[str, str] | None = None
    """Stamps, taken before, of where the votes table and the recordings were found; None if not known."""

    transient: dict[int, Reason] = field(default_factory=dict)
    """Reasons, by item row, that may not hold next time."""

    _keys: dict[str, _Keys] = field(default_factory=dict, repr=False)
    """By kind of origin, what is known of the items' identities."""

    _digests: dict[str, tuple[int, list[str | None]]] = field(default_factory=dict, repr=False)
    """By kind of origin, the digests of its parts and the version of what is known at which they are so."""

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
        starts = self.origins[self.item_stages[stage_key].origin].starts
        ids = "\n".join(self.items["item_id"].tolist()).encode()
        patients = self._patients.names
        longest = max(len(str(name)) for name in patients) if any(isinstance(n, str) for n in patients) else 0
        return Layout(digest_bytes(starts.tobytes() + ids)[:16], len(self.items), longest)

    @property
    def products(self) -> list[Stage]:
        """Every stage whose files are part of the run."""
        return [*self.item_stages.values(), *self.tables]

    @property
    def parts(self) -> list[Part]:
        """Every part of a file that items are made from."""
        return [part for origins in self.origins.values() for part in origins.parts]

    def keys_of(self, stage_key: str) -> Keys:
        """Return the identity of every item in a stage, 0 while the digest of its origin is not known."""
        kind = self.item_stages[stage_key].origin
        known = self._keys.get(kind)
        if known is None or known.version != self.digests.version:
            known = self._keys[kind] = self._keys_now(kind, known)
        return known.of_items

    def _keys_now(self, kind: str, before: _Keys | None) -> _Keys:
        """Return the identities of items; those of parts with the same digest as before stay."""
        origins = self.origins[kind]
        digests = self._part_digests(kind)
        known = [None] * len(digests) if before is None else before.digests
        changed = np.array([digest != old for digest, old in zip(digests, known, strict=True)], np.bool_)
        keys = np.zeros(len(self.items), np.uint64) if before is None else before.of_items
        # The last is of items without a part, which have no identity.
        rows = np.flatnonzero(np.append(changed, False)[origins.part_of])
        if rows.size:
            keys = keys.copy()
        for first in range(0, rows.size, KEYS_TOGETHER):
            some = rows[first : first + KEYS_TOGETHER]
            keys[some] = item_keys(
                digests,
                origins.part_of[some].tolist(),
                origins.starts[some].tolist(),
                self._eeg_ids[some].tolist(),
                self._patients.of(some),
            )
        return _Keys(self.digests.version, digests, keys)

    def _part_digests(self, kind: str) -> list[str | None]:
        """Return the digest of each part of a kind of origin, None where it was not read as it is now."""
        version, digests = self._digests.get(kind, (-1, []))
        if version != self.digests.version:
            digests = [self.digests.of(part) for part in self.origins[kind].parts]
            self._digests[kind] = self.digests.version, digests
        return digests

    def parts_with_digests(self) -> Iterator[tuple[Part, str | None]]:
        """Yield every part of a file that items are made from, with its digest."""
        return chain.from_iterable(
            zip(origins.parts, self._part_digests(kind), strict=True)
            for kind, origins in self.origins.items()
        )

    def records_of(self, stage_key: str) -> Iterator[tuple[int, Record]]:
        """Yield item rows and records of a stage, without items that are left out before it."""
        rows, places = self._recorded(stage_key)
        yield from zip(rows.tolist(), self.folders[stage_key].records.some(places), strict=True)

    def results_of(self, stage_key: str) -> Results:
        """Return which items a stage has results of, and where these are."""
        rows, places = self._recorded(stage_key)
        file, inside = self.folders[stage_key].records.files_of(places)
        has_file = file != NO_FILE
        return Results(rows[has_file], file[has_file], inside[has_file])

    def _recorded(self, stage_key: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of items with a record, but those left out before, and the records' places."""
        records = self.folders[stage_key].records
        places = records.find(self.keys_of(stage_key)) if records else np.full(len(self.items), -1)
        places[[*self.unread, *self.transient]] = -1
        rows = np.flatnonzero(places >= 0)
        return rows, places[rows]

    @cached_property
    def _eeg_ids(self) -> NDArray[np.int64]:
        return np.asarray(self.items["eeg_id"], np.int64)

    @cached_property
    def _patients(self) -> _Patients:
        import pandas as pd

        codes, names = pd.factorize(self.items["patient_id"].to_numpy())
        return _Patients([npz_id(name) for name in names.tolist()], codes.astype(np.int32))

    @cached_property
    def unread(self) -> dict[int, Reason]:
        """Items that are left out before any file is opened: by a mark, without votes, or without a file."""
        reasons = {row: Reason("marks", text, failure=False) for row, text in self.marked.excluded.items()}
        if self.votes.has_votes and not keeps_unlabelled(self.cfg.labels):
            for row in np.flatnonzero(self.items["vote_sum"].to_numpy() == 0).tolist():
                reasons.setdefault(row, Reason("votes", "no votes", failure=False))
        for kind in sorted({stage.origin for stage in self.item_stages.values()}):
            origins = self.origins[kind]
            lacking = [part.place.size is None for part in origins.parts]
            # The last is of items without a part.
            for row in np.flatnonzero(np.array([*lacking, True])[origins.part_of]).tolist():
                if row not in reasons:
                    reasons[row] = Reason("read", _why_unread(origins.of(row), kind), failure=True)
        return reasons

    def due(self) -> dict[str, NDArray[np.int64]]:
        """Return, by the keys of the stages that lack any item, the rows of the items that they lack."""
        wanted = np.ones(len(self.items), np.bool_)
        wanted[[*self.unread, *self.transient]] = False
        every, found = np.flatnonzero(wanted), {}
        for stage_key, folder in self.folders.items():
            rows = every[~folder.holding(self.keys_of(stage_key)[every])] if folder.records else every
            if rows.size:
                found[stage_key] = rows
        return found

    def tasks(self, due: Mapping[str, NDArray[np.int64]]) -> Tasks:
        """Return the due items grouped by what they are made from, no more than `TASK_ITEMS` together."""
        groups = []
        for kind in self.origins:
            own = {key: rows for key, rows in due.items() if self.item_stages[key].origin == kind}
            groups += [_Group.of(self, kind, own)] if own else []
        first = np.cumsum([0, *(group.sizes.size for group in groups)])

        def make(number: int) -> Task:
            place = int(np.searchsorted(first, number, side="right")) - 1
            return groups[place].task(self, number - int(first[place]))

        return Tasks(np.concatenate([np.empty(0, np.int64), *(group.sizes for group in groups)]), make)

    def works(self, kind: str, rows: NDArray[np.int64], due: Sequence[tuple[str, ...]]) -> tuple[Work, ...]:
        """Return what is to be prepared of items of one kind of origin."""
        starts, eeg_ids = self.origins[kind].starts[rows].tolist(), self._eeg_ids[rows].tolist()
        return tuple(map(Work, rows.tolist(), starts, eeg_ids, self._patients.of(rows), due))

    def job(self, due: Mapping[str, NDArray[np.int64]], *, token: str, own_process: bool) -> Job:
        """Return what the tasks of a pass share."""
        stages = tuple(stage for key, stage in self.item_stages.items() if key in due)
        folders = [self.folders[stage.key] for stage in stages]
        return Job(
            source=self.source,
            stages=stages,
            # A worker that outlived an earlier run may be in another folder.
            folders=tuple(folder.path.absolute() for folder in folders),
            channels=needed_channels(stages),
            window_s=self.cfg.at("window.length_s"),
            context_s=needed_context_s(stages),
            block_s=block_seconds(self.cfg),
            margins_s=block_margins_s(self.cfg),
            plugins=self.cfg.plugins,
            look_up=token if any(folder.records for folder in folders) else "",
            own_process=own_process,
            layouts={s.key: self.layout(s.key) for s in stages if self.in_shards and s.folder is not None},
        )

    def recording_digests(self) -> list[str | None]:
        """Return for every item the digest of what was read of its recording, None where nothing was."""
        origins = self.origins[RECORDING]
        digests = [*self._part_digests(RECORDING), None]
        return [digests[number] for number in origins.part_of.tolist()]

    def file_flags(self) -> list[str]:
        """Return for every item the flags of what was mended in its recording: ``cut;offset``."""
        flags = {
            name: ";".join(dict.fromkeys(flag for flag, _ in notes))
            for name, notes in self.digests.notes.items()
        }
        return [flags.get(name, "") for name in self.items["recording"].tolist()]

    def __repr__(self) -> str:
        return f"<Plan of run {self.run_hash}: {len(self.items)} items>"

    def reasons(self) -> list[Reason | None]:
        """Return for every item why it is left out, or None."""
        found = self.transient | self.unread
        for stage_key, folder in self.folders.items():
            bad = {number_of(item): r.reason for item, r in folder.records.others.items() if r.reason}
            bad.pop(0, None)
            keys = self.keys_of(stage_key) if bad else np.empty(0, np.uint64)
            for row in np.flatnonzero(np.isin(keys, np.fromiter(bad, np.uint64, len(bad)))).tolist():
                found.setdefault(row, bad[int(keys[row])])
        reasons: list[Reason | None] = [None] * len(self.items)
        for row, reason in found.items():
            reasons[row] = reason
        return reasons

    def states(self) -> list[StageState]:
        """Return how far every item stage is."""
        due = self.due()
        total = len(self.items) - len(self.unread)
        states = []
        for key in self.folders:
            lacking = len(due.get(key, ()))
            states.append(StageState(self.item_stages[key], total - lacking, total))
        return states

    def look_again(self) -> bool:
        """Look into the store again where something changed since the plan was made; tell whether it did."""
        changed = [folder for folder in self.folders.values() if not folder.is_as_loaded()]
        for folder in changed:
            folder.load()
        if changed:
            self.digests.load()
            self.reconcile_files()
        return bool(changed)

    def reconcile_files(self) -> None:
        """Compare the files that this run needs with their records; what differs counts as missing."""
        for stage_key, folder in self.folders.items():
            folder.reconcile_items(self.keys_of(stage_key))


class Results(NamedTuple):
    """Where results of items are.

    Attributes
    ----------
    rows : int64, shape (n,), of the items, ascending
    file : int64, shape (n,), the number of a name among `hms.store.columns.Records.names`, or `OWN`
    inside : int64, shape (n,), the row in the file
    """

    rows: NDArray[np.int64]
    file: NDArray[np.int64]
    inside: NDArray[np.int64]


def _why_unread(part: Part | None, kind: str) -> str:
    if part is None:
        return f"the table names no {kind} for it"
    return part.place.problem or f"the {kind}'s file is missing"


@dataclass(frozen=True)
class _Keys:
    """Identities of all items, by the digests of what they are made from; 0 where that is not known."""

    version: int
    digests: list[str | None]
    of_items: Keys


@dataclass(frozen=True)
class _Patients:
    """The distinct patients, as npz files have them, and the number of each item's."""

    names: list[int | str]
    codes: NDArray[np.int32]

    def of(self, rows: NDArray[np.int64]) -> list[int | str]:
        """Return the patients of some items."""
        return [self.names[code] for code in self.codes[rows].tolist()]


@dataclass(frozen=True)
class _Group:
    """The due items of one kind of origin, part by part.

    Attributes
    ----------
    rows : of the items
    firsts, sizes : where each task begins among them, and how many it has
    stages : the keys of the stages due, of each combination that there is
    which : the combination of each item
    """

    kind: str
    rows: NDArray[np.int64]
    firsts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    stages: list[tuple[str, ...]]
    which: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, kind: str, due: Mapping[str, NDArray[np.int64]]) -> _Group:
        import pandas as pd

        part_of = plan.origins[kind].part_of
        bits = np.zeros(part_of.size, np.min_scalar_type(1 << len(due)))
        for number, rows in enumerate(due.values()):
            bits[rows] |= bits.dtype.type(1 << number)
        bits[part_of < 0] = 0
        rows = np.flatnonzero(bits)
        # Parts in the order of their first due item, the items of each in the order of the table.
        order, _ = pd.factorize(part_of[rows])
        sorted_by_part = np.argsort(order, kind="stable")
        rows, order = rows[sorted_by_part], order[sorted_by_part]
        starts = np.flatnonzero(np.diff(order, prepend=-1))
        firsts, sizes = _pieces(starts, np.diff(starts, append=rows.size))
        which, combinations = pd.factorize(bits[rows])
        stages = [tuple(k for i, k in enumerate(due) if bit >> i & 1) for bit in combinations.tolist()]
        return cls(kind, rows, firsts, sizes, stages, which)

    def task(self, plan: Plan, number: int) -> Task:
        """Return one task."""
        part = slice(self.firsts[number], self.firsts[number] + self.sizes[number])
        rows = self.rows[part]
        due = [self.stages[i] for i in self.which[part].tolist()]
        origins = plan.origins[self.kind]
        return Task(origins.parts[origins.part_of[rows[0]]], plan.works(self.kind, rows, due))


def _pieces(
    firsts: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut runs of items into pieces of at most `TASK_ITEMS`; return where each begins and its length."""
    n_pieces = -(-counts // TASK_ITEMS)
    run = np.repeat(np.arange(counts.size), n_pieces)
    number = np.arange(run.size) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    return firsts[run] + number * TASK_ITEMS, np.minimum(TASK_ITEMS, counts[run] - number * TASK_ITEMS)


@lean()
@listed_once()
def make_plan(cfg: Config) -> Plan:
    """Read the votes table, choose the items and look into the store; computes nothing.

    Raises `ConfigError` if the configuration, the data folder or the votes table cannot be worked with.
    """
    from hms.engine.frozen import check_frozen

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
    recordings = items["recording"].drop_duplicates().tolist()
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

    ``reads`` says whether signals are to be read, so that recordings must suit the montage.
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

    Raises `ConfigError` if it needs code or recordings that only a trusted run gets, see `hms.load`.
    """
    with making(run.trust), unsaid():
        return make_plan(run.config if cfg is None else cfg)
