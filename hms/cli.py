"""The ``hms`` command: look at runs, compare, check, mend, export and forget them."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hms import __version__
from hms.errors import ConfigError
from hms.terminal import (
    columns,
    counted,
    local_time,
    printable,
    say,
    show,
    table,
    text_width,
    watch_interrupts,
)

if TYPE_CHECKING:
    from hms.config.manual import Manual
    from hms.results.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``hms`` command and return the exit code."""
    if arguments is None:
        watch_interrupts()
    from hms.main import guarded
    from hms.main import main as run_main

    texts = list(sys.argv[1:] if arguments is None else arguments)
    if texts[:1] == ["run"]:
        return run_main(texts[1:])
    parser = make_parser()
    if not texts:
        parser.print_help(sys.stderr)
        return 2
    if texts[:1] == ["--outputs"] and texts[2:3] == ["run"]:
        parser.error(f"hms run says where by a setting: hms run outputs_dir={texts[1]} ...")
    given, unknown = parser.parse_known_args(texts)
    if unknown:
        said = f"hms {given.name} does not take {' '.join(unknown)}"
        parser.exit(2, f"hms: {said}; see hms {given.name} --help\n")
    return guarded(lambda: _do(given))


def _do(given: argparse.Namespace) -> int:
    """Carry out a command, unless the ``--outputs`` that was typed is no folder."""
    from hms.config.paths import fault_of_outputs

    if given.outputs is not OUTPUTS and (fault := fault_of_outputs(given.outputs)):
        raise ConfigError(f"--outputs {given.outputs} {fault}")
    return int(given.do(given) or 0)


OUTPUTS = Path("outputs")

RUN_HELP = "a run's hash, the beginning of one, a path, or 'latest'"
TRUST_HELP = "import code that the run's folder names, and make its recordings; only for runs that you know"
CONFIG_DIR_HELP = "a folder with options of your own"


