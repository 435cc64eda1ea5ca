"""Overrides as they are typed: read by Hydra's grammar, with a remedy for what it cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from hms.config.convert import first_lines
from hms.errors import ConfigError

__all__ = ["Plain", "Words", "parse_overrides", "split_words"]

_LONG = {
    "-c": "--cfg",
    "-i": "--info",
    "-p": "--package",
    "-sc": "--shell-completion",
    "-cp": "--config-path",
    "-cn": "--config-name",
}

_ALLOWED: dict[str, tuple[str, ...]] = {
    "--hydra-help": (),
    "--resolve": (),
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--shell-completion": (),
    "--package": ("PACKAGE",),
    "--config-path": ("DIR",),
    "--config-name": ("NAME",),
}
"""Flags that Hydra answers, with the values that they take."""

_PAIRS = ("[]", "{}", "()")


@dataclass(frozen=True)
class Words:
    """A command line of run.py, taken apart.

    Attributes
    ----------
    overrides : what sets something
    config_dir : folder with options of one's own
    multirun : whether it is a sweep
    hydra : flags that Hydra answers, with their values
    """

    overrides: list[str]
    config_dir: str | None
    multirun: bool
    hydra: list[str]


def split_words(texts: Sequence[str]) -> Words:
    """Take a command line apart; overrides and flags may stand in any order.

    Raises `ConfigError` if it is not a flag, or lacks its value.
    """
    overrides: list[str] = []
    hydra: list[str] = []
    config_dir, multirun = None, False
    rest = iter(texts)
    for text in rest:
        name, sign, value = text.partition("=")
        if text in ("-m", "--multirun"):
            multirun = True
        elif name in ("-cd", "--config-dir"):
            config_dir = value if sign else next(rest, "")
            if not config_dir:
                raise ConfigError("--config-dir is followed by nothing; write --config-dir DIR")
        elif not text.startswith("-"):
            overrides.append(text)
        elif text not in ("-r", "--run"):  # what happens anyway
            hydra += _hydras_flag(text, rest)
    for name in ("--resolve", "--package"):
        if name in hydra and "--cfg" not in hydra:
            raise ConfigError(f"{name} changes what --cfg shows; write --cfg job {name}")
    return Words(overrides, config_dir, multirun, hydra)


def _hydras_flag(text: str, rest: Iterator[str]) -> list[str]:
    """Return a flag that Hydra answers, spelled out and with its value, taken from the words after it."""
    name, sign, value = text.partition("=")
    name = _LONG.get(name, name)
    if name not in _ALLOWED:
        _refuse_flag(text)
    allowed = _ALLOWED[name]
    if not allowed:
        return [name]
    value = (value if sign else next(rest, "")) or ("all" if name == "--info" else "")
    if not value or (len(allowed) > 1 and value not in allowed):
        told = f"'{value}'" if value else "nothing"
        raise ConfigError(f"{name} is followed by {told}; write {name} {'|'.join(allowed)}")
    return [name, value]


def _refuse_flag(text: str) -> NoReturn:
    name, sign, value = text.partition("=")
    bare = name.lstrip("-").replace("-", "_")
    bare = "outputs_dir" if bare == "outputs" else bare
    if sign:
        raise ConfigError(f"'{text}': settings are written without dashes: {bare}={value}")
    raise ConfigError(
        f"'{text}' is not a flag; settings are written as {bare or 'cwt'}=VALUE, and --help lists all"
    )


def parse_overrides(texts: Sequence[str]) -> list[Any]:
    """Return overrides as Hydra's grammar reads them.

    Raises `ConfigError` if one cannot be read; the text says how to write it.
    """
    plain = [_plain(text) for text in texts]
    if None not in plain:
        return plain
    from hydra.errors import HydraException

    parsed = []
    for number, text in enumerate(texts):
        try:
            parsed.append(_parsed(text))
        except HydraException as error:
            before = texts[number - 1] if number else ""
            raise ConfigError(_with_remedy(text, before, first_lines(error))) from None
        if parsed[-1].key_or_group == "" and not text.startswith("~"):
            raise ConfigError(
                f"'{text}' names no setting before '='; write cwt=morlet, with no space before '='"
            )
    return parsed


_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SETS = re.compile(rf"({_NAME}(?:\.{_NAME})*)=(?:\[(.*)\]|(.+))")
_TEXT, _WHOLE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./:-]*"), re.compile(r"-?(?:0|[1-9][0-9]*)")
_FRACTION, _IN_QUOTES = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+"), re.compile(r"'([^'\\$]*)'")
_MEANS = {"null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Plain:
    """An override of one setting by a number, a text or a list of these, read as Hydra reads it."""

    key_or_group: str
    input_line: str
    means: Any

    def value(self) -> Any:
        """Return what the setting is to be."""
        return list(self.means) if isinstance(self.means, list) else self.means

    def get_key_element(self) -> str:
        """Return the name of the setting."""
        return self.key_or_group

    def is_sweep_override(self) -> bool:
        """Tell that it names one value."""
        return False

    is_delete = is_add = is_force_add = is_sweep_override


@lru_cache(maxsize=512)
def _plain(text: str) -> Plain | None:
    """Return a plain override, None for what Hydra's grammar has to read: a tenth of a second to import."""
    found = _SETS.fullmatch(text)
    if found is None or found[1].startswith("hydra."):
        return None
    key, inside, value = found.groups()
    try:
        if value is not None:
            return Plain(key, text, _meant(value))
        return Plain(key, text, [_meant(part) for part in inside.split(",")] if inside else [])
    except ValueError:
        return None


