"""A sweep: one command, several members, one leaderboard.

Values separated by commas are multiplied out, every member is composed and planned
before the first starts, and members run one after another: joblib works inside each, and
what two of them share is computed once. A member that fails is a row of the table.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hms.config.compose import SEARCH_PATH, config_folders, group_options, hydra_settings
from hms.config.identity import digest_of
from hms.config.overrides import parse_overrides
from hms.config.pages import read_page
from hms.config.paths import with_quoted_paths
from hms.config.schema import Config, n_workers
from hms.engine.frozen import compose
from hms.errors import ConfigError, EngineError, StorageError, TooManyFailures, machine_fault
from hms.registry import fault_of_plugin
from hms.sweep.leaderboard import Leaderboard, make_leaderboard
from hms.sweep.members import Member, with_patients_aside
from hms.sweep.page import write_leaderboard
from hms.terminal import about, columns, counted, gentle_interrupts, said_once, say, show

if TYPE_CHECKING:
    from hms.engine.plan import Plan
    from hms.engine.space import Need

FOLDER = "sweeps"
SHARED = ("outputs_dir", "plan", "sweep", "n_jobs", "max_failed_share", "disk_check", "plugins")
"""What a sweep has one of: settings that say where and how, not what."""

BASIC_SWEEPER, BASIC_LAUNCHER = "BasicSweeper", "BasicLauncher"

MACHINE_FAILED = 4
"""Exit code of a sweep in which the machine failed at a member."""

READ_OF_HYDRA = ("hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher", "hydra.mode")
"""What of Hydra's own is read before there are members."""


# --- from a command to members -------------------------------------------------------------------


def expand(
    overrides: Sequence[str], config_dir: str | Path | None = None, *, combine: str = "all"
) -> tuple[list[str], list[list[str]]]:
    """Return the keys that vary, and the overrides of every member.

    Raises `ConfigError` if an override cannot be read, or names no finite list of values.

    Parameters
    ----------
    overrides : in Hydra's grammar; ``cwt=morlet,gmw``, ``weight=glob(*)`` and
        ``cwt.n_freqs=range(32,65,16)`` vary
    combine : "all", the product of all values, or "one_at_a_time", the first value of
        every key, then each other value with the first ones of the other keys
    """
    overrides = with_quoted_paths(overrides, sweep=True)
    parsed, folders = parse_overrides(overrides), config_folders(overrides, config_dir)
    keys = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    for key in keys:
        if key.partition(".")[0] in SHARED:
            raise ConfigError(f"{key} applies to the whole sweep; its members share it")
    texts = [
        _values(override, folders) if override.is_sweep_override() else [str(override.input_line)]
        for override in parsed
    ]
    members = itertools.product(*texts) if combine == "all" else _one_at_a_time(texts)
    return list(dict.fromkeys(keys)), [list(member) for member in dict.fromkeys(members)]


