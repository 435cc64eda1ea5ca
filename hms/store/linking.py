"""Symbolic links of a whole folder, made by the standard library alone.

Run as a program, which starts in 10 ms, it reads from its input what `link_folder` takes.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count

TEMPORARY = ".tmp-"
"""How the names of files begin that have no name yet."""

LOOK_EVERY = 64
"""Links between two looks whether the process that asked for them is alive: about a millisecond."""


def relative(folder: str, targets: Mapping[str, str]) -> dict[str, str]:
    """Return the targets as seen from the folder, so that both can be moved together."""
    ways: dict[str, str] = {}
    found = {}
    for name, target in targets.items():
        parent, _, last = target.rpartition("/")
        if parent not in ways:
            ways[parent] = os.path.relpath(parent, folder)
        found[name] = f"{ways[parent]}/{last}"
    return found


def set_names(
    folder: str,
    wanted: Mapping[str, str],
    make: Callable[[str, str], None],
    stands_for: Callable[[os.DirEntry[str], str], bool],
) -> None:
    """Make ``folder`` hold exactly the wanted names, each made for its target.

    A name that already stands for its target is left alone, and so are folders in the folder; any other entry
    is removed.
    """
    with os.scandir(folder) as entries:
        present = {entry.name: entry for entry in entries}
    for name, entry in present.items():
        if name not in wanted and not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
    for name, target in wanted.items():
        path = f"{folder}/{name}"
        if name not in present:
            make(target, path)
        elif not stands_for(present[name], target):
            temporary = f"{folder}/{TEMPORARY}{os.urandom(16).hex()}"
            make(target, temporary)
            os.replace(temporary, path)


def leads_to(entry: os.DirEntry[str], target: str) -> bool:
    """Tell whether an entry is a symbolic link with that target."""
    return entry.is_symlink() and os.readlink(entry.path) == target


def linker(like: str) -> Callable[[str, str], None]:
    """Return what makes symbolic links, or a second name of one in a folder that has the same.

    A second name needs no inode, and takes a third of the time. What cannot have one gets a link of its own:
    another user's, one with as many names as there can be, one on a file system without them.
    """
    if not like or os.link not in os.supports_follow_symlinks:
        return os.symlink

    def make(target: str, path: str) -> None:
        same = f"{like}/{os.path.basename(path)}"
        try:
            if os.readlink(same) == target:
                os.link(same, path, follow_symlinks=False)
                return
        except OSError:  # a link of its own says what is wrong
            pass
        os.symlink(target, path)

    return make


def while_awaited(make: Callable[[str, str], None], parent: int) -> Callable[[str, str], None]:
    """Return what makes links as long as the process that asked for them lives, and then ends this one."""
    made = count()

    def guarded(target: str, path: str) -> None:
        if next(made) % LOOK_EVERY == 0 and os.getppid() != parent:
            sys.exit("nobody waits for these links any more")
        make(target, path)

    return guarded


def link_folder(folder: str, targets: Mapping[str, str], like: str, parent: int) -> None:
    """Make the links of a folder for a process that goes on meanwhile, and bring them to disk.

    ``targets`` gives the file of each; ``like`` is a folder of links that may serve again, if there is one.
    """
    set_names(folder, relative(folder, targets), while_awaited(linker(like), parent), leads_to)
    with suppress(OSError):  # whoever waits syncs again, and says what is wrong
        os.fsync(os.open(folder, os.O_RDONLY))


if __name__ == "__main__":
    link_folder(*marshal.loads(sys.stdin.buffer.read()))
