"""Overrides as they are typed: read by Hydra's grammar, with a remedy for what it cannot read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hms.config.convert import first_lines
from hms.errors import ConfigError

_FLAGS = (
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r",
    "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--experimental-rerun", "--info", "-i",
)  # fmt: skip
"""Hydra's own."""

_PAIRS = ("[]", "{}", "()")


def refuse_flag(text: str) -> None:
    """Raise if a word with dashes is none of Hydra's flags, with what was meant.

    Raises
    ------
    ConfigError
    """
    name, sign, value = text.partition("=")
    if name in _FLAGS:
        return
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
    if not texts:
        return []
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed = OverridesParser.create(), []
    for number, text in enumerate(texts):
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            before = texts[number - 1] if number else ""
            raise ConfigError(_with_remedy(text, before, first_lines(error))) from None
        if parsed[-1].key_or_group == "" and not text.startswith("~"):
            raise ConfigError(
                f"'{text}' names no setting before '='; write cwt=morlet, with no space before '='"
            )
    return parsed


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
