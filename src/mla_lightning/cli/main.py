"""The command line ``mla``: its verbs, their options and help."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mla_lightning import __version__
from mla_lightning.cli import data as cli_data
from mla_lightning.cli import report as cli_report
from mla_lightning.cli.export import EXPORT, export
from mla_lightning.cli.jobs import check_jobs, print_states, print_submission, run_listed_job
from mla_lightning.cli.predict import PREDICT, predict
from mla_lightning.cli.reproduce import REPRODUCE, reproduce
from mla_lightning.cli.tune import TUNE, tune
from mla_lightning.cli.words import add_allow_target, add_user_code_options
from mla_lightning.errors import (
    ConfigError,
    Interrupted,
    MLAError,
    RunError,
    near,
    reason_of,
)
from mla_lightning.paths import unquote_value
from mla_lightning.run_folder import not_world_writable
from mla_lightning.run_folder.stop_signals import ended_by_warnings

if TYPE_CHECKING:
    from mla_lightning.config import PlannedJob

VERBS = (
    *("train", "tune", "eval", "predict", "report", "compare", "dashboard", "list", "data"),
    *("reproduce", "export"),
)
OVERVIEW = """\
Balanced multimodal learning: MLA and its baselines, from one command line.

  mla train method=mla data=openmoji                 train one model
  mla train -m experiment=table1/openmoji            train all jobs of Table 1 in parallel
  mla tune data=mfeat method=mla,concat trials=30    search settings on validation, equal budgets
  mla reproduce my.csv trials=10                     Table 1 on your own data, in one command
  mla report table1 runs/table1/openmoji             make Table 1, its tests and its figure
  mla eval runs/table1/openmoji/RUN split=test       evaluate a finished run again
  mla predict runs/table1/openmoji/RUN data.path=data/new      predict other samples
  mla export runs/table1/openmoji/RUN output=model.onnx        export the model as ONNX
  mla list methods                                   list the methods; also: data, fusions, ...
  mla data list                                      list the data sets and their sources
  mla data prepare cremad raw=/download/CREMA-D      prepare a data set from its official files
"""
TRAIN = """\
examples:
  mla train                                          MLA on OpenMoji, the defaults
  mla train method=ogm_ge seed=1 optimizer.lr=0.1    set any key of the config
  mla train method=mla ablation=no_hgm               an ablation; the same as method.hgm=false
  mla train method=qmf --cfg                         print the config without training
  mla train -m method=mla,concat seed=0,1,2          six jobs, in parallel
  mla train -m experiment=table1/openmoji            all jobs of an experiment's grid
  mla train -m experiment=table3/openmoji seed=range(10) --dry-run
  mla train --config-dir my_conf --allow-target my_methods method=mine

If the command is run again, finished jobs are skipped and all others resume from their last
checkpoint.
exit codes: 0 finished, 1 failed, 2 invalid config, 3 invalid data, 130 interrupted, 143 preempted
"""
EVAL = """\
examples:
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e split=val
  mla eval runs/train/mfeat-mla-seed0-1a2b3c4d5e data.path=/new/place/mfeat    after the data moved
