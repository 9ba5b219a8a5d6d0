"""The command line: ``mla train``, ``eval``, ``report``, ``compare``, ``dashboard``, ..."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mla_lightning import __version__
from mla_lightning.cli import data as cli_data
from mla_lightning.cli import report as cli_report
from mla_lightning.cli.predict import PREDICT, predict
from mla_lightning.cli.words import add_allowed, add_own_code
from mla_lightning.errors import ConfigError, Interrupted, MLAError, near

VERBS = ("train", "eval", "predict", "report", "compare", "dashboard", "list", "data")
OVERVIEW = """\
Balanced multimodal learning: MLA and its baselines, from one command line.

  mla train method=mla data=openmoji                 train one model
  mla train -m experiment=table1/openmoji            train a whole table, many jobs at a time
  mla report table1 runs/table1/openmoji             show it: tables, tests, figure
  mla eval runs/table1/openmoji/RUN split=test       evaluate a finished run again
  mla predict runs/table1/openmoji/RUN data.path=data/new      predict other samples
  mla list methods                                   what there is to choose from
  mla data list                                      data sets, and how to get them
  mla data prepare cremad raw=/download/CREMA-D      read a data set's official files
"""
TRAIN = """\
examples:
  mla train                                          MLA on OpenMoji, with its defaults
  mla train method=ogm_ge seed=1 optimizer.lr=0.1    any key of the config can be set
  mla train method=mla ablation=no_hgm               an ablation by name, or method.hgm=false
  mla train method=qmf --cfg                         show the config, run nothing
  mla train -m method=mla,concat seed=0,1,2          six jobs, as many at a time as fit
  mla train -m experiment=table1/openmoji            an experiment's own grid
  mla train -m experiment=table3/openmoji seed=range(10) --dry-run
  mla train --config-dir my_conf --allow-target my_methods method=mine

Started again, finished jobs are skipped and others go on from their last checkpoint.
exit codes: 0 finished, 1 failed, 2 wrong config, 3 wrong data, 130 interrupted, 143 preempted
"""
EVAL = """\
examples:
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e split=val
"""
LIST = """\
examples:
  mla list methods
  mla list experiments
  mla list methods --config-dir my_conf
