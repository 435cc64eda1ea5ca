"""Which runs are members of which sweep, from the leaderboards that sweeps leave."""

from __future__ import annotations

import json
import os

from hms.config.reading import is_file, is_folder
from hms.errors import ManifestError
from hms.store.inside import read_file
from hms.store.places import Outputs


def members_of_sweeps(outputs: Outputs) -> dict[str, str]:
    """Return, by run, its sweep and what sets it apart from the other members."""
    members: dict[str, str] = {}
    sweeps = outputs.root / "sweeps"
    for name in sorted(os.listdir(sweeps)) if is_folder(sweeps) else ():
        path = sweeps / name / "leaderboard.json"
        if path.is_symlink() or not is_file(path):
            continue
        try:
            rows = json.loads(read_file(path))["rows"]
            members |= {row["run"]: f"{name}: {row['overrides']}" for row in rows if row["run"]}
        except (ManifestError, ValueError, KeyError, TypeError):
            continue  # a leaderboard that is damaged or of another form tells nothing
    return members
