"""What a run would do, and why: every stage's state, and what changed since the nearest earlier one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hms.config.pages import yaml_of
from hms.config.reading import looked_at, names_in
from hms.config.schema import n_workers
from hms.engine.failures import forecast
from hms.engine.manifest import is_whole
from hms.engine.plan import Plan
from hms.engine.space import needed, space_text
from hms.engine.tables import known_table_files
from hms.errors import ConfigError, ManifestError
from hms.pipeline.fingerprint import comparable
from hms.pipeline.selection import config_of
from hms.pipeline.stage import Stage, TableStage
from hms.store.folders import KEY_FILE, StageFolder, read_note
from hms.store.inside import read_file
from hms.store.package import Package, list_packages
from hms.store.places import KEY_LENGTH
from hms.terminal import counted, shortened, table

HEADINGS = ("stage", "key", "state", "to do", "about", "why")
_ABSENT = "(absent)"
SEARCHED_RUNS = 50
"""How many finished runs, the last first, are searched for the one to compare with."""

SHOWN_CHANGES, LONGEST_WHY = 6, 100
"""Changes named per stage, and their characters in all; the first is always named."""


def explain(plan: Plan, *, in_full: bool = False) -> str:
    """Return the plan as a table: key, state, work left with its likely time, and why.

    ``in_full`` gives every reason instead of the first few.
    """
    if is_whole(plan):
        return explain_finished(plan)
    rows: list[tuple[str, ...]] = [HEADINGS]
    seconds = 0.0
    earlier = _nearest_run(plan)
    items_due = bool(plan.due())
    for state in plan.states():
        left = state.total - state.done
        pace = seconds_per_item(plan, state.stage)
        about = left * pace / n_workers(plan.cfg.n_jobs) if left and pace is not None else None
        seconds += about or 0.0
        why = _why(plan, state.stage, left == 0, earlier, some_done=state.done > 0, in_full=in_full)
        rows.append(_row(state.stage, state.label, counted(left, "item") if left else "", about, why))
    known = {} if items_due else known_table_files(plan)
    for stage in plan.tables:
        done = stage.name in known
        rows.append(_table_row(plan, stage, items_due, earlier, done=done, in_full=in_full))
    head = f"run {plan.run_hash}: not finished, {counted(len(plan.items), 'item')}"
    notes = [f"  {text}" for text in (*_compared_with(earlier, rows), *_notes(plan))]
    if any(MORE.search(row[-1]) for row in rows):
        notes.append("  hms explain --all gives every reason")
    if seconds:
        notes.insert(0, f"  about {seconds:.1f} s for the items, by the times recorded here")
    if items_due:
        notes.append(f"  {space_text(needed(plan).values(), plan.outputs.root)}")
    return "\n".join([head, table(rows), *notes])


def explain_finished(plan: Plan) -> str:
    """Return the table of a plan whose run is finished and whole."""
    rows = [HEADINGS, *(_row(stage, "done", "", None, "") for stage in plan.products)]
    notes = [f"  {text}" for text in _notes(plan)]
    return "\n".join(
        [f"run {plan.run_hash}: finished, {counted(len(plan.items), 'item')}", table(rows), *notes]
    )


def _row(stage: Stage, label: str, left: str, about: float | None, why: str) -> tuple[str, ...]:
    time = "" if about is None else f"{about:.1f} s"
    return (stage.name, stage.key[:KEY_LENGTH], label, left, time, why)


def _table_row(
    plan: Plan, stage: TableStage, items_due: bool, earlier: Package | None, *, done: bool, in_full: bool
) -> tuple[str, ...]:
    folder = StageFolder(plan.outputs.stage(stage)).load()
    pace = seconds_per_item(plan, stage)
    if items_due and folder.computed:
        return _row(stage, "may change", "1 table", pace, "depends on the items")
    why = _why(plan, stage, done, earlier, some_done=folder.computed > 0, in_full=in_full)
    return _row(stage, "done" if done else "missing", "" if done else "1 table", None if done else pace, why)


def _why(plan: Plan, stage: Stage, done: bool, run: Package | None, *, some_done: bool, in_full: bool) -> str:
    """Return why a stage is to be computed: what differs from a run, or from the nearest stored key."""
    if done:
        return ""
    if some_done:
        return "its inputs are new, changed or unfinished"
    note = None if run is None else run.manifest["stages"].get(stage.name)
    nearest = None if note else nearest_earlier(plan, stage)
    if note is None and nearest is None:
        return "never computed here"
    before = flat_content(note["content"]) if note else nearest.content if nearest else {}
    found = _that_matter(changes(before, flat_content(stage.key_content)))
    shown = found if in_full else found[:SHOWN_CHANGES]
    while not in_full and len(shown) > 1 and len("; ".join(shown)) > LONGEST_WHY:
        shown = shown[:-1]
    more = f"; and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return "; ".join(shown) + more or "the same settings; these items are new, or their files gone"


def _nearest_run(plan: Plan) -> Package | None:
    """Return the finished run whose settings differ least, of several the last; None if there is none."""
    now, found = _lines(yaml_of(config_of(plan.cfg, plan.products))), []
    for run in list_packages(plan.outputs.root)[:SEARCHED_RUNS]:
        try:
            found.append((len(now ^ _lines(read_file(run.path / "config.yaml").decode())), run))
        except (OSError, ValueError, ManifestError):
            continue
    for _, run in sorted(found, key=lambda pair: pair[0]):
        try:
            run.manifest["stages"]
        except ConfigError:
            continue
        return run
    return None


def _lines(text: str) -> set[str]:
    """Return the lines of a YAML, each with the section that it stands in."""
    found, section = set(), ""
    for line in text.splitlines():
        section = section if line.startswith(" ") else line
        found.add(f"{section} {line}")
    return found


def _compared_with(run: Package | None, rows: Sequence[Sequence[str]]) -> list[str]:
    """Name the run that the reasons compare with."""
    if run is None or not any(" -> " in row[-1] for row in rows):
        return []
    return [f"compared with run {run.hash}, by: {shortened(run.manifest['command'], 100)}"]


MORE = re.compile(r"; and \d+ more$")


def _that_matter(found: Sequence[str]) -> list[str]:
    """Return changes without what follows from others: settings that only one kind has, and derived ones."""
    paths = [text.partition(": ")[0] for text in found]
    sections = [path.removesuffix("kind") for path in paths if path.endswith(".kind")]
    follows = [
        path.startswith("derived.")
        or (_ABSENT in text and any(path.startswith(s) and not path.endswith(".kind") for s in sections))
        for path, text in zip(paths, found, strict=True)
    ]
    kept = [text for text, is_clear in zip(found, follows, strict=True) if not is_clear]
    return kept or [text.removeprefix("derived.") for text in found]


def seconds_per_item(plan: Plan, stage: Stage) -> float | None:
    """Return how long an item took one worker: under this key, or the nearest earlier one."""
    folders = [plan.outputs.stage(stage)]
    if earlier := nearest_earlier(plan, stage):
        folders.append(earlier.folder)
    for path in folders:
        folder = StageFolder(path).load()
        if folder.computed:
            return folder.seconds / folder.computed
    return None


@dataclass(frozen=True)
class Earlier:
    """A stored key of a stage: its folder and what went into it, by path."""

    folder: Path
    content: dict[str, Any]


def nearest_earlier(plan: Plan, stage: Stage) -> Earlier | None:
    """Return the stored key of the same stage that differs least, of several the latest."""
    now = flat_content(stage.key_content)
    found = _stored_keys(plan.outputs.store, stage.name)
    return min(found, key=lambda earlier: len(changes(earlier.content, now)), default=None)


def _stored_keys(store: Path, name: str) -> Iterator[Earlier]:
    paths = [store / folder / KEY_FILE for folder in names_in(store) if folder.startswith(f"{name}-")]
    known = [(status.st_mtime_ns, path) for path in paths if (status := looked_at(path))]
    for _, path in sorted(known, reverse=True):
        note = read_note(path)
        if note.get("stage") == name:
            yield Earlier(path.parent, flat_content(note))


def flat_content(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return what went into a key by dotted path, what is read included."""
    flat: dict[str, Any] = {}
    for upstream in note["reads"].values():
        flat |= flat_content(upstream)
    flat |= dict(note["settings"])
    flat[f"version of {note['stage']}"] = note["version"]
    flat |= {f"source of {path}": digest[:8] for path, digest in note["plugins"].items()}
    return flat


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return ``path: earlier -> now`` for every path that differs."""
    paths = sorted(set(earlier) | set(now))
    return [
        f"{path}: {_text(earlier.get(path, _ABSENT))} -> {_text(now.get(path, _ABSENT))}"
        for path in paths
        if earlier.get(path, _ABSENT) != now.get(path, _ABSENT)
    ]


def _text(value: Any, limit: int = 40) -> str:
    if isinstance(value, float):
        text = format(value, ".6g")
    elif isinstance(value, list):
        text = json.dumps(value)
    else:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _notes(plan: Plan) -> list[str]:
    unread = Counter(reason.text for reason in plan.unread.values())
    notes = [f"left out {counted(count, 'item')}: {text}" for text, count in unread.items()]
    notes += [f"warning: {text}"] if (text := forecast(plan)) else []
    return notes + stale_sources(plan)


def stale_sources(plan: Plan) -> list[str]:
    """Name the stages whose source changed since their results were made, though their version did not."""
    found = []
    for stage in plan.products:
        path = plan.outputs.stage(stage) / KEY_FILE
        note = read_note(path)
        earlier = note.get("fingerprint")
        if comparable(earlier, stage.fingerprint) and earlier != stage.fingerprint:
            found.append(
                f"warning: the source of stage {stage.name} changed since {path.parent.name} was computed, "
                f"but its version is still {stage.version}; raise the version if its numbers changed"
            )
    return found
