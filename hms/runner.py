"""Run a configuration: plan, pass over the recordings, tables, run folder."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hms.config import Config, ConfigError, build_config, default_stages, digest_of
from hms.inference import evaluate_row
from hms.manifest import is_whole, versions, write_manifest
from hms.npz import read_npz
from hms.parallel import n_workers, run_tasks, stop_workers
from hms.plan import Plan, choose_stages, config_of, make_plan
from hms.progress import Progress, say
from hms.stage import ItemStage, TableStage, stage_names
from hms.store import (
    Reason,
    StageFolder,
    StorageError,
    Stored,
    commit_files,
    commit_links,
    lock,
    remove_temporaries,
    storage_error,
)
from hms.tables import Tables
from hms.workers import ChunkResult, Task

if TYPE_CHECKING:
    from hms.results import Run

__all__ = ["TooManyFailures", "execute", "run"]

MINIMUM_FAILURES = 3

LINKERS = 2
"""Threads that make a run's links, a folder each: the system does most of it."""


class TooManyFailures(Exception):
    """More recordings failed than ``max_failed_share`` allows (exit code 3)."""


def run(cfg: Config | Any) -> Run:
    """Prepare the package of a configuration, or find it finished.

    Parameters
    ----------
    cfg : Config, DictConfig or dict
        A whole configuration, as `hms.compose` returns it.

    Returns
    -------
    Run
        The finished run.

    Raises
    ------
    ConfigError
        If the configuration or the votes table cannot be worked with.
    TooManyFailures
        If more recordings failed than ``max_failed_share`` allows.
    StorageError
        If the outputs cannot be written.
    """
    return execute(make_plan(build_config(cfg)))


def execute(plan: Plan) -> Run:
    """Carry out a plan and return the finished run."""
    from hms.results import Run

    _check_writable(plan.outputs.root)
    if is_whole(plan):
        _point_latest(plan)
        return Run(plan.outputs.run(plan.run_hash), reused=True)
    began = time.time()
    with _announced(plan):
        account = Account()
        Failures(plan).check()
        _pass_over_recordings(plan, account)
        Failures(plan).check()
        with _collector_off():
            return _finish(plan, account, began)


def _finish(plan: Plan, account: Account, began: float) -> Run:
    """Make what follows from the items, and the run's folder."""
    from hms.results import Run

    tables = _make_tables(plan, account)
    with lock(plan.outputs.lock(plan.run_hash)):
        # Another process may have finished the same run; whoever did is reading its manifest now.
        reused = not any(account.computed.values()) and is_whole(plan)
        if not reused:
            _assemble(plan, tables, account, began)
        run = Run(plan.outputs.run(plan.run_hash), reused=reused)
        run.manifest  # noqa: B018 - read before anybody can write it anew
    return run


@contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the garbage collector from looking through a million records of items again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass
class Account:
    """What a run did: seconds and items computed per stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    files: dict[str, tuple[Path, Stored]] = field(default_factory=dict)
    """Table files of the run: path in the run to stored file."""

    def add(self, stage: str, seconds: float, computed: int = 0) -> None:
        """Add to a stage's totals."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.computed[stage] = self.computed.get(stage, 0) + computed


# --- before anything is written ------------------------------------------------------------------


def _check_writable(root: Path) -> None:
    """Write and remove a small file, so that a read-only place is told before any work."""
    try:
        (root / "store").mkdir(parents=True, exist_ok=True)
        probe = root / "store" / f".tmp-{uuid.uuid4().hex}"
        probe.write_bytes(b"hms")
        probe.unlink()
    except OSError as error:
        raise storage_error(error, root) from error


@contextmanager
def _announced(plan: Plan) -> Iterator[None]:
    """Say in the store which stage folders this run uses, so that `gc` leaves them alone."""
    running = plan.outputs.store / "running"
    name = uuid.uuid4().hex
    note = {"folders": [plan.run_hash, *(plan.outputs.stage(stage).name for stage in plan.products)]}
    with ExitStack() as stack:
        with lock(plan.outputs.lock("gc"), waiting="waiting for a clean-up of the store to end", say=say):
            commit_files(running, {f"{name}.json": json.dumps(note).encode()})
            stack.enter_context(lock(running / f"{name}.lock"))
        try:
            yield
        finally:
            for suffix in (".json", ".lock"):
                (running / f"{name}{suffix}").unlink(missing_ok=True)


# --- the pass over recordings --------------------------------------------------------------------


