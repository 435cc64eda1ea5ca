"""Ids instead of names: a source whose recordings and patients go by keyed pseudonyms.

A key is made once and kept apart from runs. An id is a keyed digest of a name: the same in
every run of that key, and nothing to anybody who lacks it. No name, path or text of a header
passes through: tables hold ids, and what goes wrong is told without the words that files and
tables use. Which id stands for which name is written next to the key alone.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from hms.config.identity import plain
from hms.config.paths import Address
from hms.config.reading import regular_bytes, walked
from hms.errors import ConfigError, Unusable
from hms.labels.classes import COMPETITION, Ballot
from hms.labels.items import own_columns
from hms.sources.base import Openable, Part, Place, Recording, Source, SourceParams, Stretch
from hms.sources.channels import Channels
from hms.sources.formats import FORMATS
from hms.sources.tables import VotesTable, eeg_number
from hms.store.csvs import rows_text
from hms.store.files import commit_files

if TYPE_CHECKING:
    import pandas as pd

WITHHELD = "(withheld)"
"""What stands in messages and manifests for a name, a path or a text of a file."""

ENVIRONMENT = "HMS_PSEUDONYMS"
"""Names the key file where a run of pseudonyms is to read its recordings again."""

SHORTEST_KEY, LONGEST_KEY = 16, 65_536
"""Bytes of a key file; a key made as the message says has 64."""

LARGEST_TABLE = 1 << 28
"""Bytes; a message quotes no words of a larger table."""

OWN_COLUMNS = frozenset(("recording", "patient_id", "start_s", *COMPETITION.vote_columns))

NAMES_SUFFIX = ".names.csv"
COLUMNS = ("key", "kind", "id", "name")

MAKE_A_KEY = 'make one once: python -c "import secrets; print(secrets.token_hex(32))" > KEYFILE'

_LETTERS = {"recording": "r", "patient": "p", "spectrogram": "s", "label": "l", "place": "d"}
_MARK = re.compile(r"key:([0-9a-f]{16}):(d[0-9a-f]{16})")
_QUOTED = re.compile(r"'[^'\n]*'")
_WORDS = re.compile(r"[^\W\d_][\w.@-]{2,}")
_OF_FORMATS = frozenset(
    ("edf", "bdf", "parquet", *(word for _, way in FORMATS.values() for word in _WORDS.findall(way)))
)
"""Words by which a message says how files of a format are read. Names of formats are not among them: some
are surnames too."""

_OWN_WORD = re.compile(r"'[a-z]+(_[a-z]+)*'")
"""A column or a setting, such as 'start_s'; a name of a file or a person is not told from one in capitals."""


@dataclass(frozen=True)
class Pseudonyms:
    """A key, and where it lies."""

    key: bytes
    path: Path

    def __repr__(self) -> str:
        return f"<Pseudonyms {self.check}>"

    @property
    def check(self) -> str:
        """A digest that tells keys apart and reveals nothing of them."""
        return blake2b(b"", key=self.key, person=b"hms check", digest_size=8).hexdigest()

    def id_of(self, kind: str, name: str) -> str:
        """Return the id that stands for a name."""
        digest = blake2b(name.encode(), key=self.key, person=f"hms {kind}"[:16].encode(), digest_size=8)
        return f"{_LETTERS[kind]}{digest.hexdigest()}"

    def ids_of(self, kind: str, names: Iterable[str]) -> dict[str, str]:
        """Return the id of each name, no two alike."""
        found = {name: self.id_of(kind, name) for name in dict.fromkeys(names)}
        if len(set(found.values())) < len(found):
            raise ConfigError(f"data.pseudonyms: two {kind}s get the same id with this key; use another key")
        return found

    @property
    def names_path(self) -> Path:
        """Where it is written which id stands for which name."""
        return self.path.with_name(self.path.name + NAMES_SUFFIX)


def open_pseudonyms(given: str, outputs_dir: Path) -> Pseudonyms:
    """Read a key file; raise `ConfigError` if it is missing, too short to be a key, or inside the outputs."""
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"data.pseudonyms: the key file does not exist; {MAKE_A_KEY}")
    if path.resolve().is_relative_to(outputs_dir.resolve()):
        raise ConfigError(
            "data.pseudonyms: the key file is inside outputs_dir, which may be passed on; keep it elsewhere"
        )
    try:
        content = regular_bytes(path)[: LONGEST_KEY + 1].strip()
    except OSError as error:
        raise ConfigError(f"data.pseudonyms: the key file cannot be read ({error.strerror})") from None
    if not SHORTEST_KEY <= len(content) <= LONGEST_KEY:
        raise ConfigError(
            f"data.pseudonyms: a key has {SHORTEST_KEY} to {LONGEST_KEY} bytes, the file "
            f"{'more' if len(content) > LONGEST_KEY else len(content)}; {MAKE_A_KEY}"
        )
    return Pseudonyms(blake2b(content, person=b"hms key", digest_size=32).digest(), path)


# --- the source ----------------------------------------------------------------------------------


def pseudonymised(source: Source, params: SourceParams, outputs_dir: Path) -> Source:
    """Return a source behind pseudonyms where ``data.pseudonyms`` asks for them, else the source."""
    if params.pseudonyms is None:
        return source
    if isinstance(source.root, Address):
        raise ConfigError(
            f"data.pseudonyms with data.root={source.root}: pseudonyms need a folder; copy the recordings "
            "into one first"
        )
    pseudonyms = open_pseudonyms(params.pseudonyms, outputs_dir)
    read_names(pseudonyms)
    return Pseudonymised(source, pseudonyms, params)


@dataclass(frozen=True)
class Pseudonymised:
    """A source in which ids stand for names."""

    source: Source
    pseudonyms: Pseudonyms
    params: SourceParams

    @property
    def root(self) -> Path | Address:
        """Folder of the recordings."""
        return self.source.root

    @cached_property
    def names(self) -> dict[str, dict[str, str]]:
        """Names by kind and id; filled when the table is read."""
        return {}

    def watched(self) -> list[str] | None:
        """Return None: the names are looked for every time."""
        return None

    def votes(self, ballot: Ballot) -> VotesTable:
        """Return the source's table with ids instead of names."""
        try:
            table = self.source.votes(ballot)
        except ConfigError as error:
            raise ConfigError(_without(without_words(str(error), self.params), self._words())) from None
        ids = {
            kind: self.pseudonyms.ids_of(kind, table.frame[column].dropna().tolist())
            for kind, column in _COLUMNS.items()
        }
        self.names.update({kind: {i: name for name, i in of.items()} for kind, of in ids.items()})
        digest = blake2b(table.digest.encode(), key=self.pseudonyms.key, digest_size=16).hexdigest()
        return replace(table, frame=_with_ids(table.frame, ids), digest=digest, path=Path(WITHHELD))

    def _words(self) -> set[str]:
        """Return the words of the names of files and of the tables that the settings name."""
        texts = [name for _, folders, files in walked(self.root) for name in (*folders, *files)]
        for name in _paths(self.params):
            for base in (Path(), Path(self.root)):
                path = base / (getattr(self.params, name) or "")
                if path.is_file() and path.stat().st_size <= LARGEST_TABLE:
                    texts.append(path.read_bytes().decode("utf-8", "replace"))
        return {word for text in texts for word in _WORDS.findall(text)}

    def __getstate__(self) -> dict[str, Any]:
        # A worker is given places: it needs no names.
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def places(self, recordings: Iterable[str]) -> list[Place]:
        """Return where each recording is, under its id."""
        ids = list(recordings)
        found = self.source.places([self.names["recording"][i] for i in ids])
        return [self._hidden(place, i) for place, i in zip(found, ids, strict=True)]

    def _hidden(self, place: Place, name: str) -> Place:
        problem = None if place.problem is None else without_words(place.problem, self.params)
        return replace(place, recording=name, problem=problem)

    def part(self, start_s: float) -> str:
        """Return which part of a recording is behind a window."""
        return self.source.part(start_s)

    def ahead(self, parts: Sequence[Part]) -> None:
        """Pass on what is opened next."""
        self.source.ahead(parts)

    def open(self, place: Place) -> Recording:
        """Open a recording whose messages hold no words of its file."""
        with _hushed(self.params):
            return PrivateRecording(self.source.open(place), self.params)

    def companions(self, kind: str, items: pd.DataFrame) -> tuple[list[Place | None], list[float]]:
        """Return, per item, where its companion file is, under the id of its name."""
        names = {id_: name for of in self.names.values() for id_, name in of.items()}
        known = items.assign(
            recording=items["recording"].map(names), spectrogram_id=items["spectrogram_id"].map(names)
        )
        found, starts = self.source.companions(kind, known)
        places = [
            None
            if place is None
            else self._hidden(place, self.pseudonyms.id_of("spectrogram", place.recording))
            for place in found
        ]
        return places, starts

    def open_companion(self, place: Place, kind: str) -> Openable:
        """Open a companion file."""
        return self.source.open_companion(place, kind)


