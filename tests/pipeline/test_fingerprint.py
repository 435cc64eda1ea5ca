"""The digest of what a stage is made of: what changes it, and what does not."""

from __future__ import annotations

import inspect
import sys
import types

import pytest

from hms.pipeline import fingerprint

SOURCE = '''
"""A module."""

import math

LIMIT = 3.0
UNUSED = 1


def root(x: float) -> float:
    """Return something."""
    try:
        if x > 1:
            from hms.made_below import helper

            return helper(x)
    except ValueError:
        return inner(x)
    return math.nan


def inner(x):
    return min(x, LIMIT)
'''
BELOW = "def helper(x):\n    return [x for _ in range(FEW)]\n\n\nFEW = 2\n"


@pytest.fixture
def digest_of(monkeypatch):
    """Return a function that digests `root` as two modules have it."""

    def digest(source=SOURCE, below=BELOW):
        sources = {"hms.made": source, "hms.made_below": below}
        for name in sources:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setattr(inspect, "getsource", lambda module: sources[module.__name__])
        fingerprint._names_of.cache_clear()
        fingerprint.known.clear()
        root = types.new_class("root", exec_body=lambda names: names.update(__module__="hms.made"))
        return fingerprint.source_fingerprint(root)

    kept = dict(fingerprint.known)
    yield digest
    fingerprint._names_of.cache_clear()
    fingerprint.known.clear()
    fingerprint.known.update(kept)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Return something."""', '"""Return."""\n    # a comment'),
        ("UNUSED = 1", "UNUSED = 2\nMORE = 3"),
        ("import math\n", "import math\nimport sys\n"),
        ("        return inner(x)", '        """Words."""\n        return inner(x)'),
    ],
)
def test_words_places_and_what_is_not_used_change_nothing(digest_of, old, new):
    assert old in SOURCE
    assert digest_of(SOURCE.replace(old, new)) == digest_of()


@pytest.mark.parametrize(
    ("old", "new"), [("LIMIT = 3.0", "LIMIT = 4.0"), ("x > 1", "x > 2"), ("min(", "max(")]
)
def test_every_definition_that_is_used_counts(digest_of, old, new):
    assert old in SOURCE
    assert digest_of(SOURCE.replace(old, new)) != digest_of()


def test_what_a_function_imports_counts_with_what_that_uses(digest_of):
    assert digest_of(below=BELOW.replace("FEW = 2", "FEW = 3")) != digest_of()
    assert digest_of(below=BELOW + "\n\nOTHER = 3\n") == digest_of()
