"""Put faults into the mathematics and report which test catches each."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "mla_lightning"
#: Packages with faults, and folders of the tests that count. The golden losses, which compare the
#: package with its own earlier numbers, are in none of them.
FOLDERS = ("functional", "fusion", "methods", "metrics")
README, RESULTS = (Path(__file__).with_name(name) for name in ("README.md", "results.csv"))
SURVIVORS = Path(__file__).with_name("survivors.yaml")
COLUMNS = [
    "file",
    "line",
    "function",
    "kind",
    "before",
    "after",
    "outcome",
    "test",
    "error",
    "num_tests",
    "seconds",
]


def main() -> int:
    """Run the campaign.

    Returns:
        0 if at least 95 % of the faults are caught, 1 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=150, help="faults to judge; default: 150")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time; default: 2")
    parser.add_argument("--only", default="", help="faults of files whose name contains this")
    parser.add_argument("--tests", nargs="*", help="tests to run; default: all that count")
    parser.add_argument("--write", action="store_true", help="write README.md and results.csv")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; forks must not have threads
    os.chdir(ROOT)
    import pytest

    from tests.mutants.campaign import Campaign
    from tests.mutants.faults import draw, list_faults

    files = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py"))]
    files = [path for path in [*files, PACKAGE / "counts.py"] if path.name != "__init__.py"]
    chosen = [path for path in files if options.only in path.as_posix()]
    campaign = Campaign(
        files,
        lambda: draw({str(path): list_faults(path, ROOT) for path in chosen}),
        options.number,
        root=ROOT,
        jobs=options.jobs,
    )
    start = time.perf_counter()
    tests = [f"tests/{folder}" for folder in FOLDERS] + [str(path) for path in files]
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--capture=sys"]
    status = pytest.main([*words, *(options.tests or tests)], plugins=[campaign])
    if not campaign.verdicts:
        return int(status) or 1
    seconds = time.perf_counter() - start
    rows = [row_of(fault, verdict) for fault, verdict in campaign.verdicts]
    text, is_met = summarise(rows, seconds, campaign.left_out)
    print(text)
    if options.write:
        README.write_text(text, encoding="utf-8")
        with RESULTS.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0 if is_met else 1


def row_of(fault: object, verdict: object) -> dict[str, object]:
    """Return a row of the table of results."""
    values = {**vars(fault), **vars(verdict)}
    values["file"] = values["path"].removeprefix("src/mla_lightning/")
    return {column: values[column] for column in COLUMNS}


def reasons() -> dict[tuple[str, ...], str]:
    """Return (file, function, before, after) -> why no test can catch the fault."""
    import yaml

    entries = yaml.safe_load(SURVIVORS.read_text(encoding="utf-8")) or []
    keys = ("file", "function", "before", "after")
    return {tuple(str(entry[key]) for key in keys): entry["reason"] for entry in entries}


def summarise(
    rows: list[dict[str, object]], seconds: float, left_out: list[str]
) -> tuple[str, bool]:
    """Return the report in Markdown, and whether its target is met."""
    known = reasons()
    judged = [row for row in rows if row["outcome"] != "crashed"]
    outcomes = Counter(row["outcome"] for row in rows)
    lost = [row for row in judged if row["outcome"] in ("survived", "uncalled")]
    caught = len(judged) - len(lost)
    lines = [
        "# Faults in the mathematics, and the tests that catch them",
        "",
        "Written by `make mutants`. One fault at a time is put into a function of `functional/`,",
        "`fusion/`, `methods/`, `metrics/` or `counts.py`, and the tests that call it run",
        "until one fails. Only tests with independent values count: `tests/functional`,",
        "`tests/fusion`, `tests/methods`, `tests/metrics` and the examples in docstrings; the",
        "golden losses, which are the package's own earlier numbers, do not. Faults are drawn file",
        "by file, of each kind and in each function equally often, in the order of a hash of their",
        "text. A fault that makes the code raise an exception is an easy catch: it is listed in",
        "[results.csv](results.csv) and not counted. Messages, checks of inputs, annotations and",
        "`__repr__` are left as they are.",
        "",
        f"**{caught} of {len(judged)} faults are caught ({caught / max(len(judged), 1):.1%}; the "
        f"target is 95 %)**; {outcomes['crashed']} more raised an exception. The campaign took "
        f"{seconds / 60:.0f} minutes.",
        *(
            ["", f"Left out, because they fail without a fault: {', '.join(left_out)}."]
            * bool(left_out)
        ),
        "",
        "| kind | caught | judged |",
        "|---|---|---|",
    ]
    for kind in sorted({str(row["kind"]) for row in judged}):
        of_kind = [row for row in judged if row["kind"] == kind]
        num_lost = sum(row["outcome"] in ("survived", "uncalled") for row in of_kind)
        lines.append(f"| {kind} | {len(of_kind) - num_lost} | {len(of_kind)} |")
    lines += ["", "## Not caught", ""]
    lines += ["| place | before | after | outcome | why |", "|---|---|---|---|---|"]
    for row in lost:
        key = tuple(str(row[name]) for name in ("file", "function", "before", "after"))
        cells = [f"{row['file']}:{row['line']} {row['function']}"]
        cells += [f"`{_one_line(row[name])}`" for name in ("before", "after")]
        lines.append(f"| {' | '.join([*cells, str(row['outcome']), known.get(key, '**open**')])} |")
    lines += ["", "## Caught", "", "| place | before | after | by |", "|---|---|---|---|"]
    for row in judged:
        if row not in lost:
            cells = [f"{row['file']}:{row['line']}"]
            cells += [f"`{_one_line(row[name])}`" for name in ("before", "after")]
            lines.append(f"| {' | '.join([*cells, _short(str(row['test'])) or 'time limit'])} |")
    return "\n".join(lines) + "\n", caught >= 0.95 * len(judged)


def _short(test: str) -> str:
    file, _, name = test.partition("::")
    return f"{file.rpartition('/')[2]}::{name.partition('[')[0].rpartition('.')[2]}" if test else ""


def _one_line(value: object) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= 70 else text[:67] + "..."


if __name__ == "__main__":
    sys.exit(main())