_COLUMNS = {
    "recording": "recording",
    "patient": "patient_id",
    "spectrogram": "spectrogram_id",
    "label": "label_id",
}
"""Columns of the votes table that hold names, by kind."""


def _with_ids(frame: pd.DataFrame, ids: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    made = frame.copy()
    for kind, column in _COLUMNS.items():
        known = ids[kind]
        made[column] = [known.get(name) if isinstance(name, str) else name for name in frame[column]]
    made["eeg_id"] = np.array([eeg_number(i) for i in made["recording"]], np.int64)
    # A column of the user's own may identify people, unless it counts something small, such as folds.
    told = [n for n in own_columns(made) if not made[n].astype(str).str.fullmatch(r"[0-9]{1,2}").all()]
    return made.drop(columns=["item", *told], errors="ignore")


class PrivateRecording:
    """A recording that tells what is wrong without the words of its file."""

    def __init__(self, recording: Recording, params: SourceParams) -> None:
        self._recording, self._params = recording, params
        self.sfreq = recording.sfreq
        named: Channels | None = getattr(recording, "named", None)
        self.named = None if named is None else replace(named, is_private=True)

    @property
    def channels(self) -> tuple[str, ...]:
        """Keys of the channels."""
        return self._recording.channels

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        with _hushed(self._params):
            return self._recording.n_samples

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What was mended, in our own words."""
        found: tuple[tuple[str, str], ...] = getattr(self._recording, "notes", ())
        return found

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Samples of each part without an interruption."""
        found: tuple[Stretch, ...] = getattr(self._recording, "stretches", ())
        return found

    def digest_of(self, part: str) -> str:
        """Return the digest of what is behind a part."""
        with _hushed(self._params):
            return self._recording.digest_of(part)

    def read(self, start: int, stop: int, channels: tuple[str, ...]) -> NDArray[np.float32]:
        """Return samples start to stop in µV."""
        with _hushed(self._params):
            return self._recording.read(start, stop, channels)


@contextmanager
def _hushed(params: SourceParams) -> Iterator[None]:
    """Take the words of files out of what makes a recording unusable."""
    try:
        yield
    except Unusable as reason:
        text = without_words(reason.reason, params)
        raise Unusable(text, failure=reason.failure, permanent=reason.permanent) from None


def without_words(text: str, params: SourceParams) -> str:
    """Return a message without paths of the settings and without what it quotes, but columns and settings."""
    values = [getattr(params, name) for name in _paths(params)]
    paths = [value for value in values if value is not None and len(value) > 2]
    spelled = {
        s for value in paths for s in (value, str(Path(value).expanduser().absolute()), Path(value).name)
    }
    for words in sorted(spelled - _OF_FORMATS, key=len, reverse=True):
        text = text.replace(words, WITHHELD) if words else text
    return _QUOTED.sub(lambda m: m[0] if _OWN_WORD.fullmatch(m[0]) else f"'{WITHHELD}'", text)


def _without(text: str, words: set[str]) -> str:
    """Return a message without the words of tables and names, but those of columns and formats."""
    return _WORDS.sub(lambda m: WITHHELD if m[0] in words - OWN_COLUMNS - _OF_FORMATS else m[0], text)


def _paths(params: SourceParams) -> set[str]:
    """Return the settings that are free text or nothing: places of files, and patterns of their names."""
    hints = get_type_hints(type(params))
    return {f.name for f in fields(params) if set(get_args(hints[f.name])) == {str, type(None)}}


def told_words(words: Sequence[str], *, private: bool | None = None) -> list[str]:
    """Return a command's words; behind pseudonyms, without those that name places or data.

    ``private`` says whether pseudonyms are asked for; None: the words themselves do.
    """
    if private is None:
        private = any(word.startswith("data.pseudonyms=") and not word.endswith("=null") for word in words)
    if not private:
        return list(words)
    told = [word for word in words if not word.startswith("data.") and not set(word) & {"/", os.sep}]
    return told + [WITHHELD] * (len(told) < len(words))


# --- next to the key ------------------------------------------------------------------------------


def read_names(pseudonyms: Pseudonyms) -> dict[tuple[str, str], str]:
    """Return the names written next to a key, by kind and id.

    Raises `ConfigError` if they were written with another key: the key file was changed.
    """
    try:
        text = regular_bytes(pseudonyms.names_path).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error):
        raise ConfigError("data.pseudonyms: the file of names next to the key file cannot be read") from None
    if any(set(row) != set(COLUMNS) or row["key"] != pseudonyms.check for row in rows):
        raise ConfigError(
            "data.pseudonyms: the file of names next to the key file belongs to another key; use that key "
            "again, or name a new key file"
        )
    return {(row["kind"], row["id"]): row["name"] for row in rows}


