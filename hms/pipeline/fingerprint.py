"""A digest of the source that computes a stage, to notice a change without a new version.

It is made of definitions: the stage's class, and every function, class and constant of the
package that it uses, directly or through others. Where a definition stands, what a module
imports, docstrings and comments are not part of it, so that moving code changes nothing.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from hashlib import blake2b
from typing import Any

METHOD = "definitions-1"
"""Stands before the digest; digests by different methods say nothing of each other."""

_PACKAGE = "hms."
_PLUMBING = (
    "hms.config.", "hms.errors", "hms.pipeline.", "hms.registry", "hms.store.", "hms.terminal",
)  # fmt: skip
"""Where nothing is computed that a stage's numbers depend on."""

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Fields of syntax trees that hold statements, or what holds them."""

_WORD = re.compile(r"\bName\(id='(\w+)'")

Name = tuple[str, str]
"""Module and name of a definition at its top level."""


def source_fingerprint(*roots: type[Any] | Callable[..., Any], without: Iterable[type[Any]] = ()) -> str:
    """Return the digest of what some classes and functions are made of, with the method before it.

    ``roots`` are a stage's class and the registered functions that its settings name; ``without`` are classes
    at which to stop: the stages that it reads, which have fingerprints of their own.
    """
    names = tuple((root.__module__, root.__qualname__) for root in roots)
    stops = tuple((cls.__module__, cls.__qualname__) for cls in without)
    text = f"{names} without {stops}"
    if text not in known:
        known[text] = _fingerprint(names, stops)
    return known[text]


known: dict[str, str] = {}
"""Fingerprints by what they are of; whoever keeps them must check that the source is still the same."""


def _fingerprint(roots: tuple[Name, ...], without: tuple[Name, ...]) -> str:
    seen, digests, left = set(without), [], list(roots)
    while left:
        name = left.pop()
        if name in seen or not _computes(name[0]):
            continue
        seen.add(name)
        digest, used = _definition(*name)
        digests.append(digest)
        left += used
    whole = blake2b(b"".join(sorted(digests)), digest_size=8).hexdigest()
    return f"{METHOD}:{whole}"


def comparable(a: str | None, b: str | None) -> bool:
    """Tell whether two fingerprints were made by the same method."""
    return a is not None and b is not None and a.partition(":")[0] == b.partition(":")[0]


def _computes(module: str) -> bool:
    return module.startswith(_PACKAGE) and not f"{module}.".startswith(_PLUMBING)


def _definition(module: str, name: str) -> tuple[bytes, list[Name]]:
    """Return the digest of one definition, and the definitions of the package that it uses."""
    own, imported = _names_of(module)
    digest, words = own.get(name, (blake2b(digest_size=16).digest(), ()))
    mine = [(module, word) for word in words if word in own and word != name]
    return digest, mine + [imported[word] for word in words if word not in own and word in imported]


@cache
def _names_of(module: str) -> tuple[dict[str, tuple[bytes, tuple[str, ...]]], dict[str, Name]]:
    """Return digest and words of a module's definitions by name, and where each imported name is defined.

    Docstrings and imports are no part of a definition. Syntax trees are not kept: those of all modules
    take 50 MB.
    """
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    imported: dict[str, Name] = {}
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        if body := getattr(node, "body", None):
            node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
    statements: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            statements.setdefault(name, []).append(statement)
    return {name: _digested(parts) for name, parts in statements.items()}, imported


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and every statement in it, before what that consists of; expressions are passed over."""
    inner = [each for field in _BLOCKS for each in getattr(node, field, ())]
    yield node
    for each in inner:
        yield from _statements(each)


def _digested(statements: Iterable[ast.stmt]) -> tuple[bytes, tuple[str, ...]]:
    """Return the digest of what defines a name, and every name that it mentions, annotations included."""
    text = "".join(ast.dump(statement) for statement in statements)
    return blake2b(text.encode(), digest_size=16).digest(), tuple(dict.fromkeys(_WORD.findall(text)))


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _is_text(statement: object) -> bool:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return True
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
