"""The command line ``mla``: its verbs, their options and help."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from mla_lightning import __version__
from mla_lightning.cli import data as cli_data
from mla_lightning.cli import report as cli_report
from mla_lightning.cli.completion import ASK, COMPLETION, completion, print_words
from mla_lightning.cli.evaluate import EVAL
from mla_lightning.cli.evaluate import evaluate as evaluate_command
from mla_lightning.cli.export import EXPORT, export
from mla_lightning.cli.hydra_flags import without_hydra_flags
from mla_lightning.cli.jobs import run_listed_job
from mla_lightning.cli.lists import LIST, list_options
from mla_lightning.cli.pipes import reader_may_end
from mla_lightning.cli.predict import PREDICT, predict
from mla_lightning.cli.reproduce import REPRODUCE, reproduce
from mla_lightning.cli.train import add_train
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
from mla_lightning.run_folder import not_world_writable
from mla_lightning.run_folder.stop_signals import ended_by_warnings

VERBS = (
    *("train", "tune", "eval", "predict", "report", "compare", "dashboard", "list", "data"),
    *("reproduce", "export", "completion"),
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
  mla export runs/table1/openmoji/RUN output=model.onnx        export the model
  mla list methods                                   list the methods; also: data, fusions, ...
  mla data list                                      list the data sets and their sources
  mla data prepare cremad raw=/download/CREMA-D      prepare a data set from its official files
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors: one line, exit code 2."""

    #: Returns further lines for the end of the help.
    more: Callable[[], str] | None = None

    def format_help(self) -> str:
        text = super().format_help()
        return text if self.more is None else f"{text}\n{self.more()}\n"

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
        with not_world_writable(), ended_by_warnings(), reader_may_end():
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
    parser = build_parser()
    if words and words[0] == ASK:  # of a shell, for the TAB key
        return print_words(words[1:], parser)
    if words and words[0] == "train":
        words = ["train", *without_hydra_flags(words[1:])]
    if "--version" in words:
        words = ["--version"]
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
        hint = near(flags[0], options)
        if not hint and hasattr(known, "overrides"):
            hint = f" Settings have no dashes: {flags[0].lstrip('-')}=VALUE."
        raise ConfigError(
            f"mla {known.verb}: unknown option {', '.join(flags)}.{hint} "
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


def build_parser() -> _Parser:
    """Build the parser of all verbs."""
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

    add_train(verb)

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

    evaluate = verb("eval", evaluate_command, "evaluate finished runs again", EVAL)
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a run folder, or one above")
    evaluate.add_argument(
        "overrides",
        nargs="*",
        metavar="RUN or KEY=VALUE",
        help="further runs; split=train, val or test (default), data.path=, noise=LEVELS, output=",
    )
    add_allow_target(evaluate)

    prediction = verb("predict", predict, "predict samples with a finished run", PREDICT)
    prediction.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    prediction.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="data.path=STORE, data=, split=, output="
    )
    add_allow_target(prediction)

    exported = verb(
        "export", export, "write the model of a finished run to a file or folder", EXPORT
    )
    exported.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    exported.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="output=PATH, format=..., hub=..., data.path=STORE",
    )
    add_allow_target(exported)

    cli_report.add_verbs(verb)

    summary = "list methods, data sets, experiments and other options"
    listing = verb("list", list_options, summary, LIST)
    listing.add_argument(
        "overrides", nargs="*", metavar="KIND [NAME]", help="a group, and one of its options"
    )
    listing.add_argument("--config-dir", type=Path, metavar="DIR", help="include your own configs")
    listing.add_argument("--json", action="store_true", help="print JSON, for scripts")

    shell = verb("completion", completion, "print the script of a shell's TAB key", COMPLETION)
    shell.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")

    data = verb("data", _data, "prepare, check and show data sets", cli_data.HELP)
    data.add_argument("action", metavar="ACTION", help=", ".join(cli_data.ACTIONS))
    data.add_argument("--plan", action="store_true", help="of import: print the plan and stop")
    data.add_argument("--remove", action="store_true", help="of scratch: remove unused copies")
    data.add_argument(
        "overrides", nargs="*", metavar="WORD", help="a data set or file, and KEY=VALUE options"
    )
    return parser


def _data(options: argparse.Namespace) -> int:
    if options.plan and options.action != "import":
        raise ConfigError(f"--plan is an option of `mla data import`, not of {options.action}")
    if options.remove and options.action != "scratch":
        raise ConfigError(f"--remove is an option of `mla data scratch`, not of {options.action}")
    flags = [*["--plan"] * options.plan, *["--remove"] * options.remove]
    return cli_data.run(options.action, [*options.overrides, *flags])


if __name__ == "__main__":
    sys.exit(main())
