"""From a command line to an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hms import __version__
from hms.errors import ConfigError, EngineError, ManifestError, StorageError, TooManyFailures, machine_fault
from hms.terminal import (
    BEGAN,
    INTERRUPTED,
    INTERRUPTED_TEXT,
    heard,
    local_time,
    say,
    show,
    table,
    was_interrupted,
)

if TYPE_CHECKING:
    from hms.config.overrides import Words
    from hms.config.schema import Config
    from hms.store.package import Package
    from hms.sweep.search import Search

SHOW_THE_WAY = "HMS_TRACEBACK"
"""Variable of the environment that shows the traceback of a plugin's error."""

DONE, BAD_INPUT, TOO_MANY_FAILURES, STORAGE = 0, 2, 3, 4


def guarded(work: Callable[[], int | None]) -> int:
    """Do some work and turn what can go wrong into one message and an exit code."""
    try:
        os.getcwd()  # fails where the folder is gone, which is told before anything else
        return work() or DONE
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        if was_interrupted():  # an exception that came of it, in the middle of an import for instance
            return _interrupted()
        code = _code_of(error)
        if code is None:
            raise
        return code


def _interrupted() -> int:
    print(INTERRUPTED_TEXT, file=sys.stderr, flush=True)
    return INTERRUPTED


def _code_of(error: Exception) -> int | None:
    """Print the message of an error that is not a fault of the program; return its exit code, else None."""
    cause = error.__cause__
    if isinstance(error, StorageError) and isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
        error = cause  # a name that was typed, no fault of the storage
    if isinstance(error, (ConfigError, ManifestError)):
        return _fail(error, BAD_INPUT)
    if isinstance(error, TooManyFailures):
        return _fail(error, TOO_MANY_FAILURES)
    if isinstance(error, (StorageError, EngineError)):
        return _fail(error, STORAGE)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    if isinstance(error, OSError):
        text = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        if error.errno == errno.ENOENT and not error.filename:
            text = "the folder in which the command was typed no longer exists; change to one that does"
        return _fail(text, BAD_INPUT if error.errno == errno.ENAMETOOLONG else STORAGE)
    if fault := machine_fault(error):
        return _fail(
            f"the machine failed: {fault}; finished results are kept, and the same command continues", STORAGE
        )
    from hms.registry import fault_of_plugin

    if not os.environ.get(SHOW_THE_WAY) and (told := fault_of_plugin(error)):
        return _fail(f"{told}; with {SHOW_THE_WAY}=1 the whole traceback is shown", BAD_INPUT)
    return None


def _fail(error: BaseException | str, code: int) -> int:
    say(f"hms: {error}")
    return code


def run_configuration(cfg: Any, question: str | None = None) -> int:
    """Run a composed configuration, or print its plan, and show what came out.

    ``question`` is the identity of the command, under which its answer is kept; None where it is not to be.
    """
    from hms.config.memory import one_heap
    from hms.config.schema import build_config
    from hms.engine.plan import make_plan
    from hms.engine.runner import execute

    one_heap()
    checked = build_config(cfg)
    if checked.plan:
        _show_inventory(checked)
    with heard() as said:
        plan = make_plan(checked)
    if checked.plan:
        from hms.engine.explain import explain

        show(explain(plan))
        return DONE
    run = execute(plan)
    _show_facts(facts(run))
    if question is not None:
        from hms.engine.recall import keep_finished

        keep_finished(plan, run, question, facts=facts(run.as_found()), said=said)
    return DONE


def _show_inventory(cfg: Config) -> None:
    """Show what a folder of files holds, before a plan can fail."""
    from hms.engine.plan import open_source
    from hms.pipeline.selection import demand_of
    from hms.sources.pseudonyms import Pseudonymised
    from hms.sources.recordings import FolderSource
    from hms.sources.scan import scan_source
    from hms.store.places import Outputs

    source = open_source(cfg, Outputs(Path(cfg.outputs_dir)))
    if isinstance(source, Pseudonymised):
        say("hms scan shows what is in the folder, including the names that pseudonyms hide here")
    elif isinstance(source, FolderSource):
        window_s, share = cfg.at("window.length_s"), cfg.max_failed_share
        inventory = scan_source(source, demand_of(cfg), window_s=window_s, max_failed_share=share)
        show(f"{table(inventory.facts())}\nhms scan DIR --csv FILE writes a row for each file\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of run.py and return the exit code.

    Hydra's own flags (``--cfg``, ``--info``, ``-sc`` for tab completion,
    ``--config-name``) go to Hydra; what is left is composed and checked here.
    """
    texts = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _carry_out(texts))


def _carry_out(texts: Sequence[str]) -> int:
    """Run one configuration, a sweep, or what Hydra answers."""
    from hms.config.compose import composed_tree
    from hms.config.overrides import split_words

    asks_for_help = any(text in ("--help", "-h") for text in texts)
    if not asks_for_help and "--version" in texts:
        print(f"hms {__version__}")
        return DONE
    words = split_words([text for text in texts if text not in ("--help", "-h")])
    if asks_for_help:
        return _contents(words)
    if words.hydra:
        if "--cfg" in words.hydra and not words.multirun:
            composed_tree(*words.overrides, config_dir=words.config_dir)  # says better what is wrong
        return _through_hydra(words)
    if words.multirun or _asks_for_a_sweep(words.overrides, words.config_dir):
        return _multirun(words)
    return _direct(words.overrides, words.config_dir)


def _contents(words: Words) -> int:
    """Print the table of contents: groups and options, those of a folder that the command names too."""
    from hms.config.help import contents
    from hms.config.manual import manual_of

    print(contents(manual_of(words.overrides, words.config_dir)))
    return DONE


def _asks_for_a_sweep(overrides: Sequence[str], config_dir: str | None) -> bool:
    """Tell whether Hydra's own settings ask for a sweep; most commands name none of these."""
    if not any(text.lstrip("+").startswith(("hydra", "experiment=")) for text in overrides):
        return False
    from hms.sweep.run import is_multirun

    return is_multirun(overrides, config_dir)


