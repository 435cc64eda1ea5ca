"""The plan of a run: what is asked for, what the store already holds, what is due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hms.competition import CHANNELS
from hms.config import Config, ConfigError, digest_of, plain
from hms.progress import say
from hms.registry import lookup
from hms.sources.base import RECORDING, Part, Place, Source, SourceParams
from hms.stage import ItemStage, Stage, TableStage, registered_order, stage_class
from hms.store import (
    Reason,
    Record,
    StageFolder,
    append_journal,
    read_journal,
)
from hms.workers import Job, Task, Work, item_key

if TYPE_CHECKING:
    import pandas as pd

    from hms.sources.tables import VotesTable

__all__ = ["Outputs", "Plan", "StageState", "make_plan"]

HASH_LENGTH = 16
TASK_ITEMS = 64
"""Items of one task, whose files a worker holds until all are made."""

KEY_LENGTH = 12

PACKED = {
    "pack": ("scalograms", "packed"),
    "waveforms": ("waveforms", "packed_waveforms"),
    "spectrograms": ("packed_spectrograms",),
    "derivations": ("traces", "packed_traces"),
}
"""Stages that the flags of the section ``package`` ask for."""


@dataclass(frozen=True)
class Outputs:
    """Places under ``outputs_dir``."""

    root: Path

    @property
    def store(self) -> Path:
        """Where stage results live."""
        return self.root / "store"

    @property
    def latest(self) -> Path:
        """Link to the last finished run."""
        return self.root / "latest"

    def run(self, run_hash: str) -> Path:
        """Folder of a run."""
        return self.root / run_hash

    def stage(self, stage: Stage) -> Path:
        """Folder of a stage key."""
        return self.store / f"{stage.name}-{stage.key[:KEY_LENGTH]}"

    def lock(self, name: str) -> Path:
        """File of a lock."""
        return self.store / "locks" / f"{name}.lock"

    def recordings(self, root: Path) -> Path:
        """Journal with the digests of the recordings below a data folder."""
        return self.store / "recordings" / f"{digest_of(str(root.absolute()), 8)}.log"


@dataclass
class RecordingDigests:
    """Digests of recordings and companion files, or parts of them, as they were when last read.

    Each with the size and time that its file had then.
    """

    path: Path
    known: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    version: int = 0
    """Raised with everything learned."""

    def load(self) -> RecordingDigests:
        """Read the journal."""
        for line in read_journal(self.path)[0]:
            self._learn(line["recordings"])
        return self

    def of(self, part: Part) -> str | None:
        """Return the digest of a part whose file's size and time have not changed since it was read."""
        entry = self.known.get(part.name)
        if entry is None or (part.place.size, part.place.mtime_ns) != entry[:2]:
            return None
        return entry[2]

    def add(self, parts: Iterable[Part], digests: dict[str, str]) -> None:
        """Keep the digests of what was read."""
        rows = [
            [part.name, part.place.size, part.place.mtime_ns, digests[part.name]]
            for part in parts
            if part.name in digests and self.of(part) != digests[part.name]
        ]
        if rows:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_journal(self.path, {"recordings": rows})
            self._learn(rows)

    def forget(self, part: Part) -> None:
        """Take a part for one that was never read."""
        self.known.pop(part.name, None)
        self.version += 1

    def _learn(self, rows: Iterable[Any]) -> None:
        self.version += 1
        self.known.update({name: (size, mtime_ns, digest) for name, size, mtime_ns, digest in rows})


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


@dataclass(frozen=True)
class Origins:
    """What items are made from, of one kind.

    Attributes
    ----------
    parts : each once, in first-appearance order
    part_of : for each item, the row of its part, or None where it has none
    starts : for each item, where it starts in the file, s
    """

    parts: list[Part]
    part_of: list[int | None]
    starts: list[float]

    def of(self, row: int) -> Part | None:
        """Return the part that an item is made from."""
        number = self.part_of[row]
        return None if number is None else self.parts[number]