class _Parser(argparse.ArgumentParser):
    """Answers a mistyped command by the one that was meant; what was typed never steers a terminal.

    The parser of one command takes its options anywhere among its words.
    """

    _is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return what was typed, and what of it is not known."""
        if self._is_mixing or self.get_default("do") is None:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message), file)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2; an override or a near miss for a command is told what it was meant for."""
        from hms.registry import did_you_mean

        found = re.search(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if found is None:
            super().error(message.removesuffix(", OVERRIDE"))  # there may be none, whatever Python says
        word, commands = found[2], [name.strip(" '") for name in found[3].split(",")]
        if "=" in word:
            self.exit(2, f"hms: '{word}' is a setting; hms run {word} prepares with it\n")
        listed = ", ".join(commands)
        what = found[1].lower() if found[1].isupper() else f"value of {found[1]}"
        self.exit(2, f"hms: '{word}' is not a {what}{did_you_mean(word, commands)}; there are {listed}\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``hms`` command."""
    parser = _Parser(
        prog="hms",
        description="Look at, compare, check, repair, export and remove runs.",
        epilog=f"RUN is {RUN_HELP}. hms COMMAND --help says more.",
    )
    outputs: dict[str, Any] = {
        "type": lambda text: Path(text) if text else text,
        "metavar": "DIR",
        "help": "folder of the runs (default: outputs)",
    }
    parser.add_argument("--outputs", default=OUTPUTS, **outputs)
    parser.add_argument("--version", action="version", version=f"hms {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, do: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--outputs", default=argparse.SUPPRESS, **outputs)
        sub.set_defaults(do=do, name=name)
        return sub

    def of_run(do: object, name: str, text: str, *, latest: bool = False) -> argparse.ArgumentParser:
        sub = command(name, do, text)
        sub.add_argument("--trust", action="store_true", help=TRUST_HELP)
        usual: dict[str, Any] = {"nargs": "?", "default": "latest"} if latest else {}
        sub.add_argument(
            "run", metavar="RUN", help=RUN_HELP + (" (default: latest)" if latest else ""), **usual
        )
        return sub

    command("ls", _ls, "list the finished runs")
    shown = of_run(_show, "show", "show a run: what is in it, and what it was made with")
    shown.add_argument("--all", action="store_true", help="also every setting, stage and version")
    explain = command(
        "explain", _explain, "show what a run would compute, and why; takes overrides as run.py does"
    )
    explain.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings, as of run.py")
    explain.add_argument("--config-dir", metavar="DIR", help=CONFIG_DIR_HELP)
    explain.add_argument("--all", action="store_true", help="every reason, where there are many")
    diff = command("diff", _diff, "compare two runs: settings, stages, numbers")
    diff.add_argument("--trust", action="store_true", help=TRUST_HELP)
    diff.add_argument("a", metavar="A", help=RUN_HELP)
    diff.add_argument("b", metavar="B", help="the run to compare it with")
    diff.add_argument(
        "--html", action="store_true", help="write a page with pictures into the folder of the runs"
    )
    text = "print where a run's report is; make it if the run has none"
    report = of_run(_report, "report", text, latest=True)
    report.add_argument("--open", action="store_true", help="also open it in a browser")
    text = "score predictions of a run's items, or two files against each other; writes a page"
    evaluate = of_run(_evaluate, "evaluate", text)
    evaluate.add_argument(
        "predictions",
        metavar="PREDICTIONS",
        help="csv or npz: item_id, and a column of shares for each class",
    )
    evaluate.add_argument("other", metavar="OTHER", nargs="?", help="a second file, scored on the same items")
    evaluate.add_argument(
        "--all", action="store_true", help="print every group of items, as the page has them"
    )
    text = "look at every recording of a run, and judge it, in a browser"
    browse = of_run(_browse, "browse", text, latest=True)
    browse.add_argument("--marks", metavar="FILE", help="csv that marks go to; without it nothing is written")
    browse.add_argument("--who", metavar="NAME", help="reader whose marks are set (default: the account)")
    browse.add_argument("--blind", action="store_true", help="hide votes, grades, flags and predictions")
    browse.add_argument("--predictions", metavar="FILE", help="show these instead of the baseline's")
    browse.add_argument("--item", metavar="ID", help="open this item first")
    browse.add_argument("--port", metavar="N", type=int, default=0, help="default: a free port")
    check = of_run(_verify, "verify", "read every file of a run again; exit 1 if one is damaged or missing")
    check.add_argument("--repair", action="store_true", help="recompute what is damaged or missing")
    check.add_argument("--force", action="store_true", help="repair even if library versions changed")
    gc = command("gc", _gc, "show results that no run uses; remove them with --yes")
    gc.add_argument("--yes", action="store_true", help="remove it")
    forget = command("rm", _rm, "remove a run; its results stay in the store until gc")
    forget.add_argument("run", metavar="RUN", help=RUN_HELP)
    export = of_run(_export, "export", "copy a run, without links, for upload; the copy is checked")
    export.add_argument("destination", metavar="DEST", help="a new folder, or s3://BUCKET/PREFIX")
    export.add_argument(
        "--to",
        choices=("folder", "huggingface"),
        default="folder",
        help="folder (default): the run without links; huggingface: Parquet with a card",
    )
    export.add_argument(
        "--licence", metavar="NAME", help="licence of the recordings, for the card: cc-by-4.0 and so on"
    )
    scan = command("scan", _scan, "list a folder's recordings, and what would be left out and why")
    scan.add_argument(
        "folder", metavar="DIR", help="a folder or s3:// address, with its sub-folders; or one file"
    )
    scan.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings, as of run.py")
    scan.add_argument("--csv", type=Path, metavar="FILE", help="also write a row for each file")
    marks = command(
        "marks", _marks, "show how readers agree; make a table of windows with their votes, for a run"
    )
    marks.add_argument("files", nargs="+", metavar="CSV", type=Path, help="marks, as hms browse writes them")
    marks.add_argument("--run", metavar="RUN", help="run whose items were marked")
    marks.add_argument("--votes", metavar="FILE", type=Path, help="write a table of windows with the votes")
    explained = command(
        "help", _help, "explain a group or a setting: meaning, allowed values, what a change recomputes"
    )
    explained.add_argument(
        "words",
        nargs="*",
        metavar="SETTING",
        help="cwt, or cwt.hop; none: all groups. plugins=[MODULE] adds what a plugin has",
    )
    explained.add_argument("--config-dir", metavar="DIR", help=CONFIG_DIR_HELP)
    explained.add_argument(
        "--schema",
        nargs="?",
        const=Path("-"),
        type=Path,
        metavar="FILE",
        help="instead write, or print, a JSON schema for editors: of an experiment's YAML, or with the name"
        " of a group of an option's",
    )
    completion = command("completion", _completion, "print a script for tab completion in your shell")
    completion.add_argument(
        "shell",
        nargs="?",
        choices=("bash", "zsh", "fish"),
        metavar="SHELL",
        help="bash, zsh or fish; docs/help.md says where it goes",
    )
    completion.add_argument("--line", help="instead print the completions of a line; the script uses this")
    commands.add_parser("run", help="the same as python run.py", add_help=False)
    return parser


def _run_of(given: argparse.Namespace, name: str | None = None) -> Run:
    from hms.results.run import find_run

    return find_run(given.run if name is None else name, given.outputs, trust=given.trust)


PLACES = ("outputs_dir=", "n_jobs=", "data.root=")
"""Settings of a command that say where and how, not what."""


def _ls(given: argparse.Namespace) -> None:
    from hms.results.run import list_runs
    from hms.store.places import Outputs, latest_run
    from hms.sweep.members import members_of_sweeps

    outputs = Outputs(given.outputs)
    latest, members = latest_run(outputs), members_of_sweeps(outputs)
    rows = [("run", "finished", "items", "left out", "made by")]
    for run in list_runs(given.outputs):
        try:
            m = run.headlines
        except ConfigError:
            rows.append((run.path.name, "damaged", "", "", "hms verify says more"))
            continue
        name = m["run"] + "*" * (m["run"] == latest)
        counts = m["counts"]
        made_by = members.get(m["run"]) or _without_places(m["command"])
        rows.append((name, local_time(m["finished"]), str(counts["used"]), str(counts["excluded"]), made_by))
    if len(rows) == 1:
        show(f"no finished run in {given.outputs}")
        return
    width, lines = text_width(), columns(rows).splitlines()
    show("\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines))
    show("* the latest; hms show RUN describes a run")


def _without_places(command: str) -> str:
    """Return the overrides of a command that say what was made, not where."""
    words = [word for word in command.split()[1:] if word != "run"]
    return " ".join(w for w in words if not w.startswith(PLACES)) or "the defaults"


def _show(given: argparse.Namespace) -> None:
    from hms.config.compose import default_stages
    from hms.pipeline.selection import asked_names
    from hms.report.reproduce import data_overrides, overrides_of
    from hms.store.places import Outputs
    from hms.sweep.members import members_of_sweeps

    run = _run_of(given)
    m = run.manifest
    show(f"run {m['run']}, finished {local_time(m['finished'])}, by: {m['command']}")
    of_sweep = members_of_sweeps(Outputs(run.path.parent)).get(m["run"])
    chosen = [
        text
        for text in data_overrides(m["execution"]["data"])
        if '="$' not in text and text != "data=synthetic"
    ]
    different = " ".join(overrides_of(m["config"], default_stages(), chosen))
    computed = [name for name, stage in m["stages"].items() if stage["computed"]]
    made = ", ".join(name for name in asked_names(m["stages"]) if name not in ("meta", "agreement"))
    n_stages = len(m["stages"])
    others = "; the others were already stored" if len(computed) < n_stages else ""
    facts = [
        *([("member of", f"sweep {of_sweep}")] if of_sweep else []),
        *run.overview(),
        ("settings", "the defaults" + (f", but for: {different}" if different else "")),
        ("made", made),
        ("computed", f"{len(computed)} of its {n_stages} stages{others}"),
    ]
    show(table([(f"  {name}", value) for name, value in facts]))
    if not given.all:
        show("hms show RUN --all shows every setting, stage and version")
        return
    show("\nstages")
    rows = [("  name", "key", "computed", "time taken")]
    rows += [
        (f"  {n}", s["folder"], str(s["computed"]), f"{s['seconds']:.2f} s") for n, s in m["stages"].items()
    ]
    show(columns(rows))
    show("\nconfig.yaml\n" + "".join(f"  {line}\n" for line in run.text("config.yaml").splitlines()))
    show("versions: " + ", ".join(f"{name} {version}" for name, version in m["versions"].items()))


def _explain(given: argparse.Namespace) -> None:
    from hms.engine.explain import explain
    from hms.engine.frozen import compose
    from hms.engine.plan import make_plan

    overrides = list(given.overrides)
    if not any(text.startswith("outputs_dir=") for text in overrides):
        overrides.append(f"outputs_dir={given.outputs}")
    show(explain(make_plan(compose(*overrides, config_dir=given.config_dir)), in_full=given.all))


def _diff(given: argparse.Namespace) -> None:
    from hms.results.diff import diff_text

    a, b = (_run_of(given, name) for name in (given.a, given.b))
    if given.html:
        from hms.results.difference import write_difference

        show(write_difference(a, b, given.outputs))
    else:
        show(diff_text(a, b))


def _report(given: argparse.Namespace) -> None:
    from hms.results.run import report_of
    from hms.terminal import open_browser

    path = report_of(_run_of(given))
    show(path)
    if given.open and not open_browser(path.resolve().as_uri()):
        say("no browser could be started; open the file above")


def _evaluate(given: argparse.Namespace) -> None:
    from hms.results.evaluation import judge

    found = judge(_run_of(given), given.predictions, given.other)
    show(found.text(all_groups=given.all))
    show(found.write(given.outputs))


def _browse(given: argparse.Namespace) -> None:
    from hms.browse.server import start
    from hms.terminal import open_browser

    viewer = start(
        _run_of(given),
        marks=given.marks,
        who=given.who,
        blind=given.blind,
        predictions=given.predictions,
        item=given.item,
        port=given.port,
    )
    show(viewer.address)
    show("marks go to " + given.marks if given.marks else "view only; --marks FILE saves decisions")
    if not open_browser(viewer.address):
        show("no browser was opened; open the address above on this machine")
    show("Ctrl-C ends it")
    viewer.wait()


def _verify(given: argparse.Namespace) -> int:
    from hms.engine.verify import repair, verify
    from hms.store.inside import is_own_folder
    from hms.store.places import HASH_LENGTH

    if given.force and not given.repair:
        raise ConfigError("--force is for --repair: it repairs although library versions changed")
    unfinished = Path(given.outputs) / given.run
    is_unfinished = re.fullmatch(rf"[0-9a-f]{{{HASH_LENGTH}}}", given.run) and is_own_folder(unfinished)
    path = unfinished.resolve() if is_unfinished else _run_of(given).path
    report = verify(path, trust=given.trust)
    read = f"{counted(report.checked, 'file')} read, {report.bytes_read / 1e6:.1f} MB"
    show(f"{path.name}: {read}: {report.scope}")
    for note in report.notes:
        show(f"  note: {note}")
    for finding in report.findings:
        show(f"  {finding.path}: {finding.problem}")
    if not report.findings:
        show("  all whole")
        return 0
    if not given.repair:
        show(f"  {counted(len(report.findings), 'problem')}; {report.remedy.format(run=given.run)}")
        return 1
    path = repair(path, force=given.force, trust=given.trust).path
    left = verify(path, trust=given.trust).findings
    for finding in left:
        show(f"  still: {finding.path}: {finding.problem}")
    show(f"  repaired {counted(len(report.findings), 'problem')}" if not left else "  not repaired")
    return 1 if left else 0


def _gc(given: argparse.Namespace) -> None:
    from hms.store.garbage import garbage, sweep_garbage

    found = sweep_garbage(given.outputs) if given.yes else garbage(given.outputs)
    for path, size in found.folders:
        show(f"  {size / 1e6:10.2f} MB  {path.relative_to(given.outputs)}/")
    by_folder: dict[Path, list[int]] = {}
    for path, size in found.files:
        by_folder.setdefault(path.parent, []).append(size)
    for path, sizes in by_folder.items():
        show(
            f"  {sum(sizes) / 1e6:10.2f} MB  {path.relative_to(given.outputs)}: {counted(len(sizes), 'file')}"
        )
    for path, size in found.journals:
        show(f"  {size / 1e6:10.2f} MB  {path.relative_to(given.outputs)}: lines that later ones replace")
    for name in found.in_use:
        show(f"  in use by a run in progress, left alone: {name}")
    verb = "removed" if given.yes else "unused (remove with --yes)"
    what = f"{counted(len(found.folders), 'folder')} and {counted(len(found.files), 'file')}"
    show(f"{verb}: {what}, {found.size / 1e6:.2f} MB")


def _scan(given: argparse.Namespace) -> None:
    from hms.config.compose import compose
    from hms.pipeline.selection import demand_of
    from hms.sources.scan import scan_folder
    from hms.store.files import commit_files

    cfg = compose("data=edf", *given.overrides)
    inventory = scan_folder(
        given.folder,
        demand_of(cfg),
        window_s=cfg.at("window.length_s"),
        settings=cfg.data,
        max_failed_share=cfg.max_failed_share,
    )
    show(table(inventory.facts()))
    if given.csv is None:
        show("--csv FILE writes a row for each file")
    else:
        commit_files(given.csv.absolute().parent, {given.csv.name: inventory.to_csv().encode()})
        show(f"{given.csv}: a row for each of {counted(len(inventory.files), 'file')}")


def _rm(given: argparse.Namespace) -> None:
    from hms.results.run import find_run
    from hms.store.garbage import remove_run

    run = find_run(given.run, given.outputs)
    remove_run(run, given.outputs)
    show(f"removed {run.path.name}; hms gc shows results that no run uses now")


def _export(given: argparse.Namespace) -> None:
    from hms.config.paths import Address, located
    from hms.engine.export import export_run
    from hms.engine.upload import upload_run
    from hms.labels.items import NAMES_INSIDE

    destination = located(given.destination)
    run = _run_of(given)
    if run.tells_names:
        say(NAMES_INSIDE)
    if given.to == "huggingface" and isinstance(destination, Address):
        raise ConfigError(f"--to huggingface writes into a folder, and {destination} is an address")
    if given.to == "huggingface":
        size = run.to_huggingface(Path(destination), licence=given.licence or "unknown")
        show(f"wrote {run.hash} for Hugging Face's datasets to {destination}: {size / 1e6:.1f} MB")
        return
    if given.licence is not None:
        raise ConfigError("--licence is written into the card of --to huggingface; a plain copy has none")
    size = upload_run(run, destination) if isinstance(destination, Address) else export_run(run, destination)
    show(f"exported {run.hash} to {destination}: {size / 1e6:.1f} MB, checked")


def _marks(given: argparse.Namespace) -> None:
    from hms.labels.classes import COMPETITION, Classes
    from hms.results.marking import agreement_text, read_readers, votes_table
    from hms.store.files import commit_files
    from hms.store.package import find_package

    if given.votes is not None and given.run is None:
        raise ConfigError("--votes needs --run RUN: the run knows where an item's window is")
    package = None if given.run is None else find_package(given.run, given.outputs)
    classes = COMPETITION if package is None else Classes(tuple(package.config.at("labels.classes")))
    marks = read_readers(given.files, classes)
    show(agreement_text(marks))
    if package is not None and given.votes is not None:
        commit_files(given.votes.absolute().parent, {given.votes.name: votes_table(package, marks)})
        show(f"wrote {given.votes}; data.windows={given.votes} takes it")


def _help(given: argparse.Namespace) -> None:
    from hms.config.help import index, page_of_group, page_of_setting, page_of_stages
    from hms.config.manual import SAYS_WHAT_THERE_IS, manual_of
    from hms.pipeline.stage import meanings, stage_names, stages_of_setting

    names = [word for word in given.words if not word.startswith(SAYS_WHAT_THERE_IS)]
    if len(names) > 1:
        raise ConfigError(f"one setting at a time, not {' and '.join(names)}")
    manual = manual_of(given.words, given.config_dir)
    name = names[0].partition("=")[0] if names else None
    if name is not None:
        manual.check(name)
    if given.schema is not None:
        _write_schema(manual, name, given.schema)
    elif name is None:
        print(index(manual))
    elif manual.below(name) or name in manual.groups:
        print(page_of_group(manual, name, stages_of_setting))
    else:
        print(page_of_setting(manual, name, stages_of_setting(name)))
        if name == "stages":
            print(page_of_stages(meanings(), stage_names()))


def _write_schema(manual: Manual, name: str | None, file: Path) -> None:
    from hms.config.json_schema import schema_of_experiments, schema_of_group
    from hms.store.files import commit_files

    if name is not None and name not in manual.groups:
        raise ConfigError(f"--schema takes all settings or a group, not '{name}'")
    schema = schema_of_experiments(manual) if name is None else schema_of_group(manual, name)
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    if file == Path("-"):
        print(text)
        return
    commit_files(file.absolute().parent, {file.name: f"{text}\n".encode()})
    show(f"wrote {file}; the first line of a YAML names it: # yaml-language-server: $schema={file}")


def _completion(given: argparse.Namespace) -> None:
    from hms.config.completion import SCRIPTS

    if given.line is not None:
        print("\n".join(_endings(given.line)))
    elif given.shell is None:
        raise ConfigError("completion of which shell? hms completion bash, zsh or fish")
    else:
        print(SCRIPTS[given.shell], end="")


TAKES_RUNS = ("show", "diff", "report", "evaluate", "browse", "verify", "rm", "export")
TAKES_OVERRIDES = ("run", "explain", "scan")


def _endings(line: str) -> list[str]:
    """Return what the last word of a line can become: a command, an override, a setting or a run."""
    from hms.config.completion import SCRIPTS, complete, words_of

    *before, word = words_of(line) or [""]
    commands = next(a.choices for a in make_parser()._actions if isinstance(a.choices, dict))
    command = next((name for name in before if name in commands), None)
    if command is None:
        found = list(commands)
    elif command in TAKES_RUNS:
        named = before[before.index("--outputs") + 1 :][:1] if "--outputs" in before else []
        found = ["latest", *_run_names(Path(*named or ["outputs"]))]
    elif command == "completion":
        found = list(SCRIPTS)
    else:
        if command in TAKES_OVERRIDES:
            return complete(_manual_of(before), word)
        manual = _manual_of(before) if command == "help" else None
        found = [] if manual is None else [*manual.groups, *manual.settings]
    return [name for name in found if name.startswith(word)]


def _manual_of(words: Sequence[str]) -> Manual:
    """Return the manual with the plugins and folders that a line names, if they are there."""
    from hms.config.manual import manual_of, read_manual

    folder = words[words.index("--config-dir") + 1 :][:1] if "--config-dir" in words else []
    try:
        return manual_of(words, *folder)
    except ConfigError:
        return read_manual()


def _run_names(outputs: Path) -> list[str]:
    """Return the runs in a folder by the names of their folders alone."""
    from hms.store.places import HASH_LENGTH

    form = re.compile(rf"[0-9a-f]{{{HASH_LENGTH}}}")
    return sorted(p.name for p in outputs.iterdir() if form.fullmatch(p.name)) if outputs.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