def _one_at_a_time(texts: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    first = tuple(values[0] for values in texts)
    yield first
    for place, values in enumerate(texts):
        for value in values[1:]:
            yield (*first[:place], value, *first[place + 1 :])


def _values(override: Any, folders: Sequence[Path]) -> list[str]:
    """Return an override for each value of a varying one."""
    from hydra.core.override_parser.types import Glob

    key = override.get_key_element()
    if isinstance(override.value(), Glob):
        names = override.value().filter(group_options(folders).get(key, []))
    elif override.is_discrete_sweep():
        names = list(override.sweep_string_iterator())
    else:
        raise ConfigError(f"'{override.input_line}' is not a list of values; only a search can draw from it")
    if not names:
        raise ConfigError(f"'{override.input_line}' gives no value")
    return [f"{key}={name}" for name in names]


def uses_hydras_sweeper(overrides: Sequence[str], config_dir: str | Path | None = None) -> bool:
    """Tell whether a command, or the experiment that it names, chooses a sweeper besides Hydra's basic one.

    Raises `ConfigError` if it chooses a launcher that starts members in other processes.
    """
    launchers = [
        text.partition("=")[2] for text in overrides if text.lstrip("+").startswith("hydra/launcher=")
    ]
    if any(name != "basic" for name in launchers):
        _refuse_launcher(launchers[-1])
    if not _may_name_hydra(overrides, config_dir):
        return False
    settings = hydra_settings(overrides, config_dir)
    if settings is None:  # what cannot be composed, an extra that is not installed for example
        return any(text.lstrip("+").startswith("hydra/sweeper") for text in overrides) or any(
            _overrides_a_sweeper(file) for file in _experiments(overrides, config_dir)
        )
    launcher = str(settings["launcher"].get("_target_", "")).rpartition(".")[2]
    if launcher != BASIC_LAUNCHER:
        _refuse_launcher(launcher)
    return str(settings["sweeper"].get("_target_", "")).rpartition(".")[2] != BASIC_SWEEPER


def is_multirun(overrides: Sequence[str], config_dir: str | Path | None = None) -> bool:
    """Tell whether ``hydra.mode=MULTIRUN`` makes a command a sweep, typed or in an experiment."""
    if not _may_name_hydra(overrides, config_dir):
        return False
    settings = hydra_settings(overrides, config_dir)
    return settings is not None and str(settings["mode"]).rpartition(".")[2] == "MULTIRUN"


def with_params(overrides: Sequence[str], config_dir: str | Path | None = None) -> list[str]:
    """Return the overrides with those of ``hydra.sweeper.params``, without Hydra's own.

    What was typed is in their place.
    """
    if not _may_name_hydra(overrides, config_dir):
        return list(overrides)
    settings = hydra_settings(overrides, config_dir) or {}
    params = (settings.get("sweeper") or {}).get("params") or {}
    own = [text for text in overrides if not text.lstrip("+").startswith(READ_OF_HYDRA)]
    typed = {override.get_key_element() for override in parse_overrides(own)}
    texts = {key: ",".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in params.items()}
    return [*own, *(f"{key}={text}" for key, text in texts.items() if key not in typed)]


def _may_name_hydra(overrides: Sequence[str], config_dir: str | Path | None) -> bool:
    """Tell whether anything of Hydra's own may be set, without composing: Hydra takes 0.1 s."""
    texts = [text.lstrip("+") for text in overrides]
    if any(text.startswith(("hydra.", "hydra/")) for text in texts):
        return True
    n_named = sum(text.startswith("experiment=") for text in texts)
    files = _experiments(overrides, config_dir) if n_named else []
    return len(files) < n_named or any(_OF_HYDRA.search(file.read_text("utf-8", "replace")) for file in files)


_OF_HYDRA = re.compile(r"hydra|^\s*-\s(?!\s*(override\s+/|_self_))", re.M)
"""What an experiment must have to set anything of Hydra's: the word, or another file that it is built on."""


def _refuse_launcher(name: str) -> NoReturn:
    raise ConfigError(
        f"hydra/launcher={name} starts members in separate processes, which give no leaderboard and leave no "
        "free cores for n_jobs; leave it out: members run one after another, each with n_jobs workers, and "
        "share common results"
    )


def _experiments(overrides: Sequence[str], config_dir: str | Path | None) -> list[Path]:
    names = [text.partition("=")[2] for text in overrides if text.startswith("experiment=")]
    folders = config_folders(overrides, config_dir)
    files = [folder / "experiment" / f"{name}.yaml" for folder in folders for name in names]
    return [file for file in files if file.is_file()]


def _overrides_a_sweeper(file: Path) -> bool:
    defaults = read_page(file).get("defaults", [])
    keys = [str(key) for entry in defaults if isinstance(entry, dict) for key in entry]
    return any(key.replace("override ", "").lstrip("/").startswith("hydra/sweeper") for key in keys)


# --- the plan ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Due:
    """A stage of a member: its key, the items it lacks, and the seconds that they take, if known."""

    name: str
    key: str
    to_do: int
    total: int
    seconds: float | None


@dataclass(frozen=True)
class Planned:
    """A member before its turn, with the stages that it needs."""

    member: Member
    run_hash: str = ""
    finished: bool = False
    stages: tuple[Due, ...] = ()
    needs: Mapping[str, Need] = field(default_factory=dict)
    """Room on the disk, by the key of the stage that writes."""


@dataclass(frozen=True)
class Sweep:
    """A sweep before it starts.

    Attributes
    ----------
    name : its folder in outputs/sweeps
    settings : the configuration that says where and how
    reference : number of the member that the others are compared with
    """

    name: str
    command: str
    settings: Config
    reference: int
    members: tuple[Planned, ...]

    @property
    def folder(self) -> Path:
        """Where the leaderboard goes."""
        return Path(self.settings.outputs_dir) / FOLDER / self.name


def plan_sweep(overrides: Sequence[str], config_dir: str | Path | None = None) -> Sweep:
    """Compose and plan every member; computes nothing.

    A member that cannot be composed or planned carries its error. Raises `ConfigError` if the command as a
    whole cannot be read, or names a reference that no member is.
    """
    overrides = with_params(overrides, config_dir)
    settings = _settings(overrides, config_dir)
    keys, texts = expand(overrides, config_dir, combine=settings.sweep.combine)
    members = []
    for number, own in enumerate(texts, start=1):
        apart = tuple(text for text in own if text.partition("=")[0] in keys)
        members.append(_composed(Member(number, apart), own, config_dir, confirm=settings.sweep.confirm))
    if settings.sweep.combine == "one_at_a_time":
        members = _named_by_difference(members)
    return Sweep(
        name=settings.sweep.name or _name(keys, overrides),
        command=_command(overrides, config_dir),
        settings=settings,
        reference=_reference(settings.sweep.reference, members),
        members=tuple(_planned(member) for member in members),
    )


def _settings(overrides: Sequence[str], config_dir: str | Path | None) -> Config:
    """Return the configuration that says where and how: what all members share."""
    shared = [
        str(override.input_line)
        for override in parse_overrides(with_quoted_paths(overrides, sweep=True))
        if (key := override.get_key_element()).partition(".")[0] in (*SHARED, "experiment")
        or key == SEARCH_PATH
        if not override.is_sweep_override()
    ]
    return compose(*shared, config_dir=config_dir)


def _named_by_difference(members: Sequence[Member]) -> list[Member]:
    """Name every member but the first by how it differs from the first."""
    first, *others = members
    own = (tuple(o for o in m.overrides if o not in first.overrides) for m in others)
    return [first, *(replace(m, overrides=texts) for m, texts in zip(others, own, strict=True))]


def _composed(
    member: Member, overrides: Sequence[str], config_dir: str | Path | None, *, confirm: bool
) -> Member:
    try:
        cfg = compose(*overrides, config_dir=config_dir)
        return replace(member, cfg=with_patients_aside(cfg) if confirm else cfg)
    except ConfigError as error:
        return replace(member, error=str(error))


def _name(keys: Sequence[str], overrides: Sequence[str]) -> str:
    """Return a name made of the varying keys and a digest of what was typed, without places and workers."""
    typed = [text for text in overrides if text.partition("=")[0].partition(".")[0] not in SHARED]
    words = "-".join(key.replace("/", "_").replace("@", "_") for key in keys)[:60] or "one"
    return f"{words}-{digest_of(typed, 4)}"


def _command(overrides: Sequence[str], config_dir: str | Path | None) -> str:
    from hms.sources.pseudonyms import told_words

    extra = [] if config_dir is None else ["--config-dir", str(config_dir)]
    return shlex.join(["python", "run.py", "-m", *told_words([*extra, *overrides])])


def _reference(asked: str | None, members: Sequence[Member]) -> int:
    """Return the number of the member that ``sweep.reference`` names: by number, or by its overrides.

    Raises `ConfigError` if it names none, or several.
    """
    if asked is None:
        return members[0].number
    if asked.isdecimal():
        found = [m.number for m in members if m.number == int(asked)]
    else:
        wanted = set(asked.replace(",", " ").split())
        found = [m.number for m in members if wanted <= set(m.overrides)]
    if len(found) != 1:
        listed = "; ".join(f"{m.number}: {m.label}" for m in members)
        raise ConfigError(
            f"sweep.reference={asked} names {len(found) or 'no'} members; "
            f"give the number or the overrides of one: {listed}"
        )
    return found[0]


def _planned(member: Member) -> Planned:
    """Plan a member; an error becomes its row of the table."""
    from hms.engine.manifest import is_whole
    from hms.engine.plan import make_plan
    from hms.engine.space import needed

    if member.cfg is None:
        return Planned(member)
    try:
        plan = make_plan(member.cfg)
        finished = is_whole(plan)
        needs = {} if finished else needed(plan)
        return Planned(member, plan.run_hash, finished, tuple(_due_stages(plan)), needs)
    except Exception as error:
        return Planned(_failed(member, error))


def _failed(member: Member, error: Exception) -> Member:
    """Return a member with the error that it ended with."""
    is_machine = isinstance(error, (EngineError, StorageError)) or bool(machine_fault(error))
    return replace(member, error=_text(error), machine_failed=is_machine)


def _text(error: Exception) -> str:
    """Return an error as its row shows it: known ones in their own words."""
    known = isinstance(error, (ConfigError, TooManyFailures, StorageError))
    text = str(error) if known else fault_of_plugin(error) or f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _due_stages(plan: Plan) -> Iterator[Due]:
    from hms.engine.explain import seconds_per_item
    from hms.engine.tables import known_table_files

    jobs, states = n_workers(plan.cfg.n_jobs), plan.states()
    for state in states:
        left = state.total - state.done
        pace = seconds_per_item(plan, state.stage) if left else 0.0
        seconds = None if pace is None else left * pace / jobs
        yield Due(state.stage.name, state.stage.key, left, state.total, seconds)
    known = {} if any(s.done < s.total for s in states) else known_table_files(plan)
    for stage in plan.tables:
        left = 0 if stage.name in known else 1
        yield Due(stage.name, stage.key, left, 1, seconds_per_item(plan, stage) if left else 0.0)


def plan_text(planned: Sweep) -> str:
    """Return what a sweep will compute, what its members share, and about how long it takes."""
    from hms.engine.space import space_text

    good = [p for p in planned.members if not p.member.error]
    finished = sum(p.finished for p in good)
    head = f"sweep {planned.name}: {counted(len(planned.members), 'member')}"
    notes = [f"{finished} finished"] if finished else []
    notes += [f"{len(planned.members) - len(good)} cannot run"] if len(good) < len(planned.members) else []
    unique = _unique(good)
    rows: list[tuple[str, ...]] = [("  stage", "sets", "for members", "to compute", "about")]
    rows += [_stage_row(name, dues, good) for name, dues in unique.items()]
    lines = [", ".join([head, *notes]), *([columns(rows)] if good else []), *_about(unique, good)]
    if needs := _needs(good):
        lines.append(space_text(needs, Path(planned.settings.outputs_dir)))
    return "\n".join([*lines, *_member_lines(planned)])


def _needs(members: Iterable[Planned]) -> list[Need]:
    """Return the space that members will need: what they share counts once."""
    shared: dict[str, Need] = {}
    own: list[Need] = []
    for planned in members:
        own += [need for key, need in planned.needs.items() if not key]
        shared |= {key: need for key, need in planned.needs.items() if key}
    return [*shared.values(), *own]


def _unique(members: Iterable[Planned]) -> dict[str, list[Due]]:
    """Return the distinct stages that members need by name, each with the most work it has left."""
    found: dict[str, dict[str, Due]] = {}
    for planned in members:
        for due in planned.stages:
            of_name = found.setdefault(due.name, {})
            if due.key not in of_name or of_name[due.key].to_do < due.to_do:
                of_name[due.key] = due
    return {name: list(dues.values()) for name, dues in found.items()}


def _stage_row(name: str, dues: Sequence[Due], members: Sequence[Planned]) -> tuple[str, ...]:
    wanting = sum(any(due.name == name for due in planned.stages) for planned in members)
    left = [due for due in dues if due.to_do]
    items = sum(due.to_do for due in left if due.total > 1)
    work = f"{len(left)}" + (f" ({counted(items, 'item')})" if items else "") if left else "none"
    known = [due.seconds for due in left if due.seconds is not None]
    duration = f"{sum(known):.1f} s" if known and len(known) == len(left) else ""
    return (f"  {name}", str(len(dues)), str(wanting), work, duration)


def _about(unique: dict[str, list[Due]], members: Sequence[Planned]) -> list[str]:
    dues = [due for found in unique.values() for due in found if due.to_do]
    if not dues:
        return ["nothing is left to compute"] if members else []
    known = [due.seconds for due in dues if due.seconds is not None]
    unknown = sorted({due.name for due in dues if due.seconds is None})
    how_long = about(sum(known)) if known else "the duration is not known"
    if not unknown:
        return [f"{how_long} in all"]
    return [f"{how_long}{', and what was' if known else ':'} never computed here: {', '.join(unknown)}"]


def _member_lines(planned: Sweep) -> Iterator[str]:
    """Yield what is known of each member; what several are refused for is said of the first."""
    refused: dict[str, int] = {}
    for each in planned.members:
        member = each.member
        state = "finished" if each.finished else f"run {each.run_hash}"
        if member.error:
            first = refused.setdefault(member.error, member.number)
            state = member.error if first == member.number else f"refused as member {first}"
        note = " (the reference)" if member.number == planned.reference else ""
        yield f"  {member.number}  {member.label}{note}: {state}"


# --- running -------------------------------------------------------------------------------------


def sweep(*overrides: str, config_dir: str | Path | None = None) -> Leaderboard:
    """Run the members of a sweep and return its leaderboard, which is also written.

    Raises `ConfigError` if the command as a whole cannot be read; what only one member is wrong about is in
    its row. Raises `StorageError` if the leaderboard cannot be written.

    Parameters
    ----------
    *overrides : as after ``run.py -m``: ``"cwt=morlet,gmw"``, ``"baseline=logreg"``
    """
    with said_once():
        return _carry_out(plan_sweep(overrides, config_dir))


def run_sweep(overrides: Sequence[str], config_dir: str | Path | None = None) -> int:
    """Run ``run.py -m`` and return the exit code: 1 if a member failed, 4 if the machine did."""
    with said_once():
        planned = plan_sweep(overrides, config_dir)
        if not planned.settings.plan:
            with gentle_interrupts():
                return finish(_carry_out(planned), planned.folder)
    show(plan_text(planned))
    members = [p.member for p in planned.members]
    return MACHINE_FAILED if any(m.machine_failed for m in members) else int(any(m.error for m in members))


def finish(board: Leaderboard, folder: Path) -> int:
    """Show a leaderboard and where it lies; return 4 if the machine failed, 1 if a member did, else 0."""
    show(board)
    show(f"{os.path.join(folder, 'leaderboard.html')} has every column (also .csv and .json)")
    if board.n_failed:
        say(f"hms: {board.n_failed} of {len(board.rows)} members failed")
    return MACHINE_FAILED if board.machine_failed else int(board.n_failed > 0)


def _carry_out(planned: Sweep) -> Leaderboard:
    """Run members one after another; whatever happens, the leaderboard of what is there is written."""
    from hms.engine.space import check_space

    say(plan_text(planned))
    if planned.settings.disk_check and (needs := _needs(planned.members)):
        check_space(needs, Path(planned.settings.outputs_dir))
    members = [p.member for p in planned.members]
    try:
        for i, member in enumerate(members):
            if not member.error:
                say(f"member {member.number} of {len(members)}: {member.label}")
                members[i] = run_member(member)
    except KeyboardInterrupt:
        waiting = [m.run is None and not m.error for m in members]
        members = [replace(m, error="interrupted") if w else m for m, w in zip(members, waiting, strict=True)]
        write_leaderboard(_board(planned, members), planned.folder)
        raise
    board = _board(planned, members)
    write_leaderboard(board, planned.folder)
    return board


def _board(planned: Sweep, members: Sequence[Member]) -> Leaderboard:
    return make_leaderboard(
        members,
        name=planned.name,
        command=planned.command,
        objective=planned.settings.sweep.objective,
        reference=planned.reference,
    )


def run_member(member: Member) -> Member:
    """Return a member with its run, or with the error that it ended with."""
    from hms.engine.runner import run

    if member.cfg is None:
        return member
    try:
        return replace(member, run=run(member.cfg))
    except Exception as error:
        say(f"  failed: {_text(error)}")
        return _failed(member, error)