def _meant(text: str) -> Any:
    """Return the value that a text stands for; raises `ValueError` if Hydra's grammar has to say it."""
    if text.lower() in _MEANS:
        return _MEANS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    if quoted := _IN_QUOTES.fullmatch(text):
        return quoted[1]
    if _TEXT.fullmatch(text) and text.lower() not in ("inf", "nan"):
        return text
    raise ValueError(text)


@lru_cache(maxsize=512)
def _parsed(text: str) -> Any:
    """Return an override as Hydra reads it; composing asks for each several times."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(text)


def _with_remedy(text: str, before: str, error: str) -> str:
    """Return what is wrong with an override that cannot be read, and how it is written."""
    key, sign, value = text.partition("=")
    told = error.partition("; See ")[0]
    if _open_brackets(before) or _open_brackets(value) or (not sign and text[-1:] in "]})" and text):
        return (
            f"'{text}': a bracket is not closed or not opened; the shell splits words at spaces, so write a "
            "list without them (stages=[labels,splits]) or the whole in quotes ('stages=[labels, splits]')"
        )
    if not sign:
        with_sign = text.replace(":", "=", 1) if ":" in text else f"{text}=VALUE"
        return f"'{text}' gives no value; write {with_sign}"
    if " " in key:
        return f"'{text}': there must be no space around '='; write {key.strip()}={value.strip()}"
    if value.startswith("="):
        return f"'{text}': one '=' is enough; write {key}={value.lstrip('=')}"
    if value.startswith("~"):
        return f"'{text}': the shell does not expand ~ after '='; write {key}=$HOME{value[1:]}"
    if value.count("'") % 2 or value.count('"') % 2:
        return f"'{text}': a quote is not closed; write {_quoted(key, value)}, with both kinds of quotes"
    if value.startswith(",") or value.endswith(","):
        return f"'{text}': a value is missing next to a comma; write {key}={value.strip(',') or 'VALUE'}"
    return f"'{text}' needs quotes: write {_quoted(key, value)}, with both kinds of quotes ({told})"


def _open_brackets(text: str) -> bool:
    return any(text.count(pair[0]) != text.count(pair[1]) for pair in _PAIRS)


def _quoted(key: str, value: str) -> str:
    """Return an override whose value Hydra takes as it is, in the quotes that the shell needs around it."""
    bare = value.replace("'", "").replace('"', "")
    return f"""'{key}="{bare}"'"""
