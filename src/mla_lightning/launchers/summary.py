"""Texts of a sweep: jobs finished before, scores of jobs, and the summary at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.launchers.conclusion import JobOutcome
from mla_lightning.launchers.display import format_duration
from mla_lightning.paths import command
from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.completion import Completion
from mla_lightning.run_folder.contents import EARLIER
from mla_lightning.run_folder.majority import find_majority
from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: States of jobs that need not run again.
ENDED_WELL = {State.FINISHED, State.PRUNED}
CONTINUE = "Run the same command again to continue; finished jobs are not repeated."


def count_jobs(number: int) -> str:
    """Return the number of jobs as text.

    Example:
        >>> count_jobs(1), count_jobs(24)
        ('1 job', '24 jobs')
    """
    return "1 job" if number == 1 else f"{number} jobs"


def describe_stale(stale: Iterable[Completion], *, is_kept: bool) -> str:
    """Return a text on jobs that were finished by other code.

    Args:
        stale: How each is finished.
        is_kept: Whether they stay as they are.

    Example:
        >>> from mla_lightning.run_folder.completion import CompletionKind
        >>> stale = [Completion(CompletionKind.STALE, ("methods/mla.py",))]
        >>> describe_stale(stale, is_kept=True)
        '1 job finished by other code (methods/mla.py changed since): kept as they are ...'
    """
    completions = list(stale)
    changed = dict.fromkeys(name for one in completions for name in one.changed_files)
    number = count_jobs(len(completions))
    text = f"{number} finished by other code ({', '.join(changed)} changed since): "
    if is_kept:
        return f"{text}kept as they are (stale=keep); tables of them have a note."
    return (
        f"{text}trained again, the earlier results are kept in RUN/{EARLIER}. Add stale=keep "
        "to keep them as they are."
    )


def print_summary(
    jobs: Sequence[Job],
    states: Mapping[Path, State],
    outcomes: Mapping[Path, JobOutcome],
    seconds: float,
    notes: Iterable[str],
) -> None:
    """Print the number of jobs by state, and reason and retry command of unfinished ones.

    Args:
        jobs: The jobs of the sweep.
        states: Run folder -> state of its job.
        outcomes: Run folder -> how its job ended; none of jobs that were not started or go on.
        seconds: Duration of the sweep.
        notes: What else is to be said, such as how to continue.
    """
    all_states = list(states.values())
    counts = [f"{all_states.count(state)} {state}" for state in dict.fromkeys(all_states)]
    duration = format_duration(seconds)
    print(f"\n{count_jobs(len(jobs))}: {', '.join(counts)}. It took {duration}.")
    for job in jobs:
        outcome = outcomes.get(job.run_dir)
        if outcome is not None and outcome.state not in ENDED_WELL:
            print(
                f"\n{outcome.state}: {job.title}\n"
                f"  reason  {outcome.reason}\n"
                f"  folder  {job.run_dir}\n"
                f"  retry   {files.retry_command(job.overrides)}"
            )
    for note in notes:
        print(f"\n{note}")
    if all(state in ENDED_WELL for state in all_states) and (text := next_command(jobs)):
        print(f"\nnext  {text}")
    sys.stdout.flush()


def next_command(jobs: Sequence[Job]) -> str:
    """Return the command that makes a table of finished jobs; empty if their folders differ.

    Args:
        jobs: The jobs, of which all are finished.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> words = ["data=synthetic", "seed=0,1", "name=table1/synthetic"]
        >>> next_command(compose_jobs(words, multirun=True))
        'mla report table1 runs/table1/synthetic'
        >>> next_command(compose_jobs([*words[:2], "name=mine"], multirun=True))
        'mla report runs runs/mine'
    """
    folders = {Path(job.config.paths.output_dir) / job.config.name for job in jobs}
    kinds = {_report_of(job) for job in jobs}
    if len(folders) > 1 or len(kinds) > 1 or any(job.config.run_dir for job in jobs):
        return ""
    return command("mla", "report", kinds.pop(), folders.pop())


def _report_of(job: Job) -> str:
    """Return the kind of report that is named as the jobs are; ``runs`` lists any."""
    from mla_lightning.config.search import options, search_path

    name = job.config.name.partition("/")[0]
    return name if name in options(search_path(None), "report") else "runs"


def validation_score(job: Job) -> str:
    """Return a text with the job's score on validation; empty if it has none.

    It is the primary metric of the task, named unless it is accuracy.
    """
    try:
        result = files.read_json(job.run_dir / files.RESULT) or {}
        task = result.get("task", CLASSIFICATION)
        primary = PRIMARY[task]
        name = "val" if task == CLASSIFICATION else f"val/{primary.column}"
        text = f"{name} {primary.text(result['val'][MULTI][primary.metric])}"
        provenance = files.read_json(job.run_dir / files.PROVENANCE) or {}
        majority = find_majority(provenance.get("data") or {})
        return f"{text} ({majority.val_text})" if majority and majority.val_text else text
    except (RunError, KeyError, TypeError, ValueError):  # the protocol has no validation scores
        return ""