"""
LIST = """\
examples:
  mla list methods
  mla list experiments
  mla list methods --config-dir my_conf
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See `{self.prog} --help`.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after ``mla``; None for those of this process.

    Returns:
        The exit code. An error for the user is printed as one message, without a traceback.

    Example:
        >>> main(["list", "ablations"])
        no_df       MLA without dynamic fusion: ...
        0
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with not_world_writable(), ended_by_warnings():
            code = _run(words)
        sys.stdout.flush()
        return code
    except MLAError as error:
        return _print_error(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _print_error("interrupted", Interrupted.exit_code)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _print_error(reason_of(error), RunError.exit_code)
    except Exception as error:  # an unforeseen one
        from mla_lightning.cli.crash import describe_crash

        return _print_error(describe_crash(error, words), RunError.exit_code)


def _print_error(message: str, code: int) -> int:
    """Print an error message without secrets; return the exit code."""
    from mla_lightning.config.secrets import mask_secrets

    with contextlib.suppress(BrokenPipeError):
        print(f"error: {mask_secrets(message)}", file=sys.stderr)
    return code


def _run(words: Sequence[str]) -> int:
    if [*words[:2]] == ["data", "import"] and {"-h", "--help"} & {*words[2:]}:
        return cli_data.run("import", ["--help"])
    if words and words[0] == "task":  # no verb of users, so the help does not list it
        return run_listed_job(words[1:])
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
        # argparse collects words only up to the first option after them
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
        name: str, command: Callable[[argparse.Namespace], int], summary: str, examples: str
    ) -> _Parser:
        verb_parser = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb_parser.set_defaults(command=command, parser=verb_parser)
        return verb_parser

    train = verb("train", _train, "train one model, or many with -m", TRAIN)
    train.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="option of a group (see `mla list`), or value of a setting",
    )
    train.add_argument(
        "-m", "--multirun", action="store_true", help="run one job per combination of values"
    )
    train.add_argument("--cfg", action="store_true", help="print the config without training")
    train.add_argument(
        "--dry-run", action="store_true", help="list the jobs and their states without training"
    )
    add_user_code_options(train)

    search = verb("tune", tune, "search settings of methods on the validation split", TUNE)
    search.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="method=A,B, trials=N, and of mla train"
    )
    add_user_code_options(search)

    own = verb("reproduce", partial(reproduce, run=main), "make Table 1 of own data", REPRODUCE)
    own.add_argument("file", metavar="FILE", help="a table, folder or arrays, or a store")
    own.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of mla data import, tune and train"
    )
    own.add_argument("--plan", action="store_true", help="print the plan and the commands only")
    add_user_code_options(own)

    evaluate = verb("eval", _eval, "evaluate a finished run again", EVAL)
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    evaluate.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="split=train, val or test (the default); data.path=DIR if the data were moved",
    )
    add_allow_target(evaluate)

    prediction = verb("predict", predict, "predict samples with a finished run", PREDICT)
    prediction.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    prediction.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="data.path=STORE, data=, split=, output="
    )
    add_allow_target(prediction)

    exported = verb("export", export, "write the model of a finished run as ONNX", EXPORT)
    exported.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    exported.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="output=FILE, data.path=STORE"
    )
    add_allow_target(exported)

    cli_report.add_verbs(verb)

    listing = verb("list", _list, "list methods, data sets, experiments and other options", LIST)
    listing.add_argument("kind", nargs="?", metavar="KIND", help="methods, data, experiments, ...")
    listing.add_argument("--config-dir", type=Path, metavar="DIR", help="include your own configs")

    data = verb("data", _data, "prepare, check and show data sets", cli_data.HELP)
    data.add_argument("action", metavar="ACTION", help=", ".join(cli_data.ACTIONS))
    data.add_argument("--plan", action="store_true", help="of import: print the plan and stop")
    data.add_argument("--remove", action="store_true", help="of scratch: remove unused copies")
    data.add_argument(
        "overrides", nargs="*", metavar="WORD", help="a data set or file, and KEY=VALUE options"
    )
    return parser


def _train(options: argparse.Namespace) -> int:
    from mla_lightning import config

    arguments = {
        "overrides": options.overrides,
        "multirun": options.multirun,
        "config_dir": options.config_dir,
        "allowed": options.allow_target,
    }
    if options.cfg:
        _print_configs(config.plan(**arguments))
        return 0
    jobs = config.compose_jobs(**arguments)
    first = jobs[0].config
    launcher = config.instantiate(first.launcher)
    if options.dry_run:
        print_states(jobs)
        if hasattr(launcher, "describe"):
            print_submission(jobs, launcher)
        return 0
    check_jobs(jobs, launcher)
    notes = [n for job in jobs for n in (*job.notes, config.schedule_note(job.config.tree))]
    for note in dict.fromkeys(filter(None, notes)):
        print(f"note: {note}", file=sys.stderr)
    if not options.multirun and (grid := first.grid):
        print(
            f"This runs one job. To run the experiment's grid ({', '.join(grid)}), add -m: "
            "mla train -m ..."
        )
    if options.multirun or not getattr(launcher, "is_for_several", False):
        from mla_lightning.launchers.sweep import run_sweep

        return run_sweep(jobs, launcher, overwrite=first.overwrite)
    from mla_lightning.run.train import run_job

    return run_job(jobs[0])


