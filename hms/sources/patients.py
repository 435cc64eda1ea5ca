"""Who is who: the rule by which recordings belong to patients. One place for all sources of files.

Folds keep every patient whole, so it must be known whose each recording is. Nothing is guessed: a rule is
declared, or each recording counts as a patient of its own and no folds are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hms.errors import ConfigError
from hms.sources.base import SourceParams
from hms.sources.names import safe_ids
from hms.terminal import listed

CHOICES = (
    "data.patient=header (the file's header names the patient), folder (the first folder below data.root), "
    "regex (data.patient_regex finds it in the path), table (a column patient_id) or file (each file is one)"
)
"""What a message says of the rules there are."""

PatientsOf = Callable[[Sequence[str]], list[str | None]]


@dataclass(frozen=True)
class PatientParams(SourceParams):
    """Settings of a source whose recordings do not say by themselves whose they are.

    Attributes
    ----------
    patient : how the patient of a recording is found; None: from the table of windows, if it says so
    patient_regex : for ``regex``: matched against the relative path; the patient is its group ``patient``,
        else its first group, else the whole match
    patient_table : for ``table``: a CSV with recording,patient_id, if the table of windows has no such column
    """

    patient: Literal["header", "folder", "regex", "table", "file"] | None
    patient_regex: str | None
    patient_table: str | None

    def __post_init__(self) -> None:
        if (self.patient == "regex") != (self.patient_regex is not None):
            raise ValueError(
                "patient=regex and patient_regex go together: patient_regex='sub-([0-9]+)', for example"
            )
        if self.patient_regex is not None:
            try:
                re.compile(self.patient_regex)
            except re.error as error:
                raise ValueError(
                    f"patient_regex '{self.patient_regex}' is not a regular expression: {error}"
                ) from None
        if self.patient_table is not None and self.patient != "table":
            raise ValueError("patient_table needs patient=table")


@dataclass(frozen=True)
class Patients:
    """The patient of each recording, and where that comes from.

    Attributes
    ----------
    of : patient by recording
    source : in words, for the summary and the report
    declared : whether anybody has said it; otherwise each recording counts as a patient
    """

    of: Mapping[str, str]
    source: str
    declared: bool = True


UNDECLARED = "not declared, each recording counts as one"


def patients_of(
    recordings: Sequence[str],
    params: PatientParams,
    *,
    headers: PatientsOf,
    table: Mapping[str, str] | None = None,
    table_name: str = "",
) -> Patients:
    """Return the patient of each recording by the declared rule.

    Raises `ConfigError` if the rule finds no patient for a recording; the text names the other choices.

    Parameters
    ----------
    headers : returns what each recording's header calls its patient, empty if it names nobody, None if
        there is no header to be read: such a recording will be left out, and counts as a patient
    table, table_name : patient by recording, where a table says it, and what messages call the table
    """
    if params.patient is None and table is None:
        return Patients(safe_ids(recordings), UNDECLARED, declared=False)
    if params.patient == "file":
        return Patients(safe_ids(recordings), "each file is one (data.patient=file)")
    if params.patient in (None, "table"):
        if table is None:
            raise ConfigError(
                "data.patient=table needs a column patient_id in data.windows, or data.patient_table"
            )
        found: dict[str, str | None] = {name: table.get(name) or "" for name in recordings}
        source = f"column patient_id of {'a table' if params.pseudonyms is not None else table_name}"
    elif params.patient == "header":
        found = dict(zip(recordings, headers(recordings), strict=True))
        source = "the files' headers (data.patient=header)"
    elif params.patient == "folder":
        found = {name: _first_folder(name) for name in recordings}
        source = "the first folder below data.root (data.patient=folder)"
    else:
        pattern = re.compile(params.patient_regex or "")
        found = {name: _matched(pattern, name) for name in recordings}
        source = f"data.patient_regex={params.patient_regex} in the path"
        if params.pseudonyms is not None:
            source = "the path (data.patient=regex)"
    _refuse_nobody(found, params)
    return Patients({name: name if who is None else who for name, who in found.items()}, source)


def _first_folder(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else ""


def _matched(pattern: re.Pattern[str], name: str) -> str:
    found = pattern.search(name)
    if found is None:
        return ""
    if "patient" in pattern.groupindex:
        return found["patient"] or ""
    return (found[1] if pattern.groups else found[0]) or ""


def _refuse_nobody(found: Mapping[str, str | None], params: PatientParams) -> None:
    """Raise if a rule names no patient for some recordings; names of files stay private on request."""
    nobody = [name for name, who in found.items() if who == ""]
    if not nobody:
        return
    shown = "" if params.pseudonyms is not None else f" ({listed(nobody)})"
    rule = f"data.patient={params.patient or 'table'}"
    raise ConfigError(
        f"{rule} names no patient for {len(nobody)} of {len(found)} recordings{shown}; remove them from the "
        f"folder if you do not need them, or choose another of {CHOICES}"
    )
