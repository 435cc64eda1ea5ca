"""The manual as pages of text: the contents, a group, a section, one setting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from hms.config.manual import EXPERIMENT, Manual, Option, Setting
from hms.terminal import columns, filled, narrowed

CHANGE_ITEMS = ("data", "marks", "unit", EXPERIMENT)
"""Groups that decide which items there are."""

_USAGE = """\
hms: from EEG recordings with expert votes to a training-ready package

  python run.py [GROUP=OPTION ...] [GROUP.SETTING=VALUE ...]     from anywhere: hms run ...
  python run.py -m GROUP=A,B ...      a sweep, which ends in a leaderboard
  python run.py plan=true ...         what would run, and why; computes nothing
  python run.py --cfg job ...         the composed settings
"""

_MORE = """\
hms help GROUP, hms help GROUP.SETTING: meaning, unit, range, default, and what a change recomputes
hms --help: look at, compare, check and export runs; hms completion bash: tab completion
Exit codes: 0 done, 1 a member of a sweep failed, 2 bad configuration or input table,
3 too many failed recordings, 4 storage, machine or engine failure, 130 interrupted"""


def contents(manual: Manual) -> str:
    """Return the table of contents of ``run.py --help``, in one screen."""
    rows = [("group", "what it decides", "options, the default first")]
    for group, meaning in manual.groups.items():
        rows.append((f"  {group}", meaning, ", ".join(option.name for option in manual.options[group])))
    top = filled("outside the groups: " + ", ".join(manual.outside_groups()), indent=2)
    return f"{_USAGE}\n{columns(narrowed(rows))}\n\n{top}\n\n{_MORE}"


def index(manual: Manual) -> str:
    """Return all groups and what lies next to them, with meaning and default."""
    rows = [("group", "default", "what it decides")]
    for group, meaning in manual.groups.items():
        default = "" if group == EXPERIMENT else manual.options[group][0].name
        rows.append((f"  {group}", default, meaning))
    rows.append(("outside the groups", "", ""))
    for name in manual.outside_groups():
        one = manual.settings.get(name)
        inside = ", ".join(s.path.rpartition(".")[2] for s in manual.below(name))
        rows.append(
            (f"  {name}", shown_default(one) if one else "", one.meaning if one else f"section: {inside}")
        )
    more = (
        "hms help GROUP, hms help GROUP.SETTING say more; plugins=[MODULE] and --config-dir DIR add your\n"
        "own options; hms help --schema FILE writes a JSON schema"
    )
    return f"{columns(narrowed(rows))}\n\n{more}"


def page_of_group(manual: Manual, path: str, stages_of: Callable[[str], Sequence[str]]) -> str:
    """Return the page of a group or section; ``stages_of`` gives those whose keys a setting can change."""
    parts = [f"{path}: {manual.groups.get(path) or 'a section'}"]
    options = manual.options.get(path, ())
    if options:
        parts.append("options, the default first\n" + "\n".join(map(_of_option, options)))
    settings = manual.below(path)
    if settings:
        rows = [("setting", "default", "unit", "allowed")]
        rows += [(f"  {s.path}", shown_default(s), s.unit, str(s.shape)) for s in settings]
        parts.append(_table(rows, settings, options))
    parts.append(_changes(settings, path, stages_of))
    return "\n\n".join(parts)


def _changes(settings: Sequence[Setting], path: str, stages_of: Callable[[str], Sequence[str]]) -> str:
    """Return what a change of each setting of a section computes again; equal ones are told together."""
    by_text: dict[str, list[str]] = {}
    for name in [setting.path for setting in settings] or [path]:
        by_text.setdefault(computed_again(stages_of(name), name), []).append(name)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "\n".join(
        filled(f"{', '.join(names)}: {' '.join(text.split())}", indent=2) for text, names in by_text.items()
    )


def page_of_setting(manual: Manual, path: str, stages: Sequence[str]) -> str:
    """Return the page of one setting; ``stages`` are those whose keys it can change."""
    setting = manual.settings[path]
    rows = [("allowed", str(setting.shape))]
    if setting.unit:
        rows.append(("unit", setting.unit))
    rows += [("default", text) for text in _defaults(setting)]
    if setting.note:
        rows.append(("note", setting.note))
    rows += [(f"of {option}", text) for option, text in setting.elsewhere.items()]
    head = filled(f"{setting.path}: {setting.meaning}", indent=2)
    width = max(len(name) for name, _ in rows)
    told = [filled(f"  {name:<{width}}  {text}", indent=width + 4) for name, text in rows]
    follow = ", ".join(manual.that_follow(path))
    more = [f"{follow} follows it, unless it is set"] if follow else []
    return "\n".join([head, *told, computed_again(stages, path), *more])


def page_of_stages(meanings: Mapping[str, str], asked: Sequence[str]) -> str:
    """Return what each stage makes: what ``stages=[...]`` takes, then what is made on the way."""
    parts = []
    for head, is_asked in (("stages=[...] takes", True), ("made along with them", False)):
        told = [(name, text) for name, text in meanings.items() if (name in asked) == is_asked]
        lines = (filled(f"  {name:<19} {text.replace('``', '')}", indent=22) for name, text in told)
        parts.append("\n".join([head, *lines]))
    return "\n".join(parts)


def _of_option(option: Option) -> str:
    lacks = option.kind and option.params is None and option.kind != EXPERIMENT
    note = f"(of a plugin: plugins=[MODULE] tells what its kind '{option.kind}' has)" if lacks else ""
    return filled(f"  {option.name:<18} {f'{option.meaning} {note}'.strip()}", indent=21)


def _table(rows: Sequence[Sequence[str]], settings: Sequence[Setting], options: Sequence[Option]) -> str:
    """Return the settings of a section: one line of facts each, and the meaning below it."""
    facts = columns(rows).splitlines()
    lines = [facts[0]]
    for line, setting in zip(facts[1:], settings, strict=True):
        own = list(setting.defaults) if len(setting.defaults) < len(options) else []
        only = f" (of {', '.join(own)})" if own else ""
        meaning = f"{setting.meaning}{only}".strip()
        lines += [filled(line, indent=4), *([filled(f"      {meaning}", indent=6)] if meaning else [])]
    return "\n".join(lines)


def _defaults(setting: Setting) -> list[str]:
    """Return each value that an option sets, with the options that set it, the default's first."""
    by_value: dict[str, list[str]] = {}
    for option, value in setting.defaults.items():
        by_value.setdefault(_text(value), []).append(option)
    group = setting.path.partition(".")[0]
    return [v if names == [""] else f"{v} ({group}={','.join(names)})" for v, names in by_value.items()]


def shown_default(setting: Setting, longest: int = 16) -> str:
    """Return the value of the default option as it is typed, or dots where that is long."""
    value = next((value for value in setting.defaults.values()), "")
    text = _text(value)
    return text if len(text) <= longest else "..."


def _text(value: object) -> str:
    """Return a value as it is typed; one that follows another setting, as that."""
    if isinstance(value, str) and (other := re.fullmatch(r"\$\{(.*)\}", value)):
        return f"as {other[1]}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def gives_other_items(stages: Sequence[str], path: str) -> bool:
    """Tell whether a setting, or a group, decides which items there are, and not how they are read."""
    group, _, name = path.partition(".")
    is_read = group == "data" and name not in ("", "kind") and len(stages) > 1  # more than the report's list
    return group in CHANGE_ITEMS and not is_read


def computed_again(stages: Sequence[str], path: str) -> str:
    """Return the sentence that says what a change of a setting computes again."""
    if gives_other_items(stages, path):
        return "a change can give other items; what is made from them is computed, the rest is kept"
    if stages:
        return filled(f"a change recomputes {', '.join(stages)}; everything else is kept", indent=2)
    return "a change recomputes nothing: no result depends on it"
