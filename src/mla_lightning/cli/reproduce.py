"""The verb ``mla reproduce``: Table 1 on data of one's own, from the files to the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.cli.data_stores import DATA_DIR
from mla_lightning.cli.tune import OPTIONS as TUNE_OPTIONS
from mla_lightning.cli.words import split_words
from mla_lightning.errors import ConfigError, Interrupted, Preempted
from mla_lightning.paths import command, name_problem, path_override, quote_value, unquote_value

REPRODUCE = """\
steps, each of which is printed as a command that can be pasted:
  mla data import     FILE -> a store in data/NAME; the plan says what was understood
  mla tune            the same number of trials for every method, selected on validation
  mla train -m        experiment=table1/store recipe=tuned: every method with every seed
  mla report          table1 and page; then the finding in words

options:
  target=DIR          folder of the store               target=data/my
  method=A,B,...      methods of the table; by default those of experiment=table1/store that are
                      defined for the data
  trials=30           trials of each method             trials=10
  seed=0,1,2          seeds of the table; 0 to 4 by default
  seeds, search, batch, sampler_seed                    of mla tune
  label=, group=, columns.NAME=, ...                    of mla data import
  KEY=VALUE           of mla train, for all runs        trainer.max_epochs=20
  --plan              print the plan of the import and the commands, and run nothing

examples:
  mla reproduce my.csv --plan
  mla reproduce my.csv label=emotion group=speaker trials=10
  mla reproduce my.npz method=concat,mla,unimodal,logistic 'seed=range(10)'
  mla reproduce data/my                               a store that exists