def _print_configs(jobs: Sequence[PlannedJob]) -> None:
    from mla_lightning.config import to_yaml

    for number, job in enumerate(jobs, start=1):
        count = f" ({number} of {len(jobs)})" if len(jobs) > 1 else ""
        separator = "---\n" if number > 1 else ""
        print(f"{separator}# {job.title}{count}\n{to_yaml(job.config)}", end="")


def _eval(options: argparse.Namespace) -> int:
    from mla_lightning import config

    chosen = {"split": "test"}
    for text in options.overrides:
        key, _, value = text.partition("=")
        if key not in ("split", "data.path") or not value:
            raise ConfigError(
                "mla eval takes split=train, val or test and data.path=DIR, not "
                f"{text!r}.{near(key, ('split', 'data.path'))}"
            )
        chosen[key] = unquote_value(value)
    split = chosen["split"]
    for prefix in options.allow_target:
        config.allow_target(prefix)
    from mla_lightning.run.finished import evaluate_run

    scores = evaluate_run(options.run, split, path=chosen.get("data.path"))
    metrics = list(next(iter(scores.values())))
    print(f"{options.run} on {split}")
    print("".join([f"{'modality':<12}", *(f"{metric:>14}" for metric in metrics)]))
    for modality, values in scores.items():
        texts = ["–" if value is None else f"{value:.4f}" for value in values.values()]
        print("".join([f"{modality:<12}", *(f"{text:>14}" for text in texts)]))
    return 0


def _list(options: argparse.Namespace) -> int:
    from mla_lightning.config.listing import list_entries, refused_tasks_of
    from mla_lightning.config.search import PLURALS

    if options.kind is None:
        print("mla list KIND, where KIND is one of: " + ", ".join(PLURALS.values()))
        return 0
    groups = {name: group for group, plural in PLURALS.items() for name in (group, plural)}
    if options.kind not in groups:
        raise ConfigError(
            f"mla list: unknown kind {options.kind!r}.{near(options.kind, groups)} "
            f"Known: {', '.join(PLURALS.values())}."
        )
    entries = list_entries(groups[options.kind], options.config_dir)
    width = max((len(entry.name) for entry in entries), default=0) + 2
    for entry in entries:
        jobs = f" ({entry.num_jobs} jobs)" if entry.num_jobs > 1 else ""
        label = "" if entry.label == entry.name else f"{entry.label}: "
        print(f"{entry.name:<{width}}{label}{entry.summary}{jobs}")
        if entry.docstring:
            print(f"{'':<{width}}{entry.target.rpartition('.')[2]}: {entry.docstring}")
        if entry.reference:
            print(f"{'':<{width}}{entry.reference}")
        refused = refused_tasks_of(entry.target) if groups[options.kind] == "method" else {}
        for task, reason in refused.items():
            print(f"{'':<{width}}Not for {task}: {reason}.")
    return 0


def _data(options: argparse.Namespace) -> int:
    if options.plan and options.action != "import":
        raise ConfigError(f"--plan is an option of `mla data import`, not of {options.action}")
    if options.remove and options.action != "scratch":
        raise ConfigError(f"--remove is an option of `mla data scratch`, not of {options.action}")
    flags = [*["--plan"] * options.plan, *["--remove"] * options.remove]
    return cli_data.run(options.action, [*options.overrides, *flags])


if __name__ == "__main__":
    sys.exit(main())