def _pass_over_recordings(plan: Plan, account: Account) -> None:
    missing = {key for keys in plan.due().values() for key in keys}
    missing |= {key for key, folder in plan.folders.items() if not folder.journal.exists()}
    if not missing:
        return
    with ExitStack() as stack:
        for key, folder in sorted(plan.folders.items(), key=lambda pair: pair[1].path.name):
            if key in missing:
                waiting = f"another run computes {folder.path.name}; waiting for it"
                stack.enter_context(lock(plan.outputs.lock(folder.path.name), waiting=waiting, say=say))
        for folder in plan.folders.values():
            folder.load()
        plan.digests.load()
        plan.settle_files()
        due = plan.due()
        working = {key for keys in due.values() for key in keys}
        for key in missing:
            plan.folders[key].prepare(plan.item_stages[key])
            if key not in working and not plan.folders[key].journal.exists():
                # Every item is left out unread; the folder still says what it would hold.
                plan.folders[key].append([], [], 0.0, 0)
        if due:
            _compute(plan, due, account)


def _compute(plan: Plan, due: Mapping[int, tuple[str, ...]], account: Account) -> None:
    jobs = n_workers(plan.cfg.n_jobs)
    job = plan.job(dict(due), token=uuid.uuid4().hex, own_process=jobs > 1)
    names = ", ".join(stage.name for stage in job.stages)
    tasks_due = plan.tasks(dict(due))
    progress = Progress(sum(len(task.items) for task in tasks_due), names)
    failures = Failures(plan)
    began = time.perf_counter()
    try:
        for tasks, result in run_tasks(job, tasks_due, n_jobs=jobs, say=say):
            _keep(plan, tasks, result, account)
            progress.add(sum(len(task.items) for task in tasks))
            failures.add(result)
    except StorageError as error:
        if jobs > 1:
            stop_workers()
        raise StorageError(f"{error}{_needed(plan, error, progress.total - progress.done)}") from error
    except BaseException:
        if jobs > 1:
            stop_workers()
        raise
    finally:
        account.add("pass", time.perf_counter() - began)
        progress.close()


def _needed(plan: Plan, error: StorageError, items_left: int) -> str:
    """Say about how much room the items that are left take, and how much there is."""
    if not error.n_files:
        return ""
    free = shutil.disk_usage(plan.outputs.root).free
    needed = error.n_bytes / error.n_files * items_left
    return (
        f"; about {needed / 1e6:.1f} MB are needed for the {items_left} items left, "
        f"{free / 1e6:.1f} MB are free. What is finished is kept; the same command goes on"
    )


def _keep(plan: Plan, tasks: Sequence[Task], result: ChunkResult, account: Account) -> None:
    """Record what a chunk made; its files are on disk already."""
    plan.digests.add({task.part for task in tasks}, result.digests)
    for key, made in result.stages.items():
        if made.files or made.records:
            plan.folders[key].append(made.files, made.records, made.seconds, len(made.records))
            account.add(plan.item_stages[key].name, 0.0, len(made.records))
    plan.passing.update(result.passing)
    for name, seconds in result.seconds.items():
        account.add(name, seconds)


