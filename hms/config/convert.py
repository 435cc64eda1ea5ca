"""From plain values to typed settings; what does not fit is refused with what is allowed."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hms.errors import ConfigError
from hms.registry import Group, Limits, Params, check_extends, did_you_mean, kinds, lookup

T = TypeVar("T")

COMMON, WITH_COMMON = "_common", ("cwt", "filter")
"""File of a group with what its options have in common, for an option of one's own to inherit."""


def first_lines(error: BaseException) -> str:
    """Return an error's text without Hydra's advice to append a key, and why an override failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith(("Could not override", "Error merging override")):
        lines[0] = lines[0].rstrip(".")
        lines += str(error.__cause__ or "").splitlines()[:1]
        if "is not in struct" in lines[-1]:
            lines[-1] += "; to add names to a mapping, write your own YAML and choose it with --config-dir"
    kept = [
        line for line in lines if "use +" not in line and not line.startswith(("full_key", "object_type"))
    ]
    return "; ".join(kept) or type(error).__name__


def as_typed(value: Any) -> str:
    """Return a value as it is typed in an override."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def build(cls: type[T], tree: Any, path: str) -> T:
    """Build a dataclass from a mapping; unknown and missing keys are errors."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path or 'the configuration'} is a section with keys, not {tree!r}")
    hints = _hints_of(cls)  # type: ignore[arg-type]
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key in tree:
        if key not in names:
            where = f"{path}.{key}" if path else str(key)
            raise ConfigError(
                f"{where} is not a setting{did_you_mean(str(key), names)}; "
                f"{path or 'the top level'} has {', '.join(names)}"
            )
    # A YAML of one's own that is older than a setting means what was before it.
    tree = {f.name: f.metadata["before"] for f in fields(cls) if "before" in f.metadata} | dict(tree)  # type: ignore[arg-type]
    missing = [name for name in names if name not in tree]
    if missing:
        raise ConfigError(f"{path or 'the configuration'} lacks {', '.join(missing)}{_inherited(path)}")
    values = {name: convert(tree[name], hints[name], f"{path}.{name}" if path else name) for name in names}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}.{error}" if path else str(error)) from None


@cache
def _hints_of(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _inherited(group: str) -> str:
    """Return how an option of one's own gets what all options of a group have."""
    has_common = group in WITH_COMMON
    return (
        f"; as the first line of its YAML, 'defaults: [{COMMON}]' gives the usual values"
        if has_common
        else ""
    )


def convert(value: Any, annotation: Any, path: str) -> Any:
    """Return ``value`` as the annotated type, or raise a ConfigError that says what is allowed."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _convert_annotated(value, arguments[0], arguments[1:], path)
    if origin in (Union, types.UnionType):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None and len(inner) < len(arguments) else convert(value, inner[0], path)
    if origin is Literal:
        if value not in arguments:
            options = [str(a) for a in arguments]
            raise ConfigError(
                f"{path}={as_typed(value)} is not allowed{did_you_mean(str(value), options)}; "
                f"it is one of {', '.join(options)}"
            )
        return value
    if origin is tuple:
        return _convert_tuple(value, arguments, path)
    if is_dataclass(annotation):
        return build(annotation, value, path)  # type: ignore[arg-type]
    return _convert_scalar(value, annotation, path)


def _convert_annotated(value: Any, inner: Any, marks: tuple[Any, ...], path: str) -> Any:
    for mark in marks:
        if isinstance(mark, Group):
            return _convert_section(value, mark.name, path)
    result = convert(value, inner, path)
    for mark in marks:
        if isinstance(mark, Limits) and result is not None and not mark.admit(result):
            raise ConfigError(f"{path}={as_typed(value)} is out of range; it must be {mark}")
    return result


def _convert_section(value: Any, group: str, path: str) -> Params:
    if not isinstance(value, Mapping) or "kind" not in value:
        raise ConfigError(f"{path} is a section with a 'kind', not {value!r}")
    try:
        entry = lookup(group, str(value["kind"]))
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{group}.kind", f"{path}.kind", 1)) from None
    check_extends(entry)
    own = {f.name for f in fields(entry.params)}
    others = set() if own.issuperset(value) else settings_of_other_kinds(group, entry.params)
    left = [str(name) for name in value if name in others]
    if left:
        where = f"; {path} has {', '.join(f.name for f in fields(entry.params))}"
        how = where if "." in path else f": choose it by an option, hms help {path} lists them"
        raise ConfigError(f"{path}.kind={value['kind']} has no {', '.join(left)}{how}")
    return build(entry.params, value, path)


def settings_of_other_kinds(group: str, cls: type[Any]) -> set[str]:
    """Return the names of settings that kinds of a group have, but not that of these settings."""
    of_any = {f.name for kind in kinds(group) for f in fields(lookup(group, kind).params)}
    return of_any - {f.name for f in fields(cls)}


def _convert_tuple(value: Any, arguments: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        value = [[key, item] for key, item in value.items()]
    if not isinstance(value, (list, tuple)):
        shown = value if isinstance(value, str) else "A,B"
        raise ConfigError(f"{path} is a list, not {value!r}; write {path}=[{shown}]")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(convert(item, arguments[0], f"{path}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{path} has {len(arguments)} parts, not {len(value)}")
    return tuple(convert(item, kind, path) for item, kind in zip(value, arguments, strict=True))


def _convert_scalar(value: Any, kind: Any, path: str) -> Any:
    result: Any = None
    if kind is bool:
        result = value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
    elif kind is str:
        result = None if isinstance(value, (Mapping, list)) or value is None else str(value)
    elif kind in (int, float) and not isinstance(value, bool):
        number = _number(value)
        if number is not None and kind is int and float(number).is_integer():
            result = int(number)
        elif number is not None and kind is float:
            result = float(number) + 0.0
    else:
        assert kind in (int, float), f"{path} is annotated with {kind}, which is not supported"
    if result is None:
        article = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}[kind]
        raise ConfigError(f"{path}={as_typed(value)} is not {article}")
    return result


def _number(value: Any) -> int | float | None:
    """Return a finite number from a number or its text, else None."""
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
