"""Pages of the documentation that are made from the code, and links to files that are no pages.

Settings come from the manual behind ``hms help``, commands from ``hms COMMAND --help``, changes from
CHANGELOG.md; notebooks are taken with the outputs that are stored in them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./)+((?!notebooks/)[^)#]+)(#[^)]*)?\)")
RUN_LINK = re.compile(r'<a [^>]*href="outputs/[^"]*"[^>]*>(.*?)</a>', re.S)
"""A link to a file of the run that a notebook made, which is not part of the documentation."""
FETCHED = "https://unpkg.com/iframe-worker/shim"
COMMANDS = (
    "scan", "ls", "show", "explain", "diff", "verify", "gc", "rm", "export", "report", "evaluate", "browse",
    "marks",
)  # fmt: skip


def on_config(config: Any) -> Any:
    """List every decision in the navigation."""
    found = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    pages = [f"decisions/{page.name}" for page in found if page.name != "index.md"]
    for section in config.nav:
        for entries in section.values():
            for entry in entries:
                if isinstance(entry, dict) and "Decisions" in entry:
                    entry["Decisions"] = ["decisions/index.md", *pages]
    return config


@event_priority(100)
def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here, and the notebooks."""
    for page, text in {
        "reference/settings.md": settings(),
        "reference/commands.md": commands(),
        "reference/python.md": PYTHON,
        "reference/changes.md": (ROOT / "CHANGELOG.md").read_text(),
    }.items():
        files.append(File.generated(config, page, content=text))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, content in pages_of(notebook).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def pages_of(notebook: Path) -> dict[str, str | bytes]:
    """Return a notebook as a page, and its pictures, by name; outputs are those that it was saved with."""
    from nbconvert import MarkdownExporter
    from traitlets.config import Config

    folder = f"{notebook.stem}_files"
    options = Config({"NbConvertBase": {"display_data_priority": ["text/html", "image/png", "text/plain"]}})
    resources = {"output_files_dir": folder, "unique_key": notebook.stem}
    text, made = MarkdownExporter(config=options).from_filename(str(notebook), resources=resources)
    text = RUN_LINK.sub(r"\1", text)
    return {f"{notebook.stem}.md": text, **made["outputs"]}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links to notebooks at their pages, and name files of the repository instead of linking them."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+notebooks/(\w+)\.ipynb", rf"]({up}notebooks/\1.md", markdown)
    return OUTSIDE.sub(lambda found: found[0] if _is_page(found, page, files) else f"`{found[3]}`", markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Take our own worker for files instead of one that the theme would fetch from elsewhere."""
    return output.replace(FETCHED, "../" * page.file.src_uri.count("/") + "site/worker.js")


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """Do the same for the page that says that there is none."""
    return output.replace(FETCHED, "/site/worker.js")


def _is_page(found: re.Match[str], page: Any, files: Files) -> bool:
    here = Path("/docs") / Path(page.file.src_uri).parent
    target = (here / found[0].split("](", 1)[1].split("#")[0].rstrip(")")).as_posix()
    parts: list[str] = []
    for part in target.strip("/").split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return files.get_file_from_path("/".join(parts[1:])) is not None and parts[:1] == ["docs"]


def settings() -> str:
    """Return every setting with meaning, unit, what is allowed, default and what a change recomputes."""
    from hms.config.help import shown_default
    from hms.config.manual import EXPERIMENT, read_manual
    from hms.pipeline.stage import made_from, meanings

    manual = read_manual()
    parts = [
        "# Settings",
        "Every setting of every group, from the YAML files and the classes that check them. "
        "`hms help NAME` says the same in a terminal, `hms help --schema FILE` to an editor.",
        "A change of a setting recomputes the stages that its row names, and what is made from those:",
        "| stage | what it is | made from it |\n|---|---|---|\n"
        + "\n".join(f"| `{n}` | {_cell(said)} | {_code(made_from(n))} |" for n, said in meanings().items()),
        "*Items*: the setting decides which recordings, windows or votes there are. What is new is computed, "
        "what stays is kept. *Nothing*: no result depends on it.",
    ]
    for group in (*manual.groups, *manual.outside_groups()):
        parts.append(f"## {group}")
        meaning = manual.groups.get(group)
        parts += [f"{meaning[:1].upper()}{meaning[1:]}."] if meaning else []
        options = manual.options.get(group, ())
        parts += ["\n".join(f"- `{group}={o.name}`: {_cell(o.meaning)}" for o in options)] if options else []
        if group == EXPERIMENT:
            continue
        single = manual.settings.get(group)
        rows = [single] if single else manual.below(group)
        if not rows:
            continue
        lines = ["| setting | meaning | default | unit | allowed | a change recomputes |"]
        lines.append("|---|---|---|---|---|---|")
        for s in rows:
            follow = "".join(f"; `{other}` follows it" for other in manual.that_follow(s.path))
            default, again = shown_default(s, longest=80), recomputed(s.path) + follow
            cells = (f"`{s.path}`", s.meaning, f"`{default}`", s.unit, str(s.shape), again)
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def recomputed(path: str) -> str:
    """Return what a change of a setting computes again: the first stages, as all others follow from them."""
    from hms.config.help import gives_other_items
    from hms.pipeline.stage import first_of, stages_of_setting

    stages = stages_of_setting(path)
    if gives_other_items(stages, path):
        return "*items*"
    return _code(first_of(stages)) if stages else "*nothing*"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("``", "`").replace("<", "&lt;")


def commands() -> str:
    """Return what each command says of itself."""
    from hms.cli import main

    parts = ["# Commands", "What `hms COMMAND --help` says."]
    for name in ("", *COMMANDS):
        text = io.StringIO()
        with redirect_stdout(text), suppress(SystemExit):
            main([*name.split(), "--help"])
        parts.append(f"## hms {name}".rstrip() + f"\n\n```\n{text.getvalue().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


PYTHON = """# Python

The four functions of `hms`, and what they give. In the examples, `run` is a finished run of four
recordings and `item_id` one of its items; a test runs all of them.

::: hms.compose

::: hms.run

::: hms.load

::: hms.transform

::: hms.results.run.Run
    options:
      inherited_members: true

::: hms.training.submission.submission

::: hms.training.dataset.SpecDataset

::: hms.training.metric
"""
