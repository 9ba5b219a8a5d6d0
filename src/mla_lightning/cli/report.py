"""The verbs that show results: ``mla report``, ``mla compare`` and ``mla dashboard``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.cli.words import add_allow_target, add_user_code_options, check_place
from mla_lightning.errors import ConfigError, MLAError, RunError
from mla_lightning.paths import unquote_value

REPORT = """\
examples:
  mla report table1 runs/table1/openmoji
  mla report table1 runs/table1/openmoji --output experiments/table1/openmoji
  mla report table2 runs/table2/mfeat
  mla report table3 runs/table3/openmoji
  mla report tuning runs/tuning/openmoji             learning rates, chosen on validation
  mla report runs runs                               every run: state, error, retry command
  mla report runs runs --to-wandb PROJECT            send finished runs to W&B, or write its files
  mla report runs runs --to-wandb PROJECT --log-model        with the selected weights
  mla report page runs                               one HTML page of all runs, with diagnostics
  mla report runs/table1/openmoji                    the same page for one folder
  mla report mine runs --config-dir my_conf --allow-target my_reports     a kind of your own

`mla list reports` lists all kinds.
"""
DASHBOARD = """\
examples:
  mla dashboard table1                                write dashboard.json
  mla dashboard table1 runs/table1/openmoji           with Table 1 in the report
  mla dashboard table1 runs/table1/openmoji --entity ME --online     save it on the server
  mla dashboard train                                 plain runs: those of mla train without a name
  mla dashboard mine runs/mine                        experiments mine/*, grouped by varied settings
"""
COMPARE = """\
examples:
  mla compare runs/train/A runs/train/B
  mla compare runs/train/A runs/train/B --output disagree.png     draw the samples
"""

#: Suffixes of the image formats that can be written.
IMAGE_SUFFIXES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp", ".eps", ".tif", ".tiff")

if TYPE_CHECKING:
    from mla_lightning.data.base import MultimodalDataModule

Verb = Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]


def add_verbs(verb: Verb) -> None:
    """Add the verbs to the command line.

    Args:
        verb: Adds a verb, given name, command, summary and examples; returns its parser.
    """
    report = verb("report", _report, "make tables and figures from run folders", REPORT)
    report.add_argument("kind", metavar="KIND", help="table1, page, ...; see `mla list reports`")
    report.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUNS",
        help="run folders, or folders that contain them",
    )
    report.add_argument("--output", type=Path, metavar="DIR", help="the folder to write to")
    report.add_argument(
        "--to-wandb",
        metavar="PROJECT",
        help="also send the finished runs to this W&B project",
    )
    for name, what in (("model", "selected weights"), ("predictions", "predictions on test")):
        report.add_argument(
            f"--log-{name}", action="store_true", help=f"also send the {what}, as an artifact"
        )
    _add_wandb_options(report)
    add_user_code_options(report, "report/, panel/, ...")

    board = verb("dashboard", _dashboard, "make a W&B workspace and report", DASHBOARD)
    board.add_argument(
        "kind",
        metavar="KIND",
        help="table1, table2, table3 or tuning; train: plain runs; or the first component of an "
        "experiment's name",
    )
    board.add_argument(
        "runs", nargs="*", type=Path, metavar="RUNS", help="run folders for the table of the report"
    )
    board.add_argument("--project", default="mla_lightning", help="the W&B project")
    board.add_argument(
        "--output",
        type=Path,
        default=Path("dashboard.json"),
        metavar="FILE",
        help="the file to write; dashboard.json by default",
    )
    _add_wandb_options(board)
    add_allow_target(board)

    compare = verb("compare", _compare, "compare two finished runs", COMPARE)
    compare.add_argument("first", type=Path, metavar="RUN_A", help="a run folder")
    compare.add_argument("second", type=Path, metavar="RUN_B", help="another run folder")
    compare.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        help="draw the samples that the runs predict differently",
    )
    compare.add_argument(
        "overrides", nargs="*", metavar="data.path=DIR", help="the data of RUN_A if they were moved"
    )
    add_allow_target(compare)


def _report(options: argparse.Namespace) -> int:
    from mla_lightning.config.targets import allow_target
    from mla_lightning.report.main import write_report

    kind, runs = options.kind, options.runs
    if options.to_wandb is not None and not options.to_wandb.strip():
        raise ConfigError("--to-wandb needs the name of a W&B project, such as mla_lightning")
    for name in ("online", "entity", "log_model", "log_predictions"):
        if getattr(options, name) and not options.to_wandb:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} has no effect without --to-wandb PROJECT")
    if not runs and Path(kind).exists():  # only folders and no kind: the page
        kind, runs = "page", [Path(kind)]
    elif not runs:
        raise ConfigError(f"mla report {kind} needs folders of runs, such as runs/table1/openmoji")
    for prefix in options.allow_target:
        allow_target(prefix)
    code = int(write_report(kind, runs, options.output, options.config_dir))
    if options.to_wandb:
        _send_to_wandb(options, runs)
    return code


def _add_wandb_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entity", metavar="NAME", help="the W&B user or team")
    parser.add_argument(
        "--online", action="store_true", help="use the W&B server; without it, write files"
    )


def _dashboard(options: argparse.Namespace) -> int:
    from mla_lightning.config.targets import allow_target
    from mla_lightning.publish.wandb_dashboard import write_dashboard
    from mla_lightning.report.main import make_report
    from mla_lightning.report.tables.kinds import varied_keys

    for prefix in options.allow_target:
        allow_target(prefix)
    _check_output_file(options.output)
    kind = options.kind
    report = make_report(kind, options.runs) if options.runs and kind in varied_keys() else None
    return int(
        write_dashboard(
            kind,
            report,
            project=options.project,
            entity=options.entity,
            output=options.output,
            is_online=options.online,
            runs=options.runs,
        )
    )


def _send_to_wandb(options: argparse.Namespace, runs: Sequence[Path]) -> None:
    from mla_lightning.loggers.wandb import Wandb
    from mla_lightning.publish.wandb_runs import send
    from mla_lightning.run_folder import find_runs

    mode: Any = "online" if options.online else "offline"
    spec = Wandb(
        project=options.to_wandb,
        entity=options.entity,
        mode=mode,
        log_model=options.log_model,
        log_predictions=options.log_predictions,
    )
    folders = [folder for path in runs for folder in find_runs(path)]
    if not folders:
        raise RunError(
            f"Nothing was sent to W&B: {', '.join(map(str, runs))} is a table of results, which "
            "holds no runs to send. Give the folders of the runs, such as "
            "mla report runs runs --to-wandb PROJECT"
        )
    sent = send(folders, spec)
    counts = [f"{sent.online} sent", f"{len(sent.kept)} kept for wandb sync"]
    counts += [f"{sent.rejected} rejected"] if sent.rejected else []
    counts += [f"{sent.damaged} damaged"] if sent.damaged else []
    counts += [f"{sent.left} without a result left out"] if sent.left else []
    print(f"W&B, {len(folders)} runs: {', '.join(counts)}.")
    if sent.rejected and not (sent.online or sent.kept):
        raise RunError("W&B accepted no run. Solve the problem above, then run the command again.")


def _data_of(options: argparse.Namespace) -> MultimodalDataModule:
    """Return the data of the first of two runs that are compared."""
    from mla_lightning.run.place import data_of_run
    from mla_lightning.run_folder.reader import RunFiles

    paths = [unquote_value(text.partition("=")[2]) for text in options.overrides]
    data = data_of_run(RunFiles(options.first), paths[-1] if paths else None)[1]
    data.prepare_data()
    data.setup()
    return data


def _check_output_file(output: Path) -> None:
    """Check that a file can be written, before anything is computed."""
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder. Name a file in it: {output}/NAME")
    check_place(output, "--output ")


def _check_image_path(output: Path) -> None:
    _check_output_file(output)
    if output.suffix.lower() not in IMAGE_SUFFIXES:
        raise ConfigError(
            f"--output {output} is not an image. Its name must end with one of "
            f"{', '.join(IMAGE_SUFFIXES)}: {output.with_suffix('.png')}"
        )


def _compare(options: argparse.Namespace) -> int:
    for text in options.overrides:
        if text.partition("=")[0] != "data.path":
            raise ConfigError(f"mla compare takes two runs and data.path=DIR, not {text!r}")
    if options.output is not None:  # before anything is printed
        _check_image_path(options.output)
    from mla_lightning.config.targets import allow_target

    for prefix in options.allow_target:
        allow_target(prefix)
    from rich.console import Console

    from mla_lightning.report.document import render
    from mla_lightning.report.main import WIDTH
    from mla_lightning.report.tables.compare import compare_runs
    from mla_lightning.report.tables.sample_pairs import MAX_LISTED

    def sample_names(numbers: Sequence[int]) -> Sequence[str]:
        try:
            return _data_of(options).sample_names("test", numbers)
        except MLAError as error:  # such as runs from another machine, whose data are not here
            print(f"The names of the samples are not known: {error}", file=sys.stderr)
            return [f"test {number}" for number in numbers]

    report, disagreements = compare_runs(options.first, options.second, sample_names)
    written = ""
    if options.output is not None and disagreements:  # first: the terminal may be a closed pipe
        from mla_lightning.prepare.chosen_samples import chosen_samples

        shown = disagreements[:MAX_LISTED]
        sheet = chosen_samples(
            _data_of(options),
            "test",
            [sample.index for sample in shown],
            [sample.lines for sample in shown],
            options.output,
            title=f"A: {options.first.name}    B: {options.second.name}",
        )
        written = f"Wrote {sheet}: the first {len(shown)} samples that they disagree on."
    elif options.output is not None:
        written = f"{options.output} is not written: there is no sample that they disagree on."
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    render.to_terminal(report, console)
    if written:
        print(written)
    return 0
