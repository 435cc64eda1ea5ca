"""Files of a folder that are recordings by their endings, each with its relative path as its name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hms.config.paths import Address, located
from hms.errors import ConfigError
from hms.sources.base import Place
from hms.sources.bucket import Listed, bucket_of
from hms.sources.files import place_of
from hms.sources.formats import ending_of
from hms.sources.names import text_of_path


@dataclass(frozen=True)
class Found:
    """What is in a folder.

    Attributes
    ----------
    files : path, or address, of each recording by its name, which is the path relative to the folder
    others : names of all other files but hidden ones
    listed : size and time of each recording, where a listing told them
    links : links to folders, which are not followed
    """

    files: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    listed: dict[str, Listed] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)

    def place(self, name: str) -> Place:
        """Return where a recording is."""
        path = self.files[name]
        return Place(name, path, *self.listed[name]) if name in self.listed else place_of(name, path)


def folder_of(root: str | None, what: str) -> Path:
    """Return the path that ``data.root`` names; raise `ConfigError` if it is not given, or an address."""
    if root is None:
        raise ConfigError(f"data.root is needed: the folder {what}")
    path = located(root)
    if isinstance(path, Address):
        raise ConfigError(
            f"data.root={root} is an address, which only data=kaggle and data=edf can read; copy the "
            f"recordings first, for example with: aws s3 sync {path} DIR, then data.root=DIR"
        )
    return path


def base_of(root: str | None, what: str) -> tuple[Path, Path | None]:
    """Return the folder that ``data.root`` names and, where it names a file, that file.

    Raises `ConfigError` if it is not given, or not there.
    """
    path = folder_of(root, f"with {what}, or one file")
    if path.is_dir():
        return path, None
    if path.exists():
        return path.parent, path
    raise ConfigError(f"data.root={root} is neither a folder nor a file")


def base_anywhere(root: str | None, what: str) -> tuple[Path | Address, Path | Address | None]:
    """Return what `base_of` does, of an address as well."""
    path = None if root is None else located(root)
    if not isinstance(path, Address):
        return base_of(root, what)
    if path.key and bucket_of(path).listed(path.key) is not None:
        return path.parent, path
    return path, None


def find_files(
    base: Path | Address,
    endings: Sequence[str],
    *,
    only: Path | Address | None = None,
    folders: Sequence[str] = (),
) -> Found:
    """Return the recordings below a folder or an address, in the order of their names.

    Names that begin with a dot are left alone, as are the ``._`` files that a Mac leaves beside
    others and what is in hidden folders. Links to files are followed, links to folders are not.
    A folder with one of the endings ``folders`` is a recording itself.
    """
    if isinstance(base, Address):
        return _find_afar(base, endings, only if isinstance(only, Address) else None)
    if only is not None:
        return Found({text_of_path(only.name): os.path.abspath(only)})
    found = Found()
    top = os.path.abspath(base)
    for folder, inside, names in os.walk(top, onerror=_refuse):
        whole = [name for name in inside if ending_of(name) in folders]
        inside[:] = sorted(name for name in inside if not name.startswith(".") and name not in whole)
        linked = {name for name in inside if Path(folder, name).is_symlink()}
        for name in sorted([*names, *whole, *linked]):
            if name.startswith("."):
                continue
            path = os.path.join(folder, name)
            relative = text_of_path(os.path.relpath(path, top).replace(os.sep, "/"))
            if name in linked:
                found.links.append(relative)
            elif ending_of(name) in endings:
                found.files[relative] = path
            else:
                found.others.append(relative)
    return found


def _find_afar(base: Address, endings: Sequence[str], only: Address | None) -> Found:
    bucket = bucket_of(base)
    if only is None:
        there = bucket.walked(base.key)
    else:
        listed = bucket.listed(only.key)
        there = {} if listed is None else {only.name: listed}
    found = Found()
    for relative, listed in sorted(there.items()):
        if any(part.startswith(".") for part in relative.split("/")):
            continue
        if only is not None or ending_of(relative) in endings:
            found.files[relative] = f"{base}/{relative}"
            found.listed[relative] = listed
        else:
            found.others.append(relative)
    return found


def _refuse(error: OSError) -> None:
    """Raise what keeps a folder from being listed: what is in it would be missed in silence."""
    if isinstance(error, FileNotFoundError):
        return
    raise ConfigError(f"{error.filename}: cannot be listed ({error.strerror})") from None
