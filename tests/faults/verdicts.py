"""Verdicts on faults, and the table of how many faults ended how."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Verdict(StrEnum):
    """The outcome of a command after a fault."""

    #: The numbers equal those of the uninterrupted command, or an error names the damage.
    SURVIVED = "survived"
    #: Finished work, a note or an epoch is gone, or the command cannot be finished.
    LOST = "lost"
    #: An epoch or a batch was trained twice.
    DOUBLED = "doubled"
    #: Other numbers than the uninterrupted command's, without a word.
    SILENT = "silent"
    #: The command did not end in its time.
    HUNG = "hung"
    #: The numbers are right, but a message or an exit code is not.
    UNCLEAR = "unclear message"
    #: The numbers are right, but files were left behind.
    UNTIDY = "left files"
    #: The campaign itself failed, so nothing is known about the fault.
    BROKEN = "not judged"


#: The verdicts that a release must not have.
FAILURES = (Verdict.LOST, Verdict.DOUBLED, Verdict.SILENT, Verdict.HUNG, Verdict.BROKEN)


class Failed(Exception):
    """A fault that was not survived."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.verdict, self.detail = verdict, detail


@dataclass(frozen=True)
class Record:
    """One command with its faults.

    Attributes:
        kind: The kind of the faults.
        index: Their number within the kind, which with the seed repeats them.
        what: The command and where the faults were.
        verdict: The verdict.
        detail: The difference or the message; empty for survived ones.
        injected: Number of faults; 0 if the fault's point was never reached.
        seconds: Wall time.
    """

    kind: str
    index: int
    what: str
    verdict: Verdict
    detail: str = ""
    injected: int = 1
    seconds: float = 0.0


def counts(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """Return kind -> ``injected`` or verdict -> number of faults, with the sum as ``all``."""
    table: dict[str, dict[str, int]] = {}
    for record in records:
        for name in (record.kind, "all"):
            row = table.setdefault(name, dict.fromkeys(("injected", *Verdict), 0))
            row["injected"] += record.injected
            row[record.verdict] += record.injected
    if "all" in table:
        table["all"] = table.pop("all")  # the last row
    return table


def has_failed(records: Sequence[Record]) -> bool:
    """Return whether something was lost, doubled, silent, hung or not judged."""
    return not records or any(record.verdict in FAILURES for record in records)


def to_markdown(table: dict[str, dict[str, int]]) -> str:
    """Return the table of :func:`counts` as Markdown."""
    heads = ("fault", "injected", *Verdict)
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    lines += [
        f"| {name} | {' | '.join(str(row[head]) for head in heads[1:])} |"
        for name, row in table.items()
    ]
    return "\n".join(lines)


def write_records(folder: Path, records: Sequence[Record], facts: dict[str, object]) -> None:
    """Write ``faults.csv``, one line per command, and ``faults.json``, the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "faults.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, Record.__dataclass_fields__)
        writer.writeheader()
        writer.writerows(asdict(record) for record in records)
    text = json.dumps({**facts, "figures": counts(records)}, indent=1)
    (folder / "faults.json").write_text(text + "\n", encoding="utf-8")


#: Messages that are an exception's name or nothing at all.
_BARE = re.compile(
    r"^error: (Failed in [^:]*: )?(\w+\.)*\w*(Error|Exception|Warning)\b", re.MULTILINE
)


#: What the interpreter prints of an exception that a signal handler of torch raised where Python
#: cannot pass it on; the command itself goes on, and ends with a message of its own.
_IGNORED = re.compile(r"^Exception ignored in: .*?(?=^\S*error\b)", re.MULTILINE | re.DOTALL)


def check_message(code: int, output: str) -> None:
    """Check that a command that failed said so in words.

    Raises:
        Failed: If it printed a traceback, the bare name of an exception, or no message.
    """
    if code == 0:
        return
    output = _IGNORED.sub("", output)
    if "Traceback (most recent call last)" in output:
        raise Failed(Verdict.UNCLEAR, f"traceback: {output.strip().splitlines()[-1]}")
    if bare := _BARE.search(output):
        raise Failed(Verdict.UNCLEAR, f"bare exception: {output[bare.start() :].splitlines()[0]}")
    if not re.search(r"^(error|  reason) ?:? ?\S", output, re.MULTILINE):
        raise Failed(Verdict.UNCLEAR, f"exit {code} without a message: {output.strip()[-200:]!r}")