def make_origins(wanted: Iterable[Part | None], starts: Sequence[float]) -> Origins:
    """Return the distinct parts among those that items want."""
    rows: dict[Part, int] = {}
    part_of = [None if part is None else rows.setdefault(part, len(rows)) for part in wanted]
    return Origins(list(rows), part_of, list(starts))


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
    passing: dict[int, Reason] = field(default_factory=dict)
    """Reasons, by item row, that may not hold next time."""

    _keys: dict[str, tuple[int, list[str | None], list[str | None]]] = field(default_factory=dict, repr=False)
    """By kind of origin: the version of the digests, each item's digest, each item's identity."""

    @cached_property
    def run_hash(self) -> str:
        """Identity of the run: its stages, the votes table, every recording's name and size."""
        content = {
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
        return digest_of(content)[:HASH_LENGTH]

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
        records, left_out = self.folders[stage_key].records, self.unread.keys() | self.passing.keys()
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
        """Items that are left out before any file is opened: no votes, or no file."""
        reasons = {}
        votes = self.items["vote_sum"].tolist()
        kinds = {stage.origin for stage in self.item_stages.values()}
        for row in range(len(self.items)):
            if self.votes.has_votes and votes[row] == 0:
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
        left_out = self.unread.keys() | self.passing.keys()
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
        readings = [s for stage in stages for s in stage.chain().values() if s.name == "reading"]
        return Job(
            source=self.source,
            stages=stages,
            folders=tuple(folder.path for folder in folders),
            channels=needed_channels(stages),
            window_s=self.cfg.at("window.length_s"),
            context_s=max((stage.settings["derived.context_s"] for stage in readings), default=0.0),
            block_s=block_seconds(self.cfg),
            plugins=self.cfg.plugins,
            look_up=token if any(folder.records for folder in folders) else "",
            own_process=own_process,
        )

    def recording_digests(self) -> list[str | None]:
        """Return for every item the digest of what of its recording was read, None where nothing was."""
        return self._digests_of(RECORDING)

    def reasons(self) -> list[Reason | None]:
        """Return for every item why it is left out, or None."""
        found = self.passing | self.unread
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

    def settle_files(self) -> None:
        """Compare the files that this run needs with their records; what differs counts as missing."""
        for stage_key, folder in self.folders.items():
            records = (folder.records.get(key) for key in self.keys_of(stage_key) if key)
            needed = {record.file for record in records if record and record.file}
            folder.settle(needed & set(folder.files))


def npz_id(text: str) -> int | str:
    """Return an id as it is written into npz files: a number where the text is one."""
    return int(text) if text.isdecimal() and str(int(text)) == text and int(text) < 2**63 else text


def needed_channels(stages: Sequence[ItemStage]) -> tuple[str, ...]:
    """Return the channels to read: those of the montage, and all where quality is measured.

    Electrodes and derivations: a recording gives those of them that it has.
    """
    chain: dict[str, Stage] = {}
    for stage in stages:
        chain |= stage.chain()
    pairs = [
        name
        for stage in chain.values()
        if stage.name == "signal"
        for name in stage.settings["derived.derivations"]
    ]
    montage = [*(part for name in pairs for part in name.split("-")), *pairs]
    if any(stage.name == "measures" for stage in chain.values()):
        return (*CHANNELS, *sorted(set(montage) - set(CHANNELS)))
    return tuple(dict.fromkeys(montage))


def block_seconds(cfg: Config) -> float | None:
    """Return the length of the blocks in which recordings are read and filtered, None for windows alone."""
    assert isinstance(cfg.data, SourceParams)
    return cfg.data.block_s


def make_plan(cfg: Config) -> Plan:
    """Read the votes table, choose the items and look into the store; computes nothing.

    Raises
    ------
    ConfigError
        If the configuration, the data folder or the votes table cannot be worked with.
    """
    import hms.stages  # noqa: F401 - registers the stages
    from hms.frozen import check_frozen
    from hms.labels.folds import assign_folds
    from hms.labels.items import choose_items

    check_frozen(cfg)
    outputs = Outputs(Path(cfg.outputs_dir))
    item_stages, tables = choose_stages(cfg)
    source = lookup("data", cfg.data.kind).function(cfg.data, outputs_dir=outputs.root, n_jobs=cfg.n_jobs)
    votes = source.votes()
    if not votes.has_votes:
        say_what_needs_votes(cfg)
        item_stages, tables = choose_stages(cfg, has_votes=False)
    items = choose_items(votes.frame, cfg.unit, cfg.labels, cfg.window)
    if any(stage.name == "splits" for stage in tables):
        refuse_undeclared_patients(cfg, votes)
        assign_folds(votes.frame, cfg.folds)
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
    )
    plan.settle_files()
    return plan


