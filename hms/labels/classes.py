"""The classes that are voted on: one object, whoever needs their names.

Settings name them (``labels.classes``), a votes table has a column for each, and a finished run keeps them in
``labels.npz``. Whatever works on votes takes them from there: nothing counts on the competition's six.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CLASS_NAMES, CLASSES
from hms.errors import ConfigError
from hms.registry import did_you_mean

_NAME = re.compile(r"(?!recordings$)[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""``recordings`` is a column next to the classes in `hms.labels.folds.patient_table`."""

_ENDING = "_vote"
_TITLES = dict(zip(CLASSES, CLASS_NAMES, strict=True))


@dataclass(frozen=True)
class Classes:
    """Classes in the order of the vote columns; a tie of votes goes to the first.

    Attributes
    ----------
    names : as settings, columns and files spell them
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        bad = [name for name in self.names if not _NAME.fullmatch(name)]
        if bad:
            raise ValueError(
                f"classes: '{bad[0]}' cannot name a class; it becomes the column '{bad[0]}{_ENDING}': "
                "letters, digits, '_' and '-' are allowed, at most 40 of them, and 'recordings' is taken"
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"classes: {', '.join(twice)} is listed more than once")
        if len(self.names) < 2:
            raise ValueError(f"classes: votes need at least two classes, not {list(self.names)}")

    @classmethod
    def of_columns(cls, columns: Iterable[Any]) -> Classes:
        """Return the classes of a table: its columns ``<name>_vote``, in their order."""
        return _classes(tuple(str(c).removesuffix(_ENDING) for c in columns if str(c).endswith(_ENDING)))

    @classmethod
    def of_labels(cls, labels: Mapping[str, NDArray[Any]]) -> Classes:
        """Return the classes of a finished run: ``classes`` of its labels.npz."""
        return _classes(tuple(str(name) for name in labels["classes"].tolist()))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def vote_columns(self) -> tuple[str, ...]:
        """Columns of the votes: ``seizure_vote`` ..."""
        return tuple(f"{name}{_ENDING}" for name in self.names)

    @property
    def titles(self) -> tuple[str, ...]:
        """The classes as people read them: as ``expert_consensus`` spells the competition's."""
        return tuple(_TITLES.get(name, _titled(name)) for name in self.names)

    def array(self) -> NDArray[np.str_]:
        """Return the names as files keep them: text, shape (n_classes,)."""
        return np.array(self.names, dtype=np.str_)

    def index(self, name: str) -> int:
        """Return the place of a class.

        Raises `ConfigError` if there is no such class; the text lists those there are.
        """
        if name not in self.names:
            raise ConfigError(
                f"'{name}' is not a class{did_you_mean(name, self.names)}; "
                f"labels.classes has {', '.join(self.names)}"
            )
        return self.names.index(name)


@lru_cache(maxsize=64)
def _classes(names: tuple[str, ...]) -> Classes:
    return Classes(names)


def _titled(name: str) -> str:
    text = name.replace("_", " ")
    return text[0].upper() + text[1:]


COMPETITION = Classes(CLASSES)
"""The six of the competition."""


@dataclass(frozen=True)
class Ballot:
    """What a table of votes may hold.

    Attributes
    ----------
    classes : what is voted on
    soft : whether a vote may be a share of one, as an event's overlap with a window is
    """

    classes: Classes
    soft: bool


SIX = Ballot(COMPETITION, soft=False)
"""The competition's: six classes, whole votes."""