If the command is run again, the store, finished trials and finished runs are kept.
exit codes: as of mla train
"""
#: The experiment whose grid has the methods and seeds of the table.
EXPERIMENT = "experiment=table1/store"
#: Settings of all runs that are words of the import as well, which takes them.
_OF_IMPORT = ("name", "task")
#: Settings of the runs of the table alone.
_OF_TABLE = ("seed", "diagnostics", "evaluate_probe")
#: Settings of this verb, and the word to use in their place.
_REFUSED = {
    "experiment": f"its runs have {EXPERIMENT}",
    "data": "the first word is the data",
    "data.path": "the first word is the data; a folder that is a store is used as it is",
    "run_dir": "it makes many runs; use paths.output_dir instead",
}


@dataclass(frozen=True)
class Words:
    """The words of the command line, by the step that takes them.

    Attributes:
        importing: Words of ``mla data import``, without target.
        tuning: Options of ``mla tune``, and the recipe that the search starts from.
        table: Settings of the runs of the table alone.
        both: Settings of all runs.
        methods: The methods; empty for those of the experiment.
    """

    importing: tuple[str, ...]
    tuning: tuple[str, ...]
    table: tuple[str, ...]
    both: tuple[str, ...]
    methods: tuple[str, ...]


def reproduce(options: argparse.Namespace, *, run: Callable[[Sequence[str]], int]) -> int:
    """Import, search, train and report, one command after the other.

    Args:
        options: The parsed command line.
        run: Runs a command of ``mla`` and returns its exit code.

    Returns:
        The exit code: 0 if every run of the table has finished.
    """
    words = sort_words(options.overrides)
    file = Path(options.file)
    is_store = (file / "manifest.json").is_file()
    target, name = _target_of(file, words, is_store)
    flags = ["--config-dir", str(options.config_dir)] if options.config_dir else []
    flags += [word for prefix in options.allow_target for word in ("--allow-target", prefix)]
    if not is_store:
        rest = [word for word in words.importing if not word.startswith(("target=", "name="))]
        rest += [f"name={name}"] if name != target.name else []
        plan = ["--plan"] * options.plan
        importing = ["data", "import", _as_word(file), f"target={target}", *rest, *plan]
        if code := _step("Import", importing, run):
            return code
    tuned, untuned = _methods(words, options.config_dir, target)
    output = _output_dir(words)
    folders = output / "tune" / name, output / "table1" / name
    conf = options.config_dir or folders[0] / "conf"
    data = [path_override("data.path", target), *words.both]
    searching = [
        *("tune", *flags, "data=store", *data, f"name={quote_value(f'tune/{name}')}"),
        *(f"method={','.join(tuned)}", *words.tuning),
    ]
    allowed = flags[2:] if options.config_dir else flags
    training = [
        *("train", "-m", "--config-dir", str(conf), *allowed, EXPERIMENT, *data),
        *(f"name={quote_value(f'table1/{name}')}", "recipe=tuned"),
        *(f"method={','.join([*tuned, *untuned])}", *words.table),
    ]
    reports = [["report", kind, str(folders[1])] for kind in ("table1", "page")]
    if options.plan:
        print("Then:")
        for later in (searching, training, *reports):
            print(f"  {command('mla', *later)}")
        return 0
    if tuned and (code := _step("Tune", searching, run)):
        return code
    code = _step("Train", training if tuned else _untuned(training), run)
    if code in (Interrupted.exit_code, Preempted.exit_code, ConfigError.exit_code):
        return code
    for number, report in enumerate(reports):
        if failed := _step("Report" if not number else "Page", report, run):
            return failed
    _print_finding(folders, has_search=bool(tuned))
    return code


def sort_words(overrides: Sequence[str]) -> Words:
    """Sort the words of the command line by the step that takes them.

    A word whose first component is a setting of ``mla train`` is one of all runs; options of
    ``mla tune`` are recognised by their names; all others are of ``mla data import``.

    Args:
        overrides: The words after the file.

    Returns:
        The words.

    Raises:
        ConfigError: If a word is no ``KEY=VALUE``, or cannot be chosen here.

    Example:
        >>> words = sort_words(["label=emotion", "trials=5", "optimizer.lr=0.1", "seed=0,1"])
        >>> words.importing, words.tuning, words.both, words.table
        (('label=emotion',), ('trials=5',), ('optimizer.lr=0.1',), ('seed=0,1',))
    """
    from mla_lightning import config

    known = config.plan(["data=synthetic"])[0].config
    settings = {*known, *known["choices"]} - {*_OF_IMPORT}
    importing, tuning, table, both, methods = [], [], [], [], list[str]()
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(
                f"mla reproduce takes one FILE and KEY=VALUE, not {word!r}. See `mla reproduce "
                "--help`."
            )
        if key in _REFUSED:
            raise ConfigError(f"mla reproduce does not take {word}: {_REFUSED[key]}")
        if key == "method":
            methods += [name for name in unquote_value(text).split(",") if name]
        elif key in TUNE_OPTIONS or key == "recipe":
            tuning.append(word)
        elif key in _OF_TABLE:
            table.append(word)
        elif key.lstrip("+~").partition(".")[0].partition("/")[0] in settings:
            both.append(word)
        else:
            importing.append(word)
    return Words(tuple(importing), tuple(tuning), tuple(table), tuple(both), tuple(methods))


def _target_of(file: Path, words: Words, is_store: bool) -> tuple[Path, str]:
    """Return the folder of the store and the name of the data set."""
    if is_store:
        if words.importing:
            raise ConfigError(
                f"{file} is a store, so there is nothing to import: {words.importing[0]} has no "
                "effect. Leave it out"
            )
        return file, file.resolve().name
    _, given = split_words([_as_word(file), *words.importing], "import", "FILE")
    stem = file.resolve().stem if file.resolve().is_file() else file.resolve().name
    target = Path(given.get("target") or DATA_DIR / given.get("name", stem)).expanduser()
    name = given.get("name") or target.name
    if problem := name_problem(name):
        raise ConfigError(f"name={name!r} {problem}. Name the data set: name=NAME")
    return target, name


def _as_word(path: Path) -> str:
    """Return a path as a word that no verb takes for an option."""
    return f"./{path}" if "=" in str(path) and not path.is_absolute() else str(path)


def _methods(words: Words, config_dir: Path | None, store: Path) -> tuple[list[str], list[str]]:
    """Return the methods that are tuned, and those that have nothing to tune."""
    from mla_lightning import config
    from mla_lightning.config.schedule import takes_steps

    names = list(words.methods) or _methods_for(store, words, config_dir)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"method={twice[0]} is given twice")
    jobs = config.plan(
        ["data=synthetic", f"method={','.join(names)}"], multirun=True, config_dir=config_dir
    )
    trees: Mapping[str, dict[str, object]] = {
        job.config["choices"]["method"]: job.config for job in jobs
    }
    tuned = [name for name in names if takes_steps(trees[name])]
    return tuned, [name for name in names if name not in tuned]


def _methods_for(store: Path, words: Words, config_dir: Path | None) -> list[str]:
    """Return the experiment's methods that are defined for the data; print which are not.

    Before the import of the data, all of them.
    """
    from mla_lightning import config
    from mla_lightning.config.jobs import data_of_config
    from mla_lightning.config.targets import TARGET, locate
    from mla_lightning.config.task import find_method_problems

    data_words = [path_override("data.path", store), *words.both]
    names = list(config.plan([EXPERIMENT, data_words[0]])[0].config["grid"]["method"])
    if not store.is_dir():
        return names
    kept = []
    for name in names:
        of_method = ["data=store", *data_words, f"method={name}"]
        tree = config.plan(of_method, config_dir=config_dir)[0].config
        problems = find_method_problems(
            locate(tree["method"][TARGET]),
            data_of_config(tree),
            is_weighted=bool(tree["loss"]["class_weights"]),
        )
        if problems:
            print(f"method {name} is left out: {' '.join(problems)}")
        else:
            kept.append(name)
    return kept


def _untuned(training: Sequence[str]) -> list[str]:
    """Return the words of training for methods that all have nothing to tune."""
    place = training.index("--config-dir")
    kept = [*training[:place], *training[place + 2 :]]
    return [word for word in kept if word != "recipe=tuned"]


def _output_dir(words: Words) -> Path:
    texts = [word.partition("=")[2] for word in words.both if word.startswith("paths.output_dir=")]
    return Path(unquote_value(texts[-1]) if texts else "runs")


def _step(title: str, words: Sequence[str], run: Callable[[Sequence[str]], int]) -> int:
    """Print a command, run it, and say how to go on if it fails."""
    print(f"\n{title}: {command('mla', *words)}", flush=True)
    code = run(words)
    if code:
        print(
            f"{title} ended with exit code {code}. After it is solved, run the same command of mla "
            "reproduce again: nothing that is finished is repeated.",
            file=sys.stderr,
        )
    return code


def _print_finding(folders: tuple[Path, Path], *, has_search: bool) -> None:
    """Print where tables, figures and the page are, and what was found."""
    from mla_lightning.report.read.block import blocks
    from mla_lightning.report.read.run_folders import read_runs
    from mla_lightning.report.tables.finding import finding

    search, table = folders
    print(f"\nTable: {table / 'report' / 'table1.md'}, and .csv, .tex and .html beside it")
    if has_search:
        print(f"Search: {search / 'search' / 'search.png'}; trials.csv beside it")
    print(f"Page: {table / 'report' / 'page.html'}")
    for block in blocks(read_runs([table])):
        print("Finding:")
        for sentence in finding(block):
            print(f"  {sentence}")
