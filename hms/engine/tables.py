"""Making the tables of a run, or finding them made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from hms.config.compose import default_stages
from hms.config.identity import canonical_json, digest_of, digest_of_json
from hms.config.memory import MANY, give_back
from hms.config.threads import one_thread
from hms.engine.account import Account
from hms.engine.inference import evaluate_row
from hms.engine.plan import Plan
from hms.errors import ConfigError
from hms.pipeline.selection import choose_stages, config_of
from hms.pipeline.stage import TableStage, stage_names
from hms.pipeline.tables import Tables, View
from hms.store.files import Damaged, commit_files, remove_temporaries
from hms.store.folders import StageFolder
from hms.store.locks import lock
from hms.store.manifests import versions
from hms.store.rows import PackedRows
from hms.store.seen import once
from hms.store.shards import Place
from hms.terminal import say


def open_tables(plan: Plan) -> Tables:
    """Return what table stages may read, of a plan whose items are prepared."""
    return Tables(
        plan.votes,
        plan.items,
        plan.reasons(),
        packed_rows=lambda name: _packed_rows(plan, _stage_key(plan, name)),
        rows_digest=cache(lambda name: _rows_digest(plan, _stage_key(plan, name))),
        item_places=lambda name: _places_by_row(plan, _stage_key(plan, name)),
        evaluate=lambda row, stages: evaluate_row(plan, row, stages),
        once=partial(once, plan.outputs.store),
        recording_digests=plan.recording_digests(),
        file_flags=plan.file_flags(),
        facts={
            "run": plan.run_hash,
            "config": config_of(plan.cfg, plan.products),
            "stages": _asked(plan),
            "votes": plan.votes.digest,
            "versions": versions(),
        }
        | ({"patients": plan.votes.patients} if plan.votes.patients else {}),
    )


def _asked(plan: Plan) -> list[str]:
    """Return what ``stages`` has to be for the plan's products: the default list if that gives them.

    Lists that name more or less of what follows anyway are one run, and one page.
    """
    default = tuple(str(name) for name in default_stages())
    if plan.cfg.stages == default:
        return list(default)
    made = {stage.name for stage in plan.products}
    if made.issuperset(default) or not plan.votes.has_votes:
        try:
            cfg = replace(plan.cfg, stages=default)
            items, tables = choose_stages(cfg, has_votes=plan.votes.has_votes)
        except ConfigError:
            items, tables = [], []
        if {stage.key for stage in (*items, *tables)} == {stage.key for stage in plan.products}:
            return list(default)
    return [name for name in stage_names() if name in made]


def make_tables(plan: Plan, account: Account, *, begin: Callable[[Tables], None]) -> Tables:
    """Make the tables with one thread: the same bits everywhere, and no threads that wait for a busy core.

    ``begin`` is called once no later stage leaves an item out.
    """
    tables = open_tables(plan)
    choosing = [stage for stage in plan.tables if stage.chooses]
    with one_thread():
        if not choosing:
            begin(tables)
        for number, stage in enumerate(plan.tables):
            _make_table(plan, stage, tables, account)
            if choosing and stage is choosing[-1]:
                begin(tables)
            tables.keep(name for later in plan.tables[number + 1 :] for name in later.declared)
            if len(plan.items) >= MANY:
                give_back()
    return tables


def known_table_files(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the stored names of the table files that need not be computed, by stage.

    Only when no item is due: what tables read is known after the items.
    """
    tables, known = open_tables(plan), {}
    for stage in plan.tables:
        folder = StageFolder(plan.outputs.stage(stage)).load()
        try:
            names = _table_names(stage, tables)
        except KeyError:
            continue
        if all(name in folder.files for name in names.values()) and not folder.reconcile(names.values()):
            with suppress(Damaged):
                _make_readable(stage, folder, names, tables)
                known[stage.name] = names
    return known


