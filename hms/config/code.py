"""The source of hms as this process loaded it; on disk it may be another by now."""

from __future__ import annotations

import os
from pathlib import Path

from hms.config.identity import digest_of
from hms.config.reading import walked
from hms.errors import EngineError

CHANGED = (
    "the source of hms changed since this process loaded it, and its workers would compute with the new one; "
    "start Python again (in a notebook, restart the kernel): finished results are kept, and the same command "
    "continues"
)


def _stamp() -> str:
    home = str(Path(__file__).parents[1])
    rows = []
    for base, folders, names in walked(home):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for path in (f"{base}/{name}" for name in names if name.endswith(".py")):
            status = os.stat(path)
            rows.append([path.removeprefix(home), status.st_size, status.st_mtime_ns])
    return digest_of(sorted(rows))


_loaded = _stamp()


def code_stamp() -> str:
    """Return the digest of names, sizes and times of the source of hms, as they were when it was loaded."""
    return _loaded


def check_as_loaded() -> None:
    """Raise EngineError if the source on disk is not the one that this process loaded."""
    if _stamp() != _loaded:
        raise EngineError(CHANGED)