def _say_what_has_no_effect(overrides: Sequence[str]) -> None:
    """Name Hydra's settings that were typed and have no effect here."""
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    keys = [key for key in keys if key.startswith(("hydra.", "hydra/"))]
    if not keys:
        return
    from hms.config.compose import SEARCH_PATH
    from hms.sweep.run import READ_OF_HYDRA

    for key in keys:
        if key != SEARCH_PATH and not key.startswith(READ_OF_HYDRA):
            say(f"{key} has no effect: outputs_dir and sweep.name say where hms writes; leave it out")


def _direct(overrides: Sequence[str], config_dir: str | None) -> int:
    from hms.config.compose import composed_tree
    from hms.config.paths import fault_of_outputs
    from hms.store.seen import looking_ahead, question_of

    _say_what_has_no_effect(overrides)
    tree = composed_tree(*overrides, config_dir=config_dir)
    question = None if fault_of_outputs(tree["outputs_dir"]) else question_of(tree)
    if question is not None and _answered(tree, question):
        return DONE
    root = None if question is None else tree["data"].get("root")
    with looking_ahead(Path(tree["outputs_dir"]) / "store", root) if root else nullcontext():
        from hms.config.schema import build_config
        from hms.engine.frozen import with_frozen_settings

        return run_configuration(with_frozen_settings(build_config(tree), overrides), question)


def _answered(tree: Mapping[str, Any], question: str) -> bool:
    """Say what the same command found when it last ran; tell whether that is still so."""
    from hms.store.places import Outputs, latest_run
    from hms.store.seen import recall

    outputs = Outputs(Path(tree["outputs_dir"]))
    seen = recall(outputs.store, question)
    if seen is None or not (tree["plan"] or latest_run(outputs) == seen.run):
        return False
    for text in seen.said:
        say(text)
    if tree["plan"]:
        show(seen.plan)
    else:
        _show_facts(seen.facts)
    return True


def _multirun(words: Words) -> int:
    """Run a sweep of our own, or let Hydra do it where another sweeper or launcher of its is chosen."""
    from hms.sweep.run import run_sweep, uses_hydras_sweeper

    if uses_hydras_sweeper(words.overrides, words.config_dir):
        return _through_hydra(words)
    _say_what_has_no_effect(words.overrides)
    return run_sweep(words.overrides, words.config_dir)


def _through_hydra(words: Words) -> int:
    """Let Hydra read the command line, with its errors raised to us instead of printed.

    In a search, every job returns its objective to the sweeper, and the jobs end in a leaderboard.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from hms.config.compose import conf_dir
    from hms.config.convert import first_lines
    from hms.config.pages import told_of_pages

    texts = [*(["-m"] if words.multirun else []), *words.overrides, *words.hydra]
    texts += ["--config-dir", words.config_dir] if words.config_dir else []
    codes: list[int] = []
    searches: list[Search] = []

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    def job(cfg: Any) -> float | None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            from hms.sweep.search import Search

            if not searches:
                searches.append(Search(texts))
            return searches[0].trial(cfg)
        codes.append(guarded(lambda: run_configuration(cfg)))
        return None

    os.environ["HYDRA_FULL_ERROR"] = "1"
    program, sys.argv = sys.argv, [sys.argv[0], *texts]
    try:
        with told_of_pages(filter(None, [words.config_dir])):
            job()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_with_remedy(first_lines(error))) from None
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else BAD_INPUT if ended.code else DONE
    finally:
        sys.argv = program
        codes += [search.finish() for search in searches]
    return max(codes, default=DONE)


def _with_remedy(text: str) -> str:
    """Add to Hydra's message about the missing sweeper how to install it."""
    missing = "hydra/sweeper/optuna" in text or "hydra/sweeper/sampler" in text
    return f"{text}; Optuna's sweeper is an extra: pip install 'hms-eeg[search]'" if missing else text


ELAPSED = "{seconds until now}"


def facts(run: Package) -> str:
    """Return the table that ends a run, with `ELAPSED` where the seconds of the command belong."""
    note = "done"
    if run.reused:
        m = run.manifest
        made = f"made {local_time(m['finished'])} in {m['seconds']:.1f} s"
        note = f"found finished, nothing computed in {ELAPSED} ({made})"
    rows = [(f"  {name}", value) for name, value in (*run.overview(), ("next", _next_steps(run)))]
    return f"run {run.hash}: {note}\n{table(rows)}"


def _next_steps(run: Package) -> str:
    """Return the commands that show what was made."""
    from importlib.util import find_spec

    outputs = run.path.parent
    where = "" if outputs == Path("outputs") else f"--outputs {shlex.quote(str(outputs))} "
    browse = f", hms {where}browse latest" if find_spec("uvicorn") else ""
    return f"hms {where}report latest --open{browse}"


def _show_facts(text: str) -> None:
    show(text.replace(ELAPSED, f"{time.perf_counter() - BEGAN:.1f} s", 1))
