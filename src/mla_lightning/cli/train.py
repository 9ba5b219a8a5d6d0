"""The verb ``mla train``: its words, its help, and what it prints about configs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.cli.config_text import describe_choices, describe_differences, section_text
from mla_lightning.cli.jobs import check_devices, check_jobs, print_states, print_submission
from mla_lightning.cli.words import add_user_code_options
from mla_lightning.errors import ConfigError

if TYPE_CHECKING:
    from mla_lightning.config import PlannedJob

TRAIN = """\
examples:
  mla train                                          MLA on OpenMoji, the defaults
  mla train method=ogm_ge seed=1 optimizer.lr=0.1    set any key of the config
  mla train optimizer=adamw scheduler=cosine         replace the recipe's optimiser and schedule
  mla train method=mla ablation=no_hgm               an ablation; the same as method.hgm=false
  mla train method=qmf --cfg                         print the config without training
  mla train method=qmf optimizer.lr=0.1 --diff       print what these words change
  mla train -m method=mla,concat seed=0,1,2          six jobs, in parallel
  mla train -m experiment=table1/openmoji            all jobs of an experiment's grid
  mla train -m experiment=table3/openmoji 'seed=range(10)' --dry-run
  mla train --config-dir my_conf --allow-target my_methods method=mine

If the command is run again, finished jobs are skipped and all others resume from their last
checkpoint.
exit codes: 0 finished, 1 failed, 2 invalid config, 3 invalid data, 130 interrupted, 143 preempted
"""
#: The groups of a run, in the order of their use.
GROUPS = (
    *("data", "method", "fusion", "encoder", "recipe", "optimizer", "scheduler", "ablation"),
    *("missing", "experiment", "trainer", "callbacks", "logger", "launcher", "debug", "task"),
    "paths",
)


def add_train(verb: Callable[..., Any]) -> None:
    """Add the verb to the command line.

    Args:
        verb: Adds a verb: name, command, summary and examples -> its parser.
    """
    train = verb("train", train_command, "train one model, or many with -m", TRAIN)
    train.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="option of a group (below), value of a setting, or ~KEY to remove one",
    )
    train.add_argument(
        "-m", "--multirun", action="store_true", help="run one job per combination of values"
    )
    train.add_argument("-c", "--cfg", action="store_true", help="print the config without training")
    train.add_argument(
        "-p", "--package", metavar="KEY", help="of --cfg: only this part, such as optimizer"
    )
    train.add_argument(
        "--diff", action="store_true", help="print what the words change in the config"
    )
    train.add_argument(
        "--info", action="store_true", help="print the chosen option and file of every group"
    )
    train.add_argument(
        "--dry-run", action="store_true", help="list the jobs and their states without training"
    )
    add_user_code_options(train)
    train.more = groups_text


def groups_text() -> str:
    """Return the groups of ``mla train``, what their options are, and where these are listed.

    Example:
        >>> print(groups_text())
        groups, as GROUP=OPTION:
          data        data sets, and any store of your own ...
          method      training rules: MLA, its baselines and references (... options)
          ...
    """
    from mla_lightning.config.search import PURPOSES, options, search_path

    folders = search_path(None)
    lines = ["groups, as GROUP=OPTION:"]
    for group in GROUPS:
        number = len(options(folders, group))
        lines.append(f"  {group:<11} {PURPOSES[group]} ({number} options)")
    return "\n".join(
        [
            *lines,
            "`mla list GROUP` lists the options of one, `mla list GROUP OPTION` the settings of an",
            "option. Settings that belong to no option, such as seed, protocol, select_by and",
            "diagnostics: `mla train --cfg`. They are explained in conf/config.yaml.",
        ]
    )


def train_command(options: argparse.Namespace) -> int:
    """Run ``mla train``.

    Args:
        options: The parsed words.

    Returns:
        The exit code.
    """
    from mla_lightning import config

    arguments = {
        "overrides": options.overrides,
        "multirun": options.multirun,
        "config_dir": options.config_dir,
        "allowed": options.allow_target,
    }
    if options.package and not options.cfg:
        raise ConfigError(f"--package {options.package} is an option of --cfg; add it")
    if options.cfg or options.diff or options.info:
        _print_configs(config.plan(**arguments), options)
        return 0
    jobs = config.compose_jobs(**arguments)
    first = jobs[0].config
    launcher = config.instantiate(first.launcher)
    if options.dry_run:
        check_devices(jobs, launcher)
        print_states(jobs)
        if hasattr(launcher, "describe"):
            print_submission(jobs, launcher)
        return 0
    check_jobs(jobs, launcher)
    is_sweep = options.multirun or not getattr(launcher, "is_for_several", False)
    if is_sweep:  # a single run prints its notes itself
        notes = [n for job in jobs for n in (*job.notes, config.schedule_note(job.config.tree))]
        for note in dict.fromkeys(filter(None, notes)):
            print(f"note: {note}", file=sys.stderr)
    if not options.multirun and (grid := first.grid):
        print(
            f"This runs one job. To run the experiment's grid ({', '.join(grid)}), add -m: "
            "mla train -m ..."
        )
    if is_sweep:
        from mla_lightning.launchers.sweep import run_sweep

        return run_sweep(jobs, launcher, overwrite=first.overwrite)
    from mla_lightning.run.train import run_job

    return run_job(jobs[0])


def _print_configs(jobs: Sequence[PlannedJob], options: argparse.Namespace) -> None:
    for number, job in enumerate(jobs, start=1):
        count = f" ({number} of {len(jobs)})" if len(jobs) > 1 else ""
        separator = "---\n" if number > 1 else ""
        print(f"{separator}# {job.title}{count}")
        if options.cfg:
            print(section_text(job.config, options.package), end="")
        if options.diff:
            print(describe_differences(job, options.config_dir, options.allow_target))
        if options.info:
            print(describe_choices(job.config, options.config_dir))