"""


class _Parser(argparse.ArgumentParser):
    """Ends with exit code 2 and one line, in the same words as every other error."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See `{self.prog} --help`.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after ``mla``; those of this process by default.

    Returns:
        The exit code. Errors that a user can meet are printed as one message, without traceback.
    """
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except MLAError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", Interrupted.exit_code)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(message: str, code: int) -> int:
    from mla_lightning.config.secrets import mask_secrets

    with contextlib.suppress(BrokenPipeError):
        print(f"error: {mask_secrets(message)}", file=sys.stderr)
    return code


def _run(words: Sequence[str]) -> int:
    parser = _build_parser()
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        raise ConfigError(
            f"Unknown verb {words[0]!r}.{near(words[0], VERBS)} Known: {', '.join(VERBS)}. "
            "See `mla --help`."
        )
    known, rest = parser.parse_known_args(words)
    if getattr(known, "verb", None) is None:
        parser.print_help()
        return 0
    flags = [word.partition("=")[0] for word in rest if word.startswith("-")]
    if flags:
        options = [name for action in known.parser._actions for name in action.option_strings]
        raise ConfigError(
            f"mla {known.verb}: unknown option {', '.join(flags)}.{near(flags[0], options)} "
            f"See `mla {known.verb} --help`."
        )
    if rest:
        # words after an option in the middle
        if hasattr(known, "overrides"):
            known.overrides = [*known.overrides, *rest]
        elif hasattr(known, "runs"):
            known.runs = [*known.runs, *map(Path, rest)]
        else:
            raise ConfigError(f"mla {known.verb} does not take {' '.join(rest)!r}")
    command: Callable[[argparse.Namespace], int] = known.command
    return command(known)


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="mla",
        description=OVERVIEW,
        epilog="`mla VERB --help` shows each verb's options and examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mla_lightning {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)

    def verb(
        name: str, command: Callable[[argparse.Namespace], int], text: str, more: str
    ) -> _Parser:
        own = verbs.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(command=command, parser=own)
        return own

    train = verb("train", _train, "train one model, or with -m many", TRAIN)
    train.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings and choices; see `mla list`"
    )
    train.add_argument("-m", "--multirun", action="store_true", help="one job per combination")
    train.add_argument("--cfg", action="store_true", help="print the config and run nothing")
    train.add_argument("--dry-run", action="store_true", help="list the jobs and their states")
    add_own_code(train)

    evaluate = verb("eval", _eval, "evaluate a finished run once more", EVAL)
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    evaluate.add_argument(
        "overrides", nargs="*", metavar="split=SPLIT", help="train, val or test (the default)"
    )
    add_allowed(evaluate)

    prediction = verb("predict", predict, "predict samples with a finished run", PREDICT)
    prediction.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    prediction.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="data.path=STORE, data=, split=, output="
    )
    add_allowed(prediction)

    cli_report.add_verbs(verb)

    listing = verb("list", _list, "list what can be chosen", LIST)
    listing.add_argument("kind", nargs="?", metavar="KIND", help="methods, data, experiments, ...")
    listing.add_argument("--config-dir", type=Path, metavar="DIR", help="your own configs, too")

    data = verb("data", _data, "prepare, check and look at data sets", cli_data.HELP)
    data.add_argument("action", metavar="ACTION", help=", ".join(cli_data.ACTIONS))
    data.add_argument("overrides", nargs="*", metavar="WORD", help="a data set, and KEY=VALUE")
    return parser


def _train(options: argparse.Namespace) -> int:
    from mla_lightning import config

    given = {
        "overrides": options.overrides,
        "multirun": options.multirun,
        "config_dir": options.config_dir,
        "allowed": options.allow_target,
    }
    if options.cfg:
        planned = config.plan(**given)
        for number, job in enumerate(planned, start=1):
            heading = f"# {job.title}" + (
                f" ({number} of {len(planned)})" if len(planned) > 1 else ""
            )
            print(
                f"{'---' + chr(10) if number > 1 else ''}{heading}\n{config.to_yaml(job.config)}",
                end="",
            )
        return 0
    jobs = config.compose_jobs(**given)
    if options.dry_run:
        return _dry_run(jobs)
    first = jobs[0].config
    if options.multirun:
        from mla_lightning.launchers.sweep import run_sweep

        return run_sweep(jobs, config.instantiate(first.launcher), overwrite=first.overwrite)
    if grid := first.grid:
        print(f"One job. The experiment's grid ({', '.join(grid)}) runs with: mla train -m ...")
    from mla_lightning.run.train import run_job

    return run_job(jobs[0])


def _dry_run(jobs: Sequence[Any]) -> int:
    from mla_lightning.run_folder import state_of

    states = [state_of(job.run_dir) for job in jobs]
    for job, state in zip(jobs, states, strict=True):
        print(f"{state:<12} {job.title:<50} {job.run_dir}")
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    print(f"{len(jobs)} jobs: {', '.join(counts)}")
    return 0


def _eval(options: argparse.Namespace) -> int:
    from mla_lightning import config

    split = "test"
    for text in options.overrides:
        key, _, value = text.partition("=")
        if key != "split" or not value:
            raise ConfigError(f"mla eval takes split=train, val or test, not {text!r}")
        split = value
    for prefix in options.allow_target:
        config.allow_target(prefix)
    from mla_lightning.run.finished import evaluate_run

    scores = evaluate_run(options.run, split)
    metrics = list(next(iter(scores.values())))
    print(f"{options.run} on {split}")
    print("".join([f"{'modality':<12}", *(f"{metric:>14}" for metric in metrics)]))
    for modality, values in scores.items():
        texts = ["–" if value is None else f"{value:.4f}" for value in values.values()]
        print("".join([f"{modality:<12}", *(f"{text:>14}" for text in texts)]))
    return 0


def _list(options: argparse.Namespace) -> int:
    from mla_lightning.config.listing import list_entries
    from mla_lightning.config.search import PLURALS

    if options.kind is None:
        print("mla list KIND, where KIND is one of: " + ", ".join(PLURALS.values()))
        return 0
    groups = {name: group for group, plural in PLURALS.items() for name in (group, plural)}
    if options.kind not in groups:
        raise ConfigError(
            f"Nothing to list by the name {options.kind!r}.{near(options.kind, groups)} "
            f"Known: {', '.join(PLURALS.values())}."
        )
    found = list_entries(groups[options.kind], options.config_dir)
    width = max((len(entry.name) for entry in found), default=0) + 2
    for entry in found:
        jobs = f" ({entry.num_jobs} jobs)" if entry.num_jobs > 1 else ""
        label = "" if entry.label == entry.name else f"{entry.label}: "
        print(f"{entry.name:<{width}}{label}{entry.summary}{jobs}")
        if entry.docstring:
            print(f"{'':<{width}}{entry.target.rpartition('.')[2]}: {entry.docstring}")
        if entry.reference:
            print(f"{'':<{width}}{entry.reference}")
    return 0


def _data(options: argparse.Namespace) -> int:
    return cli_data.run(options.action, options.overrides)


if __name__ == "__main__":
    sys.exit(main())
