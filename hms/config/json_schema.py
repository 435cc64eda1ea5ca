"""A JSON schema of the YAML files, for editors: completion, meanings and checks while typing."""

from __future__ import annotations

from typing import Any

from hms.config.manual import EXPERIMENT, Manual, Option, Setting, Shape

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What the YAML plug-ins of editors know best."""

Schema = dict[str, Any]

_REFERENCE: Schema = {"type": "string", "pattern": r"^\$\{.+\}$"}
"""A value that is taken from elsewhere, as in ``seed: ${seed}``."""

_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def schema_of_experiments(manual: Manual) -> Schema:
    """Return the schema of an experiment's YAML, and of config.yaml: any setting, and a list of defaults."""
    properties: Schema = {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
    for name in (*manual.groups, *manual.outside_groups()):
        if name != EXPERIMENT:
            properties[name] = _section(manual, name, manual.groups.get(name, ""))
    return {"$schema": DIALECT, "title": "hms: settings", **_object(properties)}


def schema_of_group(manual: Manual, group: str) -> Schema:
    """Return the schema of the YAML of an option of a group: each kind with all its settings."""
    if group == EXPERIMENT:
        return schema_of_experiments(manual)
    by_kind = {option.kind: option for option in reversed(manual.options[group]) if option.params is not None}
    kinds = [_of_option(manual, group, option) for option in by_kind.values()]
    return {"$schema": DIALECT, "title": f"hms: an option of {group}", "anyOf": kinds}


def _of_option(manual: Manual, group: str, option: Option) -> Schema:
    assert option.params is not None
    section = _section(manual, group, option.meaning)
    names = [name for name in option.params.__dataclass_fields__ if name in section["properties"]]
    properties = {name: section["properties"][name] for name in names}
    return section | {
        "properties": properties | {"kind": {"const": option.kind}, "defaults": {"type": "array"}},
        "anyOf": [{"required": ["kind"]}, {"required": ["defaults"]}],
    }


def _section(manual: Manual, path: str, meaning: str) -> Schema:
    """Return the schema of a group, a section or a single setting."""
    own = manual.settings.get(path)
    below = manual.below(path)
    if own is not None and not below:
        return _of_setting(own)
    names = dict.fromkeys(setting.path[len(path) + 1 :].partition(".")[0] for setting in below)
    properties = {name: _section(manual, f"{path}.{name}", "") for name in names}
    if own is not None:  # a mapping whose names are the user's own, with settings below each
        return _described(_of_shape(own.shape), own)
    return _object(properties) | ({"description": meaning} if meaning else {})


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _of_setting(setting: Setting) -> Schema:
    schema = _of_shape(setting.shape)
    default = next(iter(setting.defaults.values()), None)
    return _described(schema, setting) | ({"default": default} if default is not None else {})


def _described(schema: Schema, setting: Setting) -> Schema:
    texts = [setting.meaning, setting.note, f"unit: {setting.unit}" if setting.unit else ""]
    return {"description": "; ".join(text for text in texts if text), **schema}


def _of_shape(shape: Shape) -> Schema:
    allowed = [_plain(shape)]
    if shape.kind in (int, float, bool):
        allowed.append(_REFERENCE)
    if shape.nullable:
        allowed.append({"type": "null"})
    return allowed[0] if len(allowed) == 1 else {"anyOf": allowed}


def _plain(shape: Shape) -> Schema:
    if shape.choices:
        return {"enum": list(shape.choices)}
    if shape.kind is dict:
        return {"type": "object", "additionalProperties": _of_shape(shape.items) if shape.items else {}}
    if shape.kind is tuple:
        length = {} if shape.length is None else {"minItems": shape.length, "maxItems": shape.length}
        return {"type": "array", "items": _of_shape(shape.items) if shape.items else {}, **length}
    if shape.kind not in _TYPES:
        return {"type": "object"}
    schema: Schema = {"type": _TYPES[shape.kind]}
    for limits in shape.limits:
        bounds = {"minimum": limits.at_least, "maximum": limits.at_most, "exclusiveMinimum": limits.above}
        schema |= {name: bound for name, bound in bounds.items() if bound is not None}
    return schema
