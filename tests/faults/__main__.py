"""Inject faults of all kinds into commands, and print how many were survived."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures of `make faults` -->", "<!-- end of the figures -->"


def main() -> int:
    """Run a campaign.

    Returns:
        0 if nothing was lost, doubled or silent, 1 otherwise.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    os.environ.setdefault("WANDB_MODE", "offline")
    from tests.faults import campaign, verdicts

    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    known = ", ".join(campaign.KINDS)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {known}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of all choices")
    parser.add_argument("--number", type=int, default=500, help="number of commands with faults")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, metavar="INDEX", help="one case of one kind")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "faults")
    parser.add_argument("--write", action="store_true", help="write the figures to the document")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(campaign.KINDS):
        parser.error(f"unknown: {', '.join(unknown)}; known: {known}")
    if options.write and (options.kinds or options.only is not None):
        parser.error("--write needs all kinds: give none")
    kinds, impossible = campaign.possible(options.kinds or list(campaign.KINDS))
    cases = campaign.plan(kinds, options.number)
    if options.only is not None:
        cases = [(kind, options.only) for kind in kinds]
    warm_up()
    started, records = time.monotonic(), list[verdicts.Record]()
    folder = Path(tempfile.mkdtemp(prefix="mla-faults-"))
    progress = Progress(len(cases))
    for record in campaign.run_cases(cases, options.seed, folder, options.jobs):
        records.append(record)
        progress.show(records)
        if record.verdict is not verdicts.Verdict.SURVIVED or options.only is not None:
            progress.print(
                f"{record.verdict}: {record.kind} {record.index}: {record.what}\n"
                f"    {record.detail}\n    python -m tests.faults {record.kind} "
                f"--seed {options.seed} --only {record.index}    files: "
                f"{folder}/{record.kind}-{record.index}"
            )
    progress.close()
    shutil.rmtree(folder / "uninterrupted", ignore_errors=True)
    with contextlib.suppress(OSError):  # the folders of faults that were not survived are kept
        folder.rmdir()
    seconds = time.monotonic() - started
    facts = facts_of(options, len(cases), seconds, impossible)
    records.sort(key=lambda record: (list(campaign.KINDS).index(record.kind), record.index))
    titled = verdicts.counts(records)
    titles = {name: kind.title for name, kind in campaign.KINDS.items()}
    table = verdicts.to_markdown({titles.get(name, name): row for name, row in titled.items()})
    text = f"{describe(facts)}\n\n{table}\n"
    print(f"\n{text}")
    verdicts.write_records(options.output, records, facts)
    print(f"Each command is in {options.output / 'faults.csv'}.")
    if options.write:
        write_figures(DOCUMENT, text)
    return int(verdicts.has_failed(records))


class Progress:
    """A progress bar on a terminal, otherwise a line now and then."""

    def __init__(self, total: int) -> None:
        """Show the bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.bar = total, None
        if sys.stdout.isatty():
            columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
            self.bar = Bar(*columns, TimeRemainingColumn())
            self.task = self.bar.add_task("", total=total)
            self.bar.start()

    def show(self, records: list) -> None:
        """Show the number of cases, faults and failures."""
        from tests.faults.verdicts import counts

        row = counts(records)["all"]
        text = ", ".join(f"{number} {name}" for name, number in row.items() if number)
        if self.bar is not None:
            self.bar.update(self.task, completed=len(records), description=text)
        elif len(records) % max(1, self.total // 20) == 0:
            print(f"[{len(records)}/{self.total}] {text}", flush=True)

    def print(self, text: str) -> None:
        """Print a text above the bar."""
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()


def warm_up() -> None:
    """Import everything once, so that commands in forked processes start at once."""
    from mla_lightning.config import compose_jobs
    from mla_lightning.launchers.fork import warm_up as import_ahead

    for name in ("cli.main", "report.main", "run.finished", "launchers.sweep", "prepare.engine"):
        importlib.import_module(f"mla_lightning.{name}")
    for name in ("methods", "fusion", "encoders"):
        package = importlib.import_module(f"mla_lightning.{name}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    (job,) = compose_jobs(["data=synthetic"])
    import_ahead([job])
    gc.collect()
    gc.freeze()  # forked processes share the memory


def facts_of(options: argparse.Namespace, num: int, seconds: float, impossible: list[str]) -> dict:
    """Return date, commit, command and duration of a campaign."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or "unknown",
        "command": f"make faults SEED={options.seed} NUMBER={options.number}",
        "num_commands": num,
        "minutes": round(seconds / 60, 1),
        "cores": len(os.sched_getaffinity(0)),
        "impossible": impossible,
    }


def describe(facts: dict) -> str:
    """Return the facts as a sentence."""
    text = (
        f"{facts['date']}, commit {facts['commit']}, `{facts['command']}`: {facts['num_commands']} "
        f"commands, {facts['minutes']} minutes on {facts['cores']} cores."
    )
    if facts["impossible"]:
        text += f" Not possible without root: {', '.join(facts['impossible'])}."
    return text


def write_figures(document: Path, text: str) -> None:
    """Replace the figures in a document."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
