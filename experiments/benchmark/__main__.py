"""``python -m experiments.benchmark SEARCH``: keep what a search chose, as a recipe and a table.

The recipe goes to ``conf/recipe/benchmark_<data>.yaml``, all trials to
``experiments/benchmark/<data>/trials.csv``.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from mla_lightning.errors import MLAError, RunError

ROOT = Path(__file__).parents[2]
#: Name of the recipe that a search writes, and of the section with the chosen values.
RECIPE = "tuned"


def recipe_text(text: str, data: str) -> str:
    """Return the recipe of the benchmark that has the values which a search chose.

    Args:
        text: The recipe that the search wrote.
        data: The data set.

    Raises:
        RunError: If it starts from another recipe than the data set's own.
    """
    content = yaml.safe_load(text)
    if content["defaults"] != [data]:
        raise RunError(
            f"the search started from recipe={content['defaults'][0]}, and the benchmark on {data} "
            f"has that of the data set: run `make benchmark-tune DATA={data}`"
        )
    lines = [
        "# @package _global_",
        f"# The values with which the benchmark trains each method on {data}. The search of all "
        "methods:",
        "# experiments/benchmark/README.md.",
        f"defaults: [{data}]",
        f"{RECIPE}:",
    ]
    for method, values in content[RECIPE].items():
        node = {method: values}
        text = yaml.safe_dump(node, default_flow_style=None, sort_keys=False, width=1000)
        if len(text) > 98:
            text = yaml.safe_dump(node, default_flow_style=False, sort_keys=False)
        lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def trials_text(text: str) -> str:
    """Return the table of all trials without the names of their run folders."""
    rows = list(csv.DictReader(io.StringIO(text)))
    columns = [name for name in rows[0] if name != "runs"]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep what the search of a command line chose.

    Args:
        arguments: Arguments of the command line; by default those of this process.

    Returns:
        The exit code. Expected errors are printed as one message, without a traceback.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description="Keep the values that a search chose as the recipe of the benchmark.",
    )
    parser.add_argument(
        "search", type=Path, metavar="SEARCH", help="folder of the search, such as runs/tune/mfeat"
    )
    options = parser.parse_args(arguments)
    data = options.search.name
    source = options.search / "conf" / "recipe" / f"{RECIPE}.yaml"
    table = options.search / "search" / "trials.csv"
    try:
        for path in (source, table):
            if not path.is_file():
                raise RunError(f"{path} is missing: `make benchmark-tune DATA={data}` writes it")
        found = source.read_text(encoding="utf-8")
        recipe = ROOT / "conf" / "recipe" / f"benchmark_{data}.yaml"
        recipe.write_text(recipe_text(found, data), encoding="utf-8")
        trials = ROOT / "experiments" / "benchmark" / data / "trials.csv"
        trials.parent.mkdir(exist_ok=True)
        trials.write_text(trials_text(table.read_text(encoding="utf-8")), encoding="utf-8")
    except MLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{recipe.relative_to(ROOT)}, {trials.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