def _make_readable(stage: TableStage, folder: StageFolder, names: Mapping[str, str], tables: Tables) -> None:
    """Let later stages read a stage's files, and leave out the items that they leave out."""
    for path, name in names.items():
        tables.add_file(path, folder.path / name, folder.files[name].digest)
    tables.exclude(stage.exclusions(View(tables, stage)))


def _table_names(stage: TableStage, tables: Tables) -> dict[str, str]:
    """Return the stored name of each file of a table stage."""
    identity = table_identity(stage, tables)
    return {path: f"{identity}.{Path(path).name}" for path in stage.files}


def table_identity(stage: TableStage, tables: Tables) -> str:
    """Return the identity of a table stage's files: the digests of the tables it reads."""
    return digest_of([stage.key, {name: tables.digest(name) for name in stage.declared}], 8)


def _make_table(plan: Plan, stage: TableStage, tables: Tables, account: Account) -> None:
    folder = StageFolder(plan.outputs.stage(stage)).load()
    names = _table_names(stage, tables)
    if not _are_made(folder, names):
        with lock(plan.outputs.lock(folder.path.name), waiting=f"another run computes {stage.name}", say=say):
            folder.load()
            if not _are_made(folder, names):
                _compute_table(folder, stage, tables, names, account)
    for path, name in names.items():
        account.files[path] = (folder.path / name, folder.files[name])
    _make_readable(stage, folder, names, tables)


def _are_made(folder: StageFolder, names: Mapping[str, str]) -> bool:
    """Tell whether all files of a table stage are there, whole; those found moved are recorded."""
    folder.reconcile(name for name in names.values() if name in folder.files)
    folder.remember()
    return all(name in folder.files for name in names.values())


def _compute_table(
    folder: StageFolder, stage: TableStage, tables: Tables, names: Mapping[str, str], account: Account
) -> None:
    began = time.perf_counter()
    contents = stage.compute(View(tables, stage))
    assert set(contents) == set(stage.files), f"stage {stage.name} wrote {sorted(contents)}"
    remove_temporaries(folder.path)
    note = folder.note_file(stage.note())
    named = {names[path]: content for path, content in contents.items()}
    files = commit_files(folder.path, note | named)[len(note) :]
    seconds = time.perf_counter() - began
    folder.append(files, [], seconds, 1)
    account.add(stage.name, seconds, 1)


def _stage_key(plan: Plan, name: str) -> str:
    """Return the key of an item stage that is kept."""
    (key,) = (key for key, stage in plan.item_stages.items() if stage.name == name)
    return key


def _rows_digest(plan: Plan, key: str) -> str:
    """Return a digest of item row, content digest of the file and row in the file, of every prepared item."""
    folder, found = plan.folders[key], plan.results_of(key)
    files, names = folder.files, folder.records.names
    if folder.has_shards or (found.file < 0).any():
        records = (
            (row, r.digest or files[r.file].digest, r.row) for row, r in plan.records_of(key) if r.file
        )
        return digest_of_json(map(canonical_json, records))
    # Files of many rows: the text of which a digest is taken has the same few digests again and again.
    contents = {n: canonical_json(files[names[n]].digest) for n in set(found.file.tolist())}
    rows = zip(
        found.rows.tolist(), map(contents.get, found.file.tolist()), found.inside.tolist(), strict=True
    )
    return digest_of_json(f"[{row},{content},{inside}]" for row, content, inside in rows)


def _places_by_row(plan: Plan, key: str) -> dict[int, Place]:
    """Return where what is kept of every prepared item is, by its row."""
    folder = plan.folders[key]
    return {row: folder.place(record) for row, record in plan.records_of(key) if record.file}


def _packed_rows(plan: Plan, key: str) -> PackedRows:
    """Return the rows of all prepared items, in the items' order."""
    folder = plan.folders[key]
    return PackedRows(folder.path, folder.records.names, *plan.results_of(key))
