"""The verb ``mla eval``: evaluate finished runs again, also with noisy inputs."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mla_lightning.cli.words import check_output, convert, run_options
from mla_lightning.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mla_lightning.report.figures.noise import NoiseCurves
    from mla_lightning.report.read.block import Block
    from mla_lightning.report.read.run import Run
    from mla_lightning.run.noise import NoisyScores

EVAL = """\
examples:
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e split=val
  mla eval runs/train/mfeat-mla-seed0-1a2b3c4d5e data.path=/new/place/mfeat    after the data moved
  mla eval runs/table1/openmoji noise=0,0.5,1,2                      all runs of a folder
  mla eval runs/table1/openmoji noise=0,0.5,1,2 output=noise.pdf     and a figure, and its numbers

noise: the inputs of each modality alone, and of all at once, get Gaussian noise of LEVEL times
their standard deviation on the training split; of tokens the fraction LEVEL is replaced.
"""
OPTIONS = ("split", "data.path", "noise", "output")
#: Endings of the names of figures; a .csv holds the numbers alone.
FIGURES = (".png", ".pdf", ".svg")
#: Columns of the file of numbers.
COLUMNS = ("run", "method", "seed", "noise_on", "level", "modality", "metric", "value")


def evaluate(options: argparse.Namespace) -> int:
    """Print the scores of finished runs on a split.

    Args:
        options: ``run``, a run folder, or with noise one above several; ``overrides``: further
            folders and options; ``allow_target``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If an option is unknown.
        RunError: If a folder holds no finished run.
    """
    folders = [options.run, *(Path(word) for word in options.overrides if "=" not in word)]
    words = [word for word in options.overrides if "=" in word]
    chosen = {"split": "test", **run_options(words, OPTIONS, "mla eval")}
    output = Path(chosen["output"]) if "output" in chosen else None
    if output is not None and "noise" not in chosen:
        raise ConfigError(f"output={output} has no effect without noise=0,1,2")
    if output is not None:
        check_output(output, (".csv", *FIGURES))
        check_output(output.with_suffix(".csv"), (".csv",))
    from mla_lightning.config import allow_target

    for prefix in options.allow_target:
        allow_target(prefix)
    split, path = chosen["split"], chosen.get("data.path")
    if "noise" in chosen:
        levels = convert(chosen["noise"], tuple[float, ...], "noise")
        _evaluate_noise(folders, levels, split, path, output)
        return 0
    from mla_lightning.run.finished import evaluate_run

    for folder in folders:
        scores = evaluate_run(folder, split, path=path)
        metrics = list(next(iter(scores.values())))
        print(f"{folder} on {split}")
        print("".join([f"{'modality':<12}", *(f"{metric:>14}" for metric in metrics)]))
        for modality, values in scores.items():
            texts = [_text(value) for value in values.values()]
            print("".join([f"{modality:<12}", *(f"{text:>14}" for text in texts)]))
    return 0


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _evaluate_noise(
    folders: Sequence[Path],
    levels: Sequence[float],
    split: str,
    path: str | None,
    output: Path | None,
) -> None:
    """Evaluate the runs at all levels, and print, draw and write the scores."""
    from rich.console import Console
    from rich.progress import track

    from mla_lightning.run.noise import evaluate_with_noise

    block, runs = _runs_of_one_data_set(folders)
    found = []
    console = Console(stderr=True)
    is_quiet = len(runs) == 1 or not console.is_terminal
    for label, run in track(runs, "evaluating", console=console, disable=is_quiet):
        assert run.path is not None
        found.append((label, run, evaluate_with_noise(run.path, levels, split, path=path)))
    title = f"{block.title}, {split}"
    curves = _curves(block, found)
    if output is not None:  # first: the terminal may be a closed pipe
        _write(found, output.with_suffix(".csv"))
        if output.suffix != ".csv":
            _draw(curves, block, title, output)
    if len(found) == 1:
        _print_noisy(found[0][2], f"{found[0][1].path} on {split}")
    else:
        from mla_lightning.report.document.render import to_terminal
        from mla_lightning.report.document.table import Report
        from mla_lightning.report.main import WIDTH
        from mla_lightning.report.tables.noise import noise_table

        table = noise_table(curves, block.metric, title)
        console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
        to_terminal(Report("noise", "Noisy modalities", (table,)), console)
    if output is not None:
        names = dict.fromkeys((output, output.with_suffix(".csv")))
        print(f"Wrote {' and '.join(map(str, names))}.")


def _runs_of_one_data_set(folders: Sequence[Path]) -> tuple[Block, list[tuple[str, Run]]]:
    """Return the finished runs below the folders as a block, and each with its column's label."""
    from mla_lightning.report.read.block import blocks
    from mla_lightning.report.read.run_folders import read_runs

    finished = [run for run in read_runs(folders) if run.is_finished and run.path]
    found = blocks(finished)
    if not found:
        raise RunError(f"{', '.join(map(str, folders))}: no finished run. See mla report runs.")
    if len(found) > 1:
        names = ", ".join(block.name for block in found)
        raise RunError(f"Noise is compared between runs of one data set; these are of: {names}.")
    (block,) = found
    return block, [
        (variant.label, run)
        for variant in block.variants
        for run in block.runs_by_variant[variant].values()
    ]


def _curves(block: Block, found: Sequence[tuple[str, Run, Sequence[NoisyScores]]]) -> NoiseCurves:
    """Return noisy modality -> column -> level -> fused scores over seeds, as tables show them."""
    from mla_lightning.report.read.run import MULTI

    metric = block.metric
    curves: dict[str, dict[str, dict[float, list[float]]]] = {}
    for label, _, rows in found:
        for row in rows:
            score = row.scores[MULTI][metric.name]
            value = math.nan if score is None else metric.scale * score
            by_level = curves.setdefault(row.noisy, {}).setdefault(label, {})
            by_level.setdefault(row.level, []).append(value)
    return curves


def _draw(curves: NoiseCurves, block: Block, title: str, output: Path) -> None:
    from mla_lightning.report.figures.noise import noise_figure
    from mla_lightning.report.figures.style import save

    figure = noise_figure(curves, block.metric, title)
    save(figure, output.with_suffix(""), kinds=(output.suffix.removeprefix("."),))


def _print_noisy(rows: Sequence[NoisyScores], title: str) -> None:
    metric = next(iter(next(iter(rows[0].scores.values()))))
    names = list(rows[0].scores)
    print(f"{title}: {metric} with noise on the inputs of a modality")
    print("".join([f"{'noise on':<12}{'level':>8}", *(f"{name:>12}" for name in names)]))
    for row in rows:
        texts = [_text(row.scores[name][metric]) for name in names]
        print("".join([f"{row.noisy:<12}{row.level:>8g}", *(f"{text:>12}" for text in texts)]))


def _write(found: Sequence[tuple[str, Run, Sequence[NoisyScores]]], output: Path) -> None:
    with output.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for label, run, rows in found:
            for row in rows:
                for modality, values in row.scores.items():
                    for metric, value in values.items():
                        cell = "" if value is None else value
                        start = [run.path, label, run.seed, row.noisy, row.level]
                        writer.writerow([*start, modality, metric, cell])
