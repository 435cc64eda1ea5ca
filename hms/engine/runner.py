"""Run a configuration: plan, pass over the recordings, tables, run folder."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.config.memory import MANY, give_back, lean
from hms.config.schema import Config, build_config
from hms.engine.account import Account
from hms.engine.failures import Failures, refuse_nothing
from hms.engine.folder import RunFolder
from hms.engine.forms import Sealer, settle, settle_stage
from hms.engine.job import ChunkResult, Task
from hms.engine.manifest import is_whole
from hms.engine.plan import Plan, make_plan
from hms.engine.pools.base import Pool, Setting, run_again, run_tasks
from hms.engine.pools.loky import alone
from hms.engine.space import check_space, needed
from hms.engine.tables import make_tables
from hms.errors import StorageError, machine_fault
from hms.registry import lookup
from hms.sources.pseudonyms import write_names
from hms.store.files import Damaged, make_folder, note_files, storage_error
from hms.store.links import Way, usable_way
from hms.store.locks import lock
from hms.store.package import Package
from hms.store.places import set_latest
from hms.terminal import Progress, counted, gentle_interrupts, say


def run(cfg: Config | Any) -> Package:
    """Prepare the package of a configuration, as `hms.compose` returns it, or find it finished.

    Raises `ConfigError` if the configuration or the votes table cannot be worked with, `TooManyFailures` if
    more recordings failed than ``max_failed_share`` allows, or no item is left to use, and `StorageError` if
    the outputs cannot be written, or the machine or a storage fails while recordings are looked at.
    """
    try:
        return execute(make_plan(build_config(cfg)))
    except OSError as error:
        if machine_fault(error):
            raise StorageError(f"{error.strerror}: {error.filename}") from error
        raise


def execute(plan: Plan) -> Package:
    """Carry out a plan and return the finished run."""
    try:
        return _execute(plan)
    except Damaged as error:
        with suppress(OSError):  # with another time, it is read again by the next run instead of believed
            os.utime(error.path, follow_symlinks=False)
        raise


def _execute(plan: Plan) -> Package:
    finished = Package(plan.outputs.run(plan.run_hash), reused=True)
    try:
        plan.way = _prepare_outputs(plan)
    except StorageError:
        if is_whole(plan):  # somebody else's outputs, or an archive: nothing is left to write
            return finished
        raise
    for folder in plan.folders.values():
        folder.remember()
    if is_whole(plan, remember=True):
        set_latest(plan.outputs, plan.run_hash, plan.way)
        return finished
    due = plan.due()
    if plan.cfg.disk_check:
        check_space(needed(plan, due).values(), plan.outputs.root)
    give_back()
    began = time.time()
    with gentle_interrupts(), _announced(plan):
        if plan.look_again():
            due = plan.due()
        account = Account()
        write_names(plan.source)
        Failures(plan).check()
        _pass_over_recordings(plan, set(due), account)
        Failures(plan).check()
        refuse_nothing(plan, plan.reasons())
        settle(plan)
        with lean():
            return _finish(plan, account, began)


def _finish(plan: Plan, account: Account, began: float) -> Package:
    """Make what follows from the items, and the run's folder."""
    waiting = f"waiting for another process that finishes run {plan.run_hash}"
    with lock(plan.outputs.lock(plan.run_hash), waiting=waiting, say=say), RunFolder(plan) as folder:
        tables = make_tables(plan, account, begin=folder.begin)
        refuse_nothing(plan, tables.reasons)
        # Another process may have finished the same run; whoever did is reading its manifest now.
        reused = not any(account.computed.values()) and is_whole(plan)
        if not reused:
            return folder.assemble(tables, account, began)
        run = Package(folder.path, reused=True)
        run.manifest  # noqa: B018 - read before anybody can write it again
    return run


# --- before anything is written ------------------------------------------------------------------


def _prepare_outputs(plan: Plan) -> Way:
    """Write, link and remove a small file, to tell what the place cannot do before any work."""
    store = plan.outputs.store
    try:
        make_folder(store)
    except OSError as error:
        raise storage_error(error, plan.outputs.root) from error
    asked = plan.cfg.package.link
    way = usable_way(store, asked)
    if way != "symlink" and asked == "auto":
        said = {"hardlink": "hard links", "copy": "copies"}[way]
        say(f"{plan.outputs.root} has no symbolic links: the package is made of {said} (package.link={way})")
    return way


@contextmanager
def _announced(plan: Plan) -> Iterator[None]:
    """Say in the store which stage folders this run uses, so that `gc` leaves them alone."""
    running = plan.outputs.store / "running"
    name = uuid.uuid4().hex
    note = {"folders": [plan.run_hash, *(plan.outputs.stage(stage).name for stage in plan.products)]}
    with ExitStack() as stack:
        with lock(plan.outputs.lock("gc"), waiting="waiting until a clean-up of the store ends", say=say):
            stack.enter_context(lock(running / f"{name}.lock"))  # first: a note without one is of a dead run
            note_files(running, {f"{name}.json": json.dumps(note).encode()})
        try:
            yield
        finally:
            for suffix in (".json", ".lock"):
                with suppress(OSError):  # `gc` forgets the notes of dead runs
                    (running / f"{name}{suffix}").unlink(missing_ok=True)


