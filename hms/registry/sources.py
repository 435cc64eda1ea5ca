"""The source of plugins as this process imported it.

A process can live long, as a notebook's kernel and the workers do, and a plugin's file can change meanwhile.
A key holds the source of the code that computes, so it is noted when a module is imported, and a module
whose file holds something else is forgotten and imported anew.

To a plugin's source belong its module and the modules of its own that it imports: those of its package, and
those beside it unless it is installed among others' packages.
"""

from __future__ import annotations

import ast
import importlib
import os
import stat
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from hms.errors import ConfigError

_texts: dict[str, str] = {}
"""What stood in the files of plugins' modules when they were imported, by module."""


def note_import(name: str, called: str) -> None:
    """Note the source of a module that is being imported, as it registers what is ``called`` so.

    Raises `ConfigError` if other processes cannot import the module by its name.
    """
    if name == "__main__":
        raise ConfigError(
            f"{called} is defined in a notebook or a script, where workers and later commands cannot find "
            "it; write it into a module of its own, as my_options.py, and add plugins=[my_options]"
        )
    _texts[name] = _on_disk(name)


def source_of(name: str) -> str:
    """Return the source of a plugin's module, and of those of its own that it imports, as imported."""
    first, *others = _own(name).items()
    return first[1] + "".join(f"\0{name}\0{text}" for name, text in sorted(others))


def has_changed(name: str) -> bool:
    """Tell whether files of a plugin hold something else than what this process imported."""
    return any(_on_disk(own) not in ("", text) for own, text in _own(name).items())


def forget(name: str) -> set[str]:
    """Let a plugin's modules be imported anew, and return their names."""
    names = {name, *_own(name)}
    names |= {loaded for loaded in sys.modules if loaded.startswith(f"{name}.")}
    for each in names:
        sys.modules.pop(each, None)
        _texts.pop(each, None)
    importlib.invalidate_caches()
    return names


def home_of(name: str) -> str | None:
    """Return the folder from which a plugin was imported, None where it came from no folder."""
    top = sys.modules.get(name.partition(".")[0])
    file: str | None = getattr(top, "__file__", None)
    if file is None:
        return None
    folder = os.path.dirname(os.path.abspath(file))
    return os.path.dirname(folder) if hasattr(top, "__path__") else folder


def _own(name: str) -> dict[str, str]:
    """Return the source, as imported, of a plugin's module and of those of its own that it imports."""
    found: dict[str, str] = {}
    left = [name]
    while left:
        module = left.pop()
        if module not in found:
            if module not in _texts or module not in sys.modules:
                _texts[module] = _on_disk(module)
            found[module] = _texts[module]
            left += [each for each in _imports(module, _texts[module]) if _file_beside(name, each)]
    return found


def _on_disk(name: str) -> str:
    """Return what stands in a module's file now, an empty text where there is none."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None) or _file_beside(name, name)
    try:
        if file is None:
            text = ""
        elif file.endswith(".py"):
            with tokenize.open(file) as stream:
                text = stream.read()
        else:
            text = Path(file).read_bytes().hex()
    except (SyntaxError, UnicodeDecodeError):  # no text in its encoding; importing it says so
        text = Path(file or "").read_bytes().hex()
    except (FileNotFoundError, NotADirectoryError):
        text = _in_archive(module)
    return f"{text}\n" if text and not text.endswith("\n") else text


def _in_archive(module: ModuleType | None) -> str:
    try:
        return str(module.__spec__.loader.get_source(module.__name__) or "")  # type: ignore[union-attr]
    except (AttributeError, ImportError, OSError):
        return ""


def _file_beside(plugin: str, name: str) -> str | None:
    """Return the file of a module that is a plugin's own, None if it is not."""
    home, top = home_of(plugin), plugin.partition(".")[0]
    if home is None or name.partition(".")[0] == "hms":
        return None
    if _is_installed(home) and name.partition(".")[0] != top:
        return None
    base = os.path.join(home, *name.split("."))
    return next(filter(_is_file, (os.path.join(base, "__init__.py"), f"{base}.py")), None)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


@lru_cache(maxsize=8)
def _is_installed(folder: str) -> bool:
    """Tell whether a folder holds packages that were installed, or Python's own."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return folder in places or os.path.basename(folder) in ("site-packages", "dist-packages")


@lru_cache(maxsize=256)
def _imports(name: str, text: str) -> tuple[str, ...]:
    """Return the modules that a source may import: of ``from a import b`` both ``a`` and ``a.b``."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # no Python source
        return ()
    return tuple(dict.fromkeys(each for node in nodes for each in _named(node, name)))


def _named(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            parts = alias.name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    elif isinstance(node, ast.ImportFrom):
        package = name if hasattr(sys.modules.get(name), "__path__") else name.rpartition(".")[0]
        try:
            base = resolve_name(f"{'.' * node.level}{node.module or ''}", package or None)
        except ImportError:  # a relative import beyond the top
            return
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