def refuse_undeclared_patients(cfg: Config, votes: VotesTable) -> None:
    """Raise `ConfigError` if folds are to keep patients whole and nobody has said who is who."""
    from hms.sources.patients import CHOICES

    if cfg.folds.kind != "none" and not votes.patients_declared:
        raise ConfigError(
            f"folds keep every patient whole, but nothing says whose the recordings are; choose {CHOICES}; "
            "folds=none makes no folds"
        )


def find_origins(
    source: Source, items: pd.DataFrame, places: Sequence[Place], kinds: Iterable[str]
) -> dict[str, Origins]:
    """Return what items are made from: parts of recordings, and companion files of the kinds needed."""
    place_of = {place.recording: place for place in places}
    starts = items["window_start_s"].tolist()
    recordings = zip(items["recording"].tolist(), starts, strict=True)
    found = {
        RECORDING: make_origins((Part(place_of[name], source.part(at)) for name, at in recordings), starts)
    }
    for kind in sorted(set(kinds) - {RECORDING}):
        companions, at = source.companions(kind, items)
        parts = (None if place is None else Part(place, "", kind) for place in companions)
        found[kind] = make_origins(parts, at)
    return found


def say_what_needs_votes(cfg: Config) -> None:
    """Say which of the stages asked for are not made where the table of windows has no votes.

    Raises
    ------
    ConfigError
        If nothing else was asked for, or a baseline was.
    """
    asked = (*cfg.stages, *_implied_stages(cfg))
    lacking = [name for name in asked if stage_class(name).from_config(cfg).without_votes() is None]
    if cfg.baseline.kind != "none" or set(cfg.stages) <= set(lacking):
        raise ConfigError(f"the table of windows has no votes, which {', '.join(lacking)} would need")
    if lacking:
        say(f"the table of windows has no votes: {', '.join(lacking)} are not made")


def choose_stages(cfg: Config, *, has_votes: bool = True) -> tuple[list[ItemStage], list[TableStage]]:
    """Return the stages that make what ``stages`` asks for, each kind in running order.

    Without votes those that need them are left out, and with them what others can do without.
    """
    if not cfg.stages:
        raise ConfigError("stages=[] makes nothing; name at least one stage")
    found: dict[str, Stage] = {}
    for name in ("meta", *cfg.stages, *_implied_stages(cfg)):
        whole = stage_class(name).from_config(cfg)
        asked = whole if has_votes else whole.without_votes()
        if asked is None:
            continue
        for key, stage in asked.chain().items():
            if isinstance(stage, TableStage) or stage.key == asked.key or getattr(stage, "rows", False):
                found[key] = stage
    items = [stage for stage in found.values() if isinstance(stage, ItemStage)]
    tables = [stage for stage in found.values() if isinstance(stage, TableStage)]
    order = registered_order()
    return items, sorted(tables, key=lambda stage: order.index(stage.name))


def _implied_stages(cfg: Config) -> tuple[str, ...]:
    """Return the stages that other settings than ``stages`` ask for."""
    packed = [name for flag, names in PACKED.items() if cfg.at(f"package.{flag}") for name in names]
    spectrograms = () if cfg.spectrograms.kind == "none" else ("spectrograms",)
    shown = ("report_baseline",) if "report" in cfg.stages else ()
    baseline = () if cfg.baseline.kind == "none" else ("baseline", *shown)
    graded = ("quality",) if cfg.at("qc.exclude_from") is not None else ()
    checked = ("summary",) if cfg.at("qc.leak") == "error" else ()
    return (*packed, *spectrograms, *baseline, *graded, *checked)


def config_of(cfg: Config, stages: Iterable[Stage]) -> dict[str, Any]:
    """Return the part of a configuration that the stages' results depend on."""
    paths = {path for stage in stages for path in stage.all_settings() if not path.startswith("derived.")}
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = plain(cfg.at(path))
    return tree
