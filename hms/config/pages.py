"""YAML read and written as OmegaConf does, without it: Hydra and it take as long to import as pandas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hms.config.reading import walked
from hms.errors import ConfigError

_FLOAT = re.compile(
    r"""[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+
    |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
"""What OmegaConf takes for a number with a fraction or an exponent."""

_TRUTHS = frozenset(
    text
    for word in ("y", "n", "yes", "no", "true", "false", "on", "off")
    for text in (word, word.title(), word.upper())
)
"""Texts that some readers of YAML take for true or false."""

_FLOAT_TAG, _DATE_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


def page_of(text: str) -> Any:
    """Return what a text in YAML says; references such as ``${seed}`` stay as they are.

    Raises `ValueError` if it is not YAML, or names a key of a mapping twice.
    """
    import yaml

    try:
        return yaml.load(text, _reader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


@contextmanager
def told_of_pages(folders: Iterable[str | Path]) -> Iterator[None]:
    """Tell, as `ConfigError`, of a page in folders that cannot be read, if that is why something fails."""
    try:
        yield
    except ConfigError:
        raise
    except Exception:
        looks = (look for folder in folders for look in walked(str(folder)))
        found = (Path(base, name) for base, _, names in looks for name in sorted(names))
        for path in (path for path in found if path.suffix == ".yaml"):
            try:
                read_page(path)
            except (OSError, ValueError, RecursionError) as error:
                lines = str(error).replace('"<unicode string>", ', "").splitlines()
                why = "; ".join(line.strip() for line in lines)
                raise ConfigError(f"{path} cannot be read as settings: {why}") from None
        raise


def read_page(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raises `ValueError` if it holds something else."""
    page = page_of(path.read_text(encoding="utf-8"))
    if not isinstance(page, dict):
        raise ValueError("it is not a mapping of names to values")
    return {str(name): value for name, value in page.items()}


@cache
def _reader() -> Any:
    import yaml

    class Reader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value]
            if len(set(names)) < len(names):
                raise yaml.constructor.ConstructorError("a mapping", node.start_mark, "names a key twice")
            return super().construct_mapping(node, deep)

    Reader.add_implicit_resolver(
        _FLOAT_TAG, re.compile(f"^(?:{_FLOAT.pattern})$", re.VERBOSE), [*"-+0123456789."]
    )
    Reader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != _DATE_TAG]
        for first, known in Reader.yaml_implicit_resolvers.items()
    }
    return Reader


def yaml_of(tree: Mapping[str, Any]) -> str:
    """Return nested mappings, lists and scalars as YAML text."""
    return _yaml_of(json.dumps(tree))


@lru_cache(maxsize=4)
def _yaml_of(tree: str) -> str:
    """Return JSON as YAML: a run writes its configuration into two files, and each would take 10 ms."""
    import yaml

    return str(
        yaml.dump(
            json.loads(tree), Dumper=_writer(), default_flow_style=False, allow_unicode=True, sort_keys=False
        )
    )


@cache
def _writer() -> Any:
    import yaml

    class Writer(yaml.SafeDumper):  # type: ignore[misc]
        pass

    def text(writer: Any, value: str) -> Any:
        return writer.represent_scalar(
            "tag:yaml.org,2002:str", value, style="'" if _needs_quotes(value) else None
        )

    Writer.add_representer(str, text)
    return Writer


def _needs_quotes(text: str) -> bool:
    """Tell whether a text without quotes would be read as a number or a truth."""
    if text in _TRUTHS:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