class Failures:
    """Counts failed items while a run goes on and stops it when there are too many."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.allowed = max(MINIMUM_FAILURES, plan.cfg.max_failed_share * len(plan.items))
        self.count = len(self._failed())

    def _failed(self) -> list[tuple[int, Reason]]:
        return [(row, r) for row, r in enumerate(self.plan.reasons()) if r is not None and r.failure]

    def add(self, result: ChunkResult) -> None:
        """Count the failures of a chunk."""
        lasting = {
            r.item for made in result.stages.values() for r in made.records if r.reason and r.reason.failure
        }
        self.count += len(lasting) + sum(reason.failure for reason in result.passing.values())
        self.check()

    def check(self) -> None:
        """Raise if more items failed than are allowed."""
        if self.count <= self.allowed:
            return
        failed = self._failed()
        ids = self.plan.items["item_id"].tolist()
        shown = "".join(f"\n  {ids[row]}: {reason.text}" for row, reason in failed[:10])
        more = f"\n  and {len(failed) - 10} more" if len(failed) > 10 else ""
        raise TooManyFailures(
            f"{len(failed)} of {len(ids)} items failed, more than the {int(self.allowed)} that "
            f"max_failed_share={self.plan.cfg.max_failed_share:g} allows "
            f"(never fewer than {MINIMUM_FAILURES}); "
            f"what was computed is kept, no run is marked finished{shown}{more}"
        )


# --- tables --------------------------------------------------------------------------------------


def _open_tables(plan: Plan) -> Tables:
    return Tables(
        plan.votes,
        plan.items,
        plan.reasons(),
        load_rows=lambda name: _load_rows(plan, _stage_key(plan, name)),
        rows_digest=cache(lambda name: digest_of(_row_list(plan, _stage_key(plan, name)))),
        item_files=lambda name: _files_by_row(plan, _stage_key(plan, name)),
        evaluate=lambda row, stages: evaluate_row(plan, row, stages),
        recording_digests=plan.recording_digests(),
        facts={
            "run": plan.run_hash,
            "config": config_of(plan.cfg, plan.products),
            "stages": _asked(plan),
            "votes": plan.votes.digest,
            "versions": versions(),
        },
    )


def _asked(plan: Plan) -> list[str]:
    """Return what ``stages`` has to be for the plan's products: the default list if that gives them.

    Lists that name more or less of what follows anyway are one run, and one page.
    """
    default = tuple(str(name) for name in default_stages())
    if plan.cfg.stages == default:
        return list(default)
    try:
        cfg = replace(plan.cfg, stages=default)
        items, tables = choose_stages(cfg, has_votes=plan.votes.has_votes)
    except ConfigError:
        items, tables = [], []
    if {stage.key for stage in (*items, *tables)} == {stage.key for stage in plan.products}:
        return list(default)
    made = {stage.name for stage in plan.products}
    return [name for name in stage_names() if name in made]


def _make_tables(plan: Plan, account: Account) -> Tables:
    """Make the tables with one thread: the same bits everywhere, and no threads that wait for a busy core."""
    from threadpoolctl import threadpool_limits

    tables = _open_tables(plan)
    with threadpool_limits(1):
        for stage in plan.tables:
            _make_table(plan, stage, tables, account)
    return tables


def known_table_files(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the stored names of the table files that need not be computed, by stage.

    Only when no item is due: what tables read is known after the items.
    """
    tables, known = _open_tables(plan), {}
    for stage in plan.tables:
        folder = StageFolder(plan.outputs.stage(stage)).load()
        try:
            names = _table_names(stage, tables)
        except KeyError:
            continue
        if all(name in folder.files for name in names.values()) and not folder.settle(names.values()):
            known[stage.name] = names
            _make_readable(stage, folder, names, tables)
    return known


def _make_readable(stage: TableStage, folder: StageFolder, names: Mapping[str, str], tables: Tables) -> None:
    """Let later stages read a stage's files, and leave out the items that they leave out."""
    for path, name in names.items():
        tables.add_file(path, folder.path / name, folder.files[name].digest)
    tables.exclude(stage.exclusions(tables))


def _table_names(stage: TableStage, tables: Tables) -> dict[str, str]:
    """Return the stored name of each file of a table stage."""
    identity = table_identity(stage, tables)
    return {path: f"{identity}.{Path(path).name}" for path in stage.files}


def table_identity(stage: TableStage, tables: Tables) -> str:
    """Return the identity of a table stage's files: the digests of the tables it reads."""
    return digest_of([stage.key, {name: tables.digest(name) for name in stage.inputs}], 8)


def _make_table(plan: Plan, stage: TableStage, tables: Tables, account: Account) -> None:
    folder = StageFolder(plan.outputs.stage(stage)).load()
    names = _table_names(stage, tables)
    folder.settle(name for name in names.values() if name in folder.files)
    if not all(name in folder.files for name in names.values()):
        with lock(plan.outputs.lock(folder.path.name), waiting=f"another run computes {stage.name}", say=say):
            folder.load()
            folder.settle(name for name in names.values() if name in folder.files)
            if not all(name in folder.files for name in names.values()):
                _compute_table(folder, stage, tables, names, account)
    for path, name in names.items():
        account.files[path] = (folder.path / name, folder.files[name])
    _make_readable(stage, folder, names, tables)


def _compute_table(
    folder: StageFolder, stage: TableStage, tables: Tables, names: Mapping[str, str], account: Account
) -> None:
    began = time.perf_counter()
    contents = stage.compute(tables)
    assert set(contents) == set(stage.files), f"stage {stage.name} wrote {sorted(contents)}"
    remove_temporaries(folder.path)
    note = folder.note(stage)
    named = {names[path]: content for path, content in contents.items()}
    files = commit_files(folder.path, note | named)[len(note) :]
    seconds = time.perf_counter() - began
    folder.append(files, [], seconds, 1)
    account.add(stage.name, seconds, 1)


