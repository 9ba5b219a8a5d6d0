"""The verb ``mla eval``: evaluate a finished run again, also with noisy inputs."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mla_lightning.cli.words import check_output, convert, run_options
from mla_lightning.errors import ConfigError

if TYPE_CHECKING:
    from mla_lightning.run.noise import NoisyScores

EVAL = """\
examples:
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e
  mla eval runs/train/openmoji-mla-seed0-1a2b3c4d5e split=val
  mla eval runs/train/mfeat-mla-seed0-1a2b3c4d5e data.path=/new/place/mfeat    after the data moved
  mla eval runs/train/mfeat-mla-seed0-1a2b3c4d5e noise=0,0.5,1,2 output=noise.csv

noise: the inputs of each modality alone, and of all at once, get Gaussian noise of LEVEL times
their standard deviation on the training split; of tokens the fraction LEVEL is replaced.
"""
OPTIONS = ("split", "data.path", "noise", "output")


def evaluate(options: argparse.Namespace) -> int:
    """Print the scores of a finished run on a split.

    Args:
        options: ``run``, the run folder; ``overrides``; ``allow_target``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If an option is unknown.
        RunError: If the folder holds no finished run.
    """
    chosen = {"split": "test", **run_options(options.overrides, OPTIONS, "mla eval")}
    output = Path(chosen["output"]) if "output" in chosen else None
    if output is not None and "noise" not in chosen:
        raise ConfigError(f"output={output} has no effect without noise=0,1,2")
    if output is not None:
        check_output(output, (".csv",))
    from mla_lightning.config import allow_target

    for prefix in options.allow_target:
        allow_target(prefix)
    split, path = chosen["split"], chosen.get("data.path")
    if "noise" in chosen:
        from mla_lightning.run.noise import evaluate_with_noise

        levels = convert(chosen["noise"], tuple[float, ...], "noise")
        rows = evaluate_with_noise(options.run, levels, split, path=path)
        _print_noisy(rows, f"{options.run} on {split}")
        if output is not None:
            _write(rows, output)
            print(f"Wrote {output}: every metric at every level.")
        return 0
    from mla_lightning.run.finished import evaluate_run

    scores = evaluate_run(options.run, split, path=path)
    metrics = list(next(iter(scores.values())))
    print(f"{options.run} on {split}")
    print("".join([f"{'modality':<12}", *(f"{metric:>14}" for metric in metrics)]))
    for modality, values in scores.items():
        texts = [_text(value) for value in values.values()]
        print("".join([f"{modality:<12}", *(f"{text:>14}" for text in texts)]))
    return 0


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _print_noisy(rows: Sequence[NoisyScores], title: str) -> None:
    metric = next(iter(next(iter(rows[0].scores.values()))))
    names = list(rows[0].scores)
    print(f"{title}: {metric} with noise on the inputs of a modality")
    print("".join([f"{'noise on':<12}{'level':>8}", *(f"{name:>12}" for name in names)]))
    for row in rows:
        texts = [_text(row.scores[name][metric]) for name in names]
        print("".join([f"{row.noisy:<12}{row.level:>8g}", *(f"{text:>12}" for text in texts)]))


def _write(rows: Sequence[NoisyScores], output: Path) -> None:
    with output.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["noise_on", "level", "modality", "metric", "value"])
        for row in rows:
            for modality, values in row.scores.items():
                for metric, value in values.items():
                    cell = "" if value is None else value
                    writer.writerow([row.noisy, row.level, modality, metric, cell])
