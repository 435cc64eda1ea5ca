"""Keep what was found of a finished run, so that the same command need not look again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hms.config.memory import lean
from hms.engine.explain import explain_finished
from hms.engine.plan import Plan
from hms.errors import StorageError
from hms.pipeline import fingerprint
from hms.store.folders import StageFolder
from hms.store.links import MANY_LINKS
from hms.store.package import Package
from hms.store.seen import Seen, keep, keep_fingerprints, keep_looks, listed, listing, stamp, stamp_of


@lean()
def keep_finished(plan: Plan, run: Package, question: str, *, facts: str, said: Sequence[str]) -> None:
    """Keep what the same command is told next time, if nothing changes until then.

    Nothing is kept if recordings are to be tried again, or a file is not as recorded. ``facts`` are shown
    when the run is found finished, ``said`` was said on the way.
    """
    if plan.watched is None or run.manifest["retry"]:
        return
    try:
        for folder in plan.folders.values():
            folder.keep_snapshot()
        places = {**plan.watched, **_stamps_of(plan, run)}
        seen = Seen(plan.run_hash, facts, explain_finished(plan), list(said), places)
        keep(plan.outputs.store, question, seen)
        keep_fingerprints(plan.outputs.store, fingerprint.known)
        if len(plan.items) >= MANY_LINKS:
            keep_looks(plan.outputs.store, plan.cfg.at("data.root"), _looked_into(plan))
    except (OSError, StorageError, LookupError):  # the run is finished all the same
        return


def _looked_into(plan: Plan) -> dict[str, bool]:
    """Return the folders of many files that the plan looked into, and whether through links."""
    recordings = {place: True for place in plan.watched or () if place.endswith("/")}
    return recordings | {str(f.path): False for f in plan.folders.values() if len(f.files) >= MANY_LINKS}


def _stamps_of(plan: Plan, run: Package) -> dict[str, str]:
    """Return the stamps of the run's folders, and of the store's behind it.

    Raises `LookupError` if a file of the store is not as it was recorded.
    """
    parents = {name.rpartition("/")[0] for name in run.manifest["files"]}
    folders = (run.path, *(run.path / parent for parent in sorted(parents)))
    places = {str(p): stamp(str(p)) for p in (plan.outputs.recordings(plan.source.root), *folders)}
    tables = (StageFolder(plan.outputs.stage(stage)).load() for stage in plan.tables)
    for folder in (*plan.folders.values(), *tables):
        rows: Iterable[str] | None = folder.listed()
        if rows is None:
            rows = present = set(listed(listing(str(folder.path))))
            if not present.issuperset(folder.files.listed()):
                raise LookupError(folder.path.name)
        places[str(folder.path)] = stamp_of(rows)
    return places