# --- the pass over recordings --------------------------------------------------------------------


def _pass_over_recordings(plan: Plan, missing: set[str], account: Account) -> None:
    """Compute what items lack in stages, of which ``missing`` are the keys."""
    missing |= {key for key, folder in plan.folders.items() if not folder.journal.exists()}
    if not missing:
        return
    with ExitStack() as stack:
        for key, folder in sorted(plan.folders.items(), key=lambda pair: pair[1].path.name):
            if key in missing:
                waiting = f"waiting for another run that computes {folder.path.name}"
                stack.enter_context(lock(plan.outputs.lock(folder.path.name), waiting=waiting, say=say))
        for folder in plan.folders.values():
            folder.load()
        plan.digests.load()
        plan.reconcile_files()
        for folder in plan.folders.values():
            folder.remember()
        due = plan.due()
        for key in missing:
            plan.folders[key].prepare(plan.item_stages[key].note())
            if key not in due and not plan.folders[key].journal.exists():
                # Every item is left out unread; the folder still says what it would hold.
                plan.folders[key].append([], [], 0.0, 0)
        if due:
            _compute(plan, due, account)
        for key in missing:
            settle_stage(plan, key)
            plan.folders[key].tidy()


def _compute(plan: Plan, due: Mapping[str, NDArray[np.int64]], account: Account) -> None:
    pool: Pool = lookup("engine", plan.cfg.engine.kind).function(
        plan.cfg.engine, Setting(plan.cfg.n_jobs, plan.outputs.store, say)
    )
    job = plan.job(due, token=uuid.uuid4().hex, own_process=pool.own_process)
    names = ", ".join(stage.name for stage in job.stages)
    tasks_due = plan.tasks(due)
    progress = Progress(int(tasks_due.sizes.sum()), names)
    failures = Failures(plan)
    began = time.perf_counter()
    sealer = Sealer(plan, due)
    take = partial(_take, plan, account=account, progress=progress, failures=failures, sealer=sealer)
    try:
        if again := take(run_tasks(pool, job, tasks_due, alone=alone, say=say)):
            say(f"{next(iter(again.values()))}; trying {counted(len(again), 'recording')} again, each alone")
            if left := take(run_again(pool, job, list(again), alone=alone)):
                raise StorageError(_fault_text(left))
    except StorageError as error:
        pool.stop()
        raise StorageError(f"{error}{_needed(plan, error, progress.total - progress.done)}") from error
    except BaseException:
        pool.stop()
        raise
    else:
        pool.close()
        sealer.close()
    finally:
        account.add("pass", time.perf_counter() - began)
        progress.close()
    if progress.total >= MANY:
        gc.collect()  # what the pool's calls and results left
    give_back()


def _take(
    plan: Plan,
    results: Iterable[tuple[Sequence[Task], ChunkResult]],
    *,
    account: Account,
    progress: Progress,
    failures: Failures,
    sealer: Sealer,
) -> dict[Task, str]:
    """Record results as they come; return what a fault of the machine left undone, and the fault."""
    undone: dict[Task, str] = {}
    for chunk, result in results:
        tasks = list(chunk)
        _keep(plan, tasks, result, account)
        progress.add(sum(len(task.items) for task in tasks) - len(result.faults))
        failures.add(result.failed)
        sealer.add(tasks, result)
        for task in tasks if result.faults else ():
            items = tuple(work for work in task.items if work.index in result.faults)
            if items:
                undone[replace(task, items=items)] = result.faults[items[0].index]
    return undone


def _fault_text(undone: Mapping[Task, str], shown: int = 10) -> str:
    """Say which recordings the machine failed at, and that this is not a fact about them."""
    lines = [f"\n  {task.part.place.recording}: {fault}" for task, fault in list(undone.items())[:shown]]
    more = f"\n  and {len(undone) - shown} more" if len(undone) > shown else ""
    return (
        f"the machine failed at {counted(len(undone), 'recording')}, also when each was tried again alone; "
        "no run is marked finished, finished results are kept, and the same command continues"
        f"{''.join(lines)}{more}"
    )


def _needed(plan: Plan, error: StorageError, items_left: int) -> str:
    """Say about how much room the items left take, and how much is free."""
    if not error.n_files:
        return ""
    free = shutil.disk_usage(plan.outputs.root).free
    n_bytes = error.n_bytes / error.n_files * items_left
    return (
        f"; about {n_bytes / 1e6:.1f} MB are needed for {counted(items_left, 'item')} left, "
        f"{free / 1e6:.1f} MB are free. Finished results are kept; the same command continues"
    )


def _keep(plan: Plan, tasks: Sequence[Task], result: ChunkResult, account: Account) -> None:
    """Record what a chunk made; its files are on disk already."""
    plan.digests.add({task.part for task in tasks}, result.digests, result.notes)
    for key, made in result.stages.items():
        if made.files or made.records:
            plan.folders[key].append(made.files, made.records, made.seconds, len(made.records))
            account.add(plan.item_stages[key].name, 0.0, len(made.records))
    plan.transient.update(result.transient)
    for name, seconds in result.seconds.items():
        account.add(name, seconds)