def write_names(source: Source) -> None:
    """Write next to the key which id stands for which name; nothing for a source without pseudonyms."""
    if not isinstance(source, Pseudonymised):
        return
    pseudonyms = source.pseudonyms
    known = read_names(pseudonyms)
    made = {(kind, i): name for kind in ("recording", "patient") for i, name in source.names[kind].items()}
    settings = place_of_settings(source.params)
    made["place", pseudonyms.id_of("place", settings)] = settings
    if made.items() <= known.items():
        return
    rows = ((pseudonyms.check, kind, i, name) for (kind, i), name in (known | made).items())
    path = pseudonyms.names_path
    commit_files(path.parent, {path.name: rows_text([COLUMNS, *rows]).encode()})


# --- a run's settings ----------------------------------------------------------------------------


def place_of_settings(params: SourceParams) -> str:
    """Return the section ``data`` as one text, with paths that mean the same from any folder."""
    section = dict(plain(params))
    for name in _paths(params):
        path = Path(section[name]).expanduser() if section[name] else None
        if path is not None and path.exists():
            section[name] = str(path.absolute())
    return json.dumps(section, sort_keys=True, ensure_ascii=False)


def hidden_settings(params: SourceParams, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return the section ``data`` without what may be left out, and with the id of where the rest is."""
    hints = get_type_hints(type(params))
    section: dict[str, Any] = {
        name: None if type(None) in get_args(hints[name]) else value for name, value in plain(params).items()
    }
    place = pseudonyms.id_of("place", place_of_settings(params))
    return {**section, "pseudonyms": f"key:{pseudonyms.check}:{place}"}


def restored_settings(params: SourceParams, outputs_dir: Path) -> dict[str, Any] | None:
    """Return the section ``data`` that a run of pseudonyms was made with; None where nothing is hidden.

    Raises `ConfigError` if the key is not given, is that of another run, or has no names next to it.
    """
    mark = _MARK.fullmatch(params.pseudonyms or "")
    if mark is None:
        return None
    given = os.environ.get(ENVIRONMENT)
    if not given:
        raise ConfigError(
            "the run was made with data.pseudonyms: its recordings can only be found with the key; set "
            f"{ENVIRONMENT} to the key file, or give the command that made the run again"
        )
    pseudonyms = open_pseudonyms(given, outputs_dir)
    if pseudonyms.check != mark[1]:
        raise ConfigError(f"{ENVIRONMENT}: the key file belongs to another run")
    settings = read_names(pseudonyms).get(("place", mark[2]))
    if settings is None:
        raise ConfigError(f"{ENVIRONMENT}: no file next to the key file says where the run's recordings are")
    section = json.loads(settings)
    assert isinstance(section, dict)
    return {**section, "pseudonyms": given}