def _stage_key(plan: Plan, name: str) -> str:
    """Return the key of an item stage that is kept."""
    (key,) = (key for key, stage in plan.item_stages.items() if stage.name == name)
    return key


def _row_list(plan: Plan, key: str) -> list[tuple[int, str, int]]:
    """Return item row, content digest of the file and row in the file, for every prepared item."""
    files = plan.folders[key].files
    return [(row, files[r.file].digest, r.row) for row, r in plan.records_of(key).items() if r.file]


def _files_by_row(plan: Plan, key: str) -> dict[int, Path]:
    """Return the stored file of every prepared item by its row."""
    folder = plan.folders[key].path
    return {row: folder / record.file for row, record in plan.records_of(key).items() if record.file}


def _load_rows(plan: Plan, key: str) -> dict[str, np.ndarray[Any, Any]]:
    """Read the rows of all prepared items, in the items' order, from the packed files, each file once."""
    prepared = {row: r for row, r in sorted(plan.records_of(key).items()) if r.file is not None}
    places: dict[str, list[tuple[int, int]]] = {}
    for place, record in enumerate(prepared.values()):
        places.setdefault(str(record.file), []).append((place, record.row))
    loaded: dict[str, np.ndarray[Any, Any]] = {"row": np.array(list(prepared), int)}
    for name, pairs in places.items():
        wanted, inside = np.array(pairs).T
        for array, values in read_npz((plan.folders[key].path / name).read_bytes()).items():
            known = loaded.get(array)
            if known is None:
                loaded[array] = np.empty((len(prepared), *values.shape[1:]), values.dtype)
            elif known.dtype != values.dtype:  # texts of another length
                loaded[array] = known.astype(np.promote_types(known.dtype, values.dtype))
            loaded[array][wanted] = values[inside]
    return loaded


# --- the run's folder ----------------------------------------------------------------------------


def _assemble(plan: Plan, tables: Tables, account: Account, began: float) -> None:
    """Point the run's folder at its files; the manifest comes last and makes it finished."""
    folder = plan.outputs.run(plan.run_hash)
    (folder / "manifest.json").unlink(missing_ok=True)
    for place in (folder, plan.outputs.root):
        remove_temporaries(place)
    linked: dict[str, dict[str, str]] = {}
    digests: dict[str, list[Any]] = {}
    for key, stage in plan.item_stages.items():
        if stage.folder is not None:
            names = _item_files(plan, tables, stage)
            base = plan.folders[key].path
            linked[stage.folder] = {name: f"{base}/{stored.name}" for name, stored in names.items()}
            digests |= {f"{stage.folder}/{name}": [s.size, s.digest] for name, s in names.items()}
    for path, (target, stored) in account.files.items():
        parent, _, name = path.rpartition("/")
        linked.setdefault(parent, {})[name] = str(target)
        digests[path] = [stored.size, stored.digest]
    with ThreadPoolExecutor(LINKERS) as pool:
        list(pool.map(lambda parent: commit_links(folder / parent, linked[parent]), linked))
    settings = _yaml(config_of(plan.cfg, plan.products))
    (written,) = commit_files(folder, {"config.yaml": settings})
    digests["config.yaml"] = [written.size, written.digest]
    write_manifest(plan, tables, account, digests, began)
    _point_latest(plan)


def _yaml(tree: dict[str, Any]) -> bytes:
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.create(tree))).encode()


def _item_files(plan: Plan, tables: Tables, stage: ItemStage) -> dict[str, Stored]:
    """Return the stored file of every used item by its name in the run."""
    found, folder, records = {}, plan.folders[stage.key], plan.records_of(stage.key)
    item_ids = plan.items["item_id"].tolist()
    for row in np.flatnonzero(tables.is_used).tolist():
        record = records.get(row)
        assert record is not None, f"item {item_ids[row]} is used but not recorded"
        assert record.file is not None, f"item {item_ids[row]} is used but has no file"
        found[f"{item_ids[row]}_{stage.suffix}.npz"] = folder.files[record.file]
    return found


def _point_latest(plan: Plan) -> None:
    latest = plan.outputs.latest
    if latest.is_symlink() and os.readlink(latest) == plan.run_hash:
        return
    temporary = plan.outputs.root / f".tmp-{uuid.uuid4().hex}"
    try:
        os.symlink(plan.run_hash, temporary)
        os.replace(temporary, latest)
    except OSError as error:
        raise storage_error(error, plan.outputs.root) from error
